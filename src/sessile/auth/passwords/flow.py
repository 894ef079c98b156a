"""Set, change, check: one `async def` a verb, for both doors.

Every check costs one hash, whoever is named: a user without a password, and nobody at all, are checked against a hash
with the same parameters. What is written over the version that was read also says that the password was not changed
while its hash was computed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from msgspec.structs import replace

from ...core.session import Session, user_name
from ...errors import ExtraMissing, StepUpRequired, StoreUnavailable
from ..changes import FRESH, about, completes, factor_changed, has_second, refuse_token, require_fresh, someone
from ..events import ProofFailed
from ..ground import Ground
from ..outcomes import Proved, Refused
from ..stored import read, written
from ..throttle import Held, Limits, Throttle
from ..users import Users, normal
from ..vault import MAX_ROUNDS, Item, Write, living, version_of
from .items import Kept, key
from .rules import Settings, Weak, prepared, weakness

FACTOR = "password"


class PasswordFlow:
    """Carry out the verbs of both doors."""

    def __init__(self, ground: Ground, users: Users, settings: Settings, limits: Limits | None) -> None:
        settings.check()
        try:
            from argon2 import PasswordHasher
        except ImportError as error:
            raise ExtraMissing("signing in with passwords", "passwords") from error
        self.ground = ground
        self.users = users
        self.settings = settings
        self.throttle = Throttle(ground, FACTOR, limits)
        self._hasher = PasswordHasher(settings.time, settings.memory, settings.lanes)
        self._nobodys = self._hasher.hash(secrets.token_hex())

    async def set_first(self, user: str | int, password: str, context: Iterable[str]) -> Weak | None:
        """Keep a new user's password."""
        owner = user_name(user)
        weak = await self._weakness(owner, password, context)
        if weak is not None:
            return weak
        done = await self.ground.vault.write(Write(key(owner), await self._kept(password), 0, owner))
        return None if done else Weak.TAKEN

    async def change(self, session: Session, password: str, context: Iterable[str]) -> Weak | None:
        """Replace the password of the session's user, or give them their first."""
        return await self._replace(session, await require_fresh(self.ground, session), password, context)

    async def reset(self, session: Session, password: str, context: Iterable[str]) -> Weak | None:
        """Replace the forgotten password of a user who proved that they read their mail, and their second factor."""
        refuse_token(session)
        user = session.require(factor="email", max_age=FRESH)
        if await has_second(self.ground, user) and not self._proved_second(session):
            raise StepUpRequired("factor", max_age=FRESH)
        return await self._replace(session, user, password, context)

    def _proved_second(self, session: Session) -> bool:
        now = self.ground.now
        return any(one.name not in (FACTOR, "email") and now - one.at <= FRESH for one in session.factors)

    async def _replace(self, session: Session, user: str, password: str, context: Iterable[str]) -> Weak | None:
        weak = await self._weakness(user, password, context)
        if weak is not None:
            return weak
        value = await self._kept(password)
        for _ in range(MAX_ROUNDS):
            found = await self.ground.vault.get(key(user))
            if await self.ground.vault.write(Write(key(user), value, version_of(found), user)):
                await self.throttle.clear(_subject(user))
                await factor_changed(self.ground, session, FACTOR, "added" if found is None else "changed")
                return None
        raise StoreUnavailable("a password changed faster than it could be read")

    async def remove(self, session: Session) -> bool:
        """Remove the password of the session's user."""
        user = await require_fresh(self.ground, session)
        found = await self.ground.vault.get(key(user))
        if found is None or not await self.ground.vault.write(Write(found.key, None, found.version)):
            return False
        await factor_changed(self.ground, session, FACTOR, "removed")
        return True

    async def sign_in(self, session: Session, login: str, password: str) -> Proved | Refused | Held:
        """Sign in whose name and password these are."""
        account = await self.users.find(login)
        user = None if account is None else account.id
        subject = "login " + (normal(login) or login) if user is None else _subject(user)
        answer = await self._check(session, subject, user, password)
        if isinstance(answer, Refused | Held):
            return answer
        pending = await has_second(self.ground, answer)
        session.login(answer, factor=FACTOR, pending=pending)
        return Proved(answer, not pending)

    async def verify(self, session: Session, password: str) -> Proved | Refused | Held:
        """Let the session's user prove their password once more, or as the further factor."""
        user = someone(session)
        answer = await self._check(session, _subject(user), user, password)
        if isinstance(answer, Refused | Held):
            return answer
        complete = session.user_id is not None or completes(session, FACTOR)
        session.add_factor(FACTOR, complete=complete)
        return Proved(user, complete)

    async def _check(self, session: Session, subject: str, user: str | None, password: str) -> str | Refused | Held:
        """Return the user if it is their password."""
        attempt = await self.throttle.reserve(session, subject, user=user)
        if isinstance(attempt, Held):
            return attempt
        text = prepared(password)
        for _ in range(MAX_ROUNDS):
            item = None if user is None else living(await self.ground.vault.get(key(user)), self.ground.now)
            kept = None if item is None else read(Kept, item.value)
            right = await self.ground.compute(self._is, self._nobodys if kept is None else kept.hash, text or "")
            if user is None or item is None or kept is None or text is None or not right:
                self.ground.tell(ProofFailed(**about(self.ground, session, user), factor=FACTOR))
                return Refused.REFUSED
            if await self._used(item, kept, text, user):
                await self.throttle.succeed(attempt)
                return user
        raise StoreUnavailable("a password changed faster than it could be read")

    async def _used(self, item: Item, kept: Kept, text: str, user: str) -> bool:
        after = replace(kept, used_at=self.ground.now)
        if self._hasher.check_needs_rehash(kept.hash):
            after = replace(after, hash=await self.ground.compute(self._hasher.hash, text))
        return await self.ground.vault.write(Write(item.key, written(after), item.version, user))

    async def _weakness(self, user: str, password: str, context: Iterable[str]) -> Weak | None:
        account = await self.users.get(user)
        known = () if account is None else (account.login, account.email or "")
        return weakness(password, self.settings, (*context, *known))

    async def _kept(self, password: str) -> bytes:
        text = prepared(password) or ""  # it is neither empty nor too long: `weakness` said so
        hashed = await self.ground.compute(self._hasher.hash, text)
        return written(Kept(hash=hashed, created_at=self.ground.now))

    def _is(self, hashed: str, text: str) -> bool:
        from argon2.exceptions import Argon2Error, InvalidHashError

        try:
            return self._hasher.verify(hashed, text)
        except (Argon2Error, InvalidHashError):
            return False


def _subject(user: str) -> str:
    return "user " + user
