"""The Django cells: a bare Django view, and what each session engine adds to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.urls import path

from benchmarks import data
from benchmarks.asgi_cells import OPTIONS
from benchmarks.harness import Cell
from benchmarks.wsgi_cells import filled, requester


def plain(_request: HttpRequest) -> HttpResponse:
    """Answer without a look at the session."""
    return HttpResponse("ok")


def read(request: HttpRequest) -> HttpResponse:
    """Answer after reading one key of the session; without it this fails: who measures nobody measures nothing."""
    return HttpResponse(request.session["user_name"])


def write(request: HttpRequest) -> HttpResponse:
    """Answer after changing one key of the session."""
    request.session["hits"] = request.session.get("hits", 0) + 1
    return HttpResponse("ok")


def fill(request: HttpRequest, size: str) -> HttpResponse:
    """Fill the session."""
    request.session.update(data.SMALL if size == "small" else data.LARGE)
    return HttpResponse("ok")


urlpatterns = [path("plain", plain), path("read", read), path("write", write), path("fill/<size>", fill)]

DJANGO = "django.contrib.sessions.middleware.SessionMiddleware"
OURS = "sessile.adapters.django.SessionMiddleware"


def configure(directory: Path) -> None:
    """Configure Django once for all cells, and make its session table."""
    settings.configure(
        SECRET_KEY="benchmark-secret",
        ALLOWED_HOSTS=["example.org"],
        ROOT_URLCONF=__name__,
        DEBUG=False,
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(directory / "django.db"),
                "CONN_MAX_AGE": None,
            }
        },
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
        },
        INSTALLED_APPS=["django.contrib.sessions"],
        MIDDLEWARE=[],
        SESSILE={"store": f"sqlite:///{directory}/django-sessile.db", **OPTIONS},
        LOGGING_CONFIG=None,
    )
    django.setup()
    call_command("migrate", verbosity=0)


def cells(directory: Path) -> list[Cell]:
    """Return all Django cells."""
    from django.core.handlers.wsgi import WSGIHandler

    configure(directory)
    found = [Cell("django", "bare", "read", requester(WSGIHandler(), "/plain", None))]
    engines = (
        ("django db (sqlite)", DJANGO, "django.contrib.sessions.backends.db"),
        ("django cache (memory)", DJANGO, "django.contrib.sessions.backends.cache"),
        ("sessile sqlite", OURS, "sessile.adapters.django"),
    )
    for name, middleware, engine in engines:
        with override_settings(MIDDLEWARE=[middleware], SESSION_ENGINE=engine):
            app: Any = WSGIHandler()
            small, large = filled(app, "small", data.COUNT), filled(app, "large", 200)
        forged = [small[0][:-4] + "AAAA"]
        found.extend(
            (
                Cell("django", name, "read", requester(app, "/read", small)),
                Cell("django", name, "large", requester(app, "/read", large)),
                Cell("django", name, "anonymous", requester(app, "/plain", None)),
                Cell("django", name, "forged", requester(app, "/plain", forged)),
                Cell("django", name, "write", requester(app, "/write", small)),
            )
        )
    return found
