"""Redis behind Sentinels: the contract, and what happens when the primary changes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine
from typing import Any, cast

import pytest
import redis

from sessile.core.bridge import drive
from sessile.core.ports import Store
from sessile.core.record import Record, Tombstone
from sessile.errors import StoreUnavailable
from sessile.stores import open_store
from sessile.testing import StoreContract
from sessile.testing.store_contract import new_id, new_record, new_tombstone
from tests.support.requirements import requirement
from tests.support.servers import redis_sentinel_set, shared


def fresh(url: str) -> str:
    """Return the URL with a prefix that nobody used before."""
    return f"{url}?timeout=10&prefix={secrets.token_hex(4)}:"


class TestBlocking(StoreContract):
    blocking = True

    def open_store(self) -> Store:
        return open_store(fresh(shared("sentinel").url), blocking=True)


class TestAsync(StoreContract):
    def open_store(self) -> Store:
        return open_store(fresh(shared("sentinel").url), blocking=False)


async def pause(seconds: float, *, blocking: bool) -> None:
    """Let time pass in either door."""
    if blocking:
        time.sleep(seconds)  # noqa: ASYNC251
    else:
        await asyncio.sleep(seconds)


async def answers(store: Any, session_id: str) -> object:
    """Return what the session is, or the error that says that nobody knows."""
    try:
        return await store.load(session_id)
    except StoreUnavailable as error:
        return error


async def until_it_answers(store: Any, session_id: str, *, blocking: bool, seconds: float = 20.0) -> object:
    """Wait until the store answers again."""
    deadline = time.monotonic() + seconds
    while isinstance(answer := await answers(store, session_id), StoreUnavailable):
        assert time.monotonic() < deadline, "the set never answered again"
        await pause(0.05, blocking=blocking)
    return answer


def run(coroutine: Coroutine[Any, Any, None], *, blocking: bool) -> None:
    """Run a test's body through its door."""
    if blocking:
        drive(coroutine)
    else:
        asyncio.run(coroutine)


both_doors = pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])


@pytest.mark.slow
@requirement("R45", "R51")
@both_doors
def test_a_primary_that_dies_is_followed_by_another(blocking: bool) -> None:
    """Meanwhile nothing is answered; afterwards all is there, what had ended too, and the dead one is not missed."""

    async def body() -> None:
        store = cast("Any", open_store(lab.url, blocking=blocking))
        alive, ended = new_id(), new_id()
        for session_id in (alive, ended):
            await store.create(session_id, new_record("ann"))
        assert (await store.end(ended, new_tombstone())).confirmed
        first = lab.primary()
        first.kill()
        assert isinstance(await answers(store, alive), StoreUnavailable)
        assert isinstance(await until_it_answers(store, alive, blocking=blocking), Record)
        assert isinstance(await store.load(ended), Tombstone)
        assert store._wire.vouching.primary.port != first.port
        unconfirmed = await store.end(alive, new_tombstone())
        assert not unconfirmed.confirmed, "the dead one does not have it, and may come back"
        first.start()
        deadline = time.monotonic() + 30
        while store._keeper.uncertain:
            assert time.monotonic() < deadline, "never certain"
            await pause(0.05, blocking=blocking)
        await store.close()

    with redis_sentinel_set() as lab:
        run(body(), blocking=blocking)


@pytest.mark.slow
@requirement("R51", "R61")
@both_doors
def test_a_primary_that_was_frozen_is_not_read_when_it_thaws(blocking: bool) -> None:
    """It still takes itself for the primary, and holds as alive what was ended elsewhere meanwhile."""

    async def body() -> None:
        store = cast("Any", open_store(lab.url, blocking=blocking))
        session_id = new_id()
        await store.create(session_id, new_record("ann"))
        first = lab.primary()
        first.freeze()
        try:
            assert isinstance(await until_it_answers(store, session_id, blocking=blocking), Record)
            await store.end(session_id, new_tombstone())
        finally:
            first.thaw()
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert not isinstance(await answers(store, session_id), Record)
            await pause(0.002, blocking=blocking)
        await store.close()

    with redis_sentinel_set() as lab:
        run(body(), blocking=blocking)


@pytest.mark.slow
@requirement("R61", "R45")
@both_doors
def test_a_primary_that_nobody_vouches_for_is_left_within_two_seconds(blocking: bool) -> None:
    """Cut off from Sentinels and replicas it is not read any more, unless `lease=0`; either of them is evidence."""

    async def body() -> None:
        store = cast("Any", open_store(lab.url, blocking=blocking))
        reckless = cast("Any", open_store(f"{lab.url}?lease=0", blocking=blocking))
        session_id = new_id()
        await store.create(session_id, new_record("ann"))
        assert isinstance(await reckless.load(session_id), Record)
        replicas = [node for node in lab.nodes if node is not lab.primary()]
        for sentinel in lab.sentinels[:2]:
            sentinel.freeze()
        try:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                assert isinstance(await store.load(session_id), Record), "its replicas follow it"
                await pause(0.05, blocking=blocking)
            for replica in replicas:
                replica.freeze()
            try:
                cut = time.monotonic()
                while isinstance(await answers(store, session_id), Record):
                    assert time.monotonic() - cut < 4.0  # the lab holds it to two seconds
                    await pause(0.02, blocking=blocking)
                assert isinstance(await answers(store, session_id), StoreUnavailable)
                with pytest.raises(StoreUnavailable):
                    await store.create(new_id(), new_record())
                assert isinstance(await reckless.load(session_id), Record)
            finally:
                for replica in replicas:
                    replica.thaw()
            assert isinstance(await until_it_answers(store, session_id, blocking=blocking), Record)
        finally:
            for sentinel in lab.sentinels[:2]:
                sentinel.thaw()
        await store.close()
        await reckless.close()

    with redis_sentinel_set() as lab:
        run(body(), blocking=blocking)


@pytest.mark.slow
@requirement("R51")
@both_doors
def test_a_planned_change_of_the_primary_brings_nothing_back(blocking: bool) -> None:
    """Sessions are ended all the while: what was reported as confirmed is dead, the rest five seconds later."""

    async def body() -> None:
        store = cast("Any", open_store(lab.url, blocking=blocking))
        confirmed, others = [], []
        first = lab.primary()
        for _ in range(30):
            session_id = new_id()
            await store.create(session_id, new_record("ann"))
            assert (await store.end(session_id, new_tombstone())).confirmed
            confirmed.append(session_id)
        with redis.Redis(port=lab.sentinels[0].port) as client:
            client.execute_command("SENTINEL", "FAILOVER", "sessions")
        end = time.monotonic() + 12
        while time.monotonic() < end and (lab.primary() is first or time.monotonic() < end - 9):
            session_id = new_id()
            try:
                await store.create(session_id, new_record("ann"))
            except StoreUnavailable:
                await pause(0.02, blocking=blocking)
                continue
            try:
                (confirmed if (await store.end(session_id, new_tombstone())).confirmed else others).append(session_id)
            except StoreUnavailable:
                others.append(session_id)
            await pause(0.002, blocking=blocking)
        assert lab.primary() is not first
        await until_it_answers(store, new_id(), blocking=blocking)
        assert [each for each in confirmed if isinstance(await store.load(each), Record)] == []
        lab.await_whole()
        await pause(5, blocking=blocking)
        assert [each for each in others if isinstance(await store.load(each), Record)] == []
        await store.close()

    with redis_sentinel_set() as lab:
        run(body(), blocking=blocking)
