"""The near cache of the Redis store: the contract, what a hit costs, and that nothing stale is trusted."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hiredis
import msgspec
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from sessile.core.bridge import drive
from sessile.core.ports import Created, Store
from sessile.core.record import PLAIN, EndReason, Record, Tombstone
from sessile.errors import ConfigurationError, StoreUnavailable
from sessile.stores import open_store
from sessile.stores.redis import layout, near_lane
from sessile.stores.redis.address import Address, Place, Settings
from sessile.stores.redis.doctor import acl
from sessile.stores.redis.near import NearStore
from sessile.stores.redis.near_channel import Broken, Channel
from sessile.stores.redis.near_lane import Lane, Question, Shelf
from sessile.stores.url import StoreUrl
from sessile.testing.store_contract import (
    StoreContract,
    assert_same,
    changing,
    new_id,
    new_record,
    new_tombstone,
    replacing,
    values,
)
from tests.support.certificates import certificate
from tests.support.ports import free_port
from tests.support.requirements import requirement
from tests.support.servers import Server, redis_cluster, redis_sentinel_set, redis_server, shared

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes")
PATIENCE = 20.0  # seconds that a test waits for a condition


def fresh(url: str, **options: object) -> str:
    """Return a near store's URL with a prefix that nobody used before."""
    options = {"timeout": 10, "cache": "near", "prefix": f"{secrets.token_hex(4)}:"} | options
    return f"{url}?{'&'.join(f'{name}={value}' for name, value in options.items())}"


class TestBlocking(StoreContract):
    """The contract, driven by threads."""

    blocking = True
    rounds = 200

    def open_store(self) -> Store:
        return open_store(fresh(shared("redis").url), blocking=True)


class TestAsync(StoreContract):
    """The contract, driven by an event loop."""

    rounds = 200

    def open_store(self) -> Store:
        return open_store(fresh(shared("redis").url), blocking=False)


class TestBlockingOnValkey(StoreContract):
    """The contract on Valkey, driven by threads."""

    blocking = True

    def open_store(self) -> Store:
        return open_store(fresh(shared("valkey").url), blocking=True)


class TestAsyncOnValkey(StoreContract):
    """The contract on Valkey, driven by an event loop."""

    def open_store(self) -> Store:
        return open_store(fresh(shared("valkey").url), blocking=False)


class TestBlockingOnACluster(StoreContract):
    """The contract on a cluster, driven by threads: what is kept was read from several servers."""

    blocking = True
    rounds = 20

    def open_store(self) -> Store:
        return open_store(fresh(shared("cluster").url), blocking=True)


class TestAsyncOnACluster(StoreContract):
    """The contract on a cluster, driven by an event loop."""

    rounds = 20

    def open_store(self) -> Store:
        return open_store(fresh(shared("cluster").url), blocking=False)


Scenario = Callable[[NearStore, Any], Coroutine[Any, Any, None]]


class Door:
    """Run a scenario with a near store, and with a store that has no near cache and stands for another process."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking

    def run(self, url: str, scenario: Scenario, **options: object) -> None:
        address = fresh(url, **options)
        near = open_store(address, blocking=self.blocking)
        other = open_store(address.replace("cache=near&", "").replace("&entries=", "&pool="), blocking=self.blocking)
        assert isinstance(near, NearStore)

        async def run() -> None:
            try:
                await scenario(near, other)
            finally:
                await near.close()
                await other.close()

        drive(run()) if self.blocking else asyncio.run(run())

    async def until(self, condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await condition():
            assert time.monotonic() < deadline
            if self.blocking:
                time.sleep(0.001)  # noqa: ASYNC251  # this door has no event loop
            else:
                await asyncio.sleep(0.001)


@pytest.fixture(params=["blocking", "async"])
def door(request: pytest.FixtureRequest) -> Door:
    """Take each door in turn."""
    return Door(blocking=request.param == "blocking")


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Server:
    """Take each server in turn."""
    found: Server = shared(request.param)
    return found


@pytest.fixture
def own() -> Iterator[Server]:
    """Run a Redis that a test may harm."""
    with redis_server(enable_debug_command="yes") as server:
        yield server


def reads(server: Server) -> int:
    """Return how many MGETs the server has answered: each read that is not served near is one."""
    with redis.Redis(port=server.port) as client:
        stats: dict[str, Any] = client.info("commandstats")
        return int(stats.get("cmdstat_mget", {}).get("calls", 0))


def kept(near: NearStore) -> int:
    """Return how many sessions are kept."""
    door: Any = near._near
    if hasattr(door, "_shelf"):
        return len(door._shelf)
    return sum(len(room.shelf) for room in door._rooms.values())


# -- what a hit costs


def test_a_hit_costs_no_round_trip(door: Door, server: Server) -> None:
    """Of a live session, signed in or not, and of an ended one; as it was stored."""

    async def scenario(near: NearStore, other: Any) -> None:
        ended, tombstone = new_id(), new_tombstone()
        records = {new_id(): new_record(user, cart=[1, 2]) for user in (None, "ann")}
        for session_id, record in records.items():
            await other.create(session_id, record)
        await other.create(ended, new_record())
        await other.end(ended, tombstone)
        for session_id in (*records, ended):
            await near.load(session_id)
        before = reads(server)
        for _ in range(50):
            for session_id, record in records.items():
                assert_same(await near.load(session_id), record)
            assert await near.load(ended) == tombstone
        assert reads(server) == before

    door.run(server.url, scenario)


def test_what_is_kept_is_bounded(door: Door, server: Server) -> None:
    """Who was not asked for longest makes room; absent and large sessions take none."""

    async def scenario(near: NearStore, other: Any) -> None:
        ids = [new_id() for _ in range(50)]
        for session_id in ids:
            await other.create(session_id, new_record())
        for session_id in ids:
            await near.load(session_id)
            await near.load(ids[0])
        assert kept(near) == 10
        before = reads(server)
        for session_id in (ids[0], *ids[-9:]):
            assert isinstance(await near.load(session_id), Record)
        assert reads(server) == before
        large = new_id()
        await other.create(large, new_record(data=secrets.token_urlsafe(near_lane.LARGEST)))
        newest = ids[-1]
        for session_id in (large, new_id()):
            await near.load(session_id)
            await near.load(newest)
        before = reads(server)
        for session_id in (ids[0], *ids[-9:]):
            await near.load(session_id)
        assert reads(server) == before

    door.run(server.url, scenario, entries=10)


# -- what others change


@requirement("R42")
@pytest.mark.parametrize(
    "verb", ["save", "touch", "end", "retire", "replace", "end_user", "end_everything", "delete", "flush"]
)
def test_what_another_process_changes_is_seen(door: Door, own: Server, verb: str) -> None:
    """Whatever it does to a session that is kept here, the next reads say so, and go on saying it."""

    async def scenario(near: NearStore, other: Any) -> None:
        for _ in range(30):
            session_id, record, tombstone = new_id(), new_record("ann", a=0), new_tombstone(EndReason.ADMIN)
            await other.create(session_id, record)
            await near.load(session_id)
            before = reads(own)
            assert isinstance(await near.load(session_id), Record)
            assert reads(own) == before, "it is kept"
            with redis.Redis(port=own.port) as raw:
                match verb:
                    case "save":
                        await other.save(session_id, changing(record, a=1), record)
                    case "touch":
                        await other.touch(session_id, record.seen_at + 5, record.expires_at + 5)
                    case "end":
                        await other.end(session_id, tombstone)
                    case "retire":
                        await other.retire(session_id, tombstone, revision=0, version=0)
                    case "replace":
                        await other.create(new_id(), new_record("ann"), replaces=replacing(session_id, record))
                    case "end_user":
                        await other.end_user("ann", tombstone)
                    case "end_everything":
                        await other.end_everything(time.time())
                    case "delete":
                        raw.delete(near._names.session(session_id))
                    case _:
                        raw.flushall()
            expected = await other.load(session_id)

            async def agrees(session_id: str = session_id, expected: object = expected) -> bool:
                found = await near.load(session_id)
                if isinstance(found, Record) and isinstance(expected, Record):
                    return (found.version, found.expires_at) == (expected.version, expected.expires_at)
                return found == expected

            await door.until(agrees)
            assert all([await agrees() for _ in range(20)])

    door.run(own.url, scenario)


def test_what_this_process_writes_it_sees_at_once(door: Door, server: Server) -> None:
    """No read after a write of one's own is served from what was kept before it."""

    async def scenario(near: NearStore, other: Any) -> None:
        for number in range(100):
            session_id, record = new_id(), new_record("ann", a=0)
            await near.create(session_id, record)
            assert await near.load(session_id) is not None
            read = await near.load(session_id)
            assert isinstance(read, Record)
            await near.save(session_id, changing(read, a=1), read)
            assert values(await near.load(session_id)) == {"a": 1}
            await near.touch(session_id, record.seen_at + 5, record.expires_at + 5)
            touched = await near.load(session_id)
            assert isinstance(touched, Record)
            assert touched.seen_at == record.seen_at + 5
            if number % 3 == 0:
                await near.end(session_id, new_tombstone())
            elif number % 3 == 1:
                await near.end_user("ann", new_tombstone())
            else:
                fresh = new_record("ann")
                assert await near.create(new_id(), fresh, replaces=replacing(session_id, touched)) == Created()
            assert isinstance(await near.load(session_id), Tombstone)

    door.run(server.url, scenario)


@requirement("R39")
def test_a_session_is_not_served_beyond_its_own_time(door: Door) -> None:
    """Redis removes a key, and says so, when it comes to it; what is kept ends on the millisecond."""
    with redis_server(enable_debug_command="yes") as server:
        with redis.Redis(port=server.port) as raw:
            raw.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")

        async def scenario(near: NearStore, other: Any) -> None:
            session_id, record = new_id(), new_record()
            short = msgspec.structs.replace(record, expires_at=record.seen_at + 0.3)
            await other.create(session_id, short)
            created = time.monotonic()
            assert isinstance(await near.load(session_id), Record)
            while time.monotonic() < created + 0.301:
                await near.load(session_id)
            assert await near.load(session_id) is None

        door.run(server.url, scenario)


def test_nothing_is_kept_longer_than_a_minute(door: Door, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if every report were lost."""
    monkeypatch.setattr(near_lane, "KEPT", 0.2)

    async def scenario(near: NearStore, other: Any) -> None:
        session_id = new_id()
        await other.create(session_id, new_record())
        await near.load(session_id)
        before, began = reads(server), time.monotonic()
        while time.monotonic() < began + 0.25:
            await near.load(session_id)
        assert reads(server) > before

    door.run(server.url, scenario)


# -- what breaks


def trackers(server: Server) -> list[str]:
    """Return the ids of the connections that Redis reports changes to."""
    with redis.Redis(port=server.port) as client:
        return [found["id"] for found in client.client_list() if "t" in found["flags"]]


@requirement("R45")
def test_a_broken_connection_makes_reads_go_to_the_server_at_once(door: Door, own: Server) -> None:
    """CLIENT KILL while sessions are kept: not one of them is served, and soon they are kept anew."""

    async def scenario(near: NearStore, other: Any) -> None:
        ids = [new_id() for _ in range(20)]
        for session_id in ids:
            await other.create(session_id, new_record())
            await near.load(session_id)
        with redis.Redis(port=own.port) as raw:
            for client in trackers(own):
                raw.client_kill_filter(_id=client)
            # Nobody is told of this: only the broken connection says that something may be amiss.
            for session_id in ids:
                raw.delete(near._names.session(session_id))
        before = reads(own)
        for session_id in ids:
            assert await near.load(session_id) is None
        assert reads(own) >= before + len(ids)
        session_id = new_id()
        await other.create(session_id, new_record())

        async def is_kept() -> bool:
            await near.load(session_id)
            before = reads(own)
            return isinstance(await near.load(session_id), Record) and reads(own) == before

        await door.until(is_kept)

    door.run(own.url, scenario)


@requirement("R45")
def test_a_server_that_is_gone_is_not_replaced_by_what_was_kept(door: Door, own: Server) -> None:
    """Killed: StoreUnavailable, for every session. Back without its memory: nobody is signed in."""

    async def scenario(near: NearStore, other: Any) -> None:
        ids = [new_id() for _ in range(5)]
        for session_id in ids:
            await other.create(session_id, new_record())
            await near.load(session_id)
        own.kill()
        for session_id in ids:
            with pytest.raises(StoreUnavailable):
                await near.load(session_id)
        own.start()
        for session_id in ids:
            assert await near.load(session_id) is None
        session_id = new_id()
        await near.create(session_id, new_record())

        async def is_kept() -> bool:
            await near.load(session_id)
            before = reads(own)
            return isinstance(await near.load(session_id), Record) and reads(own) == before

        await door.until(is_kept)

    door.run(own.url, scenario, timeout=1)


@requirement("R45")
@posix
def test_a_silent_server_is_trusted_for_a_short_time_only(
    door: Door, own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing closes the connection: without a sign of life, what was kept is not served any more."""
    monkeypatch.setattr(near_lane, "VOUCHED", 0.3)
    monkeypatch.setattr(near_lane, "_ASK_AGAIN", 0.1)

    async def scenario(near: NearStore, other: Any) -> None:
        session_id, record = new_id(), new_record()
        await other.create(session_id, record)
        await near.load(session_id)
        began = time.monotonic()
        before = reads(own)
        while time.monotonic() < began + 0.6:  # asked for a sign of life now and then, it is trusted on
            assert isinstance(await near.load(session_id), Record)
            if not door.blocking:
                await asyncio.sleep(0)
        assert reads(own) == before
        own.freeze()
        frozen = time.monotonic()
        try:
            failed = False
            while not failed:
                assert time.monotonic() < frozen + PATIENCE
                try:
                    await near.load(session_id)
                except StoreUnavailable:
                    failed = True
        finally:
            own.thaw()
        # At most what it is vouched for, and the time that the read was given.
        assert time.monotonic() - frozen < 0.3 + 0.5 + 8
        assert_same(await near.load(session_id), record)

    door.run(own.url, scenario, timeout=0.5)


def test_a_small_tracking_table_costs_hits_and_nothing_else(door: Door) -> None:
    """The server reports keys as changed to make room; ends are seen all the same."""
    with redis_server(tracking_table_max_keys=10) as server:

        async def scenario(near: NearStore, other: Any) -> None:
            ids = [new_id() for _ in range(200)]
            for session_id in ids:
                await other.create(session_id, new_record())
            for session_id in ids * 2:
                assert isinstance(await near.load(session_id), Record)
            for session_id in ids:
                await other.end(session_id, new_tombstone())

            async def all_ended() -> bool:
                return not any([isinstance(await near.load(session_id), Record) for session_id in ids])

            await door.until(all_ended)

        door.run(server.url, scenario)


@requirement("R48")
def test_the_least_rights_are_enough(door: Door, own: Server) -> None:
    """Those that the doctor prints for this URL."""
    line = acl(Settings.of(StoreUrl.parse(fresh(own.url, prefix="least:"))), name="app").replace("PASSWORD", "word")
    with redis.Redis(port=own.port) as raw:
        raw.execute_command("ACL", "SETUSER", *line.split()[1:])

    async def scenario(near: NearStore, other: Any) -> None:
        session_id, record = new_id(), new_record(a=1)
        await near.create(session_id, record)
        assert_same(await near.load(session_id), record)
        assert kept(near) == 1
        found = {finding.code: finding.severity for finding in await near.diagnose()}
        assert found["redis-near"] == "ok"

    door.run(own.url.replace("redis://", "redis://app:word@"), scenario, prefix="least:")


def test_a_user_who_may_not_track_reads_without_the_cache(door: Door, own: Server) -> None:
    """It costs a connection attempt now and then, nothing is ever kept, and the doctor says so."""
    with redis.Redis(port=own.port) as raw:
        raw.execute_command("ACL", "SETUSER", "app", "on", ">word", "~*", "+@all", "-client|tracking")

    async def scenario(near: NearStore, other: Any) -> None:
        session_id, record = new_id(), new_record(a=1)
        await near.create(session_id, record)
        for _ in range(5):
            assert_same(await near.load(session_id), record)
        assert kept(near) == 0
        found = {finding.code: finding.severity for finding in await near.diagnose()}
        assert found["redis-near"] == "warn"

    door.run(own.url.replace("redis://", "redis://app:word@"), scenario)


@pytest.mark.parametrize("noise", [b"$x\r\n", b"?\r\n", b"*2\r\n:x\r\n"])
def test_what_is_no_resp_breaks_the_channel(noise: bytes) -> None:
    """It is not guessed at."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall(b"+PONG\r\n" + noise)
    channel.wait(time.monotonic() + PATIENCE)
    channel.receive()
    found: list[Any] = []
    with pytest.raises(Broken):
        found += channel.replies()
    theirs.close()
    channel.close()


def test_an_answer_that_nobody_asked_for_breaks_the_channel() -> None:
    """Whatever comes next would be taken for the answer to something else."""
    world: Any = World()
    lane = Lane(Place(Address("", 0)), world, Shelf(10), PLAIN)
    world.stream.append([None, None])
    with pytest.raises(Broken):
        lane.take_in()


# -- the order of things


class World:
    """Stand for a server with its tracking table and for the channel to it: what is in the stream is not yet read."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.epochs: dict[bytes, bytes] = {}
        self.tracked: set[bytes] = set()
        self.stream: list[Any] = []
        self.arrived: list[Any] = []

    # what the server does

    def write(self, session_id: str) -> None:
        self.versions[session_id] = self.versions.get(session_id, 0) + 1
        self._tell(NAMES.session(session_id))

    def end_everything(self, session_id: str) -> None:
        key = NAMES.epoch(session_id)
        self.epochs[key] = secrets.token_bytes(8)
        self._tell(key)

    def flush(self) -> None:
        self.versions.clear()
        self.epochs.clear()
        self.tracked.clear()
        self.stream.append(_push(None))

    def answer(self, question: Question) -> None:
        self.tracked |= {question.key, question.epoch_key}
        self.stream += [[self.value(question.session_id), self.epoch(question.session_id)], 60_000]

    def value(self, session_id: str) -> bytes | None:
        version = self.versions.get(session_id)
        if version is None:
            return None
        record = msgspec.structs.replace(RECORD, version=version)
        before, after = layout.encode_record(PLAIN, session_id, record)
        return before + self.epoch(session_id) + after

    def epoch(self, session_id: str) -> bytes:
        return self.epochs.setdefault(NAMES.epoch(session_id), b"\0" * 8)

    def _tell(self, key: bytes) -> None:
        if key in self.tracked:
            self.tracked.remove(key)
            self.stream.append(_push([key]))

    # what the channel does

    def receive(self) -> bool:
        self.arrived, self.stream = self.stream, []
        return bool(self.arrived)

    def replies(self) -> Iterator[Any]:
        while self.arrived:
            yield self.arrived.pop(0)

    def send(self, payload: bytes) -> int:
        if payload == near_lane._PING:
            self.stream.append(b"PONG")
        return len(payload)

    def close(self) -> None:
        pass


def _push(keys: list[bytes] | None) -> Any:
    reader = hiredis.Reader()
    body = b"_\r\n" if keys is None else b"*%d\r\n" % len(keys) + b"".join(b"$%d\r\n%b\r\n" % (len(k), k) for k in keys)
    reader.feed(b">2\r\n$10\r\ninvalidate\r\n" + body)
    return reader.gets()


NAMES = layout.Names("t:")
RECORD = new_record("ann")
IDS = ["aa1", "aa2", "bb3"]  # the first two share an epoch


@requirement("R42")
@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "answer", "write", "end", "flush", "deliver", "hit"]), st.sampled_from(IDS)),
        max_size=40,
    )
)
def test_in_whatever_order_things_happen_nothing_stale_is_trusted(steps: list[tuple[str, str]]) -> None:
    """Reads, their answers, others' writes, ends and flushes interleave; a hit is what the server holds now."""
    world: Any = World()
    shelf = Shelf(10)
    lane = Lane(Place(Address("", 0)), world, shelf, PLAIN)
    asked: list[Question] = []
    for session_id in IDS:
        world.write(session_id)
    for step, session_id in steps:
        match step:
            case "ask":
                asked.append(lane.question(session_id, NAMES.session(session_id), NAMES.epoch(session_id))[0])
            case "answer":
                if asked:
                    world.answer(asked.pop(0))
            case "write":
                world.write(session_id)
            case "end":
                world.end_everything(session_id)
            case "flush":
                world.flush()
            case "deliver":
                lane.take_in()
            case _:
                key = NAMES.session(session_id)
                entry = shelf.get(key)
                lane.take_in()
                if entry is not None and lane.vouches(key, entry):
                    now = layout.decode(PLAIN, session_id, world.value(session_id), world.epoch(session_id))
                    assert now == entry.loaded


def test_a_report_between_a_reads_question_and_its_answer_wins() -> None:
    """What was read may be older than the report: it is used once and not kept."""
    for order in ("report first", "answer first", "ours"):
        world: Any = World()
        shelf = Shelf(10)
        lane, session_id = Lane(Place(Address("", 0)), world, shelf, PLAIN), IDS[0]
        world.write(session_id)
        key = NAMES.session(session_id)
        question, _ = lane.question(session_id, key, NAMES.epoch(session_id))
        if order == "report first":
            world.stream.append(_push([key]))
            world.answer(question)
        elif order == "answer first":
            world.answer(question)
            world.write(session_id)
        else:
            world.answer(question)
            lane.spoil(key)
        lane.take_in()
        assert isinstance(question.loaded, Record)
        assert shelf.get(key) is None


# -- processes, threads, loops


def test_threads_share_what_is_kept() -> None:
    """Readers, writers and enders at once: nobody is served another's session, or one that he ended himself."""
    url, wrong = fresh(shared("redis").url), list[str]()
    near = open_store(url, blocking=True)

    def work(name: str) -> None:
        for turn in range(60):
            session_id, record = new_id(), new_record(who=name, turn=turn)
            drive(near.create(session_id, record))
            for _ in range(5):
                if values(drive(near.load(session_id))) != {"who": name, "turn": turn}:
                    wrong.append(name)
            drive(near.end(session_id, new_tombstone()))
            if not isinstance(drive(near.load(session_id)), Tombstone):
                wrong.append(name)
        done.append(name)

    done: list[str] = []
    threads = [threading.Thread(target=work, args=(f"{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drive(near.close())
    assert len(done) == 8
    assert wrong == []


def test_event_loops_follow_one_another_and_run_side_by_side() -> None:
    """Each keeps its own; a write in one is seen in the others."""
    near = open_store(fresh(shared("redis").url), blocking=False)
    session_id = new_id()

    async def write(value: int) -> None:
        read = await near.load(session_id)
        assert isinstance(read, Record)
        await near.save(session_id, changing(read, a=value), read)

    async def first() -> None:
        await near.create(session_id, new_record(a=0))
        await near.load(session_id)
        for value in range(1, 20):
            await asyncio.to_thread(lambda value=value: asyncio.run(write(value)))
            assert values(await near.load(session_id)) == {"a": value}

    asyncio.run(first())

    async def last() -> None:
        assert values(await near.load(session_id)) == {"a": 19}
        await near.close()

    asyncio.run(last())


def test_a_read_that_is_cancelled_harms_nobody() -> None:
    """Its answer is taken in, and kept, in its turn."""
    with redis_server() as server:

        async def scenario(near: NearStore, other: Any) -> None:
            ids = {name: new_id() for name in ("ann", "bob")}
            for name, session_id in ids.items():
                await other.create(session_id, new_record(who=name))
            await near.load(new_id())
            for _ in range(5):
                server.freeze()
                asked = asyncio.ensure_future(near.load(ids["ann"]))
                await asyncio.sleep(0.01)
                asked.cancel()
                with suppress(asyncio.CancelledError):
                    await asked
                later = asyncio.ensure_future(near.load(ids["bob"]))
                await asyncio.sleep(0)
                server.thaw()
                assert values(await later) == {"who": "bob"}
                assert values(await near.load(ids["ann"])) == {"who": "ann"}
                for session_id in ids.values():
                    read = await near.load(session_id)
                    assert isinstance(read, Record)
                    await other.touch(session_id, read.seen_at + 1, read.expires_at + 1)

        Door(blocking=False).run(server.url, scenario)


@posix
@pytest.mark.parametrize("blocking", [True, False])
def test_parent_and_child_keep_their_own(*, blocking: bool) -> None:
    """After a fork neither reads the other's reports, and each sees what the other writes."""
    near = open_store(fresh(shared("redis").url), blocking=blocking)
    ids = {name: new_id() for name in ("parent", "child")}

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return drive(coroutine) if blocking else asyncio.run(coroutine)

    async def both() -> None:
        for name, session_id in ids.items():
            await near.create(session_id, new_record(who=name))
            await near.load(session_id)

    run(both())

    async def live(ours: str, theirs: str) -> bool:
        fine = True
        for _ in range(50):
            fine = fine and values(await near.load(ids[ours])) == {"who": ours}
        await near.end(ids[ours], new_tombstone())
        deadline = time.monotonic() + PATIENCE
        while isinstance(await near.load(ids[theirs]), Record):
            if time.monotonic() > deadline:
                return False
        return fine

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if run(live("child", "parent")) else 2
        finally:
            os._exit(code)
    assert run(live("parent", "child"))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    run(near.close())


# -- how it is reached


@pytest.mark.parametrize("url", ["redis://h?cache=far", "redis://h?cache=", "redis://h?cache=near&entries=0"])
def test_a_cache_that_is_none_is_refused(url: str) -> None:
    """At start."""
    with pytest.raises(ConfigurationError):
        open_store(url, blocking=True)


def test_a_password_a_database_and_a_socket_are_the_stores_own(door: Door, tmp_path: Path) -> None:
    """The near cache signs in as the store does, and looks at the same database."""
    path = tmp_path / "socket"
    with redis_server(requirepass="hunter2", unixsocket=path) as server:

        async def scenario(near: NearStore, other: Any) -> None:
            session_id, record = new_id(), new_record()
            await other.create(session_id, record)
            assert_same(await near.load(session_id), record)
            assert kept(near) == 1
            await other.end(session_id, new_tombstone())

            async def ended() -> bool:
                return isinstance(await near.load(session_id), Tombstone)

            await door.until(ended)

        door.run(server.url.replace("/0", "/3"), scenario)
        door.run(f"redis+unix://:hunter2@{path}", scenario)


def test_tls_is_spoken_where_the_store_speaks_it(door: Door, tmp_path: Path) -> None:
    """With the same authority; reports are taken in although they come in records of TLS."""
    chain, private = certificate(tmp_path)
    port = free_port()
    config = {"tls_port": port, "tls_cert_file": chain, "tls_key_file": private, "tls_auth_clients": "no"}
    with redis_server(**config) as server:

        async def scenario(near: NearStore, other: Any) -> None:
            for _ in range(20):
                session_id, record = new_id(), new_record(data="x" * 40_000)
                await other.create(session_id, record)
                for _ in range(3):
                    assert_same(await near.load(session_id), record)
                await other.end(session_id, new_tombstone())

                async def ended(session_id: str = session_id) -> bool:
                    return isinstance(await near.load(session_id), Tombstone)

                await door.until(ended)
            before = reads(server)
            await near.load(session_id)
            assert reads(server) == before, "it is kept"

        door.run(f"rediss://127.0.0.1:{port}", scenario, ca=chain)


@requirement("R42", "R45")
@posix
@pytest.mark.parametrize("kind", [redis_sentinel_set, redis_cluster])
def test_a_primary_that_was_frozen_and_replaced_vouches_for_nothing(door: Door, kind: Any) -> None:
    """What was read from it is not served while another one is the primary, nor when it is back."""
    with kind() as servers:

        async def scenario(near: NearStore, other: Any) -> None:
            ids = [new_id() for _ in range(20)]
            await near.load(new_id())  # the first read finds out who the primary is
            for session_id in ids:
                await other.create(session_id, new_record("ann"))
                await near.load(session_id)
            assert kept(near) == len(ids)
            old = servers.primary() if kind is redis_sentinel_set else servers.nodes[0]
            old.freeze()
            ended: list[str] = []

            async def all_ended() -> bool:
                for session_id in ids:
                    if session_id in ended:
                        continue
                    with suppress(StoreUnavailable):
                        await other.end(session_id, new_tombstone())
                        ended.append(session_id)
                return len(ended) == len(ids)

            await door.until(all_ended)
            acknowledged = time.monotonic()

            async def no_longer_served() -> bool:
                alive = 0
                for session_id in ids:
                    with suppress(StoreUnavailable):
                        alive += isinstance(await near.load(session_id), Record)
                return not alive

            await door.until(no_longer_served)
            assert time.monotonic() - acknowledged < 6  # the lab holds it to two seconds
            old.thaw()
            until = time.monotonic() + 3  # Sentinels turn it into a replica meanwhile
            while time.monotonic() < until:
                assert await no_longer_served()
            servers.await_whole()

            async def all_tombstones() -> bool:
                with suppress(StoreUnavailable):  # an event loop that stood still for so long must ask Sentinels anew
                    return all([isinstance(await near.load(session_id), Tombstone) for session_id in ids])
                return False

            await door.until(all_tombstones)

        door.run(servers.url, scenario, timeout=1)
