"""What the ratios must reach, and which cells they compare; all within one run."""

from __future__ import annotations

from typing import NamedTuple

Key = tuple[str, str, str]


class Target(NamedTuple):
    """Hold one promise: `ours` costs at most `limit` times `other`."""

    promise: str
    ours: Key
    other: Key
    limit: float


TARGETS = (
    Target(
        "memory read / Starlette's signed cookie",
        ("asgi", "sessile memory", "read"),
        ("asgi", "starlette cookie", "read"),
        0.6,
    ),
    Target(
        "sealed cookie read / Starlette's signed cookie",
        ("asgi", "sessile cookie, no ends", "read"),
        ("asgi", "starlette cookie", "read"),
        1.2,
    ),
    Target("memory read / floor", ("asgi", "sessile memory", "read"), ("asgi", "floor memory", "read"), 4.0),
    Target(
        "SQLite read / floor (one SELECT, decode)",
        ("asgi", "sessile sqlite", "read"),
        ("asgi", "floor sqlite", "read"),
        2.0,
    ),
    Target(
        "SQLite read / Django's db engine",
        ("asgi", "sessile sqlite", "read"),
        ("django", "django db (sqlite)", "read"),
        0.15,
    ),
    Target(
        "Flask, memory / Flask's own cookie",
        ("flask", "sessile memory", "read"),
        ("flask", "flask cookie", "read"),
        0.4,
    ),
    Target(
        "Django, SQLite / Django's db engine",
        ("django", "sessile sqlite", "read"),
        ("django", "django db (sqlite)", "read"),
        0.35,
    ),
    Target(
        "anonymous / floor's anonymous",
        ("asgi", "sessile memory", "anonymous"),
        ("asgi", "floor memory", "anonymous"),
        2.0,
    ),
    Target(
        "forged / Starlette's forged cookie",
        ("asgi", "sessile memory", "forged"),
        ("asgi", "starlette cookie", "forged"),
        0.5,
    ),
    Target(
        "8 KB, one of 40 keys / Starlette's",
        ("asgi", "sessile memory", "large"),
        ("asgi", "starlette cookie", "large"),
        0.3,
    ),
    Target(
        "Redis, WSGI, read / one redis-py GET",
        ("wsgi", "sessile redis", "read"),
        ("redis", "redis-py GET", "read"),
        1.35,
    ),
    Target(
        "Redis, WSGI, read / Flask-Session's",
        ("wsgi", "sessile redis", "read"),
        ("flask", "flask-session redis", "read"),
        0.45,
    ),
    # Two round trips against one, and the rest of Flask, which a wait for the network leaves cold.
    Target(
        "Redis, Flask, read / Flask-Session's",
        ("flask", "sessile redis", "read"),
        ("flask", "flask-session redis", "read"),
        0.45,
    ),
    Target(
        "Redis, ASGI, read / one redis.asyncio GET",
        ("asgi", "sessile redis", "read"),
        ("redis", "redis.asyncio GET", "read"),
        1.35,
    ),
    Target(
        "Redis, ASGI, read / starsessions'",
        ("asgi", "sessile redis", "read"),
        ("asgi", "starsessions redis", "read"),
        0.4,
    ),
    Target(
        "50 loads at once / 50 redis.asyncio GETs at once",
        ("redis together", "50 loads of sessile", "read"),
        ("redis together", "50 redis.asyncio GETs", "read"),
        0.35,
    ),
    Target(
        "near cache, a read / a plain read of Redis",
        ("redis", "load of sessile, near cache", "read"),
        ("redis", "load of sessile", "read"),
        0.2,
    ),
    Target(
        "near cache, a read on the loop / a plain read of Redis",
        ("redis", "load of sessile on the loop, near cache of 100", "read"),
        ("redis", "load of sessile on the loop", "read"),
        0.2,
    ),
    Target(
        "near cache of 1,000 / of 100",
        ("redis", "load of sessile on the loop, near cache of 1,000", "read"),
        ("redis", "load of sessile on the loop, near cache of 100", "read"),
        1.25,
    ),
    Target(
        "verify an access token (ES256) / PyJWT's decode",
        ("token ES256", "sessile tokens", "verify"),
        ("token ES256", "pyjwt", "verify"),
        1.25,
    ),
    Target(
        "verify in another service, with the list of ends / PyJWT's decode",
        ("token ES256", "sessile verifier with ends", "verify"),
        ("token ES256", "pyjwt", "verify"),
        1.25,
    ),
)
