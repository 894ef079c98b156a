"""One application with passwords, TOTP and recovery codes on a bench, behind either door; each browser has a cookie."""

from __future__ import annotations

import re
from typing import Any, Final

import pyotp

from sessile import AsyncSessions, Sessions
from sessile.auth.ground import Ground
from sessile.auth.passwords import AsyncPasswords, Passwords, Settings
from sessile.auth.recovery import AsyncRecovery, Recovery
from sessile.auth.totp import AsyncTotp, Totp
from sessile.auth.users import VaultUsers
from sessile.core.keys import KeyRing
from sessile.testing.clock import FrozenClock
from tests.auth.token_bench import done
from tests.core.rig import facts, token_of

RING: Final = KeyRing({0: bytes(range(32))})
GOOD: Final = "three mild herons over Lübeck"
CHEAP: Final = Settings(time=5, memory=7168, lanes=1)


class Browser:
    """Hold one browser's cookie and address."""

    def __init__(self, bench: FactorBench, peer: str) -> None:
        self.bench = bench
        self.peer = peer
        self.cookie: str | None = None

    async def open(self) -> Any:
        """Open the session of a request."""
        return await done(self.bench.sessions.open(facts(self.cookie, peer=self.peer)))

    async def run(self, verb: Any, *given: Any, **named: Any) -> Any:
        """Run one verb that takes a session, as a request of its own."""
        session = await self.open()
        result = await done(verb(session, *given, **named))
        self.cookie = token_of(await done(self.bench.sessions.commit(session))) or self.cookie
        return result

    async def login(self, user: str = "ada", **how: Any) -> None:
        """Sign in otherwise."""

        async def signed(session: Any) -> None:
            session.login(user, **how)

        await self.run(signed)

    async def user(self) -> str | None:
        """Return who is signed in."""
        return (await self.open()).user_id  # type: ignore[no-any-return]


class FactorBench:
    """Hold sessions, ground and doors of one application; another one on the same stores is another process."""

    def __init__(
        self, store: Any = "memory://", vault: Any = "memory://", *, blocking: bool = True, **options: Any
    ) -> None:
        self.clock = options.pop("clock", None) or FrozenClock()
        self.events: list[Any] = []
        kind = Sessions if blocking else AsyncSessions
        self.sessions: Any = kind(store, clock=self.clock, keys=RING, sinks=(self.events.append,))
        self.ground = Ground(self.sessions, vault)
        self.users = VaultUsers(self.ground)
        passwords: Any = Passwords if blocking else AsyncPasswords
        self.passwords: Any = passwords(self.ground, self.users, settings=options.pop("settings", CHEAP), **options)
        self.totp: Any = (Totp if blocking else AsyncTotp)(self.ground, issuer="Example", **options)
        self.recovery: Any = (Recovery if blocking else AsyncRecovery)(self.ground, **options)

    def browser(self, peer: str = "192.0.2.7") -> Browser:
        """Return a browser without a cookie."""
        return Browser(self, peer)

    async def account(self, login: str = "ada@site.example", password: str = GOOD) -> str:
        """Make an account with a password, and return its id."""
        account: Any = await self.users.create(login)
        assert await done(self.passwords.set_first(account.id, password)) is None
        return account.id  # type: ignore[no-any-return]

    def code(self, key: str, steps: int = 0) -> str:
        """Return the code that an app shows now, or steps of half a minute from now."""
        return pyotp.TOTP(re.sub(" ", "", key)).at(int(self.clock()) + 30 * steps)

    async def enrol(self, browser: Browser) -> str:
        """Enrol an app for who is signed in, and return its key."""
        shown = await browser.run(self.totp.begin, account="ada")
        await browser.run(self.totp.confirm, self.code(shown.key))
        self.clock.advance(60)
        return shown.key  # type: ignore[no-any-return]

    def told(self, code: str) -> list[Any]:
        """Return the events of that code."""
        return [event for event in self.events if event.code == code]

    async def close(self) -> None:
        """Release everything."""
        await self.ground.close()
        await done(self.sessions.close())
