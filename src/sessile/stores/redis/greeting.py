"""The first question on each connection: whether this is the primary, and which one."""

from __future__ import annotations

from typing import Final

from ...errors import StoreUnavailable
from .failures import is_denied, wrapped
from .link import Command
from .standing import Assurance

WHO: Final[Command] = (b"INFO", b"replication")


def greet(assurance: Assurance, reply: object) -> None:
    """Take note of who answers.

    Raises:
        StoreUnavailable: it is a replica. What it holds may be old, so that it is not even read.
    """
    if isinstance(reply, Exception) and not is_denied(reply):
        raise wrapped(reply) from None
    if not assurance.saw(reply).primary:
        raise StoreUnavailable("this Redis is a replica: the primary is elsewhere")
