"""FastAPI: the same middleware, and dependencies.

    app = FastAPI()
    app.add_middleware(SessionMiddleware, sessions=sessions)

    @app.get("/me")
    async def me(user: CurrentUser) -> dict[str, str]:
        return {"user": user}

    @app.post("/payout", dependencies=[Require(factor="totp", max_age=300)])
    async def payout(session: CurrentSession) -> None: ...

Dependencies raise `StepUpRequired`; the middleware answers it with a redirect, 401 or 403. They add nothing to the
OpenAPI document. The differences listed for Starlette hold here too.
"""

from __future__ import annotations

from typing import Annotated, Any

from ..core.session import Session
from ..errors import ExtraMissing
from .starlette import SessionMiddleware, session_of

try:
    from fastapi import Depends
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise ExtraMissing("The FastAPI adapter", "fastapi") from error

__all__ = ["CurrentSession", "CurrentUser", "Require", "SessionMiddleware"]


def _session(connection: HTTPConnection) -> Session:
    return session_of(connection)


def _user(connection: HTTPConnection) -> str:
    return session_of(connection).require()


CurrentSession = Annotated[Session, Depends(_session)]
CurrentUser = Annotated[str, Depends(_user)]


def Require(*, factor: str | None = None, max_age: float | None = None, aal: int | None = None) -> Any:  # noqa: N802
    """Return a dependency that opens a route only to sessions that prove enough; it yields the user id."""

    def required(connection: HTTPConnection) -> str:
        return session_of(connection).require(factor=factor, max_age=max_age, aal=aal)

    return Depends(required)
