"""A session sealed into cookies: how it is laid out, split over several, read back, and how large it may be.

    text      = count(1) ‖ base64url( session id(20) ‖ sealed )          count: how many cookies it takes, 1 to 9
    sealed    = what `sealing` makes of flags(1) ‖ numbers(16) ‖ body ‖ padding       bound to schema and cookie name
    body      = MessagePack of control, data, last use and deadline, or zlib of that
    <name>    = the text's first 4096 bytes, name included
    <name>.1… = the write's id(12 characters) ‖ what follows              refused where it is of another write
    <name>.t  = base64url of the sealed time of the last use              set alone when nothing else changed (R44)

The session id stands in front, in the clear: it says which key opens the rest, and grants nothing. The padding fills
the last group of base64, so that no bit of the text is without meaning. The write's id is 72 bits of its nonce.
"""

from __future__ import annotations

import binascii
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Literal, NamedTuple

import msgspec

from ..errors import SessionTooLarge
from . import cookies
from .cookies import MAX_COOKIE_BYTES, CookieRules
from .keys import KeyRing
from .record import SCHEMA, Control, Undecodable
from .sealing import OVERHEAD, Sealer

MAX_COOKIES: Final = 9
MOST: Final = MAX_COOKIES * (MAX_COOKIE_BYTES + 3) - 2  # of a Cookie header, all of them full
ID_BYTES: Final = 20
# Beside the session there are other cookies, and 8,190 bytes is what nginx, Apache and gunicorn take of all of them.
LIMIT: Final = 7_168
_WRITE: Final = slice(32, 44)  # of the text after its count: bytes 2 to 10 of the nonce
_WRITE_CHARS: Final = 12
_NUMBERS: Final = struct.Struct(">QQ")
_SEEN: Final = struct.Struct(">dx")  # the last byte fills the last group of base64
_COUNTS: Final = "123456789"
_ZLIB: Final = 4
_PADDING: Final = 3
_FROM_URLSAFE: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_TO_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """Hold what the cookies keep of a session. `until` (seconds since 1970) is its absolute deadline, as it was issued.

    It bounds how long an end must be remembered: a policy that grants more later does not prolong what was sealed.
    """

    control: Control
    data: dict[str, msgspec.Raw]
    seen_at: float
    until: float


class Found(NamedTuple):
    """Hold what a request's cookies held; `numbers` are those of everything and of the user when it was issued."""

    raw_id: bytes
    kept: Kept
    numbers: tuple[int, int]
    seen_at: float

    def __repr__(self) -> str:
        return "<Found>"


Refusal = Literal["forged", "duplicate", "incomplete"]


class SessionCookies:
    """Write sessions into cookies and read them back.

    `limit` is how many bytes they may take of a request's Cookie header. `compress` makes the body smaller where zlib
    does. `max_bytes` bounds what a body may decompress to.

    Raises:
        ExtraMissing: `cryptography` is not installed.
    """

    def __init__(
        self,
        ring: KeyRing,
        rules: CookieRules,
        *,
        limit: int = LIMIT,
        compress: bool = False,
        max_bytes: int,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._limit = limit
        self._compress = compress
        # Beside the data: control, with all that a sign-in can gather in it.
        self._max_body = max_bytes + 64 * 1024
        self._sealer = Sealer(ring, b"cookie session", feature="a session in cookies", entropy=entropy)
        name = rules.name.encode()
        self._context = SCHEMA.to_bytes(2, "big") + b"session " + name
        self._seen_context = SCHEMA.to_bytes(2, "big") + b"seen " + name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the name, which was warned about once
            self._rules = [rules, *(replace(rules, name=f"{rules.name}.{part}") for part in range(1, MAX_COOKIES))]
            self._seen_rules = replace(rules, name=f"{rules.name}.t")
        self._name = rules.name
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Kept)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, header: str) -> Found | Refusal | None:
        """Open the session that a Cookie header holds; None: it holds none. One decoder, tried once (R46)."""
        text = cookies.read(header, self._name)
        if text is None:
            return None
        if not isinstance(text, str):
            return "duplicate"
        count = _COUNTS.find(text[:1]) + 1
        if not count or not text:
            return "forged"
        text = text[1:]
        if count > 1:
            joined = self._join(header, text, count)
            if isinstance(joined, tuple):
                return joined[0]
            text = joined
        try:
            raw = _unbase64(text)
            return self._opened(header, raw[:ID_BYTES], raw)
        except Undecodable:
            return "forged"

    def _join(self, header: str, text: str, count: int) -> str | tuple[Refusal]:
        parts, write = [text], text[_WRITE]
        for rules in self._rules[1:count]:
            part = cookies.read(header, rules.name)
            if part is None:
                return ("incomplete",)
            if not isinstance(part, str):
                return ("duplicate",)
            if part[:_WRITE_CHARS] != write:
                return ("incomplete",)
            parts.append(part[_WRITE_CHARS:])
        return "".join(parts)

    def _opened(self, header: str, raw_id: bytes, raw: bytes) -> Found:
        text = self._sealer.open(raw[ID_BYTES:], raw_id, self._context)
        if len(text) <= _NUMBERS.size:
            raise Undecodable("cookie")
        flags = text[0]
        body = text[1 + _NUMBERS.size : len(text) - (flags & _PADDING)]
        if flags & _ZLIB:
            body = _inflated(body, self._max_body)
        try:
            kept = self._decoder.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Undecodable("cookie") from error
        if kept.control.schema != SCHEMA:
            raise Undecodable("schema")
        everything, number = _NUMBERS.unpack_from(text, 1)
        return Found(raw_id, kept, (everything, number), self._seen(header, raw_id, kept.seen_at))

    def _seen(self, header: str, raw_id: bytes, seen_at: float) -> float:
        """Return the last use: as the session's own cookies say, or the one beside them if that is later and ours."""
        if self._seen_rules.name not in header:
            return seen_at
        text = cookies.read(header, self._seen_rules.name)
        if not isinstance(text, str):
            return seen_at
        try:
            sealed = self._sealer.open(_unbase64(text), raw_id, self._seen_context)
        except Undecodable:
            return seen_at  # of the session before this one, most often
        return max(seen_at, _SEEN.unpack(sealed)[0]) if len(sealed) == _SEEN.size else seen_at

    # -- writing -------------------------------------------------------------------------------------------------------

    def body(self, kept: Kept, key: str) -> bytes:
        """Encode a session for `write`; `key` names what to blame if it is too large.

        Raises:
            SessionTooLarge: it would take more of a request's Cookie header than it may (R14).
        """
        body, flags = self._encoder.encode(kept), 0
        if self._compress:
            smaller = zlib.compress(body, 6)
            if len(smaller) < len(body):
                body, flags = smaller, _ZLIB
        padding = -(ID_BYTES + OVERHEAD + 1 + _NUMBERS.size + len(body)) % 3
        text = bytes([flags | padding]) + body + bytes(padding)
        size = self._size((ID_BYTES + OVERHEAD + _NUMBERS.size + len(text)) // 3 * 4)
        if size > self._limit:
            raise SessionTooLarge(key, size, self._limit)
        return text

    def write(self, raw_id: bytes, body: bytes, numbers: tuple[int, int], header: str) -> tuple[str, ...]:
        """Return the Set-Cookie values that put a session into the browser; surplus cookies of `header` are deleted."""
        text = body[:1] + _NUMBERS.pack(*numbers) + body[1:]
        whole = _base64(raw_id + self._sealer.seal(text, raw_id, self._context))
        write = whole[_WRITE]
        parts: list[str] = []
        start = 0
        while start < len(whole):
            room = self._room(len(parts))
            parts.append(whole[start : start + room])
            start += room
        parts = [f"{len(parts)}{parts[0]}", *(write + part for part in parts[1:])]
        lines = [rules.set(part) for rules, part in zip(self._rules, parts, strict=False)]
        return (*lines, *self._surplus(header, len(parts)))

    def touch(self, raw_id: bytes, seen_at: float) -> str:
        """Return the Set-Cookie value that moves the time of the last use, and nothing else (R44)."""
        return self._seen_rules.set(_base64(self._sealer.seal(_SEEN.pack(seen_at), raw_id, self._seen_context)))

    def delete(self, header: str) -> tuple[str, ...]:
        """Return the Set-Cookie values that delete the session's cookies, those that came with the request."""
        seen = () if cookies.read(header, self._seen_rules.name) is None else (self._seen_rules.delete(),)
        return (self._rules[0].delete(), *self._surplus(header, 1), *seen)

    def _surplus(self, header: str, used: int) -> list[str]:
        if f"{self._name}." not in header:
            return []
        return [rules.delete() for rules in self._rules[used:] if cookies.read(header, rules.name) is not None]

    def _room(self, part: int) -> int:
        """Return how many characters of the whole text a cookie takes."""
        return MAX_COOKIE_BYTES - len(self._rules[part].name) - (_WRITE_CHARS if part else 1)

    def _size(self, chars: int) -> int:
        """Return what a text takes of the Cookie header: names, "=", values and "; " between."""
        size, part = -2, 0
        while chars > 0:
            if part == MAX_COOKIES:
                return size + chars
            taken = min(chars, self._room(part))
            size += 2 + len(self._rules[part].name) + 1 + (_WRITE_CHARS if part else 1) + taken
            chars -= taken
            part += 1
        return size


def raws(data: Mapping[str, msgspec.Raw | bytes]) -> dict[str, msgspec.Raw]:
    """Return encoded values as `Kept` holds them."""
    return {key: value if type(value) is msgspec.Raw else msgspec.Raw(value) for key, value in data.items()}


def applied(header: str, lines: tuple[str, ...]) -> str:
    """Return a Cookie header as a browser sends it that has taken these Set-Cookie values."""
    changed = {line.partition("=")[0]: line for line in lines}
    kept = [pair.strip() for pair in header.split(";") if pair.partition("=")[0].strip() not in changed]
    new = [line.partition(";")[0] for line in changed.values() if "; Max-Age=0;" not in line]
    return "; ".join(filter(None, [*kept, *new]))


def _inflated(body: bytes, limit: int) -> bytes:
    """Decompress, and stop at the limit: only who holds a key can have sealed a bomb, and even they get nothing."""
    inflating = zlib.decompressobj()
    try:
        text = inflating.decompress(body, limit)
    except zlib.error as error:
        raise Undecodable("cookie") from error
    if not inflating.eof or inflating.unused_data:
        raise Undecodable("cookie")
    return text


def _base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URLSAFE).decode()


def _unbase64(text: str) -> bytes:
    """Decode whole groups of the URL-safe alphabet, and nothing else.

    Raises:
        Undecodable: it is anything else.
    """
    if len(text) % 4:
        raise Undecodable("cookie")
    try:
        return binascii.a2b_base64(text.encode("ascii").translate(_FROM_URLSAFE), strict_mode=True)
    except ValueError:
        raise Undecodable("cookie") from None
