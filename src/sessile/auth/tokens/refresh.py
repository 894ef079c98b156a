"""Refresh tokens: issue, sign in, refresh, revoke (R62, R84, R85; RFC 6749 §6, RFC 9700 §4.14).

A refresh token is a session token in another envelope, and its family a session (`families`): what holds for sessions
holds for it. A response without a refresh token says: keep the one that you have. So 50 parallel uses, and answers that
are lost, leave one living family; who uses one that was left behind ends the family, and the session it hangs on.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from ...core import events
from ...core.bridge import drive
from ...core.engine import Opened
from ...core.factors import Factor
from ...core.families import SCHEMA, Family, family_of, is_family
from ...core.ports import InCookies
from ...core.record import SCHEMA as CONTROL_SCHEMA
from ...core.record import Control, Record
from ...core.requests import Facts
from ...core.session import Session, user_name
from ...errors import ConfigurationError, SessionGone
from ..events import RefreshRefused, TokenFamilyBegun
from . import access
from .doors import AsyncTokens, Tokens
from .families import ABSOLUTE, IDLE, FamilyEngine, limits
from .flow import TokenFlow, check_grant, named

# One for each client that acts for a session; more is a client that forgets what it has.
PER_SESSION: Final = 16
_MAX_SCOPE: Final = 4096


class TokenPair(NamedTuple):
    """Hold what a client gets. `refresh` None: it keeps the one that it has. `expires_in` is in seconds."""

    access: str
    refresh: str | None
    expires_in: int
    scope: str
    token_type: str = "Bearer"  # noqa: S105 - the word, not one

    def __repr__(self) -> str:
        return f"<TokenPair for {self.expires_in} s>"


class Refused(StrEnum):
    """Name what a client is told of a refusal (RFC 6749 §5.2): never which part of the token was wrong."""

    GRANT = "invalid_grant"
    SCOPE = "invalid_scope"


class RefreshFlow:
    """Carry out the verbs of both doors. `idle` and `absolute` are the families' own limits, in seconds."""

    def __init__(self, tokens: TokenFlow, *, idle: float, absolute: float, per_session: int) -> None:
        main = tokens.ground.engine
        if per_session < 1:
            raise ConfigurationError("a session may have one refresh token at least")
        if isinstance(main.store, InCookies):
            raise ConfigurationError("refresh tokens need sessions in a store: nothing else can end them")
        self.tokens = tokens
        self.main = main
        self.per_session = per_session
        self.engine = FamilyEngine(main, limits(main.policy, idle=idle, absolute=absolute))

    # -- begin ---------------------------------------------------------------------------------------------------------

    async def issue(
        self, session: Session, *, audience: str, client: str, scope: str, jkt: str | None, facts: Facts | None
    ) -> TokenPair:
        """Begin a family that hangs on a session."""
        check_grant(audience, client, scope)
        sid, owner = named(session, None)
        if session.left_behind:
            # It would give whoever kept an old token what no sibling tells from the owner's, for months.
            raise SessionGone("its token was left behind; ask again")
        parent = await self.main.living(sid)
        if parent is None or parent.control.user != owner or parent.control.pending or parent.control.challenged:
            raise SessionGone("not signed in")
        if is_family(parent.control):
            raise SessionGone("no session of a browser")
        now, proved = self.main.clock(), parent.control
        control = Control(
            schema=CONTROL_SCHEMA,
            created_at=now,
            authenticated_at=proved.authenticated_at,
            rotated_at=now,
            user=owner,
            factors=proved.factors,
            place=proved.place,
        )
        family = Family(SCHEMA, sid, audience, client, scope, jkt)
        return await self._begin(_facts_of(session) if facts is None else facts, control, family)

    async def sign_in(
        self,
        user: str | int,
        *factors: str,
        facts: Facts,
        audience: str,
        client: str,
        scope: str,
        jkt: str | None,
    ) -> TokenPair:
        """Begin a family of its own, for a client without a browser."""
        check_grant(audience, client, scope)
        if not factors:
            raise ConfigurationError("say what the user proved: sign_in(user, 'password', …)")
        now, owner = self.main.clock(), user_name(user)
        control = Control(
            schema=CONTROL_SCHEMA,
            created_at=now,
            authenticated_at=now,
            rotated_at=now,
            user=owner,
            factors=tuple(Factor(name, now) for name in dict.fromkeys(factors)),
        )
        return await self._begin(facts, control, Family(SCHEMA, None, audience, client, scope, jkt))

    async def _begin(self, facts: Facts, control: Control, family: Family) -> TokenPair:
        refresh, sid, record = await self.engine.begin(facts, control, family)
        now, user, source = self.main.clock(), control.user, self.engine.source_of(facts)
        await self.engine.displace(family, user, self.per_session)
        if family.parent is None:
            factor = control.factors[-1].name
            self.main.tell(events.SignedIn(at=now, session=sid, user=user, source=source, factor=factor, pending=False))
        self.main.tell(
            TokenFamilyBegun(
                at=now,
                session=sid,
                user=user,
                source=source,
                audience=family.audience,
                client=family.client,
                parent=family.parent,
            )
        )
        return await self._pair(sid, record, family, refresh, family.scope)

    # -- use -----------------------------------------------------------------------------------------------------------

    async def refresh(
        self, text: object, *, facts: Facts, client: str, scope: str | None, jkt: str | None
    ) -> TokenPair | Refused:
        """Use a refresh token."""
        session = await self.engine.use(text, facts, client=client, jkt=jkt)
        if session is None or session.base is None or session.id is None:
            return Refused.GRANT
        sid, record = session.id, session.base
        family = family_of(record)
        assert family is not None
        granted = _narrowed(family.scope, scope)
        if granted is None:
            self.main.tell(RefreshRefused(at=self.main.clock(), session=sid, user=record.control.user, why="scope"))
            return Refused.SCOPE
        answer = await self.engine.commit(session)
        if session.ended is not None:
            return Refused.GRANT
        return await self._pair(sid, record, family, answer.cookie, granted)

    async def _pair(self, sid: str, record: Record, family: Family, refresh: str | None, scope: str) -> TokenPair:
        text = await self.tokens.minted(
            sid, record, audience=family.audience, client=family.client, scope=scope, jkt=family.jkt
        )
        left = int(self.tokens.left(record))
        return TokenPair(text, refresh, left, scope, "Bearer" if family.jkt is None else "DPoP")

    # -- end -----------------------------------------------------------------------------------------------------------

    async def revoke(self, text: object, client: str) -> bool:
        """End the family of a refresh token of this client; tell whether it was one that lived (RFC 7009)."""
        return await self.engine.revoke(text, client)


def _facts_of(session: Session) -> Facts:
    """Return the facts of the request that a session is of.

    Raises:
        ConfigurationError: the request is over, so they are not known.
    """
    opened = session.opened
    if isinstance(opened, Opened):
        return opened.facts
    raise ConfigurationError("the session's response has begun: give issue(…, facts=…) those of the client")


def _narrowed(granted: str, asked: str | None) -> str | None:
    """Return the scope of a refreshed access token, None if it is more than was granted (RFC 6749 §6)."""
    if asked is None:
        return granted
    if len(asked) > _MAX_SCOPE or not access.is_scope(asked) or not set(asked.split()) <= set(granted.split()):
        return None
    return asked


class AsyncRefreshTokens:
    """Give out refresh tokens and use them, from an event loop.

    `idle` and `absolute` (seconds) end a family that nobody uses, and any family. One that hangs on a session ends with
    it before that; a session has `per_session` of them at most, and the oldest ends when one more begins.

    Raises:
        ConfigurationError: the limits are wrong, or these sessions have refresh tokens already.
    """

    def __init__(
        self, tokens: AsyncTokens, *, idle: float = IDLE, absolute: float = ABSOLUTE, per_session: int = PER_SESSION
    ) -> None:
        self.flow = RefreshFlow(tokens.flow, idle=idle, absolute=absolute, per_session=per_session)

    async def issue(
        self,
        session: Session,
        *,
        audience: str,
        client: str,
        scope: str = "",
        jkt: str | None = None,
        facts: Facts | None = None,
    ) -> TokenPair:
        """Return the first tokens of a client that acts for a signed-in session and ends with it.

        `jkt` is the thumbprint of the key that the client proved (RFC 9449). `facts` are needed if the session's own
        response has begun.

        Raises:
            StepUpRequired: nobody is signed in, or a factor is due.
            NotByToken: an access token opened the session.
            NotCommitted: its sign-in or step-up has not been committed.
            SessionGone: it has ended.
            StoreError: a store failed.
        """
        return await self.flow.issue(session, audience=audience, client=client, scope=scope, jkt=jkt, facts=facts)

    async def sign_in(
        self,
        user: str | int,
        *factors: str,
        facts: Facts,
        audience: str,
        client: str,
        scope: str = "",
        jkt: str | None = None,
    ) -> TokenPair:
        """Return the first tokens of a client without a browser, whose user has proved all these factors just now.

        Raises:
            TooManySessions: the limit refuses one more.
            SessionGone: the channel is not secure.
            StoreError: a store failed.
        """
        return await self.flow.sign_in(
            user, *factors, facts=facts, audience=audience, client=client, scope=scope, jkt=jkt
        )

    async def refresh(
        self, text: str, *, facts: Facts, client: str, scope: str | None = None, jkt: str | None = None
    ) -> TokenPair | Refused:
        """Return new tokens for a refresh token that this client was given, or what to tell it.

        `scope` may only be narrower than what was granted. `jkt`: the key that the request's proof showed, if any.

        Raises:
            StoreError: a store failed; the client keeps its token and asks again.
        """
        return await self.flow.refresh(text, facts=facts, client=client, scope=scope, jkt=jkt)

    async def revoke(self, text: str, client: str) -> bool:
        """End the family of a refresh token of this client; tell whether it was one that lived (RFC 7009)."""
        return await self.flow.revoke(text, client)


class RefreshTokens:
    """Give out refresh tokens and use them, from code that blocks.

    `idle` and `absolute` (seconds) end a family that nobody uses, and any family. One that hangs on a session ends with
    it before that; a session has `per_session` of them at most, and the oldest ends when one more begins.

    Raises:
        ConfigurationError: the limits are wrong, or these sessions have refresh tokens already.
    """

    def __init__(
        self, tokens: Tokens, *, idle: float = IDLE, absolute: float = ABSOLUTE, per_session: int = PER_SESSION
    ) -> None:
        self.flow = RefreshFlow(tokens.flow, idle=idle, absolute=absolute, per_session=per_session)

    def issue(
        self,
        session: Session,
        *,
        audience: str,
        client: str,
        scope: str = "",
        jkt: str | None = None,
        facts: Facts | None = None,
    ) -> TokenPair:
        """Return the first tokens of a client that acts for a signed-in session and ends with it.

        `jkt` is the thumbprint of the key that the client proved (RFC 9449). `facts` are needed if the session's own
        response has begun.

        Raises:
            StepUpRequired: nobody is signed in, or a factor is due.
            NotByToken: an access token opened the session.
            NotCommitted: its sign-in or step-up has not been committed.
            SessionGone: it has ended.
            StoreError: a store failed.
        """
        return drive(self.flow.issue(session, audience=audience, client=client, scope=scope, jkt=jkt, facts=facts))

    def sign_in(
        self,
        user: str | int,
        *factors: str,
        facts: Facts,
        audience: str,
        client: str,
        scope: str = "",
        jkt: str | None = None,
    ) -> TokenPair:
        """Return the first tokens of a client without a browser, whose user has proved all these factors just now.

        Raises:
            TooManySessions: the limit refuses one more.
            SessionGone: the channel is not secure.
            StoreError: a store failed.
        """
        return drive(
            self.flow.sign_in(user, *factors, facts=facts, audience=audience, client=client, scope=scope, jkt=jkt)
        )

    def refresh(
        self, text: str, *, facts: Facts, client: str, scope: str | None = None, jkt: str | None = None
    ) -> TokenPair | Refused:
        """Return new tokens for a refresh token that this client was given, or what to tell it.

        `scope` may only be narrower than what was granted. `jkt`: the key that the request's proof showed, if any.

        Raises:
            StoreError: a store failed; the client keeps its token and asks again.
        """
        return drive(self.flow.refresh(text, facts=facts, client=client, scope=scope, jkt=jkt))

    def revoke(self, text: str, client: str) -> bool:
        """End the family of a refresh token of this client; tell whether it was one that lived (RFC 7009)."""
        return drive(self.flow.revoke(text, client))
