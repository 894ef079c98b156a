"""The log sink: one line an event, to the standard library's logging."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from ..core.events import Event

_LEVELS: Final = {"info": logging.INFO, "notice": logging.INFO, "warning": logging.WARNING, "alert": logging.ERROR}


class LogSink:
    """Write each event as one line of `key=value` pairs; alerts are errors, warnings warnings, the rest info.

    Every field is also in the log record's `sessile` attribute, for structured handlers.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger("sessile.events") if logger is None else logger

    def __call__(self, event: Event) -> None:
        """Write the event, if its level is enabled."""
        level = _LEVELS[event.severity]
        if not self._logger.isEnabledFor(level):
            return
        fields = {name: value for name, value in msgspec.to_builtins(event).items() if value not in (None, "")}
        pairs = " ".join(f"{name}={value!r}" for name, value in fields.items())
        self._logger.log(
            level, "%s %s | %s", event.code, pairs, event.sentence(), extra={"sessile": {"code": event.code, **fields}}
        )
