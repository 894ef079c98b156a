"""A WSGI environment read as facts, and the session's headers put among the application's: what WSGI adapters share."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from ..core.answers import NOTHING, READ, Answer
from ..core.cookies import TARGETED
from ..core.crosssite import SAFE_METHODS
from ..core.requests import Facts
from ..core.sessions import AsyncSessions, Sessions
from ..errors import ConfigurationError
from . import replies

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

ENVIRON_KEY: Final = "sessile.session"
_PASSIVE: Final = "HTTP_" + replies.PASSIVE_HEADER.upper().replace("-", "_")
_BARE: Final = frozenset({"content-type", "content-length"})
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_READ: Final = READ.headers(None, None)


def check_door(sessions: object) -> None:
    """Refuse what is not the blocking door.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(sessions, Sessions):
        raise ConfigurationError(f"WSGI blocks: give it a Sessions, not {type(sessions).__name__}")


def read_request(
    environ: WSGIEnvironment, prefix: str | None, passive_paths: tuple[str, ...]
) -> tuple[Facts, replies.Endpoint | None]:
    """Read the facts of a request, and which of Sessile's own endpoints it asks for."""
    get = environ.get
    path: str = get("PATH_INFO", "")
    script: str = get("SCRIPT_NAME", "")
    which = replies.endpoint(path, prefix)
    whole = script + path if script else path
    if not whole.isascii():
        whole = whole.encode("latin-1", "replace").decode("utf-8", "replace")
    passive = replies.is_passive(get(_PASSIVE), which) or (bool(passive_paths) and path.startswith(passive_paths))
    facts = Facts(
        environ["REQUEST_METHOD"],
        environ["wsgi.url_scheme"],
        get("HTTP_HOST") or _server(environ),
        whole,
        get("REMOTE_ADDR") or "",
        get("HTTP_COOKIE") or "",
        partial(_header, environ),
        passive,
    )
    return facts, which


def _server(environ: WSGIEnvironment) -> str:
    name, port = str(environ.get("SERVER_NAME", "")), str(environ.get("SERVER_PORT", ""))
    return name if not port or port == _DEFAULT_PORTS.get(environ["wsgi.url_scheme"]) else f"{name}:{port}"


def _header(environ: WSGIEnvironment, name: str) -> str | None:
    found: Any = environ.get(_variable(name))
    return None if found is None else str(found)


@lru_cache(maxsize=256)
def _variable(name: str) -> str:
    """Return the name of a header in the environment; names are asked for by code, never by clients."""
    key = name.upper().replace("-", "_")
    return key if name in _BARE else f"HTTP_{key}"


def is_refused(sessions: Sessions | AsyncSessions, facts: Facts) -> bool:
    """Tell whether another site sent this request and it must not pass; the sinks are told (R22)."""
    engine = sessions.engine
    if facts.method in SAFE_METHODS or engine.is_by_token(facts):
        return False
    if not sessions.guard.refuses(facts, engine.client(facts)):
        return False
    engine.tell_cross_site(facts)
    return True


def merged(headers: list[tuple[str, str]], answer: Answer) -> list[tuple[str, str]]:
    """Return the application's headers with those of the session."""
    if answer is NOTHING:
        return headers
    cache, vary, targeted = said_of_caches(headers)
    ours = headers_of(answer, cache, vary)
    if cache is None and vary is None and not targeted:
        return headers + ours
    replaced = {name for name, _ in ours if name != "set-cookie"}
    if answer.is_private:
        replaced |= TARGETED
    return [pair for pair in headers if pair[0].lower() not in replaced] + ours


def said_of_caches(headers: Iterable[tuple[str, str]]) -> tuple[str | None, str | None, bool]:
    """Return what the application says in Cache-Control and in Vary, and if it speaks to caches of other names."""
    cache: str | None = None
    vary: str | None = None
    targeted = False
    for name, value in headers:
        lowered = name.lower()
        if lowered == "cache-control":
            cache = value if cache is None else f"{cache}, {value}"
        elif lowered == "vary":
            vary = value if vary is None else f"{vary}, {value}"
        elif lowered in TARGETED:
            targeted = True
    return cache, vary, targeted


def headers_of(answer: Answer, cache: str | None, vary: str | None) -> list[tuple[str, str]]:
    """Return the session's headers; most responses have read a session and say nothing of caches themselves."""
    return _READ if answer is READ and cache is None and vary is None else answer.headers(cache, vary)
