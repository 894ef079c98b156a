"""One application with passkeys on a bench, behind either door; each browser keeps its cookie."""

from __future__ import annotations

import json
from typing import Any, Final

from sessile import AsyncSessions, Sessions
from sessile.auth.ground import Ground
from sessile.auth.passkeys import AsyncPasskeys, Passkeys
from sessile.core.keys import KeyRing
from sessile.testing.clock import FrozenClock
from tests.auth.token_bench import done
from tests.core.rig import facts, token_of
from tests.support.authenticator import Authenticator

RP: Final = "id.example"
ORIGIN: Final = "https://id.example"
OTHER_ORIGIN: Final = "https://shop.id.example:8443"
RING: Final = KeyRing({0: bytes(range(32))})


class Browser:
    """Hold one browser's cookie, and run one request after the other."""

    def __init__(self, bench: PasskeyBench) -> None:
        self.bench = bench
        self.cookie: str | None = None

    async def open(self) -> Any:
        """Open the session of a request."""
        return await done(self.bench.sessions.open(facts(self.cookie)))

    async def commit(self, session: Any) -> None:
        """End the request."""
        set_to = token_of(await done(self.bench.sessions.commit(session)))
        if set_to is not None:
            self.cookie = set_to

    async def run(self, verb: str, *given: Any, **named: Any) -> Any:
        """Run one verb that takes a session, as a request of its own."""
        session = await self.open()
        result = await done(getattr(self.bench.door, verb)(session, *given, **named))
        await self.commit(session)
        return result

    async def login(self, user: str = "ada", **how: Any) -> None:
        """Sign in otherwise: by password and code, unless something else is said."""
        session = await self.open()
        session.login(user, **how)
        if not how:
            session.add_factor("totp")
        await self.commit(session)

    async def register(self, key: Authenticator, *, origin: str = ORIGIN, label: str = "", **forged: Any) -> Any:
        """Register a key."""
        options = await self.run("begin_registration", name="ada@example")
        return await self.run("finish_registration", key.create(options, origin=origin, **forged), label=label)

    async def sign_in(self, key: Authenticator, *, user: str | None = None, origin: str = ORIGIN, **forged: Any) -> Any:
        """Sign in with a key."""
        options = await self.run("begin_sign_in", user=user)
        return await self.run("finish_sign_in", key.get(options, origin=origin, **forged))

    async def step_up(self, key: Authenticator, **forged: Any) -> Any:
        """Prove once more with a key."""
        options = await self.run("begin_step_up")
        return await self.run("finish_step_up", key.get(options, origin=ORIGIN, **forged))

    async def user(self) -> str | None:
        """Return who is signed in."""
        return (await self.open()).user_id  # type: ignore[no-any-return]

    async def challenge(self, verb: str, **named: Any) -> str:
        """Begin something, and return its challenge."""
        return json.loads(await self.run(verb, **named))["challenge"]  # type: ignore[no-any-return]


class PasskeyBench:
    """Hold sessions, ground and the door of one application; another one on the same stores is another process."""

    def __init__(
        self, store: Any = "memory://", vault: Any = "memory://", *, blocking: bool = True, **options: Any
    ) -> None:
        self.clock = options.pop("clock", None) or FrozenClock()
        self.events: list[Any] = []
        kind = Sessions if blocking else AsyncSessions
        self.sessions: Any = kind(store, clock=self.clock, keys=RING, sinks=(self.events.append,))
        self.ground = Ground(self.sessions, vault)
        settings = {"rp_id": RP, "rp_name": "Example", "origins": [ORIGIN, OTHER_ORIGIN], **options}
        self.door: Any = (Passkeys if blocking else AsyncPasskeys)(self.ground, **settings)
        self.blocking = blocking

    def browser(self) -> Browser:
        """Return a browser without a cookie."""
        return Browser(self)

    async def keys(self, user: str = "ada") -> Any:
        """Return a user's keys."""
        return await done(self.door.keys(user))

    def told(self, code: str) -> list[Any]:
        """Return the events of that code."""
        return [event for event in self.events if event.code == code]

    def why(self) -> str:
        """Return why the one thing that was refused was, and forget it."""
        [one] = self.told("passkey-refused")
        self.events.clear()
        return one.why  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Release everything."""
        await self.ground.close()
        await done(self.sessions.close())
