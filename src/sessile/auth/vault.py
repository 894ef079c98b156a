"""The vault: where what belongs to users is kept between requests, whatever keeps it (port).

Users of the sample, hashes, secrets, counters, one-time items: each is an item, some bytes under a key. Two verbs are
enough, because every decision is made on what was read and written only if that is still what stands there:

    get      the item under a key
    write    several items, all or none, each only over the version that was read

So two processes that use one code, one recovery code or one challenge at the same time cannot both succeed: the second
one reads again, and what it reads says no.

Keys are `kind:name`; a name that people choose is hashed or bounded before it becomes a key. Secrets are sealed before
they come here (`ground`): a copy of the vault shows who has an account and how they sign in, and opens nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeVar

from ..errors import StoreUnavailable

T = TypeVar("T")

MAX_KEY_CHARS: Final = 200
# Each round means that somebody else's write came first.
MAX_ROUNDS: Final = 64


class Item(NamedTuple):
    """Hold what stands under a key. `expires_at`: seconds since 1970, None: it stays.

    `version` is never 0, and no two writes give the same: what was removed and put again is not what was read.
    """

    key: str
    value: bytes
    version: int
    user: str | None = None
    expires_at: float | None = None


class Write(NamedTuple):
    """Say what to put under a key (None: remove it), and the version that must stand there (0: nothing may)."""

    key: str
    value: bytes | None
    version: int
    user: str | None = None
    expires_at: float | None = None


class Vault(Protocol):
    """Keep items.

    Every verb raises `StoreError` if the vault itself failed; the request then fails closed (R45).
    """

    async def get(self, key: str) -> Item | None:
        """Return the item, expired or not, None if there is none."""
        ...

    async def write(self, *writes: Write) -> bool:
        """Carry out all writes, or none of them if a version is not the one that stands there; survive a power cut."""
        ...

    async def of_user(self, user: str, prefix: str = "") -> tuple[Item, ...]:
        """Return the user's items whose keys begin with `prefix`, in the order of their keys."""
        ...

    async def forget_user(self, user: str) -> int:
        """Remove all of a user's items; return how many there were (R99)."""
        ...

    async def sweep(self, now: float, limit: int) -> int:
        """Remove up to `limit` items that have expired; return how many."""
        ...

    async def close(self) -> None:
        """Release what the vault holds open. It may be called twice."""
        ...


def living(item: Item | None, now: float) -> Item | None:
    """Return the item unless it has expired."""
    return None if item is None or (item.expires_at is not None and item.expires_at <= now) else item


def version_of(item: Item | None) -> int:
    """Return the version over which a write goes."""
    return 0 if item is None else item.version


def new_version() -> int:
    """Draw the version of a write."""
    return secrets.randbits(62) | 1 << 62


async def settle(
    vault: Vault, key: str, decide: Callable[[Item | None], tuple[T, Write | None]], *, now: float
) -> tuple[T, Item | None]:
    """Read, decide and write until nobody came between; return what was decided, and on which item.

    `decide` gets the living item and returns its result and what to write. The write goes over what stands there,
    expired or not: its own version does not matter.

    Raises:
        StoreUnavailable: others came first, `MAX_ROUNDS` times.
    """
    for _ in range(MAX_ROUNDS):
        found = await vault.get(key)
        alive = living(found, now)
        result, write = decide(alive)
        if write is None or await vault.write(write._replace(version=version_of(found))):
            return result, alive
    raise StoreUnavailable("an item changed faster than it could be read")
