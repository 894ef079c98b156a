"""Make recovery codes, use one up, count them: one `async def` a verb, for both doors."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from ...core.session import Session, user_name
from ...errors import StoreUnavailable
from ..changes import about, completes, factor_changed, require_fresh, someone
from ..events import ProofFailed, RecoveryCodesLow, RecoveryCodeUsed
from ..ground import Ground
from ..outcomes import Refused
from ..stored import read, written
from ..throttle import Held, Limits, Throttle
from ..vault import MAX_ROUNDS, Item, Write, settle, version_of
from . import rules
from .items import Kept, key

FACTOR: Final = "recovery"


class Proved(NamedTuple):
    """Say who used a code, and how many are left. `low`: it is time for new ones."""

    user: str
    complete: bool
    left: int
    low: bool


class Stock(NamedTuple):
    """Say how many codes a user has. `low`: it is time for new ones."""

    left: int
    low: bool


class RecoveryFlow:
    """Carry out the verbs of both doors."""

    def __init__(self, ground: Ground, limits: Limits | None, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self.ground = ground
        self.throttle = Throttle(ground, FACTOR, limits)
        self._entropy = entropy
        self._keys = ground.engine.ring.derive(b"recovery codes")
        self._newest = ground.engine.ring.newest

    async def generate(self, session: Session) -> tuple[str, ...]:
        """Return ten new codes, which nobody can see again; the old ones open nothing any more."""
        user = await require_fresh(self.ground, session)
        drawn = tuple(rules.code_of(self._entropy(rules.CODE_BYTES)) for _ in range(rules.COUNT))
        secret = self._keys[self._newest]
        hashes = tuple(rules.hashed(secret, user, one.replace("-", "")) for one in drawn)
        value = written(Kept(key=self._newest, hashes=hashes, created_at=self.ground.now))
        for _ in range(MAX_ROUNDS):
            found = await self.ground.vault.get(key(user))
            if await self.ground.vault.write(Write(key(user), value, version_of(found), user)):
                await self.throttle.clear(user)
                await factor_changed(self.ground, session, FACTOR, "added" if found is None else "changed")
                return drawn
        raise StoreUnavailable("recovery codes changed faster than they could be read")

    async def use(self, session: Session, code: str) -> Proved | Refused | Held:
        """Use a code up in place of the further factor."""
        user = someone(session)
        attempt = await self.throttle.reserve(session, user, user=user)
        if isinstance(attempt, Held):
            return attempt
        left = await self._take(user, rules.typed(code))
        if left is None:
            self.ground.tell(ProofFailed(**about(self.ground, session, user), factor=FACTOR))
            return Refused.REFUSED
        await self.throttle.succeed(attempt)
        self.ground.tell(RecoveryCodeUsed(**about(self.ground, session, user), left=left))
        if left <= rules.LOW:
            self.ground.tell(RecoveryCodesLow(**about(self.ground, session, user), left=left))
        complete = session.user_id is not None or completes(session, FACTOR)
        session.add_factor(FACTOR, complete=complete)
        return Proved(user, complete, left, left <= rules.LOW)

    async def count(self, user: str | int) -> Stock:
        """Return how many codes a user has."""
        item = await self.ground.vault.get(key(user_name(user)))
        kept = None if item is None else read(Kept, item.value)
        left = len(kept.hashes) if kept is not None and kept.key in self._keys else 0
        return Stock(left, left <= rules.LOW)

    async def remove(self, session: Session) -> bool:
        """Remove all codes of the session's user; tell whether there were any."""
        user = await require_fresh(self.ground, session)

        def removed(item: Item | None) -> tuple[bool, Write | None]:
            return item is not None, None if item is None else Write(item.key, None, item.version)

        done, _ = await settle(self.ground.vault, key(user), removed, now=self.ground.now)
        if done:
            await factor_changed(self.ground, session, FACTOR, "removed")
        return done

    async def _take(self, user: str, plain: str | None) -> int | None:
        """Use a code up, and return how many are left; None if it is none of the user's."""
        if plain is None:
            return None

        def used(item: Item | None) -> tuple[int | None, Write | None]:
            kept = None if item is None else read(Kept, item.value)
            if item is None or kept is None or kept.key not in self._keys:
                return None, None
            hashes = rules.without(kept.hashes, rules.hashed(self._keys[kept.key], user, plain))
            if hashes is None:
                return None, None
            after = replace(kept, hashes=hashes, used_at=self.ground.now)
            return len(hashes), Write(item.key, written(after), item.version, user)

        left, _ = await settle(self.ground.vault, key(user), used, now=self.ground.now)
        return left
