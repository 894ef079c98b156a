"""The floor, the least code that could be called a session: cookie, store, decode, notice changes, Vary.

No tag, no limits, no rotation, no binding, no lazy values: it is a measure, not an alternative.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from sessile.core.ids import session_id
from sessile.stores.sqlite.rows import LOAD

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
                        key = token
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
    """Return how to fetch from and store into a dict by the hash of a token, and the tokens in it."""
    raw, tokens = encode(data), [secrets.token_urlsafe(32) for _ in range(count)]
    held = {hashlib.sha256(token.encode()).digest(): raw for token in tokens}

    def fetch(token: str) -> bytes | None:
        return held.get(hashlib.sha256(token.encode()).digest())

    def store(token: str, encoded: bytes) -> None:
        held[hashlib.sha256(token.encode()).digest()] = encoded

    return fetch, store, tokens


def sqlite(path: Path) -> tuple[Fetch, Store]:
    """Return how to fetch from and store into a file of Sessile's, by the very SELECT that its store sends.

    The id is made from the token's seed without a look at its tag; both halves of the row are decoded.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=NORMAL")

    def keys(token: str) -> tuple[int, str]:
        seed = base64.urlsafe_b64decode(token + "=")[1:21]
        name = session_id(seed)
        return int(name[:15], 16), name

    def fetch(token: str) -> bytes | None:
        row = connection.execute(LOAD, keys(token)).fetchone()
        if row is None:
            return None
        decode(row[0])
        return row[1]  # type: ignore[no-any-return]

    def store(token: str, encoded: bytes) -> None:
        connection.execute(
            "UPDATE session SET data = ?, version = version + 1 WHERE key = ?", (encoded, keys(token)[0])
        )

    return fetch, store
