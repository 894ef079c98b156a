"""Who has an account: the port that an application implements on its own users, and a sample on the vault.

`login` is what people type. It is compared as NFKC, case-folded, so that `Ada` and `ａｄａ` are one; what a user is
called everywhere else is their id, which is random and never changes.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from .ground import Ground, name_of
from .stored import Stored, read, written
from .vault import Write

MAX_LOGIN: Final = 254  # of an e-mail address (RFC 5321 §4.5.3.1.3)


class Account(NamedTuple):
    """Hold a user: the id by which sessions know them, what they type, and where codes are sent."""

    id: str
    login: str
    email: str | None = None


class Unusable(StrEnum):
    """Say why no account was made."""

    TAKEN = "taken"
    MALFORMED = "malformed"


class Users(Protocol):
    """Find users. For the blocking door, the coroutines must not wait."""

    async def find(self, login: str) -> Account | None:
        """Return who signs in by this login, None if nobody does."""
        ...

    async def get(self, user_id: str) -> Account | None:
        """Return a user, None if there is none."""
        ...


class Entry(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold a user in the vault; it stands under the id and under the login."""

    id: str
    login: str
    created_at: float


def normal(login: str) -> str | None:
    """Return the one form of a login, None if it is none: empty, too long, or with spaces or what nobody can see."""
    if len(login) > 4 * MAX_LOGIN:
        return None
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", login).casefold().strip())
    if not 0 < len(text) <= MAX_LOGIN or any(unicodedata.category(one)[0] in "CZ" for one in text):
        return None
    return text


class VaultUsers:
    """Keep users in the vault: a sample, enough for small applications. E-mail addresses are logins with an @."""

    def __init__(self, ground: Ground, *, new_id: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self.ground = ground
        self._new_id = new_id

    async def find(self, login: str) -> Account | None:
        """Return who signs in by this login."""
        text = normal(login)
        return None if text is None else await self._at("login:" + name_of(text))

    async def get(self, user_id: str) -> Account | None:
        """Return a user."""
        return await self._at("user:" + name_of(user_id))

    async def create(self, login: str) -> Account | Unusable:
        """Make an account; of two that ask for one login at once, one gets it."""
        text = normal(login)
        if text is None:
            return Unusable.MALFORMED
        entry = Entry(id=self._new_id(), login=text, created_at=self.ground.now)
        value = written(entry)
        done = await self.ground.vault.write(
            Write("login:" + name_of(text), value, 0, entry.id), Write("user:" + name_of(entry.id), value, 0, entry.id)
        )
        return _account(entry) if done else Unusable.TAKEN

    async def remove(self, user_id: str) -> bool:
        """Remove a user and everything that the vault holds of them (R99); tell whether there was one.

        Their sessions are ended by `Sessions.end_user`.
        """
        return await self.ground.vault.forget_user(user_id) > 0

    async def _at(self, place: str) -> Account | None:
        item = await self.ground.vault.get(place)
        return None if item is None else _account(read(Entry, item.value))


def _account(entry: Entry) -> Account:
    return Account(entry.id, entry.login, entry.login if "@" in entry.login else None)
