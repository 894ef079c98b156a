"""The demo's users: a sample of what an application brings along, in a SQLite file of its own.

Passwords are hashed with argon2id, on a thread, so that no event loop waits; unknown names cost as much as known ones.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

SEEDED: Final = (("ada", "analytical-engine"), ("grace", "nanoseconds-matter"))
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{1,23}")
MIN_PASSWORD: Final = 8
MAX_PASSWORD: Final = 256


class Users:
    """Keep names and password hashes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hasher = PasswordHasher()
        # Verified against for unknown names, so that they take as long.
        self._nobody = self._hasher.hash("nobody's password")
        with self._connect() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS user (name TEXT PRIMARY KEY, hash TEXT NOT NULL) STRICT")
            known = {name for (name,) in connection.execute("SELECT name FROM user")}
            for name, password in SEEDED:
                if name not in known:
                    connection.execute("INSERT INTO user VALUES (?, ?)", (name, self._hasher.hash(password)))

    async def add(self, name: str, password: str) -> str | None:
        """Add a user; return what is wrong in one sentence, or None."""
        if not _NAME.fullmatch(name):
            return "A name is 2 to 24 small letters, digits, - or _, and begins with a letter."
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            return f"A password has {MIN_PASSWORD} characters at least."
        return await asyncio.to_thread(self._add, name, password)

    async def check(self, name: str, password: str) -> bool:
        """Tell whether this is the user's password."""
        return await asyncio.to_thread(self._check, name, password[:MAX_PASSWORD])

    def _add(self, name: str, password: str) -> str | None:
        try:
            with self._connect() as connection:
                connection.execute("INSERT INTO user VALUES (?, ?)", (name, self._hasher.hash(password)))
        except sqlite3.IntegrityError:
            return "That name is taken."
        return None

    def _check(self, name: str, password: str) -> bool:
        with self._connect() as connection:
            row = connection.execute("SELECT hash FROM user WHERE name = ?", (name,)).fetchone()
        try:
            return self._hasher.verify(row[0] if row else self._nobody, password) and row is not None
        except (Argon2Error, InvalidHashError):
            return False

    def _connect(self) -> _Closing:
        return _Closing(self._path)


class _Closing:
    """Be a connection that commits and closes."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)

    def __enter__(self) -> sqlite3.Connection:
        self._connection.__enter__()
        return self._connection

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._connection.commit()
        self._connection.close()
