"""What a user signs in with, for the page of their account: kinds, names and times, and nothing that opens anything."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..core.bridge import drive
from ..core.session import user_name
from ..errors import ConfigurationError
from . import stored
from .ground import Ground
from .passkeys import items as passkeys
from .passwords import items as passwords
from .recovery import items as recovery
from .totp import items as totp
from .vault import Item


class Owned(NamedTuple):
    """Show one factor of a user: `id` names it to the door of its kind. Times are seconds since 1970."""

    kind: str
    id: str
    name: str
    created_at: float
    used_at: float | None


def _password(item: Item) -> Owned:
    kept = stored.read(passwords.Kept, item.value)
    return Owned("password", "", "Password", kept.created_at, kept.used_at)


def _totp(item: Item) -> Owned:
    kept = stored.read(totp.Kept, item.value)
    return Owned("totp", kept.id, kept.label, kept.created_at, kept.used_at)


def _passkey(item: Item) -> Owned:
    key = passkeys.shown(stored.read(passkeys.Key, item.value))
    return Owned(key.kind, key.id, key.label, key.created_at, key.used_at)


def _recovery(item: Item) -> Owned:
    kept = stored.read(recovery.Kept, item.value)
    return Owned("recovery", "", f"{len(kept.hashes)} recovery codes", kept.created_at, kept.used_at)


_KINDS: Final = (
    (passwords.PREFIX, _password),
    (passkeys.PREFIX, _passkey),
    (totp.PREFIX, _totp),
    (recovery.PREFIX, _recovery),
)


async def _of(ground: Ground, user: str | int) -> tuple[Owned, ...]:
    owner = user_name(user)
    found = [show(item) for prefix, show in _KINDS for item in await ground.vault.of_user(owner, prefix)]
    return tuple(sorted(found, key=lambda one: (one.created_at, one.id)))


def _checked(ground: Ground, *, blocking: bool) -> Ground:
    if ground.blocking != blocking:
        raise ConfigurationError("these sessions are for the other door")
    return ground


class AsyncFactors:
    """List what users sign in with, from an event loop."""

    def __init__(self, ground: Ground) -> None:
        self.ground = _checked(ground, blocking=False)

    async def of(self, user: str | int) -> tuple[Owned, ...]:
        """Return a user's factors, the oldest first.

        Raises:
            StoreError: the vault failed.
        """
        return await _of(self.ground, user)


class Factors:
    """List what users sign in with, from code that blocks."""

    def __init__(self, ground: Ground) -> None:
        self.ground = _checked(ground, blocking=True)

    def of(self, user: str | int) -> tuple[Owned, ...]:
        """Return a user's factors, the oldest first.

        Raises:
            StoreError: the vault failed.
        """
        return drive(_of(self.ground, user))
