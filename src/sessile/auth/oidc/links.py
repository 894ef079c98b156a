"""Which sessions came from which session at a provider, and which of those have been signed out (R69).

    in the session   provider, issuer, sub, sid, when its ID token was made, and the name of its hint
    in the vault     (issuer, sid) and (issuer, sub): whose sessions to look through, and the last sign-out
                     the ID token itself, sealed: the provider wants it back as a hint

The sessions themselves are found by the store's own index of users, which is atomic with every session and follows each
renewal; of a user's sessions, what stands in each says which one is meant. So nothing here can get out of step, and a
look-up costs as much as the user has sessions, however many others there are.

A sign-in writes here first, and its session is stored later. A sign-out leaves its time here before it looks for
sessions, in the same items and over the versions that it read: so either the sign-in meets the sign-out's time and is
refused, or the sign-out knows of the sign-in. Its session may not be stored yet, and is asked about once more when it
is (`is_out`): the sign-in must not be complete before that.

Both times are the provider's own, so no two clocks are compared: a sign-out ends what was signed in until its token was
made, and nothing later.
"""

from __future__ import annotations

import secrets
from typing import Final

import msgspec
from msgspec.structs import replace

from ...core import values
from ...core.ports import UserIndex
from ...core.record import Record
from ...core.session import Session
from ...errors import ConfigurationError
from ..ground import Ground, name_of, opened, sealed
from ..stored import Stored, read, written
from ..vault import Item, Write, living, settle

DATA: Final = "_sessile_oidc"
MAX_USERS: Final = 16
_MARGIN: Final = 3600.0
_HINT: Final = "oidc-hint:"
_REFRESH: Final = "oidc-refresh:"


class Link(msgspec.Struct, frozen=True, array_like=True):
    """Say where a session came from. `issued_at` is when its ID token was made (seconds since 1970, by the provider).

    `user` is whom the session belongs to here; `hint` names its ID token in the vault.
    """

    provider: str
    issuer: str
    subject: str
    sid: str | None
    issued_at: float
    user: str
    hint: str = ""


class Known(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold whose sessions came from one session, or one user, of a provider, and until when that was signed out."""

    users: tuple[str, ...] = ()
    out_at: float = 0.0


class Hint(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold an ID token, sealed."""

    token: bytes


class Links:
    """Keep links. Sessions must be in a store that has an index of users.

    Raises:
        ConfigurationError: they are not: nobody could end them for a provider.
    """

    def __init__(self, ground: Ground) -> None:
        if not isinstance(ground.engine.store, UserIndex):
            raise ConfigurationError("signing out with a provider needs a store that knows its users' sessions")
        self._ground = ground
        self._index: UserIndex = ground.engine.store
        self._sealer = ground.sealer(b"oidc hint")

    # -- signing in ----------------------------------------------------------------------------------------------------

    async def begin(self, link: Link, id_token: str) -> Link | None:
        """Write down whose session is about to come from where; None: it was signed out there meanwhile.

        Raises:
            StoreError: the vault failed; nobody signs in.
        """
        for key in _keys(link.issuer, link.subject, link.sid):
            if not await self._enter(key, link):
                return None
        hint = secrets.token_urlsafe(16)
        token = sealed(self._sealer, id_token.encode(), link.user, hint.encode())
        link = replace(link, hint=hint)
        until = self._until(self._ground.now)
        await self._ground.vault.write(Write(hint_key(link), written(Hint(token=token)), 0, link.user, until))
        return link

    async def _enter(self, key: str, link: Link) -> bool:
        now = self._ground.now

        def decide(item: Item | None) -> tuple[bool, Write | None]:
            known = _known(item)
            if link.issued_at <= known.out_at:
                return False, None
            users = (link.user, *(user for user in known.users if user != link.user))[:MAX_USERS]
            return True, Write(key, written(Known(users=users, out_at=known.out_at)), 0, None, self._until(now))

        return (await settle(self._ground.vault, key, decide, now=now))[0]

    async def is_out(self, link: Link) -> bool:
        """Tell whether a sign-out came for what was signed in: to be asked once the session is stored."""
        now = self._ground.now
        for key in _keys(link.issuer, link.subject, link.sid):
            if link.issued_at <= _known(living(await self._ground.vault.get(key), now)).out_at:
                return True
        return False

    # -- signing out ---------------------------------------------------------------------------------------------------

    async def mark(self, issuer: str, *, subject: str | None, sid: str | None, at: float) -> None:
        """Note that a provider signed out a session of it, or a user if `sid` is None, at this time of its clock."""
        now = self._ground.now
        key = _key(issuer, subject, sid)

        def decide(item: Item | None) -> tuple[None, Write]:
            known = _known(item)
            marked = Known(users=known.users, out_at=max(known.out_at, at))
            return None, Write(key, written(marked), 0, None, self._until(now))

        await settle(self._ground.vault, key, decide, now=now)

    async def find(
        self, issuer: str, *, subject: str | None, sid: str | None, at: float | None = None
    ) -> tuple[tuple[str, Link], ...]:
        """Return the sessions that came from there, by their ids; with `at`, those that were signed in until then."""
        known = _known(living(await self._ground.vault.get(_key(issuer, subject, sid)), self._ground.now))
        found: list[tuple[str, Link]] = []
        for user in known.users:
            for session_id, record in await self._index.of_user(user):
                link = link_of(record)
                if link is not None and _is_meant(link, issuer, subject, sid, at):
                    found.append((session_id, link))
        return tuple(found)

    async def id_token(self, link: Link) -> str | None:
        """Return the ID token that a session began with, None if it is not kept any more.

        Raises:
            StoreError: the vault failed.
        """
        item = living(await self._ground.vault.get(hint_key(link)), self._ground.now)
        if item is None:
            return None
        kept = read(Hint, item.value)
        return opened(self._sealer, kept.token, link.user, link.hint.encode()).decode()

    async def forget(self, link: Link) -> None:
        """Drop what was kept for a session that has ended: its ID token, and the refresh token that asked after it.

        Raises:
            StoreError: the vault failed; it goes by itself when no session of then can live.
        """
        for key in (hint_key(link), refresh_key(link)):
            item = await self._ground.vault.get(key)
            if item is not None and item.user == link.user:
                await self._ground.vault.write(Write(key, None, item.version))

    async def forget_user(self, user: str) -> None:
        """Drop what was kept for all sessions of a user.

        Raises:
            StoreError: the vault failed.
        """
        for prefix in (_HINT, _REFRESH):
            for item in await self._ground.vault.of_user(user, prefix):
                await self._ground.vault.write(Write(item.key, None, item.version))

    def _until(self, now: float) -> float:
        return now + self._ground.engine.policy.absolute + _MARGIN


def hint_key(link: Link) -> str:
    """Return the key of a session's ID token in the vault."""
    return _HINT + link.hint


def refresh_key(link: Link) -> str:
    """Return the key of the refresh token that a session keeps to ask after itself."""
    return _REFRESH + link.hint


def keep(session: Session, link: Link) -> None:
    """Write into a session, beside its sign-in, where it came from."""
    session[DATA] = list(msgspec.to_builtins(link))


def kept(session: Session) -> Link | None:
    """Return where a request's session came from, None if from no provider."""
    return _read(session.get(DATA))


def link_of(record: Record) -> Link | None:
    """Return where a stored session came from."""
    raw = record.data.get(DATA)
    try:
        return None if raw is None else _read(values.decode(raw))
    except ValueError:
        return None


def _read(value: object) -> Link | None:
    try:
        return None if value is None else msgspec.convert(value, Link)
    except msgspec.ValidationError:
        return None


def _is_meant(link: Link, issuer: str, subject: str | None, sid: str | None, at: float | None) -> bool:
    if link.issuer != issuer or (sid is not None and link.sid != sid):
        return False
    return (subject is None or link.subject == subject) and (at is None or link.issued_at <= at)


def _known(item: Item | None) -> Known:
    return Known() if item is None else read(Known, item.value)


def _key(issuer: str, subject: str | None, sid: str | None) -> str:
    if sid is not None:
        return "oidc-sid:" + name_of(f"{issuer}\n{sid}")
    return "oidc-sub:" + name_of(f"{issuer}\n{subject}")


def _keys(issuer: str, subject: str, sid: str | None) -> tuple[str, ...]:
    both = (_key(issuer, subject, None),)
    return both if sid is None else (*both, _key(issuer, None, sid))
