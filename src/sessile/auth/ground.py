"""The ground that every flow stands on: the engine, the vault, sealed secrets, the clock, and where heavy work is done.

A flow is one `async def` for both doors. What takes long enough to stop an event loop (a password's hash) goes through
`compute`: in a thread for the asynchronous door, in place for the blocking one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ..core.engine import Engine
from ..core.events import Event
from ..core.record import Undecodable
from ..core.sealing import Sealer
from ..core.session import Session
from ..core.sessions import AsyncSessions, Sessions
from ..errors import ConfigurationError, StoreSchema
from .vault import Vault
from .vaults import open_vault

T = TypeVar("T")

_SWEEP_EVERY: Final = 60.0
_SWEEP_STEP: Final = 100


class Ground:
    """Hold what flows share. `sessions` is the door whose sessions people sign in to; `vault` a vault or its URL.

    Raises:
        ConfigurationError: the vault is malformed or was opened for the other door.
        ExtraMissing: `cryptography` is not installed.
    """

    def __init__(self, sessions: AsyncSessions | Sessions, vault: str | Vault) -> None:
        self.blocking = isinstance(sessions, Sessions)
        self.sessions = sessions
        self.engine: Engine = sessions.engine
        self.vault = open_vault(vault, blocking=self.blocking) if isinstance(vault, str) else vault
        if getattr(self.vault, "blocking", self.blocking) != self.blocking:
            raise ConfigurationError("the vault was opened for the other door; give its URL instead")
        self._next_sweep = 0.0

    @property
    def now(self) -> float:
        """Return the time by the sessions' clock (seconds since 1970)."""
        return self.engine.clock()

    def sealer(self, purpose: bytes) -> Sealer:
        """Return what seals secrets for one purpose, with the ring of the sessions."""
        return Sealer(self.engine.ring, b"vault " + purpose, feature="signing in")

    def tell(self, event: Event) -> None:
        """Tell the sinks of the sessions."""
        self.engine.tell(event)

    def source(self, session: Session) -> str:
        """Return a keyed hash of the network that a request came from, in hex."""
        return self.engine.source(session)

    async def compute(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do work that would stop an event loop: in a thread, unless this door may block."""
        if self.blocking:
            return work(*arguments)
        return await asyncio.to_thread(work, *arguments)

    async def housekeep(self) -> None:
        """Remove some expired items, if that is due."""
        now = self.now
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP_EVERY
            if await self.vault.sweep(now, _SWEEP_STEP) >= _SWEEP_STEP:
                self._next_sweep = now  # there is more: a proof of possession leaves an item with every request

    async def close(self) -> None:
        """Release the vault; the sessions stay open."""
        await self.vault.close()


def name_of(text: str) -> str:
    """Return the part of a key that stands for a text of any length: 40 hexadecimal characters."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def opened(sealer: Sealer, sealed: bytes, user: str, context: bytes) -> bytes:
    """Return a secret of the vault.

    Raises:
        StoreSchema: it cannot be opened: its key left the ring, or somebody changed it. Nobody passes (R45).
    """
    try:
        return sealer.open(sealed, user.encode("utf-8", "surrogatepass"), context)
    except Undecodable:
        raise StoreSchema("a secret in the vault cannot be opened with the keys of the ring") from None


def sealed(sealer: Sealer, secret: bytes, user: str, context: bytes) -> bytes:
    """Return a secret as the vault keeps it: for this user and context only."""
    return sealer.seal(secret, user.encode("utf-8", "surrogatepass"), context)


def same(left: bytes, right: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(left, right)
