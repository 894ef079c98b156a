"""The two doors: `AsyncSessions` for event loops, `Sessions` for what blocks. Same methods, one line each."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple, TypedDict, Unpack

from ..errors import ConfigurationError, Unsupported
from ..monitor import LogSink
from ..stores import open_store
from .answers import Answer
from .bridge import drive
from .cookieengine import CookieEngine
from .cookies import CookieRules
from .crosssite import CrossSiteGuard
from .engine import Engine
from .events import Sink
from .families import family_of
from .info import Ended, SessionInfo, describe
from .keyfile import ring_for
from .keys import KeyRing
from .legacy import Bridge, BridgeReport
from .network import Proxies
from .policy import Policy, PolicyReport
from .ports import Census, Embedded, Ending, InCookies, OneDoor, Page, Stats, Store
from .record import EndReason
from .requests import Facts
from .sealing import SealedCodec
from .session import Rules, Session, user_name

USER_KEYS = frozenset({"user_id", "_user_id"})


class Options(TypedDict, total=False):
    """List what both doors take beside the store.

    `policy` limits and binding; `keys` a ring (or its text; default: SESSILE_KEYS); `encrypt` seals what the store
    keeps, with a ring of its own, or, if True, with SESSILE_DATA_KEYS or the token keys; `production` refuses
    development keys;
    `cookie`, `proxies`, `guard` as in their classes; `sinks` take events (default: the log); `user_keys` the data
    keys by which the application itself signs in; `places` names a place for an address; `clear_site_data` what a
    sign-out clears;
    `development_hosts` more host names that count as loopback, outside production; `legacy` bridges to the session
    library that was used before (`sessile.legacy`); `clock` and `entropy` for tests.
    """

    policy: Policy
    keys: KeyRing | str
    encrypt: bool | KeyRing
    production: bool
    cookie: CookieRules
    proxies: Proxies
    guard: CrossSiteGuard
    sinks: Iterable[Sink]
    user_keys: Iterable[str]
    places: Callable[[str], str]
    clear_site_data: tuple[str, ...]
    development_hosts: Iterable[str]
    legacy: Iterable[Bridge]
    clock: Callable[[], float]
    entropy: Callable[[int], bytes]


def is_production() -> bool:
    """Tell whether the environment says that people use this: SESSILE_PRODUCTION is set and not 0."""
    return os.environ.get("SESSILE_PRODUCTION", "") not in ("", "0")


def data_keys(environ: Mapping[str, str] = os.environ) -> KeyRing | None:
    """Return the ring of SESSILE_DATA_KEYS, with which stores are encrypted that have keys of their own.

    Raises:
        ConfigurationError: what stands there is no ring.
    """
    written = environ.get("SESSILE_DATA_KEYS", "")
    return KeyRing.parse(written) if written.strip() else None


class Settings(NamedTuple):
    """Hold what a door was told and its engine does not show, for whoever examines a configuration."""

    production: bool
    ring: KeyRing
    clear_site_data: tuple[str, ...]
    development_hosts: frozenset[str]


def _assemble(store: str | Store, options: Options, *, blocking: bool) -> tuple[Engine, CrossSiteGuard, Settings]:
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise ConfigurationError(
            f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(sorted(Options.__annotations__))}"
        )
    production = options.get("production", is_production())
    opened = open_store(store, blocking=blocking) if isinstance(store, str) else store
    _check_door(opened, blocking=blocking)
    if isinstance(opened, InCookies):
        _check_door(opened.revocations, blocking=blocking)
    policy = options.get("policy") or Policy()
    clock = options.get("clock", time.time)
    embedded = isinstance(opened, Embedded)
    key_file = opened.key_file if isinstance(opened, Embedded) else None
    ring = ring_for(options.get("keys"), production=production, key_file=key_file, embedded=embedded)
    if options.get("encrypt", False) is not False:
        # Opened anew: where the keys live, the store had to say first. Nothing is open before the first verb.
        opened = open_store(_url(store), blocking=blocking, codec=_codec(options, ring))
    settings = Settings(
        production=production,
        ring=ring,
        clear_site_data=tuple(options.get("clear_site_data", ("cache", "cookies", "storage"))),
        development_hosts=frozenset(() if production else options.get("development_hosts", ("testserver",))),
    )
    kind = CookieEngine if isinstance(opened, InCookies) else Engine
    engine = kind(
        store=opened,
        ring=ring,
        policy=policy,
        cookie=options.get("cookie") or CookieRules(),
        proxies=options.get("proxies") or Proxies(),
        rules=Rules(policy, clock, frozenset(options.get("user_keys", USER_KEYS))),
        sinks=tuple(options.get("sinks", (LogSink(),))),
        places=options.get("places"),
        clear_site_data=settings.clear_site_data,
        development_hosts=settings.development_hosts,
        clock=clock,
        entropy=options.get("entropy", os.urandom),
    )
    bridges = tuple(bridge.open(blocking=blocking) for bridge in options.get("legacy", ()))
    if bridges:
        engine.take_over(bridges)
    return engine, options.get("guard") or CrossSiteGuard(), settings


def _check_door(part: object, *, blocking: bool) -> None:
    if isinstance(part, OneDoor) and part.blocking != blocking:
        raise ConfigurationError(
            "this store was opened for the blocking door, and would stop an event loop: open it with blocking=False"
            if part.blocking
            else "this store was opened for an event loop, and the door would block without one: use blocking=True"
        )


def _url(store: str | Store) -> str:
    if not isinstance(store, str):
        raise ConfigurationError(
            "encrypt=… is for stores that are opened by URL; give a store object its codec instead"
        )
    return store


def _codec(options: Options, ring: KeyRing) -> SealedCodec:
    encrypt = options.get("encrypt", False)
    if encrypt is not True and not isinstance(encrypt, KeyRing):
        raise ConfigurationError("encrypt is True, for the token keys, or a KeyRing of its own")
    if encrypt is True:
        encrypt = data_keys() or ring
    return SealedCodec(encrypt)


class AsyncSessions:
    """Open, commit, find and end sessions from an event loop.

    `store` is a URL (`memory://`, `sqlite:///sessions.db`) or a store object; see `Options` for the rest.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(self, store: str | Store = "memory://", **options: Unpack[Options]) -> None:
        self.engine, self.guard, self.settings = _assemble(store, options, blocking=False)

    def open(self, facts: Facts, *, kind: type[Session] = Session) -> Awaitable[Session]:
        """Open the session of a request, as an object of class `kind`; for people who write their own adapter."""
        return self.engine.load(facts, kind)

    def commit(self, session: Session) -> Awaitable[Answer]:
        """Carry out what the request intended; call it before the first byte of the response."""
        return self.engine.commit(session)

    async def of_user(self, user: str | int, *, current: Session | None = None) -> list[SessionInfo]:
        """List a user's live sessions, last used first; `current` marks the one that asks."""
        return await _of_user(self.engine, user_name(user), current)

    async def describe(self, session: Session) -> SessionInfo | None:
        """Describe one request's session, None if it is not stored."""
        return _describe(self.engine, session)

    async def is_alive(self, session_id: str) -> bool:
        """Tell whether a session lives now, without touching it."""
        return await self.engine.is_alive(session_id)

    async def sign_out(self, session: Session, *, everywhere: bool = False) -> Ended:
        """End a request's session now instead of at its commit, so that the page can say how surely it ended (R51)."""
        return _ended(await self.engine.sign_out(session, everywhere=everywhere))

    async def end(
        self, session_id: str, *, user: str | int | None = None, reason: EndReason = EndReason.ADMIN
    ) -> Ended:
        """End one session; with `user`, only if it is theirs. Return 1 if it was alive, and how surely it ended."""
        return _ended(await self.engine.end(session_id, reason, None if user is None else user_name(user)))

    async def end_all(
        self, user: str | int, *, keep: Session | str | None = None, reason: EndReason = EndReason.USER
    ) -> Ended:
        """End all of a user's sessions but `keep`; return how many, and how surely."""
        return _ended(await self.engine.end_user(user_name(user), reason, _kept(keep)))

    async def end_everything(self) -> Ended:
        """End every session that exists now, in one step (R64). They are not counted; the answer says how surely."""
        return _ended(await self.engine.end_everything())

    async def sweep(self, limit: int = 1000) -> int:
        """Remove up to `limit` expired records; it also happens by itself. Return how many."""
        return await self.engine.sweep(limit)

    async def stats(self) -> Stats:
        """Count live sessions, signed-in ones, users and tombstones."""
        return await _census(self.engine).stats(self.engine.clock())

    async def scan(self, cursor: str | None = None, *, limit: int = 100) -> Page:
        """List live sessions page by page, for operators."""
        return await _census(self.engine).scan(cursor, limit)

    def report(self) -> PolicyReport:
        """Return the policy in words (R41)."""
        return self.engine.policy.report()

    def bridges(self) -> tuple[BridgeReport, ...]:
        """Say what each bridge to another session library adopted and refused, in this process."""
        return () if self.engine.adoption is None else self.engine.adoption.reports()

    async def close(self) -> None:
        """Release the store."""
        await self.engine.close()


class Sessions:
    """Open, commit, find and end sessions from code that blocks.

    `store` is a URL (`memory://`, `sqlite:///sessions.db`) or a store object; see `Options` for the rest.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(self, store: str | Store = "memory://", **options: Unpack[Options]) -> None:
        self.engine, self.guard, self.settings = _assemble(store, options, blocking=True)

    def open(self, facts: Facts, *, kind: type[Session] = Session) -> Session:
        """Open the session of a request, as an object of class `kind`; for people who write their own adapter."""
        return drive(self.engine.load(facts, kind))

    def commit(self, session: Session) -> Answer:
        """Carry out what the request intended; call it before the first byte of the response."""
        return drive(self.engine.commit(session))

    def of_user(self, user: str | int, *, current: Session | None = None) -> list[SessionInfo]:
        """List a user's live sessions, last used first; `current` marks the one that asks."""
        return drive(_of_user(self.engine, user_name(user), current))

    def describe(self, session: Session) -> SessionInfo | None:
        """Describe one request's session, None if it is not stored."""
        return _describe(self.engine, session)

    def is_alive(self, session_id: str) -> bool:
        """Tell whether a session lives now, without touching it."""
        return drive(self.engine.is_alive(session_id))

    def sign_out(self, session: Session, *, everywhere: bool = False) -> Ended:
        """End a request's session now instead of at its commit, so that the page can say how surely it ended (R51)."""
        return _ended(drive(self.engine.sign_out(session, everywhere=everywhere)))

    def end(self, session_id: str, *, user: str | int | None = None, reason: EndReason = EndReason.ADMIN) -> Ended:
        """End one session; with `user`, only if it is theirs. Return 1 if it was alive, and how surely it ended."""
        return _ended(drive(self.engine.end(session_id, reason, None if user is None else user_name(user))))

    def end_all(
        self, user: str | int, *, keep: Session | str | None = None, reason: EndReason = EndReason.USER
    ) -> Ended:
        """End all of a user's sessions but `keep`; return how many, and how surely."""
        return _ended(drive(self.engine.end_user(user_name(user), reason, _kept(keep))))

    def end_everything(self) -> Ended:
        """End every session that exists now, in one step (R64). They are not counted; the answer says how surely."""
        return _ended(drive(self.engine.end_everything()))

    def sweep(self, limit: int = 1000) -> int:
        """Remove up to `limit` expired records; it also happens by itself. Return how many."""
        return drive(self.engine.sweep(limit))

    def stats(self) -> Stats:
        """Count live sessions, signed-in ones, users and tombstones."""
        return drive(_census(self.engine).stats(self.engine.clock()))

    def scan(self, cursor: str | None = None, *, limit: int = 100) -> Page:
        """List live sessions page by page, for operators."""
        return drive(_census(self.engine).scan(cursor, limit))

    def report(self) -> PolicyReport:
        """Return the policy in words (R41)."""
        return self.engine.policy.report()

    def bridges(self) -> tuple[BridgeReport, ...]:
        """Say what each bridge to another session library adopted and refused, in this process."""
        return () if self.engine.adoption is None else self.engine.adoption.reports()

    def close(self) -> None:
        """Release the store."""
        drive(self.engine.close())


async def _of_user(engine: Engine, user: str, current: Session | None) -> list[SessionInfo]:
    if current is not None:
        current.accessed = True
    held = [(sid, record) for sid, record in await engine.index.of_user(user) if engine.expired(record) is None]
    ids = {sid for sid, _ in held}
    listed = [
        describe(
            sid,
            record,
            deadline=engine.deadline(record),
            current=current is not None and current.id == sid,
        )
        for sid, record in held
        if (family := family_of(record)) is None or family.parent is None or family.parent in ids
    ]
    return sorted(listed, key=lambda info: (not info.current, -info.seen_at))


def _describe(engine: Engine, session: Session) -> SessionInfo | None:
    session.accessed = True
    if session.base is None or session.id is None:
        return None
    return describe(session.id, session.base, deadline=engine.deadline(session.base), current=True)


def _ended(ending: Ending) -> Ended:
    return Ended(len(ending.ended), confirmed=ending.confirmed)


def _kept(keep: Session | str | None) -> frozenset[str]:
    if keep is None:
        return frozenset()
    sid = keep.id if isinstance(keep, Session) else keep
    return frozenset() if sid is None else frozenset({sid})


def _census(engine: Engine) -> Census:
    if not isinstance(engine.store, Census):
        raise Unsupported("this store cannot list its sessions")
    return engine.store
