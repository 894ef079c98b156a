"""Starlette: `app.add_middleware(SessionMiddleware, sessions=AsyncSessions(...))`, then `request.session` as ever.

Everything that `starlette.middleware.sessions` lets an application do with `request.session` goes on working. Different
are, and why:

    here                                              why
    `request.session` is a mapping, not a `dict`      values stay encoded until they are asked for; where only a dict
                                                      will do (json.dumps), write dict(request.session)
    in templates `session.id` is the session's id     it has attributes of its own; such a key is session["id"]
    `clear()`, and removing `user_id`, sign out       an end must be an end for every copy of the token (R61)
    setting `user_id` signs in                        a sign-in renews the token (R25), so it must not pass unnoticed
    a value keeps its type (tuple, set, datetime …)   JSON turned tuples into lists, and could not hold dates
    a nested change is stored                         the signed cookie lost session["cart"].append(…) silently
    a change after the response began raises          it could not be stored any more, and was lost silently
    mapping keys inside a value stay whole numbers    JSON turned {1: 2} into {"1": 2}
    plain http elsewhere than on loopback: no cookie  anybody on the way could read it (R20)
    TestClient(app, base_url="https://testserver")    the cookie is Secure, and the client sends it over https alone
    a POST from another site is refused               that is how logins and shops are attacked (R22)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..core.session import Session
from ..errors import ConfigurationError, ExtraMissing

try:
    from starlette.requests import HTTPConnection
except ImportError as missing:
    raise ExtraMissing("sessile.adapters.starlette", "starlette") from missing

from .asgi import SCOPE_KEY, SessionMiddleware

__all__ = ["SessionMiddleware", "requires", "session_of"]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def session_of(connection: HTTPConnection) -> Session:
    """Return the session of a request or WebSocket, typed.

    Raises:
        ConfigurationError: `SessionMiddleware` is not installed.
    """
    session = connection.scope.get(SCOPE_KEY)
    if not isinstance(session, Session):
        raise ConfigurationError("no session here: app.add_middleware(SessionMiddleware, sessions=...) is missing")
    return session


def requires(
    *, factor: str | None = None, max_age: float | None = None, aal: int | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Guard an endpoint: it is called only if the session proves enough, as in `Session.require` (R90).

    The endpoint is a function or method, plain or async, that takes the request or the WebSocket. Whoever proves too
    little is sent to the sign-in or step-up page, or gets 401 or 403.
    """

    def guard(endpoint: Endpoint) -> Endpoint:
        def check(args: tuple[Any, ...], named: dict[str, Any]) -> None:
            session_of(_connection_among((*args, *named.values()))).require(factor=factor, max_age=max_age, aal=aal)

        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def guarded_async(*args: Any, **named: Any) -> Any:
                check(args, named)
                return await endpoint(*args, **named)

            return cast(Endpoint, guarded_async)

        @functools.wraps(endpoint)
        def guarded(*args: Any, **named: Any) -> Any:
            check(args, named)
            return endpoint(*args, **named)

        return cast(Endpoint, guarded)

    return guard


def _connection_among(arguments: tuple[Any, ...]) -> HTTPConnection:
    for one in arguments:
        if isinstance(one, HTTPConnection):
            return one  # pyright: ignore[reportUnknownVariableType]
    raise ConfigurationError("an endpoint is guarded by `requires`, but takes neither a request nor a WebSocket")
