"""The invariants' application on Django, under WSGI."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from tests.support import django_project

django_project.configure()

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from tests.invariants.apps.wsgi_server import ThreadApp  # noqa: E402
from tests.invariants.harness import App, Gates  # noqa: E402
from tests.invariants.views import answer  # noqa: E402

BLOCKING = True
_gates: list[Gates] = []


def to_invariants(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Lead every path to the invariants' view."""

    def middleware(request: HttpRequest) -> Any:
        request.urlconf = "tests.invariants.apps.django_urls"  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


def serve(request: HttpRequest, path: str) -> HttpResponse:
    """Serve one request."""
    query = request.GET.dict()
    if path == "slow":
        request.session.get("cart")
        _gates[-1].hold(query["gate"])
    status, body, headers = answer(request.method or "", f"/{path}", query, lambda: request.session)
    return HttpResponse(body, status=status, headers=dict(headers))


def start(store: Any, gates: Gates, options: dict[str, Any]) -> App:
    """Return the application, ready to take requests."""
    logging.getLogger("django.request").disabled = True
    _gates[:] = [gates]
    django_project.use(store=store, user_keys=("user_id", "_auth_user_id"), **options)
    from sessile.adapters.django import sessions

    middleware = [django_project.OURS, "tests.invariants.apps.django_app.to_invariants"]
    with override_settings(MIDDLEWARE=middleware):
        handler = WSGIHandler()
    return ThreadApp(handler, sessions())
