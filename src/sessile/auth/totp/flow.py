"""Enrol authenticators, check their codes, remove them: one `async def` a verb, for both doors.

A code's step is written over the authenticator that was read: of two processes that hold one code, one succeeds (R91).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from ...core.session import Session, user_name
from ...errors import StoreUnavailable
from ..changes import FRESH, about, completes, factor_changed, require_fresh, someone
from ..events import ProofFailed
from ..ground import Ground, opened, sealed
from ..outcomes import Proved
from ..stored import read, written
from ..throttle import Held, Limits, Throttle
from ..vault import MAX_ROUNDS, Item, Write, version_of
from . import codes, rules
from .items import PREFIX, Kept, Lock, key, lock_key
from .rules import Refused, Settings

FACTOR: Final = "totp"
DATA: Final = "_sessile_totp"


class Enrolment(NamedTuple):
    """Show the secret: `uri` for the authenticator, `svg` its QR code, `key` for typing it."""

    uri: str
    svg: str
    key: str

    def __repr__(self) -> str:
        return "<Enrolment>"


class Authenticator(NamedTuple):
    """Show one authenticator of a user; times are seconds since 1970."""

    id: str
    label: str
    created_at: float
    used_at: float | None


class Begun(NamedTuple):
    """Hold what a session was given, in its data: the sealed secret, and until when it can be confirmed."""

    id: str
    sealed: str
    user: str
    deadline: float


class TotpFlow:
    """Carry out the verbs of both doors."""

    def __init__(
        self,
        ground: Ground,
        settings: Settings,
        limits: Limits | None,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        settings.check()
        codes.check_installed()
        self.ground = ground
        self.settings = settings
        self.throttle = Throttle(ground, FACTOR, limits)
        self._entropy = entropy
        self._sealer = ground.sealer(b"totp")

    async def begin(self, session: Session, account: str) -> Enrolment:
        """Draw a secret for the session's user."""
        user = await require_fresh(self.ground, session)
        secret, name = self._entropy(rules.SECRET_BYTES), self._entropy(8).hex()
        kept = base64.b64encode(sealed(self._sealer, secret, user, name.encode())).decode()
        session[DATA] = list(Begun(name, kept, user, self.ground.now + rules.LIFETIME))
        return self._enrolment(secret, account)

    async def resume(self, session: Session, account: str) -> Enrolment | None:
        """Show what this session began once more, None if it began nothing, or too long ago."""
        user = await require_fresh(self.ground, session, max_age=FRESH + rules.LIFETIME)
        begun = _begun(session.get(DATA), user, self.ground.now)
        if begun is None:
            return None
        return self._enrolment(opened(self._sealer, base64.b64decode(begun.sealed), user, begun.id.encode()), account)

    def _enrolment(self, secret: bytes, account: str) -> Enrolment:
        uri = codes.address(secret, self.settings, account)
        return Enrolment(uri, codes.picture(uri), rules.grouped(codes.text_of(secret)))

    async def confirm(self, session: Session, code: str, label: str) -> Authenticator | Refused:
        """Keep the authenticator, if it makes the right codes."""
        # Who began in time may take the enrolment's time.
        user = await require_fresh(self.ground, session, max_age=FRESH + rules.LIFETIME)
        begun = _begun(session.get(DATA), user, self.ground.now)
        if begun is None:
            return Refused.STALE
        box = base64.b64decode(begun.sealed)
        step = self._step(code, opened(self._sealer, box, user, begun.id.encode()), self.settings.algorithm, -1)
        if step is None:
            return self._refused(session, user)
        now = self.ground.now
        kept = Kept(
            id=begun.id,
            label=rules.clean(label),
            sealed=box,
            algorithm=self.settings.algorithm,
            digits=self.settings.digits,
            step=step,
            created_at=now,
        )
        if not await self._add(user, kept):
            return Refused.FULL
        session.pop(DATA, None)
        await factor_changed(self.ground, session, FACTOR, "added")
        session.add_factor(FACTOR)
        return _shown(kept)

    async def verify(self, session: Session, code: str) -> Proved | Refused | Held:
        """Add the factor to the session, if this is a code of its user that nobody has used."""
        user = someone(session)
        attempt = await self.throttle.reserve(session, user, user=user)
        if isinstance(attempt, Held):
            return attempt
        if not await self._use(user, code):
            return self._refused(session, user)
        await self.throttle.succeed(attempt)
        complete = session.user_id is not None or completes(session, FACTOR)
        session.add_factor(FACTOR, complete=complete)
        return Proved(user, complete)

    async def authenticators(self, user: str | int) -> tuple[Authenticator, ...]:
        """Return a user's authenticators, the oldest first."""
        found = [_shown(kept) for _, kept in await self._kept(user_name(user))]
        return tuple(sorted(found, key=lambda one: (one.created_at, one.id)))

    async def remove(self, session: Session, name: str) -> bool:
        """Remove an authenticator of the session's user; tell whether it was one."""
        user = await require_fresh(self.ground, session)
        for _ in range(MAX_ROUNDS):
            found = [item for item, kept in await self._kept(user) if kept.id == name]
            if not found:
                return False
            if await self.ground.vault.write(Write(found[0].key, None, found[0].version)):
                await self.throttle.clear(user)
                await factor_changed(self.ground, session, FACTOR, "removed")
                return True
        raise StoreUnavailable("an authenticator changed faster than it could be read")

    async def _use(self, user: str, code: str) -> bool:
        """Take a code's step; False if it is of none that may be taken."""
        for _ in range(MAX_ROUNDS):
            for item, kept in await self._kept(user):
                secret = opened(self._sealer, kept.sealed, user, kept.id.encode())
                step = self._step(code, secret, kept.algorithm, kept.step, kept.digits)
                if step is not None:
                    # Sealed anew: so a secret that is in use moves to the ring's newest key.
                    box = sealed(self._sealer, secret, user, kept.id.encode())
                    after = replace(kept, step=step, used_at=self.ground.now, sealed=box)
                    if await self.ground.vault.write(Write(item.key, written(after), item.version, user)):
                        return True
                    break
            else:
                return False
        raise StoreUnavailable("an authenticator changed faster than it could be read")

    async def _add(self, user: str, kept: Kept) -> bool:
        for _ in range(MAX_ROUNDS):
            lock = await self.ground.vault.get(lock_key(user))
            there = await self._kept(user)
            if len(there) >= rules.MAX_AUTHENTICATORS or any(one.id == kept.id for _, one in there):
                return False
            if await self.ground.vault.write(
                Write(lock_key(user), written(Lock()), version_of(lock), user),
                Write(key(user, kept.id), written(kept), 0, user),
            ):
                return True
        raise StoreUnavailable("a user's authenticators changed faster than they could be read")

    async def _kept(self, user: str) -> list[tuple[Item, Kept]]:
        return [(item, read(Kept, item.value)) for item in await self.ground.vault.of_user(user, PREFIX)]

    def _step(
        self, code: str, secret: bytes, algorithm: rules.Algorithm, last: int, digits: int | None = None
    ) -> int | None:
        length = digits or self.settings.digits
        plain = rules.digits_of(code, length)
        if plain is None:
            return None
        return rules.taken_step(plain, self.ground.now, last, codes.coder(secret, algorithm, length))

    def _refused(self, session: Session, user: str) -> Refused:
        self.ground.tell(ProofFailed(**about(self.ground, session, user), factor=FACTOR))
        return Refused.REFUSED


def _begun(stored: Any, user: str, now: float) -> Begun | None:
    try:
        begun = msgspec.convert(stored, Begun)
    except msgspec.ValidationError:
        return None
    return begun if begun.user == user and now < begun.deadline else None


def _shown(kept: Kept) -> Authenticator:
    return Authenticator(kept.id, kept.label, kept.created_at, kept.used_at)
