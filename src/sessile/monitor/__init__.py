"""Event sinks: where events go."""

from .log import LogSink

__all__ = ["LogSink"]
