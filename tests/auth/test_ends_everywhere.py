"""End a session, however and wherever it is kept: what grew from it is dead, at once or within the stated lag."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from sessile import AsyncSessions, Sessions
from sessile.auth.ground import Ground
from sessile.auth.tokens import AsyncTokens, AsyncVerifier, Refused, TokenPair, Tokens, Verifier
from sessile.auth.tokens.access import Why
from sessile.auth.tokens.jose import unbase64url
from sessile.errors import ConfigurationError
from tests.auth.refresh_bench import RefreshBench
from tests.auth.token_bench import API, ISSUER, RING, done
from tests.support.backends import EMBEDDED, NETWORKED, backend
from tests.support.requirements import requirement

STORES: Final = [*EMBEDDED, *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKED)]
INTERVAL: Final = 30


async def sign_out(bench: RefreshBench, sid: str) -> None:
    """Sign out in the browser."""
    session = await bench.open(bench.cookie)
    assert session.id == sid
    session.logout()
    await done(bench.sessions.commit(session))


async def end_one(bench: RefreshBench, sid: str) -> None:
    """End it from elsewhere: a list of devices, an administrator."""
    await done(bench.sessions.end(sid))


async def end_all(bench: RefreshBench, _sid: str) -> None:
    """End all of the user's."""
    await done(bench.sessions.end_all("ada"))


async def end_everything(bench: RefreshBench, _sid: str) -> None:
    """End all sessions that there are."""
    await done(bench.sessions.end_everything())


async def step_up(bench: RefreshBench, sid: str) -> None:
    """Renew it: who held the old one loses what grew from it."""
    session = await bench.open(bench.cookie)
    assert session.id == sid
    session.add_factor("totp")
    await done(bench.sessions.commit(session))


WAYS: Final = {
    "sign-out": sign_out,
    "end": end_one,
    "end-all": end_all,
    "everything": end_everything,
    "renewal": step_up,
}


@requirement("R61", "R83", "R86")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
@pytest.mark.parametrize("kind", STORES)
async def test_what_grew_from_a_session_ends_with_it(kind: str, blocking: bool, way: str, tmp_path: Path) -> None:
    """Refresh token and introspection at once, the API's own door at once, offline verifiers within the lag."""
    end: Callable[[RefreshBench, str], Awaitable[None]] = WAYS[way]
    with backend(kind, tmp_path, blocking=blocking) as opened:
        bench = RefreshBench(opened.store, f"sqlite:///{tmp_path}/vault.db", blocking=blocking)
        verifier, why = verifier_of(bench)
        eve = await bench.sign_in("eve")
        other = await bench.begin(eve)
        session = await bench.sign_in("ada")
        pair, access = await bench.begin(session), await bench.issue(session)
        again = await bench.refresh(pair.refresh)
        assert isinstance(again, TokenPair)
        grown = (pair.access, again.access, access)
        for text in grown:
            assert await bench.is_active(text)
            assert await done(verifier.verify(text)) is not None
        assert session.id is not None

        await end(bench, session.id)

        assert await bench.refresh(pair.refresh) is Refused.GRANT
        for text in grown:
            assert not await bench.is_active(text)
            assert await bench.admit(text) is None
        lag = json.loads(unbase64url((await done(bench.tokens.ended())).text.split(".")[1]))["lag"]
        assert lag == 2 * INTERVAL
        bench.clock.advance(lag)
        for text in grown:
            assert await done(verifier.verify(text)) is None
        assert why == [Why.ENDED] * len(grown)
        if way != "everything":
            assert isinstance(await bench.refresh(other.refresh), TokenPair)
            assert await bench.is_active(other.access)
            assert await done(verifier.verify(other.access)) is not None
        await bench.close()


def verifier_of(bench: RefreshBench) -> tuple[Any, list[Why]]:
    """Return another service's verifier, which has the two documents and nothing else, and why it refused."""
    why: list[Why] = []
    given: dict[str, Any] = {"issuer": ISSUER, "audience": API, "clock": bench.clock, "tell": why.append}
    if bench.blocking:
        return Verifier(jwks=bench.tokens.jwks, ended=lambda: bench.tokens.ended().text, **given), why

    async def ended() -> str:
        return (await bench.tokens.ended()).text  # type: ignore[no-any-return]

    return AsyncVerifier(jwks=bench.tokens.jwks, ended=ended, **given), why


@requirement("R86")
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
def test_sessions_in_cookies_give_no_token_that_could_outlive_them(blocking: bool, tmp_path: Path) -> None:
    """Nobody but their browser can tell whether they live, so that is refused at the start, with a list of ends too."""
    for url in ("cookie://", f"cookie://?revocations=sqlite:///{tmp_path}/ends.db"):
        sessions: Any = (Sessions if blocking else AsyncSessions)(url, keys=RING)
        kind: Any = Tokens if blocking else AsyncTokens
        with pytest.raises(ConfigurationError, match="cookies"):
            kind(Ground(sessions, "memory://"), issuer=ISSUER)
