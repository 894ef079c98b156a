"""The answers that adapters give themselves, decided once for all of them.

    when                                        answer
    the guard refuses a cross-site request      403
    the store failed                            503, Retry-After, no-store: never "anonymous" (R45)
    StepUpRequired: nobody, pending, challenged  redirect to `login_url` for pages, 401 JSON otherwise,
                                                with WWW-Authenticate where access tokens are taken (RFC 6750 §3)
    StepUpRequired: factor, age, aal             redirect to `step_up_url` for pages, 403 JSON otherwise
    AccessRefused: a token that opens nothing   401 or 400, with WWW-Authenticate (RFC 6750)
    TooManySessions                             403
    ConflictError, SessionGone                  409
    <prefix>/session.js                         the client script
    <prefix>/status   GET                       how long the session lives; no activity of the user (R40)
    <prefix>/extend   POST                      the same, and it is activity
    <prefix>/logout   POST                      signs out (R67)

A page is what a browser navigates to: `Accept` names text/html. Redirects carry `next`, a path of this very host.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from ..core.requests import Facts
from ..core.session import Session
from ..core.sessions import AsyncSessions, Sessions
from ..errors import (
    AccessRefused,
    ConfigurationError,
    ConflictError,
    SessileError,
    SessionGone,
    StepUpRequired,
    StoreError,
    TooManySessions,
)

Headers = list[tuple[str, str]]
Door = AsyncSessions | Sessions
PREFIX: Final = "/.sessile"
PASSIVE_HEADER: Final = "sessile-passive"
Endpoint = Literal["session.js", "status", "extend", "logout"]
_ENDPOINTS: Final[dict[str, Endpoint]] = {
    "session.js": "session.js",
    "status": "status",
    "extend": "extend",
    "logout": "logout",
}
_METHODS: Final[dict[Endpoint, tuple[str, ...]]] = {
    "session.js": ("GET", "HEAD"),
    "status": ("GET", "HEAD"),
    "extend": ("POST",),
    "logout": ("POST",),
}
# Statuses of responses that have no body, which could show nothing.
WITHOUT_BODY: Final = frozenset({204, 205, 304})
_PHRASES: Final = {
    200: "OK",
    204: "No Content",
    303: "See Other",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    405: "Method Not Allowed",
    409: "Conflict",
    503: "Service Unavailable",
}


class Reply(NamedTuple):
    """Hold a whole response: status, headers (lower-case names), body."""

    status: int
    headers: Headers
    body: bytes = b""

    @property
    def phrase(self) -> str:
        """Return the status line's text, for WSGI."""
        return _PHRASES[self.status]


class Pages(NamedTuple):
    """Hold where the application's own pages are: sign-in, step-up, and where a sign-out form lands."""

    login_url: str | None = None
    step_up_url: str | None = None
    after_logout: str = "/"


def is_inside(sessions: Door, owners: tuple[Door, ...]) -> bool:
    """Tell whether a middleware outside has this request in its care already, with the same door.

    Raises:
        ConfigurationError: one of them has another door and the same cookie: each would refuse the other's tokens.
    """
    if sessions in owners:
        return True
    name = sessions.engine.cookie.name
    if any(owner.engine.cookie.name == name for owner in owners):
        raise ConfigurationError(f"two nested SessionMiddlewares with doors of their own both use the cookie {name!r}")
    return False


def endpoint(path: str, prefix: str | None) -> Endpoint | None:
    """Return which of Sessile's own endpoints this path is, if any; `prefix` None switches them off."""
    if prefix is None or not path.startswith(prefix + "/"):
        return None
    return _ENDPOINTS.get(path[len(prefix) + 1 :])


def is_passive(facts_header: str | None, which: Endpoint | None) -> bool:
    """Tell whether a request is no activity of the user: it says so, or it asks for the status (R40)."""
    return which == "status" or facts_header == "1"


def script() -> Reply:
    """Return the client script."""
    body = (files("sessile.adapters") / "session.js").read_bytes()
    headers = [
        ("content-type", "text/javascript; charset=utf-8"),
        ("cache-control", "public, max-age=3600"),
        ("x-content-type-options", "nosniff"),
        ("content-length", str(len(body))),
    ]
    return Reply(200, headers, body)


def serve(which: Endpoint, facts: Facts, session: Session, pages: Pages) -> Reply:
    """Answer one of Sessile's own endpoints; intents are left in the session, for the commit that follows."""
    if facts.method not in _METHODS[which]:
        return _json(405, {"error": "method-not-allowed"}, [("allow", ", ".join(_METHODS[which]))])
    if which == "session.js":
        return script()
    if which == "logout":
        session.logout()
        if _wants_page(facts):
            return Reply(303, [("location", pages.after_logout), ("content-length", "0")])
        return Reply(204, [])
    expires_at, now = session.expires_at, session.now
    left = None if expires_at is None or not session.is_authenticated else max(0.0, expires_at - now)
    if which == "status" and left is not None and session.last_seen is not None:
        # The status is no activity: what is left counts from the last one.
        left = max(0.0, min(left, session.idle_deadline - now))
    return _json(200, {"authenticated": session.is_authenticated, "expires_in": left}, [("cache-control", "no-store")])


def cross_site() -> Reply:
    """Return the refusal of a cross-site request (R22)."""
    return _json(403, {"error": "cross-site-request", "detail": "This request came from another site."})


def refusal(error: SessileError, facts: Facts, pages: Pages) -> Reply | None:
    """Return the reply that an error is answered with, None if it is the application's own mistake (a 500)."""
    match error:
        case StoreError():
            body = {
                "error": "session-store-unavailable",
                "detail": "Sessions are not available at the moment. Try again soon.",
            }
            return _json(503, body, [("retry-after", "2"), ("cache-control", "no-store")])
        case AccessRefused():
            told = [*error.headers, ("cache-control", "no-store"), ("vary", "Authorization")]
            return _json(error.status, {"error": error.error}, told)
        case StepUpRequired():
            return _step_up(error, facts, pages)
        case TooManySessions():
            return _json(403, {"error": error.code, "detail": str(error)}, [("cache-control", "no-store")])
        case ConflictError() | SessionGone():
            return _json(409, {"error": error.code, "detail": str(error)}, [("cache-control", "no-store")])
        case _:
            return None


def _step_up(error: StepUpRequired, facts: Facts, pages: Pages) -> Reply:
    signed_in = error.reason in ("factor", "age", "aal")
    where = (pages.step_up_url if signed_in else pages.login_url) or pages.login_url
    if where is not None and _wants_page(facts):
        joiner = "&" if "?" in where else "?"
        target = quote(facts.path, safe="/") if facts.method in ("GET", "HEAD") and _is_local(facts.path) else "/"
        location = f"{where}{joiner}next={target}&reason={error.reason}"
        return Reply(303, [("location", location), ("cache-control", "no-store"), ("content-length", "0")])
    asked = {"reason": error.reason, "factor": error.factor, "max_age": error.max_age, "aal": error.aal}
    body = {"error": error.code, **{name: value for name, value in asked.items() if value is not None}}
    told = [("cache-control", "no-store")]
    if error.challenge:
        told.append(("www-authenticate", error.challenge))
    return _json(403 if signed_in else 401, body, told)


def _is_local(path: str) -> bool:
    """Tell whether a path stays on this host as browsers read it: backslashes as slashes, without tabs and breaks."""
    return path.isprintable() and "\\" not in path and path.startswith("/") and not path.startswith("//")


def _wants_page(facts: Facts) -> bool:
    return "text/html" in (facts.header("accept") or "")


def _json(status: int, body: object, headers: Headers | None = None) -> Reply:
    encoded = msgspec.json.encode(body)
    base = [
        ("content-type", "application/json"),
        ("content-length", str(len(encoded))),
        ("x-content-type-options", "nosniff"),
    ]
    return Reply(status, [*base, *(headers or [])], encoded)
