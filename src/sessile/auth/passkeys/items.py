"""What the vault keeps of passkeys.

    passkeys:<hash of user>          the user handle, and the lock under which the user's keys are counted
    passkey:<hash of credential>     one key: whose, its public half, its counter and flags
    used:<hash of challenge>         a challenge that was answered, until it is over

Nothing here is secret: a public key opens nothing, a handle is random and says nothing of its user.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec
from msgspec.structs import replace

from ..ground import name_of
from ..stored import Stored
from .rules import Kind

PREFIX: Final = "passkey:"
_ID: Final = re.compile(r"[0-9a-f]{40}")


class Account(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold the 32 random bytes by which authenticators know a user. Each key that is added writes it again."""

    handle: bytes


class Key(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold one key of a user. Times are seconds since 1970."""

    user: str
    credential: bytes
    public: bytes
    algorithm: int
    count: int
    eligible: bool
    backed_up: bool
    kind: Kind
    label: str
    transports: tuple[str, ...]
    aaguid: str
    created_at: float
    used_at: float | None = None


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """Show one key of a user: `id` is for pages and names the key; times are seconds since 1970."""

    id: str
    label: str
    kind: Kind
    algorithm: int
    synced: bool
    backed_up: bool
    aaguid: str
    created_at: float
    used_at: float | None


def account_key(user: str) -> str:
    """Return under which key a user's handle stands."""
    return "passkeys:" + name_of(user)


def credential_key(credential: bytes) -> str:
    """Return under which key a credential stands, whoever's it is."""
    return PREFIX + _hashed(credential)


def page_key(text: str) -> str | None:
    """Return under which key the credential stands that a page calls so, None if it cannot be one's name."""
    return PREFIX + text if _ID.fullmatch(text) else None


def used_key(challenge: str) -> str:
    """Return under which key a challenge stands that was answered."""
    return "used:" + name_of("passkey " + challenge)


def shown(key: Key) -> Passkey:
    """Return a key as pages show it."""
    return Passkey(
        id=_hashed(key.credential),
        label=key.label,
        kind=key.kind,
        algorithm=key.algorithm,
        synced=key.eligible,
        backed_up=key.backed_up,
        aaguid=key.aaguid,
        created_at=key.created_at,
        used_at=key.used_at,
    )


def after_use(key: Key, *, count: int, backed_up: bool, now: float) -> Key:
    """Return a key as it stands after it was used."""
    return replace(key, count=count, backed_up=backed_up, used_at=now)


def _hashed(credential: bytes) -> str:
    return hashlib.sha256(credential).hexdigest()[:40]
