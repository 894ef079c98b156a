"""Make keys, sign in with them, prove once more, rename and remove: one `async def` a verb.

What is decided on the vault is written only over what was read, and the challenge's one use with it, in the same write:
of two processes that hold one answer, one succeeds (R93).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from ...core.session import Session, user_name
from ...errors import StoreUnavailable
from ..changes import FRESH, about, factor_changed, require_fresh, someone
from ..events import CloneSuspected, PasskeyAdded, PasskeyRefused, PasskeyRemoved, PasskeyRenamed
from ..ground import Ground
from ..stored import read, written
from ..vault import MAX_ROUNDS, Item, Write, living, version_of
from . import items, rules, wire
from .items import Account, Key, Passkey
from .rules import Challenge, Purpose, Refused, Rules
from .wire import Unfit

DATA: Final = "_sessile_passkeys"


class Proved(NamedTuple):
    """Say who proved which factor with which key. `complete`: nothing more is due."""

    user: str
    factor: str
    passkey: Passkey
    complete: bool


class PasskeyFlow:
    """Carry out the verbs of both doors."""

    def __init__(self, ground: Ground, settings: Rules, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        settings.check()
        self.ground = ground
        self.rules = settings
        self.algorithms = wire.algorithms()
        self._entropy = entropy
        ring = ground.engine.ring
        self._decoys = ring.derive(b"passkey decoys")[ring.newest]

    # -- a new key -----------------------------------------------------------------------------------------------------

    async def begin_registration(self, session: Session, *, name: str, display_name: str | None) -> str:
        """Return what the page gives to the authenticator."""
        user = await require_fresh(self.ground, session)
        await self.ground.housekeep()
        account = await self._account(user)
        keys = await self._keys(user)
        challenge = self._ask(session, "register", user)
        options = wire.creation_options(
            self.rules,
            self.algorithms,
            challenge=challenge,
            handle=account.handle,
            name=name,
            display_name=display_name or name,
            keys=keys,
        )
        return _text(options)

    async def finish_registration(self, session: Session, answer: object, *, label: str) -> Passkey | Refused:
        """Keep the new key."""
        # Who began in time may take the challenge's time.
        user = await require_fresh(self.ground, session, max_age=FRESH + rules.LIFETIME)
        challenge: Challenge | None = None
        try:
            came = wire.read_attestation(answer, self.rules)
            challenge = self._taken(session, came.challenge, "register", user)
            enrolled = wire.verify_attestation(came, self.rules, self.algorithms)
        except Unfit as unfit:
            return await self._refuse(session, unfit.why, challenge, user)
        kind = rules.kind_of(eligible=enrolled.eligible, attachment=came.attachment, transports=came.transports)
        key = Key(
            user=user,
            credential=enrolled.credential,
            public=enrolled.public,
            algorithm=enrolled.algorithm,
            count=enrolled.counter,
            eligible=enrolled.eligible,
            backed_up=enrolled.backed_up,
            kind=kind,
            label=rules.clean(label, kind),
            transports=came.transports,
            aaguid=enrolled.aaguid,
            created_at=self.ground.now,
        )
        why = await self._add(key, challenge)
        if why is not None:
            return await self._refuse(session, why, challenge, user)
        self.ground.tell(
            PasskeyAdded(**about(self.ground, session, user), kind=kind, algorithm=key.algorithm, synced=key.eligible)
        )
        await factor_changed(self.ground, session, "passkey", "added")
        return items.shown(key)

    async def _add(self, key: Key, challenge: Challenge) -> rules.Why | None:
        """Write a new key unless there are enough; the account, written with it, is the lock of the count."""
        vault, place = self.ground.vault, items.account_key(key.user)
        for _ in range(MAX_ROUNDS):
            found = await vault.get(place)
            if len(await self._keys(key.user)) >= rules.MAX_KEYS:
                return "full"
            account = self._new_account() if found is None else read(Account, found.value)
            if await vault.write(
                _used(challenge),
                Write(place, written(account), version_of(found), key.user),
                Write(items.credential_key(key.credential), written(key), 0, key.user),
            ):
                return None
            if await self._is_used(challenge):
                return "replay"
            if await vault.get(items.credential_key(key.credential)) is not None:
                return "known"
        raise StoreUnavailable("a user's keys changed faster than they could be read")

    # -- a known key ---------------------------------------------------------------------------------------------------

    async def begin_sign_in(self, session: Session, *, user: str | int | None) -> str:
        """Return what the page gives to the authenticator of somebody who is not signed in yet."""
        await self.ground.housekeep()
        owner = "" if user is None else user_name(user)
        allowed = await self._allowed(owner) if owner else []
        return _text(wire.request_options(self.rules, challenge=self._ask(session, "sign-in", owner), allowed=allowed))

    async def begin_step_up(self, session: Session) -> str:
        """Return what the page gives to the authenticator of the session's user."""
        user = someone(session)
        await self.ground.housekeep()
        allowed = await self._allowed(user)
        return _text(wire.request_options(self.rules, challenge=self._ask(session, "step-up", user), allowed=allowed))

    async def finish_sign_in(self, session: Session, answer: object) -> Proved | Refused:
        """Sign in who holds the key."""
        judged = await self._prove(session, answer, "sign-in", None)
        if isinstance(judged, Refused):
            return judged
        key, verified = judged
        factor = rules.factor_of(key.kind, verified=verified)
        session.login(key.user, factor=factor, pending=not verified)
        return Proved(key.user, factor, items.shown(key), verified)

    async def finish_step_up(self, session: Session, answer: object) -> Proved | Refused:
        """Add the factor to the session."""
        user = someone(session)
        judged = await self._prove(session, answer, "step-up", user)
        if isinstance(judged, Refused):
            return judged
        key, verified = judged
        factor = rules.factor_of(key.kind, verified=verified)
        complete = rules.completes([one.name for one in session.factors], verified=verified)
        session.add_factor(factor, complete=complete)
        return Proved(key.user, factor, items.shown(key), complete)

    async def _prove(
        self, session: Session, answer: object, purpose: Purpose, user: str | None
    ) -> tuple[Key, bool] | Refused:
        """Return the key, as it stands after this use, and whether its user was verified."""
        challenge: Challenge | None = None
        owner = user
        try:
            came = wire.read_assertion(answer, self.rules)
            challenge = self._taken(session, came.challenge, purpose, user)
            for _ in range(MAX_ROUNDS):
                item = await self._living(items.credential_key(came.credential))
                if item is None:
                    raise Unfit("unknown")
                key = read(Key, item.value)
                owner = key.user
                await self._judge_owner(came, key, challenge)
                shown = wire.verify_assertion(came, self.rules, key)
                if shown.eligible != key.eligible:
                    raise Unfit("backup")
                if rules.is_clone(key.count, shown.counter):
                    if await self._is_used(challenge):
                        raise Unfit("replay")  # the same answer twice is no second key
                    self.ground.tell(
                        CloneSuspected(**about(self.ground, session, owner), stored=key.count, came=shown.counter)
                    )
                    raise Unfit("clone")
                after = items.after_use(key, count=shown.counter, backed_up=shown.backed_up, now=self.ground.now)
                if await self.ground.vault.write(
                    _used(challenge), Write(item.key, written(after), item.version, owner)
                ):
                    return after, shown.verified
                if await self._is_used(challenge):
                    raise Unfit("replay")
        except Unfit as unfit:
            return await self._refuse(session, unfit.why, challenge, owner)
        raise StoreUnavailable("a key changed faster than it could be read")

    async def _judge_owner(self, came: wire.Assertion, key: Key, challenge: Challenge) -> None:
        """Refuse another user's key; who was named by nobody must be named by the key itself (§7.2 step 6).

        Raises:
            Unfit: it is not this user's.
        """
        if challenge.user and key.user != challenge.user:
            raise Unfit("user")
        if came.handle is None:
            if not challenge.user:
                raise Unfit("user")
            return
        account = await self._living(items.account_key(key.user))
        if account is None or read(Account, account.value).handle != came.handle:
            raise Unfit("user")

    # -- a user's keys -------------------------------------------------------------------------------------------------

    async def keys(self, user: str | int) -> tuple[Passkey, ...]:
        """Return a user's keys, the oldest first."""
        return tuple(items.shown(key) for key in await self._keys(user_name(user)))

    async def rename(self, session: Session, name: str, label: str) -> bool:
        """Give a key of the session's user another name; tell whether it is one."""
        user = session.require()

        def renamed(key: Key) -> bytes:
            return written(replace(key, label=rules.clean(label, key.kind)))

        done = await self._change(user, name, renamed)
        if done:
            self.ground.tell(PasskeyRenamed(**about(self.ground, session, user)))
        return done

    async def remove(self, session: Session, name: str) -> bool:
        """Remove a key of the session's user; tell whether it was one."""
        user = await require_fresh(self.ground, session)
        done = await self._change(user, name, lambda _: None)
        if done:
            self.ground.tell(PasskeyRemoved(**about(self.ground, session, user)))
            await factor_changed(self.ground, session, "passkey", "removed")
        return done

    async def _change(self, user: str, name: str, change: Callable[[Key], bytes | None]) -> bool:
        place = items.page_key(name)
        for _ in range(MAX_ROUNDS if place is not None else 0):
            item = await self._living(str(place))
            if item is None or item.user != user:
                return False
            if await self.ground.vault.write(Write(item.key, change(read(Key, item.value)), item.version, user)):
                return True
        return False

    async def _keys(self, user: str) -> list[Key]:
        found = await self.ground.vault.of_user(user, items.PREFIX)
        return sorted((read(Key, item.value) for item in found), key=lambda key: key.created_at)

    async def _allowed(self, user: str) -> list[tuple[bytes, tuple[str, ...]]]:
        keys = await self._keys(user)
        return [(key.credential, key.transports) for key in keys] or [(wire.decoy(self._decoys, user), ("internal",))]

    # -- the vault, and the session's challenges -----------------------------------------------------------------------

    async def _account(self, user: str) -> Account:
        place = items.account_key(user)
        for _ in range(MAX_ROUNDS):
            found = await self.ground.vault.get(place)
            if found is not None:
                return read(Account, found.value)
            account = self._new_account()
            if await self.ground.vault.write(Write(place, written(account), 0, user)):
                return account
        raise StoreUnavailable("a user's handle changed faster than it could be read")

    def _new_account(self) -> Account:
        return Account(handle=self._entropy(rules.HANDLE_BYTES))

    async def _living(self, place: str) -> Item | None:
        return living(await self.ground.vault.get(place), self.ground.now)

    async def _is_used(self, challenge: Challenge) -> bool:
        return await self.ground.vault.get(items.used_key(challenge.text)) is not None

    def _ask(self, session: Session, purpose: Purpose, user: str) -> str:
        now = self.ground.now
        challenge = Challenge(purpose, wire.encoded(self._entropy(rules.CHALLENGE_BYTES)), now + rules.LIFETIME, user)
        session[DATA] = rules.asked(session.get(DATA), challenge, now)
        return challenge.text

    def _taken(self, session: Session, text: str, purpose: Purpose, user: str | None) -> Challenge:
        """Take a challenge out of the session.

        Raises:
            Unfit: the session was not asked this, or not for this, or too long ago.
        """
        stored, now = session.get(DATA), self.ground.now
        challenge = rules.named(stored, text, purpose, now)
        if challenge is None or (user is not None and challenge.user != user):
            raise Unfit("challenge")
        left = rules.without(stored, challenge, now)
        if left:
            session[DATA] = left
        else:
            session.pop(DATA, None)
        return challenge

    async def _refuse(self, session: Session, why: rules.Why, challenge: Challenge | None, user: str | None) -> Refused:
        """Use up the challenge, tell why to the sinks, and to the page that it is refused."""
        if challenge is not None and why != "replay":
            await self.ground.vault.write(_used(challenge))
        self.ground.tell(PasskeyRefused(**about(self.ground, session, user), why=why))
        return rules.refusal(why)


def _used(challenge: Challenge) -> Write:
    # As long as the session could still hold the challenge, and a little longer: clocks of nodes differ.
    return Write(items.used_key(challenge.text), b"", 0, None, challenge.deadline + 60)


def _text(options: dict[str, Any]) -> str:
    return msgspec.json.encode(options).decode()
