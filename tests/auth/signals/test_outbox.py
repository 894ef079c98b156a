"""Whatever a receiver, the vault or the store does: the session ends here, and what ended is told in the end (R78)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sessile.auth.signals.delivery import pause
from sessile.auth.signals.http import Answer
from sessile.auth.signals.outbox import PATIENCE, SETTLE
from sessile.core.bridge import drive
from sessile.core.ports import Ending
from sessile.core.record import EndReason
from sessile.errors import StoreUnavailable
from tests.auth.racers import shared_vault
from tests.auth.signals.signal_bench import DOORS, RING, App, Network, done, group, receiver, transmitter
from tests.support.requirements import requirement
from tests.support.servers import shared

pytestmark = requirement("R78")


class Died(BaseException):
    """Stand for a process that is gone from one step to the next."""


doors = pytest.mark.parametrize("door", DOORS)


def _down(_url: str, _body: bytes) -> Answer:
    raise StoreUnavailable("nobody is there")


def _answering(status: int, body: bytes = b"") -> Callable[[str, bytes], Answer]:
    return lambda _url, _body: Answer(status, "", body)


FAULTS = {
    "down": _down,
    "500": _answering(500),
    "503": _answering(503),
    "429": _answering(429),
    "404": _answering(404, b"<html>"),
    "401": _answering(401),
    "redirect": _answering(302),
    "400-wrong-key": _answering(400, b'{"err": "invalid_key", "description": "?"}'),
    "400-nonsense": _answering(400, b"\xff" * 100),
}


@doors
@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_receiver_that_does_not_take_it_keeps_no_session_alive(door: str, fault: str) -> None:
    """The session is over here at once; the outbox tries again, later and later, and drains when it is taken."""
    a, b = group("a", "b", door=door)
    mine, there = await a.login(), await b.login()
    a.network.faults["b.example"] = FAULTS[fault]
    await a.logout(mine)
    assert await a.user(mine) is None
    asked = len(a.network.log)
    for _ in range(5):
        await a.deliver()
    assert len(a.network.log) - asked == 1  # it rests
    a.clock.advance(3600)
    await a.deliver()
    assert len(a.network.log) - asked == 2
    assert await b.user(there) == "ada"
    assert [event.tries for event in a.told("signal-delayed")] == [1, 2]
    del a.network.faults["b.example"]
    a.clock.advance(3600)
    there = await b.login() if await b.user(there) is None else there
    assert (await a.deliver()).delivered == 1
    assert a.waiting() == 0
    assert b.told("signal-received") != []


@doors
async def test_a_receiver_that_takes_it_and_does_not_say_so_does_nothing_twice(door: str) -> None:
    """The answer is lost: the SET comes again with its `jti`, is acknowledged, and ends nothing."""
    a, b = group("a", "b", door=door)
    await b.login()
    await a.logout(await a.login())
    a.network.faults["b.example"] = _down
    await a.deliver()
    [(_, url, header, body)] = [one for one in a.network.log if "/push/" in one[1]]
    assert (await b.push("a", body.decode(), header=header)).status == 202
    again = await b.login()
    del a.network.faults["b.example"]
    a.clock.advance(2)
    assert (await a.deliver()).delivered == 1
    assert await b.user(again) == "ada"
    assert [event.why for event in b.told("signal-ignored")] == ["replay"]
    assert url.endswith("/push/a")


@doors
async def test_one_receiver_that_is_down_keeps_no_other_one_waiting(door: str) -> None:
    """Each stream has its own pace."""
    a, b, c = group("a", "b", "c", door=door)
    there, other = await b.login(), await c.login()
    a.network.faults["b.example"] = _down
    await a.logout(await a.login())
    assert (await a.deliver()).delivered == 1
    assert (await b.user(there), await c.user(other)) == ("ada", None)


@doors
async def test_what_is_refused_keeps_those_behind_it_waiting_only_of_the_same_user(door: str) -> None:
    """Ordered for each session: the second of Ada's waits for the first; Ben's does not."""
    a, b = group("a", "b", door=door)
    first: list[str] = []

    def picky(_url: str, body: bytes) -> Answer:
        event = _event(body)
        first.append(event)
        return Answer(400 if event == "ada:credential-change" and len(first) == 1 else 202, "", b"")

    a.network.faults["b.example"] = picky
    await done(a.signals.credential_changed("ada", credential="password", change="update"))
    await a.logout(await a.login("ada"))
    await a.logout(await a.login("ben"))
    await a.deliver()
    a.clock.advance(5)
    await a.deliver()
    assert first == [
        "ada:credential-change",
        "ben:session-revoked",
        "ada:credential-change",
        "ada:session-revoked",
    ]
    assert b.waiting() == a.waiting() == 0


@doors
async def test_after_so_long_it_is_given_up_and_said(door: str) -> None:
    """Three days, by default."""
    a, _ = group("a", "b", door=door)
    a.network.faults["b.example"] = _down
    await a.logout(await a.login())
    await a.deliver()
    a.clock.advance(3 * 86_400 + 1)
    done_ = await a.deliver()
    assert (done_.given_up, a.waiting()) == (1, 0)
    assert [event.severity for event in a.told("signal-given-up")] == ["alert"]


def test_the_pause_doubles_up_to_five_minutes() -> None:
    """However many failures there were."""
    assert [pause(tries) for tries in (1, 2, 3, 9, 10, 10_000)] == [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]


# -- when something dies in between ------------------------------------------------------------------------------------


@doors
async def test_who_dies_after_the_end_loses_no_signal(door: str) -> None:
    """The intent is there, the session is gone: whoever looks next makes it due."""
    a, b = group("a", "b", door=door)
    mine, there = await a.login(), await b.login()
    a.signals.flow.outbox.after = _dying
    with pytest.raises(Died):
        await a.logout(mine)
    assert await a.user(mine) is None
    assert (await a.deliver()).delivered == 0  # whoever began it may still be at it
    a.clock.advance(SETTLE)
    assert (await a.deliver()).delivered == 1
    assert await b.user(there) is None
    assert a.waiting() == 0


@doors
@pytest.mark.parametrize("all_", [False, True], ids=["one", "all"])
async def test_who_dies_before_the_end_invents_no_signal(door: str, *, all_: bool) -> None:
    """The session lives on, here and there; after ten minutes the intent goes."""
    a, b = group("a", "b", door=door)
    mine, there = await a.login(), await b.login()
    name = "end_user" if all_ else "end"
    works = getattr(a.sessions.engine.store, name)
    setattr(a.sessions.engine.store, name, _dying)
    with pytest.raises(Died):
        await (done(a.sessions.end_all("ada")) if all_ else a.logout(mine))
    setattr(a.sessions.engine.store, name, works)
    for seconds in (SETTLE, PATIENCE / 2):
        a.clock.advance(seconds)
        assert (await a.deliver()).delivered == 0
        assert await a.user(mine) == "ada"
        assert a.waiting() == 1
    a.clock.advance(PATIENCE / 2)
    assert (await a.deliver()).delivered == 0
    assert a.waiting() == 0
    assert await b.user(there) == "ada"


@doors
async def test_another_end_of_the_session_does_not_make_the_first_one_true(door: str) -> None:
    """Somebody died before a sign-out; later the session reaches its limit. Nobody signed out."""
    a, b = group("a", "b", door=door)
    mine = await a.login()
    works = a.sessions.engine.store.end
    a.sessions.engine.store.end = _dying
    with pytest.raises(Died):
        await a.logout(mine)
    a.sessions.engine.store.end = works
    await done(a.sessions.engine.end(await a.id(mine), EndReason.IDLE)) if door == "async" else drive(
        a.sessions.engine.end(await a.id(mine), EndReason.IDLE)
    )
    a.clock.advance(SETTLE)
    await a.deliver()
    assert a.waiting() == 0
    assert b.told("signal-received") == []


@doors
async def test_what_the_store_has_not_confirmed_is_told_when_it_is_so(door: str) -> None:
    """An unconfirmed end makes nothing due by itself; whoever looks later finds the tombstone."""
    a, b = group("a", "b", door=door)
    mine, there = await a.login(), await b.login()
    works = a.sessions.engine.store.end

    async def unsure(*given: Any) -> Ending:
        ending: Ending = await works(*given)
        return ending._replace(confirmed=False)

    a.sessions.engine.store.end = unsure
    await a.logout(mine)
    assert (await a.deliver()).delivered == 0
    a.clock.advance(SETTLE)
    assert (await a.deliver()).delivered == 1
    assert await b.user(there) is None


@pytest.mark.slow
@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled-back"])
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_an_end_in_a_transaction_of_the_application_is_told_if_it_is_committed(
    kind: Any, *, commits: bool
) -> None:
    """The outbox pattern: neither the vault nor a crash can tell of what was rolled back."""
    from sqlalchemy import text

    from sessile import Sessions
    from sessile.stores.sql.store import SqlStore
    from tests.stores.sql_databases import Database

    made = Database(shared(kind))
    try:
        made.make()
        made.run("CREATE TABLE accounts (closed INT)")
        network = Network()
        a = App("a", network, door="blocking", store=made.url(), receivers=(receiver("b", "a"),))
        b = App("b", network, clock=a.clock, transmitters=(transmitter("a", "b"),))
        mine, there = await a.login(), await b.login()
        own = made.engine()
        with own.connect() as connection:
            transaction = connection.begin()
            connection.execute(text("INSERT INTO accounts VALUES (1)"))
            within: Any = SqlStore(own).within(connection)
            door = Sessions(within, keys=RING, clock=a.clock, sinks=())
            assert a.signals.watch(door).end_all("ada") == 1
            a.clock.advance(SETTLE)
            assert (await a.deliver()).delivered == 0  # it is not committed yet
            transaction.commit() if commits else transaction.rollback()
        assert (await a.deliver()).delivered == int(commits)
        assert (await a.user(mine) is None) is (await b.user(there) is None) is commits
        a.clock.advance(PATIENCE)
        assert (await a.deliver()).delivered == 0
        assert a.waiting() == 0
        own.dispose()
        a.sessions.close()
    finally:
        made.drop()


@doors
async def test_a_vault_that_fails_keeps_no_session_alive(door: str) -> None:
    """The end goes before the telling of it, and the sinks are told that nobody will be told."""
    a, _ = group("a", "b", door=door)
    mine = await a.login()
    a.ground.vault.write = _failing
    await a.logout(mine)
    assert await a.user(mine) is None
    assert [(event.severity, event.why) for event in a.told("signal-not-kept")] == [("alert", "store-unavailable")]


@doors
async def test_a_vault_that_fails_after_the_end_delays_the_signal(door: str) -> None:
    """The intent had been written."""
    a, b = group("a", "b", door=door)
    mine, there = await a.login(), await b.login()
    works, calls = a.ground.vault.write, 0

    async def second(*writes: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StoreUnavailable("down")
        return await works(*writes)  # type: ignore[no-any-return]

    a.ground.vault.write = second
    await a.logout(mine)
    assert await a.user(mine) is None
    a.ground.vault.write = works
    a.clock.advance(SETTLE)
    assert (await a.deliver()).delivered == 1
    assert await b.user(there) is None


@doors
async def test_an_unconfirmed_end_at_the_receiver_is_asked_for_again(door: str) -> None:
    """503 until its store has confirmed: then it is taken, although it was sent before."""
    a, b = group("a", "b", door=door)
    there = await b.login()
    works = b.sessions.engine.store.end_user

    async def unsure(*given: Any) -> Ending:
        ending: Ending = await works(*given)
        return ending._replace(confirmed=False)

    b.sessions.engine.store.end_user = unsure
    await a.logout(await a.login())
    assert (await a.deliver()).delivered == 0
    b.sessions.engine.store.end_user = works
    a.clock.advance(2)
    assert (await a.deliver()).delivered == 1
    assert await b.user(there) is None


# -- several processes -------------------------------------------------------------------------------------------------


_SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("postgresql", "mariadb")]


@pytest.mark.parametrize("kind", ["memory", "sqlite", *_SLOW])
async def test_of_several_deliverers_one_serves_a_stream(kind: str, tmp_path: Path) -> None:
    """While it does, the others leave it alone; when it died, another one takes over after its lease."""
    if kind == "memory":
        await _leased("memory://")
        return
    with shared_vault(kind, tmp_path) as url:
        await _leased(url)


async def _leased(url: str) -> None:
    network = Network()
    a = App("a", network, door="blocking", vault=url, receivers=(receiver("b", "a"),))
    vault = a.ground.vault if url == "memory://" else url
    twin = App("a", network, door="blocking", vault=vault, clock=a.clock, receivers=(receiver("b", "a"),))
    b = App("b", network, clock=a.clock, transmitters=(transmitter("a", "b"),))
    there = await b.login()
    await a.logout(await a.login())
    inside: list[Any] = []

    def while_sending(_url: str, _body: bytes) -> Answer:
        if not inside:
            inside.append(twin.signals.deliver())
            raise Died  # and the first one dies
        raise AssertionError("two served one stream")

    network.faults["b.example"] = while_sending
    a.signals.flow.delivery._leave = _nothing
    with pytest.raises(Died):
        a.signals.deliver()
    assert (inside[0].delivered, inside[0].waiting) == (0, 1)
    del network.faults["b.example"]
    assert twin.signals.deliver().delivered == 0
    a.clock.advance(31)
    assert twin.signals.deliver().delivered == 1
    assert await b.user(there) is None
    for app in (a, twin):
        drive(app.ground.vault.close())


@doors
async def test_a_helper_in_the_background_delivers_at_once(door: str) -> None:
    """Woken by the end itself, not by its clock, which would strike in an hour."""
    a, b = group("a", "b", door=door)
    mine, there = await a.login(), await b.login()
    if door == "async":
        async with a.signals.running(every=3600):
            await a.logout(mine)
            await _gone(b, there)
    else:
        with a.signals.running(every=3600):
            await a.logout(mine)
            await _gone(b, there)


async def _gone(app: App, cookie: str) -> None:
    import anyio

    deadline = time.monotonic() + 30
    while await app.user(cookie) is not None:
        assert time.monotonic() < deadline
        await anyio.sleep(0.01)


@doors
async def test_the_status_says_what_waits(door: str) -> None:
    """For operators: how many, since when, after how many tries."""
    a, _ = group("a", "b", door=door)
    a.network.faults["b.example"] = _answering(400)
    since = a.clock()
    await a.logout(await a.login())
    await a.deliver()
    [state] = await done(a.signals.status())
    assert state == ("b", "b", "8935", "enabled", 1, since, 1)


def _event(body: bytes) -> str:
    import base64

    part = body.split(b".")[1]
    claims = msgspec.json.decode(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return f"{claims['sub_id']['sub']}:{next(iter(claims['events'])).rpartition('/')[2]}"


async def _dying(*_: Any) -> Any:
    raise Died


async def _failing(*_: Any) -> Any:
    raise StoreUnavailable("down")


async def _nothing(*_: Any, **__: Any) -> None:
    return None
