"""Starlette: `app.add_middleware(SessionMiddleware, sessions=sessions)`, then `request.session` as ever.

    async def login(request):
        user = await check_password(request)
        request.session.login(user.id)

    @requires(factor="totp", max_age=300)
    async def payout(request): ...

Different from Starlette's own session, each for a reason
- `request.session` is a mapping, not a `dict`: values stay encoded until they are asked for. `json.dumps(request.session)`
  and `isinstance(…, dict)` need `dict(request.session)`.
- Keys are text, and values keep their type: a tuple comes back as a tuple, a datetime as a datetime; what cannot travel is
  an error that names the key.
- After the response has begun, a change raises `SessionClosed` instead of being lost.
- `session.clear()` ends the session, and with a user in it that is a sign-out.
- Setting `session["user_id"]` signs in: new token, and the session is in the user's list of devices.
- There is no cookie on plain http, except on localhost and for `TestClient`'s "testserver" outside production. (The test
  client itself sends Secure cookies back over https only: `TestClient(app, base_url="https://testserver")`.)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from ..core.session import Session
from ..errors import ConfigurationError, ExtraMissing
from .asgi import SessionMiddleware

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise ExtraMissing("The Starlette adapter", "starlette") from error

__all__ = ["SessionMiddleware", "requires", "session_of"]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def session_of(connection: HTTPConnection) -> Session:
    """Return the request's session, typed.

    Raises:
        ConfigurationError: no `SessionMiddleware` of Sessile stands before this route.
    """
    session = connection.scope.get("session")
    if not isinstance(session, Session):
        raise ConfigurationError("this route has no session: app.add_middleware(SessionMiddleware, sessions=…)")
    return session


def requires(
    *, factor: str | None = None, max_age: float | None = None, aal: int | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Open a route only to sessions that prove enough; see `Session.require`.

    The endpoint is a function of the request, or of a WebSocket. Who proves less is sent to the sign-in or step-up page,
    or answered with 401 or 403.
    """

    def decorate(endpoint: Endpoint) -> Endpoint:
        def check(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            candidates = (*arguments, *keywords.values())
            connection = next((one for one in candidates if isinstance(one, HTTPConnection)), None)
            if connection is None:
                raise ConfigurationError("`requires` guards functions that take the request or the websocket")
            session_of(connection).require(factor=factor, max_age=max_age, aal=aal)

        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def guarded(*arguments: Any, **keywords: Any) -> Any:
                check(arguments, keywords)
                return await cast(Callable[..., Awaitable[Any]], endpoint)(*arguments, **keywords)

            return cast(Endpoint, guarded)

        @functools.wraps(endpoint)
        async def guarded_in_thread(*arguments: Any, **keywords: Any) -> Any:
            check(arguments, keywords)
            return await run_in_threadpool(endpoint, *arguments, **keywords)

        return cast(Endpoint, guarded_in_thread)

    return decorate
