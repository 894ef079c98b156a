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

import math
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeVar

from ..core.session import MAX_USER_BYTES
from ..errors import SessileError, StoreUnavailable

T = TypeVar("T")

MAX_KEY_CHARS: Final = 200
MAX_VALUE_BYTES: Final = 4 * 2**20  # in hexadecimal, half of what MariaDB takes in one statement by default
# Each round means that somebody else's write came first.
MAX_ROUNDS: Final = 64


class ItemInvalid(SessileError, ValueError):
    """Say that what was to be written is no item: a mistake of the caller's, the same in every vault."""

    code = "item-invalid"


class Item(NamedTuple):
    """Hold what stands under a key. `expires_at`: seconds since 1970, None: it stays.

    `version` is never 0, and no two writes give the same: what was removed and put again is not what was read.
    """

    key: str
    value: bytes
    version: int
    user: str | None = None
    expires_at: float | None = None

    def __repr__(self) -> str:
        """Leave out the value: it may be the hash of a password."""
        return f"Item({self.key!r}, {len(self.value)} bytes)"


class Write(NamedTuple):
    """Say what to put under a key (None: remove it), and the version that must stand there (0: nothing may)."""

    key: str
    value: bytes | None
    version: int
    user: str | None = None
    expires_at: float | None = None

    def __repr__(self) -> str:
        """Leave out the value."""
        return f"Write({self.key!r}, {'nothing' if self.value is None else f'{len(self.value)} bytes'})"


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


def is_key(key: str) -> bool:
    """Tell whether an item may stand under a key: up to 200 characters that every vault keeps as they are."""
    return 0 < len(key) <= MAX_KEY_CHARS and "\0" not in key and _is_unicode(key)


def is_user(user: str) -> bool:
    """Tell whether items may be a user's: whoever may be signed in, and the empty name, which is the server's own."""
    return _is_unicode(user) and len(user.encode()) <= MAX_USER_BYTES


def may_have(user: str, prefix: str) -> bool:
    """Tell whether a user may have items whose keys begin with `prefix`; vaults need not look for others."""
    return is_user(user) and (not prefix or is_key(prefix))


def check_writes(writes: tuple[Write, ...]) -> None:
    """Refuse what vaults would keep in different ways, or not at all; every vault calls this before it writes.

    Raises:
        ItemInvalid: a key is none or named twice, a user or a version is none, a deadline is no number, or a value is
            too large.
    """
    if len({write.key for write in writes}) != len(writes):
        raise ItemInvalid("one write names a key twice")
    for write in writes:
        if not is_key(write.key):
            raise ItemInvalid(f"a key has 1 to {MAX_KEY_CHARS} characters, and neither NUL nor surrogates")
        if write.user is not None and not is_user(write.user):
            raise ItemInvalid(f"an item's user has up to {MAX_USER_BYTES} bytes of Unicode, or is None")
        if write.value is not None and len(write.value) > MAX_VALUE_BYTES:
            raise ItemInvalid(f"an item has up to {MAX_VALUE_BYTES:,} bytes, not {len(write.value):,}")
        if not 0 <= write.version < 2**63:
            raise ItemInvalid("a version is 0, or one that was read")
        if write.expires_at is not None and not math.isfinite(write.expires_at):
            raise ItemInvalid("an item's deadline is a finite number, or None")


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


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)
