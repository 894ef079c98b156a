"""Memcached's text protocol as pure functions: commands to bytes, bytes to replies, no I/O.

Only what the store needs: gets, add, cas, delete, version, stats. `set` is not among them on purpose (R42).

Both doors read replies here, so what a server may say is decided once. A reply that is not exactly one of those that
the protocol allows is `Malformed`: nobody can know where the next reply begins, so the connection must go, or one
request would read the answer to another.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NamedTuple

_LONGEST_LINE: Final = 2048  # bytes; memcached's own lines are below 300
_LONGEST_VALUE: Final = 1 << 30  # bytes; what `memcached -I` allows at most


class Malformed(Exception):
    """Say that the server's bytes are no reply; the message is fixed and holds none of them."""


class Answer(Enum):
    """Name what a server says to a command that changes something."""

    STORED = b"STORED"
    NOT_STORED = b"NOT_STORED"
    EXISTS = b"EXISTS"
    NOT_FOUND = b"NOT_FOUND"
    DELETED = b"DELETED"
    TOO_LARGE = b"SERVER_ERROR object too large for cache"
    NO_MEMORY = b"SERVER_ERROR out of memory storing object"


class Item(NamedTuple):
    """Hold a stored value and its cas token, which changes with every write."""

    value: bytes
    token: int


Found = dict[bytes, Item]

Parser = Callable[[bytearray, int], "tuple[Any, int] | None"]


class Command(NamedTuple):
    """Hold a command's bytes, and how its reply is read: from a position on; None: it is not complete."""

    wire: bytes
    parse: Parser


def gets(*keys: bytes) -> Command:
    """Read values with their tokens; the reply is a dict of those that exist."""

    def parse(buffer: bytearray, start: int) -> tuple[Found, int] | None:
        found: Found = {}
        while (line := _line(buffer, start)) is not None:
            text, start = line
            if text == b"END":
                return found, start
            fields = text.split(b" ")
            if len(fields) != 5 or fields[0] != b"VALUE" or fields[1] not in keys or fields[1] in found:
                raise Malformed("an unexpected line among values")
            size, token = _number(fields[3]), _number(fields[4])
            if size > _LONGEST_VALUE:
                raise Malformed("an impossible size")
            end = start + size
            if len(buffer) < end + 2:
                return None
            if not buffer.startswith(b"\r\n", end):
                raise Malformed("a value that does not end where it says")
            found[fields[1]] = Item(bytes(buffer[start:end]), token)
            start = end + 2
        return None

    return Command(b"gets " + b" ".join(keys) + b"\r\n", parse)


def add(key: bytes, value: bytes, lifetime: int) -> Command:
    """Store a value if the key is absent: STORED or NOT_STORED."""
    return Command(b"add %b 0 %d %d\r\n%b\r\n" % (key, lifetime, len(value), value), _stored)


def cas(key: bytes, value: bytes, lifetime: int, token: int) -> Command:
    """Store a value if nobody wrote since the token was read: STORED, EXISTS (somebody did) or NOT_FOUND."""
    return Command(b"cas %b 0 %d %d %d\r\n%b\r\n" % (key, lifetime, len(value), token, value), _stored)


def delete(key: bytes) -> Command:
    """Remove a key: DELETED or NOT_FOUND."""
    return Command(b"delete %b\r\n" % key, _deleted)


def version() -> Command:
    """Ask for the server's version."""

    def parse(buffer: bytearray, start: int) -> tuple[str, int] | None:
        line = _line(buffer, start)
        if line is None:
            return None
        if not line[0].startswith(b"VERSION "):
            raise Malformed("no version")
        return line[0][8:].decode("ascii", "replace"), line[1]

    return Command(b"version\r\n", parse)


def stats(what: bytes = b"") -> Command:
    """Ask for the server's figures (or `settings`); the reply is a dict of text."""

    def parse(buffer: bytearray, start: int) -> tuple[dict[str, str], int] | None:
        figures: dict[str, str] = {}
        while (line := _line(buffer, start)) is not None:
            text, start = line
            if text == b"END":
                return figures, start
            fields = text.split(b" ", 2)
            if len(fields) < 2 or fields[0] != b"STAT":
                raise Malformed("an unexpected line among figures")
            figures[fields[1].decode("ascii", "replace")] = fields[2].decode("utf-8", "replace") if fields[2:] else ""
        return None

    return Command(b"stats " + what + b"\r\n" if what else b"stats\r\n", parse)


def login(user: str, password: str) -> Command:
    """Sign in as memcached's `-Y` asks for: a `set` whose key does not matter, before anything else."""
    secret = f"{user} {password}".encode()
    return Command(b"set login 0 0 %d\r\n%b\r\n" % (len(secret), secret), _stored)


def _stored(buffer: bytearray, start: int) -> tuple[Answer, int] | None:
    return _answer(buffer, start, _STORING)


def _deleted(buffer: bytearray, start: int) -> tuple[Answer, int] | None:
    return _answer(buffer, start, _DELETING)


# A server that is short of memory still reads the value to its end: only these two errors keep the connection in step.
_STORING: Final[dict[bytes, Answer]] = {answer.value: answer for answer in Answer if answer is not Answer.DELETED}
_DELETING: Final[dict[bytes, Answer]] = {answer.value: answer for answer in (Answer.DELETED, Answer.NOT_FOUND)}


def _answer(buffer: bytearray, start: int, known: dict[bytes, Answer]) -> tuple[Answer, int] | None:
    line = _line(buffer, start)
    if line is None:
        return None
    answer = known.get(line[0])
    if answer is None:
        raise Malformed("an error, or an answer to something else")
    return answer, line[1]


def _line(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    end = buffer.find(b"\r\n", start, start + _LONGEST_LINE)
    if end < 0:
        if len(buffer) - start >= _LONGEST_LINE:
            raise Malformed("an endless line")
        return None
    return bytes(buffer[start:end]), end + 2


def _number(field: bytes) -> int:
    if not field.isdigit() or len(field) > 20:
        raise Malformed("something that is no number")
    return int(field)
