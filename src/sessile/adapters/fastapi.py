"""FastAPI: the middleware of Starlette, and dependencies that hand a path operation its session and its user.

    app.add_middleware(SessionMiddleware, sessions=AsyncSessions("sqlite:///sessions.db"))

    @app.post("/cart")
    async def add(item: str, session: CurrentSession): ...

    @app.get("/orders")
    async def orders(user: CurrentUser): ...                      401, or the sign-in page, for everybody else

    @app.post("/pay", dependencies=[Require(factor="totp", max_age=300)])
    async def pay(): ...                                          403, or the step-up page

They serve WebSockets too. The OpenAPI document does not change: a session cookie is no parameter that a client sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ..core.session import Session
from ..errors import ExtraMissing

try:
    from fastapi import Depends
    from fastapi.requests import HTTPConnection
except ImportError as missing:
    raise ExtraMissing("sessile.adapters.fastapi", "fastapi") from missing

from .starlette import SessionMiddleware, session_of

__all__ = ["CurrentSession", "CurrentUser", "Require", "SessionMiddleware"]


async def current_session(connection: HTTPConnection) -> Session:
    """Return the session of the request."""
    return session_of(connection)


def Require(*, factor: str | None = None, max_age: float | None = None, aal: int | None = None) -> Any:
    """Return a dependency that lets through only who proves enough, and yields the user id (R90).

    See `Session.require` for what can be asked. It stands in `dependencies=[…]`, or in `Annotated[str, …]`.
    """
    return Depends(_Required(factor, max_age, aal))


@dataclass(frozen=True)
class _Required:
    """Be the dependency; equal ones are asked once a request."""

    factor: str | None
    max_age: float | None
    aal: int | None

    async def __call__(self, connection: HTTPConnection) -> str:
        return session_of(connection).require(factor=self.factor, max_age=self.max_age, aal=self.aal)


CurrentSession = Annotated[Session, Depends(current_session)]
CurrentUser = Annotated[str, Require()]
