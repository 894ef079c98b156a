"""A witness is told of every end, before and after, and nobody needs one."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import AsyncSessions, Policy
from sessile.core.info import Ended
from sessile.core.ports import Ending, Parting
from sessile.core.record import EndReason
from sessile.core.session import Session
from sessile.errors import StoreUnavailable
from tests.core.rig import facts
from tests.support.requirements import requirement

pytestmark = requirement("R78")


class Recorder:
    """Write down what a witness is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    async def before(self, parting: Parting) -> object:
        """Note it."""
        self.heard.append(("before", parting))
        return parting

    async def after(self, noted: object, ending: Ending | None) -> None:
        """Note it."""
        assert noted == self.heard[-1][1]
        self.heard.append(("after", ending))


class Bench:
    """Hold sessions with a witness."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_000_000.0
        self.sessions = AsyncSessions("memory://", clock=lambda: self.now, sinks=(), **options)
        self.witness = Recorder()
        self.sessions.engine.witness = self.witness

    async def login(self, user: str, cookie: str | None = None, *, logout_first: bool = False) -> tuple[str, str]:
        """Sign in; return the cookie and the session's id."""
        session = await self.sessions.open(facts(cookie=cookie))
        if logout_first:
            session.logout()
        session.login(user, factor="password")
        answer = await self.sessions.commit(session)
        assert answer.cookie is not None
        assert session.id is not None
        return answer.cookie.partition(";")[0], session.id

    async def open(self, cookie: str) -> Session:
        """Open the session of a cookie."""
        return await self.sessions.open(facts(cookie=cookie))

    def told(self, reason: EndReason, session: str | None, user: str | None) -> Ending:
        """Return the ending that the witness saw, which is the only one."""
        (first, parting), (second, ending) = self.witness.heard
        assert (first, second) == ("before", "after")
        assert parting[:3] == (reason, session, user)
        assert isinstance(ending, Ending)
        return ending


async def test_a_sign_out_is_witnessed() -> None:
    """The user's own."""
    bench = Bench()
    cookie, sid = await bench.login("ada")
    session = await bench.open(cookie)
    session.logout()
    await bench.sessions.commit(session)
    assert bench.told(EndReason.LOGOUT, sid, "ada").ended == ((sid, "ada"),)


async def test_an_end_by_id_is_witnessed_although_nobody_said_whose_it_is() -> None:
    """An operator's; what the store found says whose it was."""
    bench = Bench()
    _, sid = await bench.login("ada")
    assert await bench.sessions.end(sid) == Ended(1)
    assert bench.told(EndReason.ADMIN, sid, None).ended == ((sid, "ada"),)


async def test_the_end_of_all_is_witnessed_with_those_that_stay() -> None:
    """Other devices, and sign-out everywhere."""
    bench = Bench()
    _, kept = await bench.login("ada")
    _, other = await bench.login("ada")
    await bench.sessions.end_all("ada", keep=kept)
    ending = bench.told(EndReason.USER, None, "ada")
    assert bench.witness.heard[0][1].keep == frozenset({kept})
    assert ending.ended == ((other, "ada"),)


async def test_the_oldest_that_makes_room_is_witnessed() -> None:
    """At the limit of concurrent sessions."""
    bench = Bench(policy=Policy(max_sessions=1, on_limit="end-oldest"))
    _, first = await bench.login("ada")
    await bench.login("ada")
    assert bench.told(EndReason.LIMIT, first, "ada").ended == ((first, "ada"),)


async def test_a_theft_is_witnessed() -> None:
    """A token that was left behind comes again."""
    bench = Bench()
    old, sid = await bench.login("ada")
    cookie = old
    for _ in range(4):
        bench.now += 1000
        session = await bench.open(cookie)
        answer = await bench.sessions.commit(session)
        cookie = answer.cookie.partition(";")[0] if answer.cookie else cookie
    await bench.open(old)
    assert bench.told(EndReason.REPLAY, sid, "ada").ended == ((sid, "ada"),)


async def test_a_limit_that_a_request_meets_is_witnessed() -> None:
    """Used too late."""
    bench = Bench()
    cookie, sid = await bench.login("ada")
    bench.now += 4000
    await bench.open(cookie)
    bench.told(EndReason.IDLE, sid, "ada")


@pytest.mark.parametrize("logout_first", [False, True], ids=["over", "after-sign-out"])
async def test_another_user_in_the_same_browser_ends_the_first_ones_session(*, logout_first: bool) -> None:
    """The old session does not go on in the new one, so it has ended."""
    bench = Bench()
    cookie, sid = await bench.login("ada")
    await bench.login("ben", cookie, logout_first=logout_first)
    reason = EndReason.LOGOUT if logout_first else EndReason.RENEWED
    assert bench.told(reason, sid, "ada").ended == ((sid, "ada"),)


async def test_a_renewal_is_no_end() -> None:
    """The same user goes on: a step-up, a rotation, a sign-in of a visitor."""
    bench = Bench()
    cookie, _ = await bench.login("ada")
    await bench.login("ada", cookie)
    assert bench.witness.heard == []


async def test_what_was_noted_stands_if_the_store_fails() -> None:
    """Nobody knows then what became of it; the witness looks later."""
    bench = Bench()
    _, sid = await bench.login("ada")

    async def fail(*_: Any) -> Any:
        raise StoreUnavailable("down")

    bench.sessions.engine.store.end = fail  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await bench.sessions.end(sid)
    assert [what for what, _ in bench.witness.heard] == ["before"]
