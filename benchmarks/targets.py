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
)
