"""Guards for views: a decorator, and a mixin for class-based views."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest

from .session import DjangoSession

View = TypeVar("View", bound=Callable[..., Any])


def requires(
    *, factor: str | None = None, max_age: float | None = None, aal: int | None = None
) -> Callable[[View], View]:
    """Open a view, sync or async, only to sessions that prove enough; see `Session.require`."""

    def guard(view: View) -> View:
        def check(request: HttpRequest) -> None:
            cast("DjangoSession", request.session).require(factor=factor, max_age=max_age, aal=aal)

        if iscoroutinefunction(view):  # pyright: ignore[reportDeprecated] - inspect's knows no marks before 3.12

            @wraps(view)
            async def guarded_async(request: HttpRequest, *arguments: Any, **keywords: Any) -> Any:
                check(request)
                return await view(request, *arguments, **keywords)

            return cast("View", guarded_async)

        @wraps(view)
        def guarded(request: HttpRequest, *arguments: Any, **keywords: Any) -> Any:
            check(request)
            return view(request, *arguments, **keywords)

        return cast("View", guarded)

    return guard


class SessionRequiredMixin:
    """Open a class-based view only to sessions that prove enough; put it first among the bases."""

    required_factor: ClassVar[str | None] = None
    required_max_age: ClassVar[float | None] = None
    required_aal: ClassVar[int | None] = None

    def dispatch(self, request: HttpRequest, *arguments: Any, **keywords: Any) -> Any:
        """Check, then serve."""
        store = cast("DjangoSession", request.session)
        store.require(factor=self.required_factor, max_age=self.required_max_age, aal=self.required_aal)
        return cast("Any", super()).dispatch(request, *arguments, **keywords)
