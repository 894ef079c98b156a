"""The engine of token families: the engine of sessions with another envelope, so that there is one set of rules.

Rotation, siblings that settle, grace, replays, tombstones, limits and ends are `core.engine`'s and `core.rotation`'s.
What is added is what a family knows beside a session: whose client it is, which key, and which session it hangs on.

    a refresh token comes                          answer
    its tag is of another envelope, or none        nobody; no store is asked
    it is another client's, or another key's       refused; the family lives on, whoever has the key needs it
    the parent has ended                           refused; the family ends now
    the parent must prove more                     refused; the family lives on
    left behind (`rotation.judge`: replay)         refused; family and parent end
    anything else that lives                       served
"""

from __future__ import annotations

from typing import Final, Literal

from ...core import events
from ...core.binding import Binding
from ...core.engine import Engine, Opened
from ...core.families import FAMILY, Family, beneath, family_of, marked, written
from ...core.ids import Token, TokenMint
from ...core.policy import DAY, Policy
from ...core.ports import Ending
from ...core.record import Control, EndReason, Record, Tombstone
from ...core.requests import Facts
from ...core.session import Rules, Session
from ...errors import ConfigurationError, SessionGone, StoreError
from ..events import RefreshRefused, TokenFamilyDisplaced

IDLE: Final = 30 * DAY
ABSOLUTE: Final = 90 * DAY
WhyRefused = Literal["client", "key", "parent", "scope"]


def limits(main: Policy, *, idle: float, absolute: float) -> Policy:
    """Return the limits of families beside those of sessions; times are seconds.

    They rotate at every use once the last rotation has settled. A client's address and program change with every
    release and every network, and nobody is there to answer a challenge: that is told, and ends nothing.
    """
    return Policy(
        name="refresh tokens",
        idle=idle,
        absolute=absolute,
        rotation=2 * main.grace,
        grace=main.grace,
        touch=min(main.touch, idle / 2),
        clock_skew=main.clock_skew,
        max_sessions=main.max_sessions,
        on_limit=main.on_limit,
        on_replay=main.on_replay,
        binding=Binding(network="log", agent="log", both="log"),
        tombstone=main.tombstone,
        max_bytes=main.max_bytes,
    )


class Use(Opened):
    """Hold what a use of a refresh token learned: what its family is for."""

    family: Family | None = None


class FamilyEngine(Engine):
    """Do the I/O of token families, over the store and index of the sessions' engine, `main`."""

    def __init__(self, main: Engine, policy: Policy) -> None:
        if main.family_policy is not None:
            raise ConfigurationError("these sessions have refresh tokens already: use one RefreshTokens for all")
        self._main = main
        super().__init__(
            store=main.store,
            ring=main.ring,
            policy=policy,
            cookie=main.cookie,
            proxies=main.proxies,
            rules=Rules(policy, self._now),
            sinks=main.sinks,
            places=main._places,
            development_hosts=main._development_hosts,
            clock=self._now,
            entropy=main._entropy,
        )
        self._mint = TokenMint(main.ring, b"refresh token")
        self._watchers = main._watchers
        self.family_policy = main.family_policy = policy

    def _now(self) -> float:
        return self._main.clock()  # which tests replace

    def _handed(self, text: str) -> str:
        return text

    def _allowed(self, session: Session, control: Control) -> int | None:
        # Who hangs on a session takes no place beside it; who signed in by itself is a device like any other (R66).
        return super()._allowed(session, control) if session.opened.family.parent is None else None

    # -- begin ---------------------------------------------------------------------------------------------------------

    async def begin(self, facts: Facts, control: Control, family: Family) -> tuple[str, str, Record]:
        """Store a new family; return its first refresh token, its id and its record.

        Raises:
            SessionGone: the channel is not secure, so that no token may travel on it (R20).
            TooManySessions: it has no parent, and the limit refuses one more.
        """
        now = self.clock()
        opened = Use(facts, now, family=family)
        if not self._may_set_cookie(facts):
            raise SessionGone("no secure channel")
        data = {FAMILY: written(family)}
        begun = marked(control)
        try:
            lines, sid, _ = await self._create(self._nobody(opened), begun, dict(data), opened, now)
        except StoreError as error:
            self.tell(events.StoreFailed(at=now, error=error.code))
            raise
        return lines[0], sid, Record(begun, data, now, self.policy.deadline(begun, now))

    async def displace(self, family: Family, user: str | None, allowed: int) -> None:
        """End the oldest families of a session that has more than `allowed`.

        It is asked after a family was stored. Of several that begin at once the last to look sees all of them, and all
        that look agree on who is older: so neither more nor fewer than `allowed` are left.

        Raises:
            StoreError: the store failed; what is too many ends when the next one begins.
        """
        if family.parent is None or user is None:
            return
        held = sorted(
            (record.control.created_at, sid, found.client)
            for sid, record in await self.index.of_user(user)
            if (found := family_of(record)) is not None
            and found.parent == family.parent
            and self.expired(record) is None
        )
        for _, sid, client in held[: max(0, len(held) - allowed)]:
            ending = await self.end(sid, EndReason.LIMIT)
            if ending.ended:
                at, parent = self.clock(), family.parent
                self.tell(
                    TokenFamilyDisplaced(at=at, session=sid, user=user, client=client, parent=parent, allowed=allowed)
                )

    def source_of(self, facts: Facts) -> str:
        """Return a keyed hash of the network that a request came from, in hex."""
        return self._source(facts)

    # -- use -----------------------------------------------------------------------------------------------------------

    async def use(self, text: object, facts: Facts, *, client: str, jkt: str | None) -> Session | None:
        """Open the family of a refresh token for one use, which `commit` stores; None: refused, and told.

        Raises:
            StoreError: the store failed; nobody is refused for that.
        """
        now = self.clock()
        opened = Use(facts, now)
        read = self._mint.read(text) if isinstance(text, str) and self._is_secure(facts) else None
        if read is None:
            self.tell(events.TokenRefused(at=now, why="forged", source=self._source(facts)))
            return None
        opened.token, sid = read
        try:
            session = await self._use(opened, sid, client, jkt)
        except StoreError as error:
            self.tell(events.StoreFailed(at=now, error=error.code, session=sid))
            raise
        return None if session is None or session.base is None or session.user_id is None else session

    async def _use(self, opened: Use, sid: str, client: str, jkt: str | None) -> Session | None:
        found = await self.store.load(sid)
        if not isinstance(found, Record):
            return self._without(opened, sid, found)
        family = opened.family = family_of(found)
        if family is None:
            self.tell(events.RecordRefused(at=opened.loaded_at, session=sid, why="family"))
            return None
        if family.client != client or family.jkt != jkt:
            self._tell_refused(opened, sid, found, "client" if family.client != client else "key")
            return None
        parent = None if family.parent is None else await self._main.living(family.parent)
        if family.parent is not None and (parent is None or parent.control.user != found.control.user):
            self._tell_refused(opened, sid, found, "parent")
            return await self._refuse(self._nobody(opened), sid, found.control, await self._why(family.parent))
        session = await self._meet(opened, sid, found)
        if parent is not None and session.base is not None:
            return self._live(opened, sid, beneath(session.base, parent.control), opened.standing)
        return session

    def _tell_refused(self, opened: Use, sid: str, record: Record, why: WhyRefused) -> None:
        source, user = self._source(opened.facts), record.control.user
        self.tell(RefreshRefused(at=opened.loaded_at, session=sid, user=user, source=source, why=why))

    async def _why(self, parent: str) -> EndReason:
        """Return why a parent has ended, as far as that is still known; one that is past a limit ends now (R36)."""
        found = await self.store.load(parent)
        if isinstance(found, Record):
            reason = self._main.expired(found)
            if reason is not None:
                await self._main.end(parent, reason)
            return reason or EndReason.LOGOUT
        return found.reason if isinstance(found, Tombstone) else EndReason.IDLE

    async def _replayed(self, nobody: Session, sid: str, control: Control, token: Token, *, behind: int) -> Session:
        family = nobody.opened.family
        session = await super()._replayed(nobody, sid, control, token, behind=behind)
        if family is not None and family.parent is not None:
            # Somebody has a copy of what only the session's own client had: the thief may hold the session, too.
            await self._main.end(family.parent, EndReason.REPLAY)
        return session

    # -- end -----------------------------------------------------------------------------------------------------------

    async def revoke(self, text: object, client: str) -> bool:
        """End the family of a refresh token, any of it, if it is this client's; tell whether it was."""
        read = self._mint.read(text) if isinstance(text, str) else None
        if read is None:
            return False
        sid = read[1]
        found = await self.store.load(sid)
        family = family_of(found) if isinstance(found, Record) else None
        if family is None or family.client != client:
            return False
        return bool((await self.end(sid, EndReason.LOGOUT)).ended)

    async def end_user(self, user: str, reason: EndReason, keep: frozenset[str] = frozenset()) -> Ending:
        """End all sessions of a user, old ones of other libraries, too."""
        return await self._main.end_user(user, reason, keep)
