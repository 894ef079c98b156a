"""What proving a factor comes to, where there is nothing more to say of it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Proved(NamedTuple):
    """Say who proved a factor. `complete`: no further one is due."""

    user: str
    complete: bool


class Refused(StrEnum):
    """Say what a page may tell: never which of what was typed was wrong."""

    REFUSED = "refused"
