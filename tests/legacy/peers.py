"""The real libraries, run as applications run them: each writes sessions, and says what it still serves.

A peer takes part by four things: `write(data)` stores a session by the library itself and returns the Cookie header
that its browser sends; `read(cookie)` is what the library's own application makes of such a header; `bridge(...)` is
the bridge to it; `user` is the data that signs somebody in there.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import flask
import flask_session
import redis
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sessile.legacy import (
    DjangoCache,
    DjangoCookie,
    DjangoDatabase,
    ExpressRedis,
    FlaskCookie,
    FlaskSessionRedis,
    StarletteCookie,
    StarsessionsCookie,
    StarsessionsRedis,
)
from tests.support import django_project
from tests.support.node import node_folder, node_programs
from tests.support.servers import shared

SECRET: Final = "a secret key for tests, long enough for HMAC"
UNTIL: Final = "2099-01-01"
HTTPS: Final = "https://app.example"
ROOT: Final = Path(__file__).resolve().parent.parent.parent


def cookie_of(lines: list[str], name: str) -> str:
    """Return the Cookie header that a browser sends after these Set-Cookie lines."""
    found = {pair.partition("=")[0]: pair.partition("=")[2] for pair in (line.split(";")[0] for line in lines)}
    return f"{name}={found[name]}"


def redis_url(database: int = 0) -> str:
    """Return the address of the Redis that the tests of this process share."""
    return f"redis://127.0.0.1:{shared('redis').port}/{database}"


class Peer:
    """Be one library in one configuration."""

    name = ""
    cookie = "session"
    stored = False  # whether its sessions are rows that can be ended
    user: Mapping[str, Any] = {"user_id": "ada"}

    def write(self, data: Mapping[str, Any]) -> str:
        """Store a session; return the Cookie header."""
        raise AssertionError

    def read(self, cookie: str) -> dict[str, Any]:
        """Return what the library's application finds in the session."""
        raise AssertionError

    def bridge(self, **options: Any) -> Any:
        """Return the bridge."""
        raise AssertionError

    def unreachable(self) -> Any:
        """Return a bridge whose store does not answer."""
        raise AssertionError


class FlaskPeer(Peer):
    """Flask with its own sessions."""

    name = "flask"
    user = {"_user_id": "ada", "_fresh": True}

    def __init__(self, **config: Any) -> None:
        self.app = flask.Flask(__name__)
        self.app.secret_key = SECRET
        self.app.config.update(config)
        self.prepare()
        self.app.add_url_rule("/write", view_func=self._write, methods=["POST"])
        self.app.add_url_rule("/read", view_func=lambda: {key: repr(value) for key, value in flask.session.items()})
        self._data: Mapping[str, Any] = {}

    def prepare(self) -> None:
        """Install an extension."""

    def _write(self) -> str:
        flask.session.update(self._data)
        return ""

    def write(self, data: Mapping[str, Any]) -> str:
        self._data = data
        answer = self.app.test_client(use_cookies=False).post("/write", base_url=HTTPS)
        return cookie_of(answer.headers.getlist("Set-Cookie"), self.app.config["SESSION_COOKIE_NAME"])

    def read(self, cookie: str) -> dict[str, Any]:
        client = self.app.test_client(use_cookies=False)
        return client.get("/read", base_url=HTTPS, headers={"Cookie": cookie}).get_json()  # type: ignore[no-any-return]

    def bridge(self, **options: Any) -> Any:
        return FlaskCookie(**{"secret_key": SECRET, "until": UNTIL, **options})


class FlaskSessionPeer(FlaskPeer):
    """Flask-Session on Redis."""

    name = "flask-session"
    stored = True

    def prepare(self) -> None:
        self.client = redis.Redis.from_url(redis_url())
        self.app.config.update(SESSION_TYPE="redis", SESSION_REDIS=self.client)
        flask_session.Session(self.app)

    def bridge(self, **options: Any) -> Any:
        return FlaskSessionRedis(redis_url(), **{"until": UNTIL, **options})

    def unreachable(self) -> Any:
        return FlaskSessionRedis("redis://127.0.0.1:1/0", until=UNTIL)


class StarlettePeer(Peer):
    """Starlette with its SessionMiddleware."""

    name = "starlette"

    def __init__(self, **options: Any) -> None:
        self._data: Mapping[str, Any] = {}
        self.app: Any = Starlette(
            routes=[Route("/write", self._write, methods=["POST"]), Route("/read", self._read)],
        )
        self.wrap(options)

    def wrap(self, options: dict[str, Any]) -> None:
        """Put the middleware around the application."""
        self.cookie = options.get("session_cookie", self.cookie)
        self.app = StarletteSessions(self.app, secret_key=SECRET, **options)

    async def _write(self, request: Request) -> JSONResponse:
        request.session.update(self._data)
        return JSONResponse({})

    async def _read(self, request: Request) -> JSONResponse:
        return JSONResponse({key: repr(value) for key, value in request.session.items()})

    def write(self, data: Mapping[str, Any]) -> str:
        self._data = data
        with TestClient(self.app, base_url=HTTPS) as client:
            answer = client.post("/write")
        return cookie_of(answer.headers.get_list("set-cookie"), self.cookie)

    def read(self, cookie: str) -> dict[str, Any]:
        with TestClient(self.app, base_url=HTTPS) as client:
            return client.get("/read", headers={"cookie": cookie}).json()  # type: ignore[no-any-return]

    def bridge(self, **options: Any) -> Any:
        return StarletteCookie(**{"secret_key": SECRET, "until": UNTIL, **options})


class StarsessionsPeer(StarlettePeer):
    """starsessions with its CookieStore."""

    name = "starsessions-cookie"

    def wrap(self, options: dict[str, Any]) -> None:
        import starsessions

        inner = starsessions.SessionAutoloadMiddleware(self.app)
        self.app = starsessions.SessionMiddleware(inner, store=self.store(), **options)

    def store(self) -> Any:
        """Return where the sessions are."""
        import starsessions

        return starsessions.CookieStore(secret_key=SECRET)

    def bridge(self, **options: Any) -> Any:
        return StarsessionsCookie(**{"secret_key": SECRET, "until": UNTIL, **options})


class _RedisPerLoop:
    """Be the client that starsessions awaits, new for each of the event loops that Starlette's test client runs."""

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        async def call(*given: Any, **named: Any) -> Any:
            import redis.asyncio

            async with redis.asyncio.Redis.from_url(redis_url()) as client:
                return await getattr(client, verb)(*given, **named)

        return call


class StarsessionsRedisPeer(StarsessionsPeer):
    """starsessions with its RedisStore."""

    name = "starsessions-redis"
    stored = True

    def store(self) -> Any:
        from starsessions.stores.redis import RedisStore

        self.client = redis.Redis.from_url(redis_url())
        return RedisStore(connection=_RedisPerLoop())  # type: ignore[arg-type]

    def bridge(self, **options: Any) -> Any:
        return StarsessionsRedis(redis_url(), **{"until": UNTIL, **options})

    def unreachable(self) -> Any:
        return StarsessionsRedis("redis://127.0.0.1:1/0", until=UNTIL)


class DjangoPeer(Peer):
    """Django with one of its own engines, and a sign-in by contrib.auth."""

    cookie = "sessionid"
    user = {"_auth_user_id": "1"}
    engine = "db"

    def __init__(self, **config: Any) -> None:
        django_project.configure()
        self.name = f"django-{self.engine}"
        self._config = {
            "SESSION_ENGINE": f"django.contrib.sessions.backends.{self.engine}",
            "SESSION_COOKIE_NAME": "sessionid",
            "ROOT_URLCONF": "tests.legacy.django_urls",
            "SECRET_KEY": SECRET,
            "CACHES": {
                "default": {
                    "BACKEND": "django.core.cache.backends.redis.RedisCache",
                    "LOCATION": redis_url(),
                    "OPTIONS": {"serializer": "tests.legacy.django_urls.JsonInCache"},
                }
            },
            "MIDDLEWARE": [
                "django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
            ],
            **config,
        }

    def settings(self) -> Any:
        """Be the old project while this is entered."""
        from django.test.utils import override_settings

        return override_settings(**self._config)

    def write(self, data: Mapping[str, Any]) -> str:
        from django.test import Client

        from tests.legacy import django_urls

        django_urls.DATA = dict(data)
        with self.settings():
            answer = Client().post("/write", secure=True)
        assert answer.status_code == 200, answer.content
        return f"sessionid={answer.cookies['sessionid'].value}"

    def read(self, cookie: str) -> dict[str, Any]:
        from django.test import Client

        with self.settings():
            return Client(headers={"cookie": cookie}).get("/read", secure=True).json()  # type: ignore[no-any-return]


class DjangoDatabasePeer(DjangoPeer):
    """Django's sessions in its database."""

    stored = True

    def bridge(self, **options: Any) -> Any:
        from django.conf import settings

        url = f"sqlite:///{settings.DATABASES['default']['NAME']}"
        return DjangoDatabase(url, **{"secret_key": SECRET, "until": UNTIL, **options})

    def unreachable(self) -> Any:
        return DjangoDatabase("sqlite:////nowhere/at/all.db", secret_key=SECRET, until=UNTIL)


class DjangoCachedDatabasePeer(DjangoDatabasePeer):
    """Django's sessions in its database, with copies in a cache."""

    engine = "cached_db"

    def bridge(self, **options: Any) -> Any:
        return super().bridge(**{"cache": redis_url(), **options})


class DjangoCachePeer(DjangoPeer):
    """Django's sessions in a cache on Redis, with a serializer that writes JSON."""

    engine = "cache"
    stored = True

    def bridge(self, **options: Any) -> Any:
        return DjangoCache(redis_url(), **{"until": UNTIL, **options})

    def unreachable(self) -> Any:
        return DjangoCache("redis://127.0.0.1:1/0", until=UNTIL)


class DjangoCookiePeer(DjangoPeer):
    """Django's sessions in signed cookies."""

    engine = "signed_cookies"

    def bridge(self, **options: Any) -> Any:
        return DjangoCookie(**{"secret_key": SECRET, "until": UNTIL, **options})


class ExpressPeer(Peer):
    """express-session with connect-redis, on Node."""

    name = "express"
    cookie = "connect.sid"
    stored = True
    user = {"passport": {"user": "ada"}}

    def __init__(self, **environment: str) -> None:
        self._process = subprocess.Popen(
            [node_programs()[0], "server.js"],
            cwd=node_folder(Path(__file__).parent / "express", "express"),
            env={"REDIS_URL": redis_url(), "SECRETS": SECRET, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port, "the server did not start"
        self._url = f"http://127.0.0.1:{port}"

    def close(self) -> None:
        """Stop the server."""
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, path: str, *, body: Any = None, cookie: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"content-type": "application/json"})
        if cookie:
            request.add_header("cookie", cookie)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer), answer.headers.get_all("set-cookie") or []

    def write(self, data: Mapping[str, Any]) -> str:
        _, lines = self._ask("/write", body=data)
        return cookie_of(lines, self.cookie)

    def read(self, cookie: str) -> dict[str, Any]:
        return self._ask("/read", cookie=cookie)[0]  # type: ignore[no-any-return]

    def bridge(self, **options: Any) -> Any:
        return ExpressRedis(redis_url(), **{"secret": SECRET, "until": UNTIL, **options})

    def unreachable(self) -> Any:
        return ExpressRedis("redis://127.0.0.1:1/0", secret=SECRET, until=UNTIL)


STORED: Final = (
    FlaskSessionPeer,
    StarsessionsRedisPeer,
    DjangoDatabasePeer,
    DjangoCachedDatabasePeer,
    DjangoCachePeer,
    ExpressPeer,
)
IN_COOKIES: Final = (FlaskPeer, StarlettePeer, StarsessionsPeer, DjangoCookiePeer)
