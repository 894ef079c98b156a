"""What a site is asked and what it answers, whatever serves it: one request, one reply, no server's types.

A site is a set of pages or endpoints below one path: the account pages, the token endpoints, the routes of a sign-on.
`sessile.adapters.sites` mounts it in ASGI and WSGI applications, the adapters of Flask and Django below their own
sessions. What it raises is answered as if the application had raised it: `StepUpRequired` asks for a sign-in, a store
that failed is a 503.

Every reply made here carries a strict Content-Security-Policy: scripts and styles from the site's own address, nothing
inline, no frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from ..core.session import Session

MAX_BODY_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 64
_MAX_TARGET_CHARS: Final = 2048
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
NO_STORE: Final = ("cache-control", "no-store")
SECURITY_HEADERS: Final = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    NO_STORE,
)
# What stands in a path as it is (RFC 3986 §3.3); all else of a decoded one is written as its bytes.
_PATH_CHARS: Final = "/:@!$&'()*+,;="
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Reply(NamedTuple):
    """Hold a whole response: status, headers (lower-case names), body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


@dataclass(frozen=True)
class Ask:
    """Hold one request: where the site is mounted (`root`, no slash at its end), the path below it, what was sent.

    `query` has each parameter once, the first. `headers` have lower-case names; of several, their values are joined as
    the server does it. `body` has at most `MAX_BODY_BYTES`.
    """

    method: str
    root: str
    path: str
    session: Session
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def kind(self) -> str:
        """Return the body's media type in lower case, without parameters, "" if the request names none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @cached_property
    def form(self) -> Mapping[str, str]:
        """Return the fields of a form, each once, the first; empty if the body is no form."""
        if self.kind != FORM:
            return _NOTHING
        try:
            return read_pairs(self.body.decode())
        except ValueError:
            return _NOTHING

    @cached_property
    def json(self) -> Any:
        """Return the body as JSON, None if it is something else."""
        if self.kind != JSON:
            return None
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None

    def url(self, path: str, /, **query: str) -> str:
        """Return the address of a page of this site: a path of this host, whatever the mount is called.

        A mount may have a part that whoever asks has chosen; two slashes at the start would name another host.
        """
        place = quote(self.root + path, safe=_PATH_CHARS)
        if place.startswith("//"):
            place = "/" + place.lstrip("/")
        return place + (f"?{urlencode(query)}" if query else "")

    def target(self, default: str) -> str:
        """Return where to go afterwards: the request's `next` if it is a path of this very host, else `default`."""
        return local(self.form.get("next") or self.query.get("next", ""), default)


class Site(Protocol):
    """Answer what is asked below one path (port)."""

    @property
    def blocking(self) -> bool:
        """Tell for which door it was made: True for code that blocks, False for an event loop."""
        ...

    async def answer(self, ask: Ask) -> Reply:
        """Return the reply to one request."""
        ...


def local(target: str, default: str) -> str:
    """Return `target` if every browser reads it as a path of this host.

    Browsers read a backslash as a slash, and leave out tabs and line breaks; so none of those may be in it.
    """
    plain = target.isascii() and target.isprintable() and "\\" not in target and len(target) <= _MAX_TARGET_CHARS
    return target if plain and target.startswith("/") and not target.startswith("//") else default


def read_pairs(text: str) -> dict[str, str]:
    """Return the fields of a query or a form; a name that stands twice counts once, the first."""
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def redirect(target: str) -> Reply:
    """Send the browser elsewhere, by GET."""
    return Reply(303, (*SECURITY_HEADERS, ("location", target)))


def plain(status: int, text: str) -> Reply:
    """Answer with a line of text."""
    return Reply(status, (*SECURITY_HEADERS, ("content-type", "text/plain; charset=utf-8")), text.encode())


def html(text: str, status: int = 200) -> Reply:
    """Answer with a page."""
    return Reply(status, (*SECURITY_HEADERS, ("content-type", "text/html; charset=utf-8")), text.encode())


def json(value: Any, status: int = 200) -> Reply:
    """Answer a program."""
    return Reply(status, (*SECURITY_HEADERS, ("content-type", JSON)), msgspec.json.encode(value))


def wrong_method(*allowed: str) -> Reply:
    """Refuse a method that a path does not have."""
    refused = plain(405, "This address does not take that method.\n")
    return refused._replace(headers=(*refused.headers, ("allow", ", ".join(allowed))))


NOT_FOUND: Final = plain(404, "There is nothing here.\n")
TOO_LARGE: Final = plain(413, "That is too large.\n")
