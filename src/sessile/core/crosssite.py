"""The cross-site request guard: unsafe methods must come from our own pages (R22, OWASP CSRF cheat sheet).

    method   Sec-Fetch-Site           Origin                   answer
    safe     any                      any                      pass
    unsafe   same-origin, none        any                      pass
    unsafe   same-site, cross-site    listed as trusted        pass
    unsafe   same-site, cross-site    anything else            refuse
    unsafe   absent                   absent                   pass: no browser (browsers send one of the two)
    unsafe   absent                   our own, or trusted      pass
    unsafe   absent                   another, or "null"       refuse

Signing in is covered, whether or not a cookie came along. A sibling subdomain is not ourselves: list it where it is
meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from .network import Client
from .requests import Facts

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class CrossSiteGuard:
    """Decide which unsafe requests are refused.

    `trusted_origins` lists whole origins (`https://admin.example.org`). `exempt_paths` lists paths that take posts from
    elsewhere by design (a provider's form_post answer), each with what lies below it: `/saml` is `/saml/acs`, too, and
    not `/samlogout`. They must authenticate their messages themselves.
    """

    __slots__ = ("_below", "_exempt", "_trusted")

    def __init__(self, *, trusted_origins: Iterable[str] = (), exempt_paths: Iterable[str] = ()) -> None:
        self._trusted = frozenset(map(_whole_origin, trusted_origins))
        self._exempt = tuple(exempt_paths)
        self._below = tuple(path if path.endswith("/") else path + "/" for path in self._exempt)
        if any(not path.startswith("/") for path in self._exempt):
            raise ConfigurationError("exempt paths begin with /")

    @property
    def trusted_origins(self) -> tuple[tuple[str, str, int], ...]:
        """Return scheme, host and port of each trusted origin."""
        return tuple(sorted(self._trusted))

    @property
    def exempt_paths(self) -> tuple[str, ...]:
        """Return the paths that take posts from elsewhere, each with what lies below it."""
        return self._exempt

    def refuses(self, facts: Facts, client: Client) -> bool:
        """Tell whether this request must be refused with 403."""
        if facts.method in SAFE_METHODS:
            return False
        if self._exempt and (facts.path in self._exempt or facts.path.startswith(self._below)):
            return False
        return not self._is_ours(facts, client)

    def refuses_handshake(self, facts: Facts, client: Client) -> bool:
        """Tell whether a WebSocket handshake must be refused: a GET that acts, judged as unsafe (R24)."""
        return not self._is_ours(facts, client)

    def _is_ours(self, facts: Facts, client: Client) -> bool:
        site = facts.header("sec-fetch-site")
        if site is not None and site.lower() in ("same-origin", "none"):
            return True
        origin = facts.header("origin")
        if origin is None:
            return site is None
        parsed = _origin(origin)
        if parsed is None:
            return False
        if parsed in self._trusted:
            return True
        return site is None and parsed == _origin(f"{client.scheme}://{client.host}")


def _whole_origin(text: str) -> tuple[str, str, int]:
    parsed = _origin(text)
    if parsed is None or urlsplit(text).path not in ("", "/"):
        raise ConfigurationError(f"{text!r} is no origin: write scheme and host, as in https://admin.example.org")
    return parsed


def _origin(text: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return None
    default = _DEFAULT_PORTS.get(parts.scheme)
    # No browser writes a user or a backslash into an origin; who does wants the host to be read in two ways.
    if default is None or not parts.hostname or "@" in parts.netloc or "\\" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, port or default
