"""The Django half of `mounting`: apart, because importing it configures Django."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import django_project

django_project.configure()

from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import clear_url_caches, include, path  # noqa: E402

from sessile.adapters.django import async_sessions, requires, sessions  # noqa: E402
from sessile.adapters.django.doors import reopen  # noqa: E402
from sessile.adapters.django.sites import urls  # noqa: E402
from tests.support import mounting  # noqa: E402


@contextmanager
def project(is_async: bool, make_site: Any, store: str, options: dict[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Serve a site in Django; yield the application, the door and the site."""
    with override_settings(SESSILE={"store": store, **options}):
        reopen()
        door: Any = async_sessions() if is_async else sessions()
        site = make_site(door)
        guarded = requires()(lambda _request: HttpResponse(mounting.OPEN))
        patterns = [
            path(mounting.PREFIX.lstrip("/") + "/", include(urls(site))),
            path(mounting.GUARDED.lstrip("/"), guarded),
        ]
        name = f"tests.support.mounted_{id(site)}"
        mounting.module(name, urlpatterns=patterns)
        with override_settings(ROOT_URLCONF=name):
            clear_url_caches()
            yield (ASGIHandler() if is_async else WSGIHandler()), door, site
    reopen()
