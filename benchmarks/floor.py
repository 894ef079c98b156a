"""The floor: what the least code does that could be called a session: find the cookie, ask the store, decode, say Vary.

No tag, no limits, no rotation, no binding: it is a measure, not an alternative.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

NAME = b"__Host-id="
decode = msgspec.msgpack.Decoder().decode
encode = msgspec.msgpack.Encoder().encode
Fetch = Callable[[str], bytes | None]


class FloorMiddleware:
    """Put a decoded session into the scope of an ASGI application."""

    def __init__(self, app: Any, fetch: Fetch) -> None:
        self.app = app
        self.fetch = fetch

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        session: dict[str, Any] = {}
        for name, value in scope["headers"]:
            if name == b"cookie":
                at = value.find(NAME)
                if at >= 0:
                    end = value.find(b";", at)
                    token = value[at + len(NAME) : end if end >= 0 else None]
                    raw = self.fetch(hashlib.sha256(token).hexdigest())
                    if raw is not None:
                        session = decode(raw)
                break
        scope["session"] = session

        async def vary(message: Any) -> None:
            if message["type"] == "http.response.start" and session:
                message["headers"].append((b"vary", b"Cookie"))
            await send(message)

        await self.app(scope, receive, vary)


def memory(data: dict[str, Any], count: int) -> tuple[Fetch, list[str]]:
    """Return how to fetch from a dict, and the tokens in it."""
    raw, tokens = encode(data), [secrets.token_urlsafe(32) for _ in range(count)]
    held = {hashlib.sha256(token.encode()).hexdigest(): raw for token in tokens}
    return held.get, tokens


def sqlite(data: dict[str, Any], count: int, directory: Path) -> tuple[Fetch, list[str]]:
    """Return how to fetch by one SELECT, and the tokens in the file."""
    raw, tokens = encode(data), [secrets.token_urlsafe(32) for _ in range(count)]
    connection = sqlite3.connect(directory / f"floor-{len(raw)}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE s (id TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID")
    rows = [(hashlib.sha256(token.encode()).hexdigest(), raw) for token in tokens]
    connection.executemany("INSERT INTO s VALUES (?, ?)", rows)

    def fetch(key: str) -> bytes | None:
        row = connection.execute("SELECT data FROM s WHERE id = ?", (key,)).fetchone()
        return row[0] if row else None

    return fetch, tokens
