"""One application with tokens on a bench, behind either door: a clock that stands still, and every event kept."""

from __future__ import annotations

import inspect
from typing import Any, Final

from sessile import AsyncSessions, Sessions
from sessile.auth.ground import Ground
from sessile.auth.tokens import AsyncProofs, AsyncTokens, Proofs, Tokens
from sessile.auth.tokens.jose import PrivateKey
from sessile.core.keys import KeyRing
from sessile.core.requests import Facts
from sessile.core.session import Session
from sessile.testing.clock import FrozenClock
from tests.core.rig import facts, token_of

ISSUER: Final = "https://id.example"
API: Final = "https://api.example"
RING: Final = KeyRing({0: bytes(range(32))})


async def done(result: Any) -> Any:
    """Return what a verb of either door returns."""
    return await result if inspect.isawaitable(result) else result


class Bench:
    """Hold sessions, ground and tokens of one application; another one on the same stores is another node."""

    def __init__(
        self, store: Any = "memory://", vault: Any = "memory://", *, blocking: bool = True, **options: Any
    ) -> None:
        self.clock = options.pop("clock", None) or FrozenClock()
        self.events: list[Any] = []
        kind = Sessions if blocking else AsyncSessions
        self.sessions: Any = kind(
            store,
            clock=self.clock,
            keys=options.pop("keys", RING),
            sinks=(self.events.append,),
            **options.pop("sessions", {}),
        )
        self.ground = Ground(self.sessions, vault)
        self.tokens: Any = (Tokens if blocking else AsyncTokens)(self.ground, issuer=ISSUER, **options)
        self.blocking = blocking

    def proofs(self, **options: Any) -> Any:
        """Return the door of proofs."""
        return (Proofs if self.blocking else AsyncProofs)(self.ground, **options)

    async def open(self, cookie: str | None = None) -> Session:
        """Open the session of a request."""
        return await done(self.sessions.open(facts(cookie)))  # type: ignore[no-any-return]

    async def sign_in(self, user: str = "ada", **how: Any) -> Session:
        """Sign a user in, and return the session after its commit."""
        session = await self.open()
        session.login(user, **how)
        self.cookie = token_of(await done(self.sessions.commit(session)))
        return session

    async def issue(self, session: Session | str, **how: Any) -> str:
        """Issue a token for the API."""
        return await done(self.tokens.issue(session, **{"audience": API, "client": "web", **how}))  # type: ignore[no-any-return]

    async def verify(self, text: Any, audience: str = API, **how: Any) -> Any:
        """Verify a token."""
        return await done(self.tokens.verify(text, audience, **how))

    async def admit(self, text: Any, audience: str = API, **how: Any) -> Any:
        """Admit a token."""
        return await done(self.tokens.admit(text, audience, **how))

    async def is_active(self, text: Any) -> bool:
        """Introspect a token; what is not active says nothing else."""
        answer = await done(self.tokens.introspect(text))
        assert answer["active"] or answer == {"active": False}
        return bool(answer["active"])

    async def signer(self) -> PrivateKey:
        """Return the key that signs now: what no attacker has."""
        return (await self.tokens.flow.keys.current()).signer(self.clock())  # type: ignore[no-any-return]

    def told(self, code: str) -> list[Any]:
        """Return the events of that code."""
        return [event for event in self.events if event.code == code]

    def reasons(self) -> list[str]:
        """Return why tokens were refused, and forget it."""
        found = [event.why for event in self.told("access-token-refused")]
        self.events.clear()
        return found

    async def close(self) -> None:
        """Release everything."""
        await self.ground.close()
        await done(self.sessions.close())


def asked(method: str = "GET", **headers: str) -> Facts:
    """Return the facts of a request that carries these headers."""
    return facts(method=method, **headers)
