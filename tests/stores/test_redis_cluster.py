"""Redis Cluster: the contract, keys that move, and a primary that dies."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

import pytest
import redis

from sessile.core.bridge import drive
from sessile.core.ports import Created, Store
from sessile.core.record import Record, Tombstone
from sessile.errors import StoreUnavailable
from sessile.stores import open_store
from sessile.stores.redis.layout import owner_of
from sessile.testing import StoreContract
from sessile.testing.store_contract import new_id, new_record, new_tombstone, replacing
from tests.support.ports import free_port
from tests.support.requirements import requirement
from tests.support.servers import redis_cluster, redis_server, shared
from tests.support.servers.replicated import until


def fresh(url: str) -> str:
    """Return the URL with a prefix that nobody used before."""
    return f"{url}?timeout=10&prefix={secrets.token_hex(4)}:"


class TestBlocking(StoreContract):
    blocking = True

    def open_store(self) -> Store:
        return open_store(fresh(shared("cluster").url), blocking=True)


class TestAsync(StoreContract):
    def open_store(self) -> Store:
        return open_store(fresh(shared("cluster").url), blocking=False)


both_doors = pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])


def run(coroutine: Coroutine[Any, Any, None], *, blocking: bool) -> None:
    """Run a test's body through its door."""
    if blocking:
        drive(coroutine)
    else:
        asyncio.run(coroutine)


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


async def id_on(store: Any, port: int) -> str:
    """Return an id whose session lies on the server of this port."""
    while True:
        session_id = new_id()
        await store.load(session_id)
        if store._wire.place(store._names.session(session_id)).address.port == port:
            return session_id


async def until_it_answers(store: Any, session_id: str, *, blocking: bool) -> object:
    """Wait until the store answers again."""
    deadline = time.monotonic() + 20
    while isinstance(answer := await answers(store, session_id), StoreUnavailable):
        assert time.monotonic() < deadline, "the cluster never answered again"
        await pause(0.05, blocking=blocking)
    return answer


@requirement("R49", "R51")
@both_doors
def test_a_users_sessions_end_on_all_servers_and_leave_nothing_behind(blocking: bool) -> None:
    """Confirmed by each server's own replica; the index is empty afterwards."""

    async def body() -> None:
        store = cast("Any", open_store(fresh(shared("cluster").url), blocking=blocking))
        ids = [await id_on(store, node.port) for node in shared("cluster").primaries() for _ in range(3)]
        for session_id in ids:
            assert await store.create(session_id, new_record("ann")) == Created()
        ending = await store.end_user("ann", new_tombstone())
        assert ending.confirmed
        assert {session_id for session_id, _ in ending.ended} == set(ids)
        index = store._names.index(owner_of("ann"))
        assert await store._wire.ask(index, (b"EXISTS", index), time.monotonic() + 5) == 0
        everything = await store.end_everything(time.time())
        assert everything.confirmed
        await store.close()

    run(body(), blocking=blocking)


@requirement("R51")
@both_doors
def test_an_end_that_was_not_certain_is_not_certain_when_it_is_asked_for_again(blocking: bool) -> None:
    """A copy is expected and none is there: nobody may be told that sessions are over for good, however often."""

    async def body() -> None:
        with (
            redis_server(cluster_enabled="yes", cluster_port=free_port()) as server,
            redis.Redis(port=server.port) as client,
        ):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: b"cluster_state:ok" in bytes(client.execute_command("CLUSTER", "INFO")), "it is whole")
            url = f"redis+cluster://127.0.0.1:{server.port}?replicas=1&timeout=1"
            store = cast("Any", open_store(url, blocking=blocking))
            first, second, third = new_id(), new_id(), new_id()
            for session_id in (first, second):
                await store.create(session_id, new_record("ann"))
            assert not (await store.end(first, new_tombstone(user="ann"))).confirmed
            assert [one for one, _ in await store.of_user("ann")] == [second]
            for ended in ({second}, set(), set()):
                ending = await store.end_user("ann", new_tombstone(user="ann"))
                assert ({one for one, _ in ending.ended}, ending.confirmed) == (ended, False)
            # Renewed: nobody waited for the copies of the old session's server.
            await store.create(first_again := new_id(), old := new_record("bob"))
            await store.create(third, new_record("bob"), replaces=replacing(first_again, old, required=True))
            await store.end(third, new_tombstone(user="bob"))
            assert not (await store.end_user("bob", new_tombstone(user="bob"))).confirmed
            store._keeper._entries.clear()
            await store.close()

    run(body(), blocking=blocking)


@requirement("R49")
@pytest.mark.parametrize("step", range(1, 5))
def test_a_sign_in_that_dies_half_way_leaves_no_session_outside_the_index(step: int) -> None:
    """Wherever it stops: what is alive is found through its user, and ends with all others."""

    class Dies(Exception):
        pass

    async def body() -> None:
        store = cast("Any", open_store(fresh(shared("cluster").url), blocking=True))
        old_id, old, session_id = new_id(), new_record("ann"), new_id()
        await store.create(old_id, old)
        ask, count = store._wire.ask, 0

        async def dying(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                raise Dies
            return await ask(*arguments)

        store._wire.ask = dying
        with pytest.raises(Dies):  # to prepare, end the old one, publish, make the entry plain
            await store.create(session_id, new_record("ann"), replaces=replacing(old_id, old, required=True))
        store._wire.ask = ask
        alive = {each for each in (old_id, session_id) if isinstance(await store.load(each), Record)}
        assert {each for each, _ in await store.of_user("ann")} == alive
        ended = {each for each, _ in (await store.end_user("ann", new_tombstone())).ended}
        # A renewal that died after it had ended the old session counts as ended, though nobody ever held its token.
        assert alive <= ended <= {old_id, session_id}
        for each in (old_id, session_id):
            assert not isinstance(await store.load(each), Record)
        await store.close()

    drive(body())


@pytest.mark.slow
@requirement("R45", "R51", "R61")
@both_doors
def test_a_shard_that_loses_its_primary_comes_back_without_what_had_ended(blocking: bool) -> None:
    """The other shards answer all the while; ends on the dead one fail, and are made up for."""

    async def body() -> None:
        store = cast("Any", open_store(lab.url, blocking=blocking))
        first, second, *_ = lab.primaries()
        ended, failed, elsewhere = await id_on(store, first.port), await id_on(store, first.port), ""
        elsewhere = await id_on(store, second.port)
        for session_id in (ended, failed, elsewhere):
            await store.create(session_id, new_record("ann"))
        assert (await store.end(ended, new_tombstone())).confirmed
        first.kill()
        with pytest.raises(StoreUnavailable):
            await store.end(failed, new_tombstone())
        deadline = time.monotonic() + 20
        while isinstance(await answers(store, failed), StoreUnavailable):
            assert time.monotonic() < deadline
            await pause(0.05, blocking=blocking)
        while isinstance(await answers(store, failed), Record):
            assert time.monotonic() < deadline, "nobody made up for the end that failed"
            await pause(0.05, blocking=blocking)
        assert isinstance(await store.load(failed), Tombstone)
        assert isinstance(await store.load(ended), Tombstone)
        assert isinstance(await until_it_answers(store, elsewhere, blocking=blocking), Record)
        first.start()
        lab.await_whole()
        deadline = time.monotonic() + 20
        while store._keeper.uncertain:
            assert time.monotonic() < deadline, "never certain"
            await pause(0.05, blocking=blocking)
        await store.close()

    with redis_cluster() as lab:
        run(body(), blocking=blocking)


@pytest.mark.slow
@requirement("R61")
@both_doors
def test_a_primary_of_a_shard_that_was_frozen_is_not_read_when_it_thaws(blocking: bool) -> None:
    """Its replica has taken over, and a session was ended there."""

    async def body() -> None:
        store = cast("Any", open_store(lab.url, blocking=blocking))
        first = lab.primaries()[0]
        session_id = await id_on(store, first.port)
        await store.create(session_id, new_record("ann"))
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

    with redis_cluster() as lab:
        run(body(), blocking=blocking)


@pytest.mark.slow
@requirement("R45")
@both_doors
def test_a_shard_that_moves_is_followed(blocking: bool) -> None:
    """A planned failover, and a slot that moves from one server to another, cost no session."""

    async def body() -> None:
        store = cast("Any", open_store(lab.url, blocking=blocking))
        first, second, *_ = lab.primaries()
        ids = [await id_on(store, first.port) for _ in range(20)]
        for session_id in ids:
            await store.create(session_id, new_record("ann"))
        with redis.Redis(port=first.port) as source, redis.Redis(port=second.port) as target:
            slot = int(source.execute_command("CLUSTER", "KEYSLOT", store._names.session(ids[0])))
            names = [bytes(each.execute_command("CLUSTER", "MYID")).decode() for each in (source, target)]
            target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
            source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
            keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
            source.execute_command("MIGRATE", "127.0.0.1", second.port, "", 0, 5000, "KEYS", *keys)
            assert isinstance(await store.load(ids[0]), Record)  # ASK
            for each in (target, source):
                each.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[1])
        for session_id in ids:
            assert isinstance(await store.load(session_id), Record)  # MOVED
        assert (await store.end(ids[0], new_tombstone())).ended
        assert {each for each, _ in (await store.end_user("ann", new_tombstone())).ended} == set(ids[1:])
        await store.close()

    with redis_cluster() as lab:
        run(body(), blocking=blocking)


@pytest.mark.slow
@requirement("R49")
@both_doors
def test_an_entry_that_the_index_lost_with_its_server_is_made_again(blocking: bool) -> None:
    """The session lies on another server and lives on: an end of all of the user's sessions must find it."""

    async def body() -> None:
        store = cast("Any", open_store(f"{lab.url}?timeout=2", blocking=blocking))
        first, second, *_ = lab.primaries()
        session_id = await id_on(store, second.port)
        user = next(name for name in map(str, range(1000)) if index_port(store, name) == first.port)
        await store.create(await id_on(store, second.port), new_record(user))
        (replica,) = [node for node in lab.nodes if follows(node, first)]
        replica.freeze()
        assert await store.create(session_id, new_record(user)) == Created()
        first.kill()
        replica.thaw()
        deadline = time.monotonic() + 20
        while True:
            assert time.monotonic() < deadline, "nobody made the entry again"
            with suppress(StoreUnavailable):
                if session_id in {each for each, _ in await store.of_user(user)}:
                    break
            await pause(0.05, blocking=blocking)
        assert session_id in {each for each, _ in (await store.end_user(user, new_tombstone())).ended}
        assert isinstance(await store.load(session_id), Tombstone)
        await store.close()

    with redis_cluster() as lab:
        run(body(), blocking=blocking)


def index_port(store: Any, user: str) -> int:
    """Return the port of the server that has a user's index."""
    return int(store._wire.place(store._names.index(owner_of(user))).address.port)


def follows(node: Any, primary: Any) -> bool:
    """Tell whether a server is the replica of another."""
    with redis.Redis(port=node.port) as client:
        found = cast("dict[str, Any]", client.info("replication"))
    return found["role"] == "slave" and int(found["master_port"]) == primary.port
