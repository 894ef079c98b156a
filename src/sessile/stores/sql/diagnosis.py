"""What `sessile doctor` asks the server."""

from __future__ import annotations

from ...core.ports import Diagnosis
from .link import Link


def look(link: Link, at: float) -> tuple[Diagnosis, ...]:
    """Look at the server."""
    return ()
