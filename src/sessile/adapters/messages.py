"""ASGI's messages: request headers by name, and the session's headers put among the application's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from ..core import answers
from ..core.answers import NOTHING, Answer
from ..core.cookies import TARGETED
from ..core.session import Session
from .replies import WITHOUT_BODY, Headers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

_TARGETED: Final = frozenset(name.encode() for name in TARGETED)
_OF_CACHES: Final = frozenset({b"cache-control", b"vary"}) | _TARGETED
# What the two answers that most responses get look like, if the application says nothing about caches itself.
_CONSTANT: Final[dict[Answer, RawHeaders]] = {
    NOTHING: [],
    answers.LOOKED: [(b"vary", b"Cookie")],
    answers.READ: [(b"vary", b"Cookie"), (b"cache-control", b"no-store")],
}


def by_name(listed: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return request headers by name, repeated ones joined."""
    pairs = listed if isinstance(listed, list) else list(listed)
    headers = dict(pairs)
    return headers if len(headers) == len(pairs) else _joined(pairs)


def header(headers: dict[bytes, bytes], name: str) -> str | None:
    """Look a request header up by its lower-case name."""
    value = headers.get(name.encode("latin-1"))
    return None if value is None else value.decode("latin-1")


def _joined(listed: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in listed:
        if name in headers:
            # HTTP/2 splits the Cookie header, and its parts are joined like this (RFC 9113 8.2.3).
            headers[name] += (b"; " if name == b"cookie" else b", ") + value
        else:
            headers[name] = value
    return headers


def foreseen(session: Session, message: Message) -> Message:
    """Count a response of unknown length as one that looks: the rest is made when the headers are gone (R19)."""
    if session.accessed or message["status"] in WITHOUT_BODY:
        return message
    message = _readable(message)
    if not any(name.lower() == b"content-length" for name, _ in message["headers"]):
        session.accessed = True
    return message


def with_answer(message: Message, answer: Answer) -> Message:
    """Return the message that starts a response, with the session's headers.

    It is another message: the list of headers may belong to a response that the application sends to everybody.
    """
    message = _readable(message)
    headers: Iterable[tuple[bytes, bytes]] = message["headers"]
    present: dict[bytes, bytes] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _OF_CACHES:
            present[lowered] = value if lowered not in present else present[lowered] + b", " + value
    if not present:
        ours = _CONSTANT.get(answer) or encoded(answer.headers(None, None))
        return {**message, "headers": [*headers, *ours]}
    cache, vary = present.get(b"cache-control"), present.get(b"vary")
    ours = encoded(
        answer.headers(
            None if cache is None else cache.decode("latin-1"), None if vary is None else vary.decode("latin-1")
        )
    )
    replaced = {name for name, _ in ours if name != b"set-cookie"}
    if answer.is_private:
        replaced |= _TARGETED
    return {**message, "headers": [*(pair for pair in headers if pair[0].lower() not in replaced), *ours]}


def encoded(headers: Headers) -> RawHeaders:
    """Return a reply's headers as ASGI has them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _readable(message: Message) -> Message:
    """Return the message with a list of headers: they may be left out, or be something that is read only once."""
    return message if type(message.get("headers")) is list else {**message, "headers": list(message.get("headers", ()))}
