"""A client with a refresh token on a bench: what it keeps, what is lost on its way, and who else has a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sessile.auth.tokens.refresh import AsyncRefreshTokens, RefreshTokens, Refused, TokenPair
from sessile.core.policy import Policy
from tests.auth.token_bench import API, Bench, asked, done

APP = {"audience": API, "client": "app"}
SETTLED = 2 * Policy().grace + 1


class RefreshBench(Bench):
    """Hold an application that gives out refresh tokens."""

    def __init__(self, *given: Any, limits: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*given, **options)
        self.refreshing: Any = (RefreshTokens if self.blocking else AsyncRefreshTokens)(self.tokens, **(limits or {}))

    async def begin(self, session: Any, **how: Any) -> TokenPair:
        """Return the first tokens of a client that acts for a session."""
        how.setdefault("facts", asked("POST"))
        return await done(self.refreshing.issue(session, **{**APP, **how}))  # type: ignore[no-any-return]

    async def begin_alone(self, user: str = "ada", *factors: str, **how: Any) -> TokenPair:
        """Return the first tokens of a native client."""
        how.setdefault("facts", asked("POST"))
        return await done(self.refreshing.sign_in(user, *(factors or ("passkey",)), **{**APP, **how}))  # type: ignore[no-any-return]

    async def refresh(self, text: Any, *, client: str = "app", **how: Any) -> TokenPair | Refused:
        """Use a refresh token."""
        how.setdefault("facts", asked("POST"))
        return await done(self.refreshing.refresh(text, client=client, **how))  # type: ignore[no-any-return]

    async def revoke(self, text: Any, client: str = "app") -> bool:
        """Give a refresh token back."""
        return await done(self.refreshing.revoke(text, client))  # type: ignore[no-any-return]

    async def later(self, text: Any, **how: Any) -> Any:
        """Use a refresh token when everything has settled."""
        self.clock.advance(SETTLED)
        return await self.refresh(text, **how)

    async def rotated(self, text: str) -> str:
        """Use a refresh token until a new one comes."""
        for _ in range(3):
            pair = await self.later(text)
            assert isinstance(pair, TokenPair)
            if pair.refresh is not None:
                return pair.refresh
        raise AssertionError("it does not rotate")

    async def sid_of(self, access: str) -> str:
        """Return the session id in an access token."""
        return (await self.verify(access)).session_id  # type: ignore[no-any-return]

    async def is_alive(self, sid: str | None) -> bool:
        """Tell whether a session lives."""
        return await done(self.sessions.is_alive(sid))  # type: ignore[no-any-return]

    def codes(self) -> list[str]:
        """Return the codes of the events so far, and forget them."""
        codes = [event.code for event in self.events]
        self.events.clear()
        return codes


@dataclass
class Client:
    """Keep the newest refresh token that arrived."""

    bench: RefreshBench
    kept: str

    async def use(self, *, is_lost: bool = False) -> TokenPair | Refused:
        """Use it; a lost answer changes nothing here."""
        answer = await self.bench.refresh(self.kept)
        if not is_lost:
            self.take(answer)
        return answer

    def take(self, answer: TokenPair | Refused) -> None:
        """Keep what an answer brings."""
        if isinstance(answer, TokenPair) and answer.refresh is not None:
            self.kept = answer.refresh
