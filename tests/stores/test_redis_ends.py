"""How certain an end in Redis is: confirmed, unconfirmed, failed; and what the journal does about the last two."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from sessile.core.bridge import drive
from sessile.core.ports import Created, Ending
from sessile.core.record import EndReason, Record, Tombstone
from sessile.errors import ConfigurationError, StoreUnavailable
from sessile.stores import open_store
from sessile.testing.store_contract import new_id, new_record, new_tombstone, replacing
from tests.support.requirements import requirement
from tests.support.servers import Server, redis_server, valkey_server

both_doors = pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
both_servers = pytest.mark.parametrize("kind", [redis_server, valkey_server], ids=["redis", "valkey"])


def run(coroutine: Coroutine[Any, Any, None], *, blocking: bool) -> None:
    """Run a test's body through its door."""
    if blocking:
        drive(coroutine)
    else:
        asyncio.run(coroutine)


async def until(condition: Callable[[], Awaitable[bool]], *, blocking: bool, seconds: float = 5.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "not in time"
        if blocking:
            time.sleep(0.02)  # noqa: ASYNC251
        else:
            await asyncio.sleep(0.02)


def opened(server: Server, *, blocking: bool, more: str = "") -> Any:
    """Open a store with a prefix of its own."""
    return open_store(f"{server.url}?prefix={secrets.token_hex(3)}:{more}", blocking=blocking)


@contextmanager
def pair(kind: Any) -> Iterator[tuple[Server, Server]]:
    """Run a primary and a replica that follows it."""
    with kind(repl_diskless_sync_delay=0) as primary, kind(replicaof=f"127.0.0.1 {primary.port}") as replica:
        with redis.Redis(port=primary.port) as client:
            deadline = time.monotonic() + 20
            while not (client.set("pair", 1, px=1000) and client.wait(1, 100)):
                assert time.monotonic() < deadline
        yield primary, replica


@requirement("R51")
@both_doors
@both_servers
def test_an_end_is_confirmed_when_every_replica_has_it(kind: Any, blocking: bool) -> None:
    """While a replica is frozen the end is made and unconfirmed; once it answers, the journal finds it certain."""

    async def body() -> None:
        store = opened(primary, blocking=blocking)
        ids = [new_id() for _ in range(5)]
        for session_id in ids:
            await store.create(session_id, new_record("ann"))
        assert await store.end(ids[0], new_tombstone()) == Ending(((ids[0], "ann"),), confirmed=True)
        replica.freeze()
        try:
            begun = time.monotonic()
            assert await store.end(ids[1], new_tombstone()) == Ending(((ids[1], "ann"),), confirmed=False)
            assert time.monotonic() - begun < 6, "WAIT must keep to the request's budget"
            again = await store.end(ids[1], new_tombstone())
            assert again == Ending((), confirmed=False), "the first end is not certain, so neither is the second"
            assert (await store.end_user("nobody", new_tombstone())).confirmed is False
            assert not isinstance(await store.load(ids[1]), Record)
            answer = await store.end_user("ann", new_tombstone(EndReason.USER, "ann"), frozenset({ids[4]}))
            assert {session_id for session_id, _ in answer.ended} == set(ids[2:4])
            assert not answer.confirmed
            assert (await store.end_everything(time.time())).confirmed is False
        finally:
            replica.thaw()

        async def certain() -> bool:
            return store._keeper.uncertain == 0

        await until(certain, blocking=blocking)
        copy = redis.Redis(port=replica.port)
        assert [copy.getrange(store._names.session(each), 1, 1) for each in ids[:4]] == [b"T"] * 4
        copy.close()
        assert (await store.end(ids[0], new_tombstone())).confirmed is True
        await store.close()

    with pair(kind) as (primary, replica):
        run(body(), blocking=blocking)


@requirement("R51")
@both_doors
def test_a_replica_that_went_away_is_still_expected(blocking: bool) -> None:
    """Whoever took over from it would not have the end."""

    async def body() -> None:
        store = opened(primary, blocking=blocking)
        kept, session_id = new_id(), new_id()
        for each in (kept, session_id):
            await store.create(each, new_record())
        assert (await store.end(kept, new_tombstone())).confirmed
        replica.kill()
        assert not (await store.end(session_id, new_tombstone())).confirmed
        await store.close()

    with pair(redis_server) as (primary, replica):
        run(body(), blocking=blocking)


@requirement("R51")
@both_doors
@pytest.mark.parametrize(
    ("config", "confirmed"),
    [({}, True), ({"appendonly": "yes"}, True), ({"save": "3600 1"}, False)],
    ids=["nothing is kept", "AOF", "snapshots alone"],
)
def test_without_replicas_persistence_decides(config: dict[str, Any], confirmed: bool, blocking: bool) -> None:
    """Snapshots alone may bring an ended session back; once one was made after the end, they do not."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        session_id = new_id()
        await store.create(session_id, new_record())
        assert (await store.end(session_id, new_tombstone())).confirmed is confirmed
        if not confirmed:
            with redis.Redis(port=server.port) as client:
                client.save()

            async def certain() -> bool:
                return store._keeper.uncertain == 0

            await until(certain, blocking=blocking)
        await store.close()

    with redis_server(**config) as server:
        run(body(), blocking=blocking)


@requirement("R51", "R61")
@both_doors
def test_what_a_restart_brought_back_is_ended_again(blocking: bool) -> None:
    """An old snapshot revives ended sessions; the journal of the process that ended them ends them again."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        record = new_record("ann")
        ids = {name: new_id() for name in ("logout", "user", "replaced", "kept")}
        for session_id in ids.values():
            await store.create(session_id, record)
        with redis.Redis(port=server.port) as client:
            client.save()
        tombstone = new_tombstone()
        await store.end(ids["logout"], tombstone)
        replaces = replacing(ids["replaced"], record, required=True)
        assert await store.create(new_id(), new_record("ann"), replaces=replaces) == Created()
        await store.end_user("ann", new_tombstone(EndReason.USER, "ann"), frozenset({ids["kept"]}))
        server.kill()
        server.start()
        client = redis.Redis(port=server.port)

        async def all_ended() -> bool:
            kinds = {name: client.getrange(store._names.session(each), 1, 1) for name, each in ids.items()}
            return kinds == {"logout": b"T", "user": b"T", "replaced": b"T", "kept": b"R"}

        await until(all_ended, blocking=blocking)
        client.close()
        assert await store.load(ids["logout"]) == tombstone
        assert await store.load(ids["replaced"]) == replaces.tombstone
        await store.close()

    with redis_server(save="3600 1000000", dbfilename="kept.rdb") as server:
        run(body(), blocking=blocking)


@requirement("R51")
@both_doors
@pytest.mark.parametrize("what", ["end", "end_user", "end_everything"])
def test_a_failed_end_is_made_up_for(what: str, blocking: bool) -> None:
    """The server does not answer: the caller is told in time, and the session dies when it answers again."""

    async def body() -> None:
        store = opened(server, blocking=blocking, more="&timeout=0.4")
        session_id, now = new_id(), time.time()
        await store.create(session_id, new_record("ann", at=now - 1))
        server.freeze()
        begun = time.monotonic()
        try:
            ends = {
                "end": lambda: store.end(session_id, new_tombstone()),
                "end_user": lambda: store.end_user("ann", new_tombstone(EndReason.USER, "ann")),
                "end_everything": lambda: store.end_everything(time.time()),
            }
            with pytest.raises(StoreUnavailable):
                await ends[what]()
            assert time.monotonic() - begun < 6
        finally:
            server.thaw()
        later = new_id()

        async def dead() -> bool:
            try:
                return isinstance(await store.load(session_id), Tombstone)
            except StoreUnavailable:
                return False

        await until(dead, blocking=blocking)

        async def certain() -> bool:
            return store._keeper.uncertain == 0

        await until(certain, blocking=blocking)
        await store.create(later, new_record("ann", at=now + 100))
        assert isinstance(await store.load(later), Record)
        await store.close()

    with redis_server() as server:
        run(body(), blocking=blocking)


@requirement("R51")
def test_a_cancelled_end_is_made_all_the_same() -> None:
    """Who closes the browser during a sign-out is signed out."""

    async def body() -> None:
        store = opened(server, blocking=False)
        session_id = new_id()
        await store.create(session_id, new_record())
        server.freeze()
        try:
            task = asyncio.create_task(store.end(session_id, new_tombstone()))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        finally:
            server.thaw()

        async def dead() -> bool:
            return isinstance(await store.load(session_id), Tombstone)

        await until(dead, blocking=False)
        await store.close()

    with redis_server() as server:
        asyncio.run(body())


@requirement("R49", "R51")
@both_doors
def test_an_end_of_all_sessions_whose_answer_was_lost_is_not_forgotten(blocking: bool) -> None:
    """It was made, nobody heard of it, and then an old snapshot brought the sessions back."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        now = time.time()
        ids, kept = [new_id() for _ in range(3)], new_id()
        for session_id in (*ids, kept):
            await store.create(session_id, new_record("ann", at=now - 1))
        with redis.Redis(port=server.port) as client:
            client.save()
        await store.end_user("nobody", new_tombstone())  # the server knows the script from here on
        exchange = store._wire._node.exchange

        async def loses_the_answer(*arguments: Any) -> Any:
            await exchange(*arguments)
            raise StoreUnavailable("lost")

        store._wire._node.exchange = loses_the_answer
        with pytest.raises(StoreUnavailable):
            await store.end_user("ann", new_tombstone(EndReason.USER, "ann"), frozenset({kept}))
        store._wire._node.exchange = exchange
        assert [isinstance(await store.load(each), Record) for each in (*ids, kept)] == [False] * 3 + [True]
        server.kill()
        server.start()
        later = new_id()

        async def signed_in() -> bool:
            try:
                return await store.create(later, new_record("ann", at=now + 60)) == Created()
            except StoreUnavailable:  # the loop has not heard yet that its connection is gone
                return False

        await until(signed_in, blocking=blocking)

        async def all_ended() -> bool:
            return [isinstance(await store.load(each), Record) for each in (*ids, kept)] == [False] * 3 + [True]

        await until(all_ended, blocking=blocking)
        assert isinstance(await store.load(later), Record)
        await store.close()

    with redis_server(save="3600 1000000", dbfilename="kept.rdb") as server:
        run(body(), blocking=blocking)


@requirement("R49", "R62")
@both_doors
def test_a_key_that_is_no_session_keeps_no_other_alive(blocking: bool) -> None:
    """Somebody has put a list where a session of the index was."""

    async def body() -> None:
        with redis_server() as server, redis.Redis(port=server.port) as client:
            store = opened(server, blocking=blocking)
            spoiled, other = new_id(), new_id()
            for session_id in (spoiled, other):
                assert await store.create(session_id, new_record("ann")) == Created()
            key = store._names.session(spoiled)
            client.delete(key)
            client.rpush(key, "something else")
            assert [one for one, _ in await store.of_user("ann")] == [other]
            assert (await store.end_user("ann", new_tombstone())).ended == ((other, "ann"),)
            assert client.type(key) == b"list"
            await store.close()

    run(body(), blocking=blocking)


@both_doors
@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_a_name_that_is_no_hosts_is_refused_or_an_outage(host: str, blocking: bool) -> None:
    """Never a surprise in a request."""

    async def body() -> None:
        with pytest.raises((ConfigurationError, StoreUnavailable)):
            await open_store(f"redis://{host}?timeout=1", blocking=blocking).load(new_id())

    run(body(), blocking=blocking)
