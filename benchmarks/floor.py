"""The floor: the least code that could be called a session: split the cookie, ask the store, decode, notice changes, Vary.

No tag, no limits, no rotation, no binding, no lazy values: it is a measure, not an alternative.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

NAME = "__Host-id"
decode = msgspec.msgpack.Decoder().decode
encode = msgspec.msgpack.Encoder().encode
Fetch = Callable[[str], bytes | None]
Store = Callable[[str, bytes], object]


class FloorMiddleware:
    """Put a decoded session into the scope of an ASGI application."""

    def __init__(self, app: Any, fetch: Fetch, store: Store) -> None:
        self.app = app
        self.fetch = fetch
        self.store = store

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        session: dict[str, Any] = {}
        raw: bytes | None = None
        key = ""
        for name, value in scope["headers"]:
            if name == b"cookie":
                for pair in value.decode("latin-1").split(";"):
                    cookie, _, token = pair.strip().partition("=")
                    if cookie == NAME:
                        key = hashlib.sha256(token.encode()).hexdigest()
                        raw = self.fetch(key)
                        if raw is not None:
                            session = decode(raw)
                break
        scope["session"] = session

        async def commit(message: Any) -> None:
            if message["type"] == "http.response.start" and (session or raw is not None):
                encoded = encode(session)
                if encoded != raw:
                    self.store(key, encoded)
                message["headers"].append((b"vary", b"Cookie"))
            await send(message)

        await self.app(scope, receive, commit)


def memory(data: dict[str, Any], count: int) -> tuple[Fetch, Store, list[str]]:
    """Return how to fetch from and store into a dict, and the tokens in it."""
    raw, tokens = encode(data), [secrets.token_urlsafe(32) for _ in range(count)]
    held = {hashlib.sha256(token.encode()).hexdigest(): raw for token in tokens}
    return held.get, held.__setitem__, tokens


def sqlite(data: dict[str, Any], count: int, directory: Path) -> tuple[Fetch, Store, list[str]]:
    """Return how to fetch by one SELECT and store by one UPDATE, and the tokens in the file."""
    raw, tokens = encode(data), [secrets.token_urlsafe(32) for _ in range(count)]
    connection = sqlite3.connect(directory / f"floor-{len(raw)}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE s (id TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID")
    rows = [(hashlib.sha256(token.encode()).hexdigest(), raw) for token in tokens]
    connection.executemany("INSERT INTO s VALUES (?, ?)", rows)

    def fetch(key: str) -> bytes | None:
        row = connection.execute("SELECT data FROM s WHERE id = ?", (key,)).fetchone()
        return row[0] if row else None

    def store(key: str, encoded: bytes) -> None:
        connection.execute("UPDATE s SET data = ? WHERE id = ?", (encoded, key))

    return fetch, store, tokens
