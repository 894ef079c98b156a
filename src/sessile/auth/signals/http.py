"""How other applications are asked: at addresses of the configuration's, or below an origin that it names."""

from __future__ import annotations

from typing import Final

from ...errors import ExtraMissing

try:
    from ..asking import Answer, Asker, Terms, check_url, open_asker, origin_of
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("shared signals", "signals") from error

__all__ = ["MAX_BYTES", "TIMEOUT", "Answer", "Http", "check_url", "open_http", "origin_of"]

TIMEOUT: Final = 5.0
MAX_BYTES: Final = 2 * 2**20  # a poll's answer holds many SETs
Http = Asker


def open_http(*, blocking: bool, timeout: float = TIMEOUT) -> Http:
    """Return the HTTP client of a door. `timeout` (seconds) is for a whole request, however slowly it is answered.

    Raises:
        ConfigurationError: that is no time, or too long.
    """
    return open_asker(Terms("the other application", timeout, MAX_BYTES), blocking=blocking)
