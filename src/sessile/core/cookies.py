"""The session cookie: how it is read, set and deleted, and which attributes may stand together (R7, R11-R21).

    name                attributes that it demands
    __Host-…            Secure, Path=/, no Domain          the default: no sibling host can plant or read it
    __Host-Http-…       the same and HttpOnly              also not plantable by script, in browsers that know it
    __Secure-…          Secure                             the only one that takes a Domain or another Path
    anything else       refused, unless `insecure_name_is_my_decision` is set; warned about

Two cookies of one name are refused, whichever came first: one of them was planted (R21).
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import CookieTooLarge, UnsafeCookie

MAX_COOKIE_BYTES: Final = 4096
MAX_ATTRIBUTE_BYTES: Final = 1024
MAX_AGE_LIMIT: Final = 400 * 86_400
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ATTRIBUTE: Final = re.compile(r"[!-+\--:<-~]*")  # printable ASCII but space, comma and semicolon
_EPOCH: Final = "Thu, 01 Jan 1970 00:00:00 GMT"

# What a session sets on a response, beside its cookie.
NO_STORE: Final = "no-store"
# What caches of other names obey before Cache-Control (RFC 9213 and older ways): left out where that says no-store.
TARGETED: Final = frozenset(
    {
        "akamai-cache-control",
        "cdn-cache-control",
        "cloudflare-cdn-cache-control",
        "edge-control",
        "netlify-cdn-cache-control",
        "surrogate-control",
        "vercel-cdn-cache-control",
        "x-accel-expires",
    }
)


@dataclass(frozen=True, slots=True)
class CookieRules:
    """Hold the cookie's name and attributes; contradictions are an error at start.

    `max_age` (seconds, None: until the browser closes) makes the cookie persistent; NIST advises against it (R16).
    The server never relies on it (R17).

    Raises:
        UnsafeCookie: name and attributes contradict each other.
    """

    name: str = "__Host-id"
    path: str = "/"
    domain: str | None = None
    samesite: Literal["Lax", "Strict", "None"] = "Lax"
    max_age: int | None = None
    cross_site_cookie_is_my_decision: bool = False
    insecure_name_is_my_decision: bool = False

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise UnsafeCookie(problem)
        if self.insecure_name_is_my_decision and not self.name.startswith(("__Host-", "__Secure-")):
            warnings.warn(
                f"the session cookie {self.name!r} has no __Host- prefix: a sibling host can plant it (R11)",
                stacklevel=3,
            )

    def _problem(self) -> str | None:
        if not _TOKEN.fullmatch(self.name):
            return "the cookie's name holds characters that RFC 6265 does not allow"
        lowered = self.name.lower()
        host, secure = lowered.startswith("__host-"), lowered.startswith("__secure-")
        if host and (self.domain or self.path != "/"):
            return "a __Host- cookie takes no Domain and only Path=/; use a __Secure- name for those (R12)"
        if not host and not secure and not self.insecure_name_is_my_decision:
            return "the cookie's name needs the prefix __Host- (or __Secure- with a Domain or Path) (R11)"
        if self.samesite not in ("Lax", "Strict", "None"):
            return "SameSite is Lax, Strict or None"
        if self.samesite == "None" and not self.cross_site_cookie_is_my_decision:
            return "SameSite=None goes along with every site's requests; set cross_site_cookie_is_my_decision (R13)"
        # A fraction would be ignored by browsers; `True` is a number to Python and a mistake to everyone else.
        if self.max_age is not None and (type(self.max_age) is not int or not 0 < self.max_age <= MAX_AGE_LIMIT):
            return "Max-Age is a whole number, between 1 second and 400 days (R15)"
        if not self.path.startswith("/") or not _ATTRIBUTE.fullmatch(self.path + (self.domain or "")):
            return "Path begins with / and neither Path nor Domain holds separators, or anything but ASCII"
        if len(self.attributes) > MAX_ATTRIBUTE_BYTES:
            return "the attributes exceed 1024 bytes (R14)"
        return None

    @property
    def attributes(self) -> str:
        """Return the attributes that both setting and deleting repeat (R18)."""
        domain = f"; Domain={self.domain}" if self.domain else ""
        return f"; Path={self.path}{domain}; Secure; HttpOnly; SameSite={self.samesite}"

    def set(self, value: str) -> str:
        """Return the Set-Cookie value.

        Raises:
            CookieTooLarge: name and value exceed what browsers keep (R14).
        """
        if len(self.name) + len(value) > MAX_COOKIE_BYTES:
            raise CookieTooLarge(
                f"the cookie would have {len(self.name) + len(value)} bytes; browsers keep {MAX_COOKIE_BYTES}"
            )
        age = "" if self.max_age is None else f"; Max-Age={self.max_age}"
        return f"{self.name}={value}{self.attributes}{age}"

    def delete(self) -> str:
        """Return the Set-Cookie value that deletes the cookie."""
        return f"{self.name}={self.attributes}; Max-Age=0; Expires={_EPOCH}"


class Duplicate:
    """Stand for a cookie that came twice."""


DUPLICATE: Final = Duplicate()


def read(header: str, name: str) -> str | Duplicate | None:
    """Find the cookie `name` in a Cookie header.

    Only a whole pair counts: the name at the start or after a semicolon, the value up to the next one. (A space inside
    another cookie's value must not pass for a separator: that is how a sibling host would plant a prefixed name.)
    Returns DUPLICATE if it is there twice.
    """
    needle = name + "="
    start = _find(header, needle, 0)
    if start < 0:
        return None
    start += len(needle)
    end = header.find(";", start)
    if end < 0:
        return header[start:].strip(" \t")
    if _find(header, needle, end) >= 0:
        return DUPLICATE
    return header[start:end].strip(" \t")


def _find(header: str, needle: str, start: int) -> int:
    at = header.find(needle, start)
    while at > 0 and not _is_start(header, at):
        at = header.find(needle, at + 1)
    return at


def _is_start(header: str, at: int) -> bool:
    """Tell whether a pair begins here, without copying what stands before: a header may be long, and full of names."""
    while at > 0 and header[at - 1] in " \t":
        at -= 1
    return at > 0 and header[at - 1] == ";"


def vary_on(header: str, present: str | None) -> str:
    """Return the Vary value with a request header in it."""
    if not present:
        return header
    names = [name.strip() for name in present.split(",")]
    if "*" in names:
        return "*"
    return present if header.lower() in map(str.lower, names) else f"{present}, {header}"


def uncacheable(present: str | None, *, sets_cookie: bool) -> str:
    """Return the Cache-Control value of a response that carries a session (R19).

    With a cookie it is always no-store. Without, the application's own value stands if it keeps shared caches out.
    """
    if sets_cookie or not present:
        return NO_STORE
    # With an argument, as in private="Set-Cookie", they speak of single headers, not of the response.
    directives = {part.strip().lower() for part in present.split(",")}
    return present if directives & {"no-store", "private"} and "public" not in directives else NO_STORE
