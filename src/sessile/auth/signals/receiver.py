"""What a signal that came does here: judged, carried out, acknowledged (R77).

    session-revoked          ends the session that it names, or all of its user's that began before it
    credential-change        the same, for the kinds of change that the policy names
    assurance-level-change   a decrease: what the user proved counts up to the new level at most, and the rest must be
                             proved again; an increase raises nothing, because it was not proved here
    verification             is acknowledged if its state is the one that was asked for
    stream-updated           is told to the sinks; so is every event of another type, which changes nothing

The order is: look whether the SET was used, do, remember. So what a crash, or a store that failed, has cut short may be
sent again. Of two at the same moment both do what one asked for, which is the same. One that was used before is
acknowledged, as RFC 8935 §2 and RFC 8936 §2.4 want, and does nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from ...core.factors import Factor, aal
from ...core.families import is_family
from ...core.ports import Ending
from ...core.record import Change, Control, EndReason, Record
from ...errors import StoreError, StoreUnavailable
from ..events import SignalIgnored, SignalReceived, SignalRefused, StreamChanged
from ..ground import Ground, name_of
from ..jws import UnknownKey
from ..stored import Stored, read, written
from ..vault import Write, version_of
from .cause import Cause, causing
from .http import Http
from .outbox import NOBODY, REMEMBERED, Outbox, txn_key
from .peers import Known, Transmitter, awaited
from .sets import CODES, Set, Why, judge
from .vocabulary import (
    ASSURANCE_LEVEL_CHANGE,
    CHANGES,
    CREDENTIAL_CHANGE,
    SESSION_REVOKED,
    STREAM_UPDATED,
    VERIFICATION,
    short,
)

USED: Final = "signals:used:"
STATE: Final = "signals:state:"
# Two applications' clocks: who signed in so long after an end, by our clock, did so after it.
SKEW: Final = 5.0
MARGIN: Final = 60.0
STATE_LIFE: Final = 86400.0
MAX_BATCH: Final = 100
MAX_ROUNDS: Final = 100
_TRIES: Final = 16

Lower = Literal["lower", "end", "ignore"]
_LOOKS: Final = 4  # a session is renewed between two looks once in a long while


class ReceiverPolicy(NamedTuple):
    """Say what signals do here.

    `credential_changes` are the kinds of change that end a user's sessions. `keep_newer`: sessions that began after
    what the signal tells of live on, if it says when that was. `on_decrease`: "lower" takes away what counts above the
    new level, "end" ends the user's sessions, "ignore" does nothing.
    """

    credential_changes: frozenset[str] = CHANGES
    keep_newer: bool = True
    on_decrease: Lower = "lower"


class State(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold the state that a verification was asked for with."""

    state: str


class Rejected(NamedTuple):
    """Say why a SET was refused, as RFC 8935 §2.4 has it."""

    why: Why

    @property
    def code(self) -> str:
        """Return the error code."""
        return CODES.get(self.why, "invalid_request")


class Accepted(NamedTuple):
    """Say that a SET was taken, and what it did: `done`, or why nothing."""

    done: str


class Polled(NamedTuple):
    """Count what fetching brought: SETs that were taken, and that were refused."""

    taken: int = 0
    refused: int = 0


class Reception:
    """Take the signals of the transmitters by name."""

    def __init__(
        self,
        ground: Ground,
        transmitters: Mapping[str, Transmitter],
        outbox: Outbox,
        http: Http,
        policy: ReceiverPolicy,
    ) -> None:
        self._ground = ground
        self.known = {name: Known(one, http, lambda: ground.now) for name, one in transmitters.items()}
        self._outbox = outbox
        self._http = http
        self._policy = policy

    def is_authorized(self, name: str, header: str) -> bool:
        """Tell whether a push carries what the transmitter was given; in constant time, for any name."""
        known = self.known.get(name)
        expected = None if known is None else known.settings.push_authorization
        same = hmac.compare_digest(header.encode(), (expected or "-" * 32).encode())
        return same and expected is not None

    # -- one SET -------------------------------------------------------------------------------------------------------

    async def take(self, name: str, text: object) -> Accepted | Rejected:
        """Judge a SET of a transmitter and do what it says.

        Raises:
            StoreError: a store failed, or did not confirm an end: it must be sent again.
        """
        known = self.known[name]
        found = judge(text, await known.keys(), expected=known.settings.expected, now=self._ground.now)
        if isinstance(found, UnknownKey):
            keys = await known.keys(again=True)
            found = judge(text, keys, expected=known.settings.expected, now=self._ground.now)
        if isinstance(found, UnknownKey):
            found = Why.KEY
        if isinstance(found, Why):
            return self.refuse(name, found)
        used = self._used_key(known.settings, found)
        if await self._ground.vault.get(used) is not None:
            return self._ignored(name, found, "replay")
        with causing(Cause(name, found.txn or f"{name}:{name_of(found.token_id)}")):
            outcome = await self._carry_out(known.settings, found)
        if isinstance(outcome, Accepted):
            await self._remember(used, found)
        await self._ground.housekeep()
        return outcome

    def refuse(self, name: str, why: Why) -> Rejected:
        """Refuse what came, and tell."""
        self._ground.tell(SignalRefused(at=self._ground.now, transmitter=name, why=why.value))
        return Rejected(why)

    async def _carry_out(self, settings: Transmitter, found: Set) -> Accepted | Rejected:
        match found.kind:
            case kind if kind in (SESSION_REVOKED, CREDENTIAL_CHANGE, ASSURANCE_LEVEL_CHANGE):
                return await self._about_somebody(settings, found)
            case kind if kind == VERIFICATION:
                return await self._verified(settings, found)
            case kind if kind == STREAM_UPDATED:
                return self._stream_updated(settings, found)
            case _:
                return self._ignored(settings.name, found, "type")

    # -- events about somebody -----------------------------------------------------------------------------------------

    async def _about_somebody(self, settings: Transmitter, found: Set) -> Accepted | Rejected:
        user = await self._user(settings, found)
        linked = await self._linked(settings, found)
        if (user is None and linked is None) or (found.subject.sessions and not linked):
            return self._ignored(settings.name, found, "nobody")
        if found.txn is None:
            return await self._effect(settings, found, user, linked)
        about = found.subject.sessions[0].name if found.subject.sessions else ""
        seen = txn_key(found.txn, found.kind, user or "", about)
        heard = await self._ground.vault.get(seen)
        # Only from another one: who uses one transaction for everything must not be taken for an echo of itself.
        if heard is not None and heard.value != settings.name.encode():
            return self._ignored(settings.name, found, "loop")
        outcome = await self._effect(settings, found, user, linked)
        if heard is None and isinstance(outcome, Accepted):
            expires_at = self._ground.now + REMEMBERED
            await self._ground.vault.write(Write(seen, settings.name.encode(), 0, NOBODY, expires_at))
        return outcome

    async def _effect(
        self, settings: Transmitter, found: Set, user: str | None, linked: tuple[str, ...] | None
    ) -> Accepted | Rejected:
        event = found.event
        if found.kind == SESSION_REVOKED:
            return await self._end(settings, found, user, linked)
        if found.kind == CREDENTIAL_CHANGE:
            change = event.get("change_type")
            if change not in CHANGES or not isinstance(event.get("credential_type"), str):
                return self.refuse(settings.name, Why.EVENT)
            if change not in self._policy.credential_changes:
                return self._ignored(settings.name, found, "policy")
            ended = await self._end(settings, found, user, linked)
            if user is not None:
                await self._outbox.tell(CREDENTIAL_CHANGE, user, event)
            return ended
        return await self._assurance(settings, found, user, linked)

    async def _assurance(
        self, settings: Transmitter, found: Set, user: str | None, linked: tuple[str, ...] | None
    ) -> Accepted | Rejected:
        event = found.event
        namespace, level = event.get("namespace"), event.get("current_level")
        if not isinstance(namespace, str) or not isinstance(level, str):
            return self.refuse(settings.name, Why.EVENT)
        direction = event.get("change_direction")
        if direction not in (None, "increase", "decrease"):
            return self.refuse(settings.name, Why.EVENT)
        if direction != "decrease" or self._policy.on_decrease == "ignore":
            return self._ignored(settings.name, found, "policy")
        if self._policy.on_decrease == "end":
            return await self._end(settings, found, user, linked)
        lowered = 0
        for sid in await self._meant(user, linked):
            lowered += await lower(self._ground, sid, user, _most(namespace, level))
        self._tell(settings, found, user, lowered)
        if user is not None and lowered:
            await self._outbox.tell(ASSURANCE_LEVEL_CHANGE, user, event)
        return Accepted("lowered")

    async def _end(
        self, settings: Transmitter, found: Set, user: str | None, linked: tuple[str, ...] | None
    ) -> Accepted:
        engine = self._ground.engine
        if linked is None and user is not None:
            ending = await engine.end_user(user, EndReason.SIGNAL, await self._newer(user, found))
        else:
            ended: tuple[tuple[str, str | None], ...] = ()
            confirmed = True
            left, seen = linked or (), set[str]()
            for _ in range(_LOOKS):
                for sid in left:
                    one = await engine.end(sid, EndReason.SIGNAL, user)
                    ended, confirmed = (*ended, *one.ended), confirmed and one.confirmed
                seen.update(left)
                # One that was renewed between the look and its end lives on under another id.
                left = tuple(sid for sid in await self._linked(settings, found) or () if sid not in seen)
                if not left:
                    break
            ending = Ending(ended, confirmed and not left)
        self._tell(settings, found, user, len(ending.ended))
        if not ending.confirmed:
            raise StoreUnavailable("the store has not confirmed the end yet")
        return Accepted("ended")

    async def _newer(self, user: str, found: Set) -> frozenset[str]:
        """Return the sessions in which the user proved who they are after what the signal tells of."""
        if found.at is None or not self._policy.keep_newer:
            return frozenset()
        since = min(found.at, self._ground.now) + SKEW
        held = await self._ground.engine.index.of_user(user)
        return frozenset(sid for sid, record in held if record.control.authenticated_at > since)

    async def _meant(self, user: str | None, linked: tuple[str, ...] | None) -> tuple[str, ...]:
        if linked is not None:
            return linked
        assert user is not None
        return tuple(sid for sid, _ in await self._ground.engine.index.of_user(user))

    async def _user(self, settings: Transmitter, found: Set) -> str | None:
        """Return the user of ours that a signal names; if names mean different ones, nobody."""
        users: set[str] = set()
        for name in found.subject.users:
            user = await awaited(settings.users(name))
            if user is not None:
                users.add(user)
        return users.pop() if len(users) == 1 else None

    async def _linked(self, settings: Transmitter, found: Set) -> tuple[str, ...] | None:
        """Return the sessions that a signal names, None if it names none, but a user as a whole."""
        subject = found.subject
        if subject.sessions:
            ids: list[str] = []
            for name in subject.sessions if settings.links is not None else ():
                assert settings.links is not None
                ids += await settings.links.find(name.issuer or settings.issuer, subject=None, sid=name.name)
            return tuple(dict.fromkeys(ids))
        if settings.links is None:
            return None
        ids = []
        for name in subject.users:
            if name.format == "iss_sub":
                ids += await settings.links.find(name.issuer, subject=name.name, sid=None)
        return tuple(dict.fromkeys(ids)) if ids else None

    # -- events about streams ------------------------------------------------------------------------------------------

    async def _verified(self, settings: Transmitter, found: Set) -> Accepted | Rejected:
        state = found.event.get("state")
        item = await self._ground.vault.get(STATE + settings.name)
        wanted = None if item is None else read(State, item.value).state
        if state is not None and (
            not isinstance(state, str) or wanted is None or not hmac.compare_digest(state.encode(), wanted.encode())
        ):
            return self.refuse(settings.name, Why.STATE)
        if state is not None and item is not None:
            await self._ground.vault.write(Write(item.key, None, item.version))
        self._ground.tell(StreamChanged(at=self._ground.now, transmitter=settings.name, status="verified", why=""))
        return Accepted("verified")

    def _stream_updated(self, settings: Transmitter, found: Set) -> Accepted | Rejected:
        status = found.event.get("status")
        if status not in ("enabled", "paused", "disabled"):
            return self.refuse(settings.name, Why.EVENT)
        why = found.event.get("reason")
        self._ground.tell(
            StreamChanged(
                at=self._ground.now,
                transmitter=settings.name,
                status=status,
                why=why[:200] if isinstance(why, str) and why.isprintable() else "",
            )
        )
        return Accepted("updated")

    async def verify(self, name: str, state: str) -> bool:
        """Ask a transmitter for a verification event; it brings `state` back. Tell whether it took that on.

        Raises:
            StoreError: it could not be asked, or the vault failed.
        """
        known = self.known[name]
        item = await self._ground.vault.get(STATE + name)
        expires_at = self._ground.now + STATE_LIFE
        kept = Write(STATE + name, written(State(state=state)), version_of(item), NOBODY, expires_at)
        await self._ground.vault.write(kept)
        url = await known.address("verification_endpoint")
        body = msgspec.json.encode({"stream_id": known.settings.stream or "", "state": state})
        answer = await self._http.send("POST", url, _bearing(known.settings), body)
        return answer.status == 204

    # -- polling -------------------------------------------------------------------------------------------------------

    async def poll(self, name: str, *, most: int = MAX_BATCH) -> Polled:
        """Fetch what waits at a transmitter, do it, and acknowledge it (RFC 8936).

        Raises:
            StoreError: it could not be asked, or a store failed. What was done is acknowledged the next time.
        """
        known = self.known[name]
        url = known.settings.poll
        if url is None:
            return Polled()
        taken = refused = 0
        acks: list[str] = []
        errors: dict[str, dict[str, str]] = {}
        for _ in range(MAX_ROUNDS):
            sets, more = await self._fetch(known.settings, url, acks, errors, most)
            acks, errors = [], {}
            failed: StoreError | None = None
            for jti, text in sets.items():
                try:
                    outcome = await self.take(name, text)
                except StoreError as error:
                    failed = error  # not acknowledged: it comes again
                    break
                if isinstance(outcome, Accepted):
                    acks.append(jti)
                    taken += 1
                else:
                    errors[jti] = {"err": outcome.code, "description": outcome.why.value}
                    refused += 1
            if failed is not None or not sets or not more:
                if acks or errors:
                    await self._fetch(known.settings, url, acks, errors, 0)
                if failed is not None:
                    raise failed
                break
        return Polled(taken, refused)

    async def _fetch(
        self, settings: Transmitter, url: str, acks: list[str], errors: Mapping[str, object], most: int
    ) -> tuple[dict[str, object], bool]:
        asked: dict[str, Any] = {"maxEvents": most, "returnImmediately": True, "ack": acks}
        if errors:
            asked["setErrs"] = errors
        answer = await self._http.send("POST", url, _bearing(settings), msgspec.json.encode(asked))
        found = answer.json()
        if answer.status != 200 or found is None:
            raise StoreUnavailable(f"the transmitter answered {answer.status} to a poll")
        sets = found.get("sets", {})
        if not isinstance(sets, dict):
            raise StoreUnavailable("the transmitter's answer to a poll cannot be read")
        return cast("dict[str, object]", sets), found.get("moreAvailable") is True

    # -- remembering and telling ---------------------------------------------------------------------------------------

    async def _remember(self, key: str, found: Set) -> None:
        await self._ground.vault.write(Write(key, b"", 0, NOBODY, found.until + MARGIN))

    @staticmethod
    def _used_key(settings: Transmitter, found: Set) -> str:
        return USED + name_of(f"{settings.issuer}\n{settings.audience}\n{found.token_id}")

    def _ignored(self, name: str, found: Set, why: str) -> Accepted:
        self._ground.tell(SignalIgnored(at=self._ground.now, transmitter=name, kind=short(found.kind), why=why))
        return Accepted(why)

    def _tell(self, settings: Transmitter, found: Set, user: str | None, sessions: int) -> None:
        self._ground.tell(
            SignalReceived(
                at=self._ground.now,
                user=user,
                transmitter=settings.name,
                kind=short(found.kind),
                sessions=sessions,
            )
        )


async def lower(ground: Ground, sid: str, user: str | None, level: int) -> bool:
    """Let what a session proved count up to an assurance level at most, and ask for the rest again.

    Raises:
        StoreError: the store failed.
    """
    store = ground.engine.store
    found = await store.load(sid)
    for _ in range(_TRIES):
        if not isinstance(found, Record) or is_family(found.control):
            return False
        if found.control.user is None or (user is not None and found.control.user != user):
            return False
        control = lowered(found.control, level)
        if control is None:
            return False
        change = Change(seen_at=found.seen_at, expires_at=found.expires_at, control=control, revision=found.revision)
        saved = await store.save(sid, change, found)
        if isinstance(saved, Record):
            return True
        found = await store.load(sid)
    raise StoreUnavailable("a session changed faster than it could be lowered")


def lowered(control: Control, level: int) -> Control | None:
    """Return Sessile's half of a session without what it proved above a level, None if it proved no more than that."""
    names = [factor.name for factor in control.factors]
    if aal(names) <= level:
        return None
    kept: list[Factor] = []
    for factor in control.factors:
        if aal([*(one.name for one in kept), factor.name]) <= level:
            kept.append(factor)
    # Who is left with nothing proved must prove who they are before anything opens.
    return msgspec.structs.replace(control, factors=tuple(kept), challenged=control.challenged or not kept)


def _most(namespace: str, level: str) -> int:
    """Return the assurance level that a decrease leaves; of a namespace that is not known here, the lowest."""
    if namespace == "NIST-AAL":
        digits = [int(one) for one in level if one in "0123"]
        return digits[-1] if len(digits) == 1 else 1
    return 1


def _bearing(settings: Transmitter) -> dict[str, str]:
    return {"content-type": "application/json", "authorization": f"Bearer {settings.token or ''}"}
