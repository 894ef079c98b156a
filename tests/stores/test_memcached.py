"""The memcached store: the contract through both doors on three nodes, and what it does when a node fails it."""

from __future__ import annotations

import asyncio
import math
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import ANY

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessile.core.bridge import drive
from sessile.core.ports import AtLimit, Created, Diagnosable, Ending, Gone, Retiring, Store, Taken, UserIndex
from sessile.core.record import PLAIN, Change, EndReason, Record, Tombstone, Undecodable, Unreadable
from sessile.errors import ConfigurationError, SessionTooLarge, StoreFull, StoreUnavailable
from sessile.stores import open_store
from sessile.stores.memcached import MemcachedStore, items
from sessile.stores.memcached.asynchronous import AsyncNode
from sessile.stores.memcached.blocking import BlockingNode
from sessile.stores.memcached.diagnosis import diagnose
from sessile.stores.memcached.index import Index
from sessile.stores.memcached.nodes import Address, parse_authority, place, slot_of
from sessile.stores.memcached.protocol import Item, version
from sessile.testing.store_contract import (
    IDLE,
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
from tests.support.servers import Server, memcached_server
from tests.support.servers.process import program

T = TypeVar("T")

items_codec = PLAIN

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes")
PATIENCE = 20.0  # seconds that a test waits for a condition

DEEP = b"\x91" * 200_000 + b"\xc0"  # lists in lists, deeper than any decoder goes
DAMAGED_INDEXES = [
    b"",
    b"u",
    b"garbage",
    b"u\xc1",
    b"r" + bytes(60),
    b"u\x92\xcb" + bytes(8) + b"\x91\x94\xa1\xff\x01\x01\x01",  # an id that is no UTF-8
    b"u\x94\xcb" + bytes(8) + b"\x90\xc2" + DEEP,
    b"u\x92\xcb\x7f\xf8" + bytes(6) + b"\x90",  # born at NaN
]


class Node:
    """Be one memcached, which can be killed, frozen and asked directly."""

    def __init__(self, server: Server) -> None:
        self.port = server.port
        self.start, self.kill, self.thaw = server.start, server.kill, server.thaw
        self._server = server

    def freeze(self) -> None:
        """Stop it in its steps, all its threads; the kernel goes on taking connections for it."""
        self._server.freeze()
        tasks = Path(f"/proc/{self._server.pid}/task")
        deadline = time.monotonic() + PATIENCE
        while not all(file.read_text().rpartition(")")[2].split()[0] == "T" for file in tasks.glob("*/stat")):
            assert time.monotonic() < deadline

    def ask(self, command: bytes, end: bytes = b"\r\n") -> bytes:
        """Send a command behind the store's back."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(command)
            reply = b""
            while not reply.endswith(end):
                received = connection.recv(65536)
                assert received
                reply += received
            return reply

    def put(self, key: bytes, value: bytes) -> None:
        """Store bytes, whatever they are."""
        assert self.ask(b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)) == b"STORED\r\n"

    def get(self, key: bytes) -> bytes | None:
        """Read bytes."""
        head, _, rest = self.ask(b"get %b\r\n" % key, b"END\r\n").partition(b"\r\n")
        return None if head == b"END" else rest[: -len(b"\r\nEND\r\n")]

    def figure(self, name: str) -> int:
        """Return one of its counts."""
        lines = self.ask(b"stats\r\n", b"END\r\n").decode().splitlines()
        return next(int(line.split()[2]) for line in lines if line.startswith(f"STAT {name} "))


@contextmanager
def running(*options: str, megabytes: int = 64) -> Iterator[Node]:
    """Run a memcached of one's own."""
    with memcached_server(*options, megabytes=megabytes) as server:
        yield Node(server)


@contextmanager
def closed_to_strangers(folder: Path, *options: str) -> Iterator[Node]:
    """Run a memcached that answers nobody who does not sign in, or does not speak TLS."""
    port = free_port()
    command = [program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", *options]
    if os.geteuid() == 0:
        command += ["-u", "root"]

    def ready() -> bool:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True

    server = Server(command, port=port, folder=folder, url="", ready=ready)
    try:
        server.start()
        yield Node(server)
    finally:
        server.kill()


@pytest.fixture(scope="module")
def three() -> Iterator[list[Node]]:
    """Run three memcacheds that no test harms."""
    with running() as first, running() as second, running() as third:
        yield [first, second, third]


class Door:
    """Open stores for one door, and run what tests ask of them: the asynchronous one in a new event loop each time."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking
        self.opened: list[MemcachedStore] = []

    def open(self, *nodes: Node | int, prefix: str | None = None, **options: object) -> MemcachedStore:
        ports = [node if isinstance(node, int) else node.port for node in nodes]
        options = {"prefix": prefix or f"{new_id()}:", "timeout": 10} | options
        query = "&".join(f"{name}={value}" for name, value in options.items())
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        store = open_store(f"memcached://{hosts}?{query}", blocking=self.blocking)
        assert isinstance(store, MemcachedStore)
        self.opened.append(store)
        return store

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return drive(coroutine) if self.blocking else asyncio.run(coroutine)


@pytest.fixture(params=["blocking", "async"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """Take each door in turn."""
    door = Door(blocking=request.param == "blocking")
    yield door
    for store in door.opened:
        door.run(store.close())


class _OnThreeNodes(StoreContract):
    rounds = 1000

    @pytest.fixture(autouse=True)
    def _nodes(self, three: list[Node]) -> None:
        self.door, self.nodes = Door(blocking=self.blocking), three

    def open_store(self) -> Store:
        return self.door.open(*self.nodes)


class TestBlocking(_OnThreeNodes):
    """The contract, driven by threads."""

    blocking = True


class TestAsync(_OnThreeNodes):
    """The contract, driven by an event loop."""


def key_of(store: MemcachedStore, session_id: str) -> bytes:
    """Return the key under which the store keeps a session."""
    return store._cells.session_key(session_id)


def home(store: MemcachedStore, nodes: list[Node], key: bytes) -> Node:
    """Return the node that has a key."""
    return nodes[store._cells._placed[slot_of(key)]]


def ids_on(store: MemcachedStore, nodes: list[Node], node: Node, count: int) -> list[str]:
    """Return new ids whose sessions belong on one node."""
    ids: list[str] = []
    while len(ids) < count:
        session_id = new_id()
        if home(store, nodes, key_of(store, session_id)) is node:
            ids.append(session_id)
    return ids


def test_it_offers_what_it_can_keep(three: list[Node], door: Door) -> None:
    """An index, epochs, retiring, a diagnosis; no census and nothing to sweep."""
    store = door.open(*three)
    powers = [name for name in ("end_user", "end_everything", "retire", "diagnose") if hasattr(store, name)]
    assert len(powers) == 4
    assert isinstance(store, UserIndex)
    assert isinstance(store, Retiring)
    assert isinstance(store, Diagnosable)
    assert not hasattr(store, "scan")
    assert not hasattr(store, "sweep")


# -- round trips


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count exchanges with nodes, of both doors."""
    count = [0]
    with pytest.MonkeyPatch.context() as patch:
        for kind in (BlockingNode, AsyncNode):
            original = kind.exchange

            async def exchange(self: Any, *commands: Any, original: Any = original) -> list[object]:
                count[0] += 1
                result: list[object] = await original(self, *commands)
                return result

            patch.setattr(kind, "exchange", exchange)
        yield count


def test_a_read_is_one_round_trip_and_a_save_one_more(three: list[Node], door: Door) -> None:
    """Of a user's session and of nobody's alike."""
    store = door.open(*three)

    async def scenario() -> None:
        for user in (None, "ann"):
            session_id = new_id()
            await store.create(session_id, new_record(user, a=0))
            with counted() as count:
                read = await store.load(session_id)
                assert count == [1]
                assert isinstance(read, Record)
                assert isinstance(await store.save(session_id, changing(read, a=1), read), Record)
                assert count == [2]
            assert values(await store.load(session_id)) == {"a": 1}

    door.run(scenario())


def test_a_save_over_an_outdated_reading_reads_again(three: list[Node], door: Door) -> None:
    """The cas token of the reading decides: both writers' keys are there."""
    store = door.open(*three)

    async def scenario() -> None:
        session_id = new_id()
        await store.create(session_id, new_record())
        first, second = await store.load(session_id), await store.load(session_id)
        assert isinstance(first, Record)
        assert isinstance(second, Record)
        await store.save(session_id, changing(first, a=1), first)
        await store.save(session_id, changing(second, b=2), second)
        assert values(await store.load(session_id)) == {"a": 1, "b": 2}

    door.run(scenario())


@requirement("R44")
def test_a_touch_does_not_encode_the_session_anew(three: list[Node], door: Door) -> None:
    """Only the header moves; not one byte after it."""
    store = door.open(*three)
    session_id, record = new_id(), new_record("ann", cart=[1, 2, 3])
    door.run(store.create(session_id, record))
    key = key_of(store, session_id)
    before = home(store, three, key).get(key)
    door.run(store.touch(session_id, record.seen_at + 60, record.expires_at + 90))
    after = home(store, three, key).get(key)
    assert before is not None
    assert after is not None
    header, start = items.decode_header(after)
    assert (header.seen_at, header.expires_at) == (record.seen_at + 60, record.expires_at + 90)
    assert after[53:] == before[53:]
    assert start > 53


# -- lifetimes


@requirement("R39")
@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_lifetime_means_for_ever(span: float) -> None:
    """Memcached takes 0 for "never", and more than 30 days for a moment since 1970; neither comes by accident."""
    lifetime = items.lifetime(span)
    assert 0 < lifetime < 2**31
    if lifetime > 30 * 24 * 3600:
        assert lifetime > time.time()
    if not math.isnan(span) and 0 < span < 10 * 365 * 24 * 3600:
        left = lifetime if lifetime <= 30 * 24 * 3600 else lifetime - time.time()
        assert span <= left < span + 63


@requirement("R39")
@pytest.mark.parametrize("days", [0.5 / 86400, 1, 29.9999, 30, 31, 400])
def test_memcached_drops_a_session_when_its_time_is_over(three: list[Node], door: Door, days: float) -> None:
    """It says itself how long it will keep the item: as long as the session, and a minute."""
    store, session_id = door.open(*three), new_id()
    record = new_record()
    span = days * 86400
    door.run(store.create(session_id, msgspec.structs.replace(record, expires_at=record.seen_at + span)))
    key = key_of(store, session_id)
    reply = home(store, three, key).ask(b"mg %b t\r\n" % key)
    assert span + 50 < int(reply.split()[1][1:]) < span + 65
    assert isinstance(door.run(store.load(session_id)), Record)


# -- a node that fails


@requirement("R42", "R45")
@posix
def test_a_frozen_node_brings_no_ended_session_back(door: Door) -> None:
    """T8: frozen for 0.3 s under load and back. Its share fails closed meanwhile; what was ended stays ended."""
    with running() as first, running() as second, running() as third:
        nodes = [first, second, third]
        store = door.open(*nodes, timeout=0.05)
        frozen = threading.Event()
        ended: list[str] = []
        refused = {node.port: 0 for node in nodes}

        async def work(until: float) -> None:
            while time.monotonic() < until:
                session_id = new_id()
                try:
                    await store.create(session_id, new_record("ann" if len(ended) % 2 else None))
                    ending = await store.end(session_id, new_tombstone())
                except StoreUnavailable:
                    refused[home(store, nodes, key_of(store, session_id)).port] += 1
                    continue
                if ending.ended and ending.confirmed:
                    ended.append(session_id)

        async def load() -> None:
            until = time.monotonic() + 1.0
            if door.blocking:
                threads = [threading.Thread(target=lambda: drive(work(until))) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            else:
                await asyncio.gather(*(work(until) for _ in range(8)))

        def freeze() -> None:
            time.sleep(0.3)  # of load before
            second.freeze()
            frozen.set()
            time.sleep(0.3)  # what was measured in the notes
            second.thaw()

        thread = threading.Thread(target=freeze)
        thread.start()
        try:
            door.run(load())
        finally:
            thread.join()
        assert frozen.is_set()
        assert refused[second.port] > 0
        assert len(ended) > 100
        alive = [session_id for session_id in ended if isinstance(door.run(store.load(session_id)), Record)]
        assert alive == []


@requirement("R45")
def test_a_killed_node_fails_closed_and_comes_back_knowing_nobody(door: Door) -> None:
    """Its share raises, the others' go on; afterwards its sessions are unknown, and a late save makes none of them."""
    with running() as first, running() as second:
        nodes = [first, second]
        store = door.open(*nodes)
        lost, kept = ids_on(store, nodes, first, 1)[0], ids_on(store, nodes, second, 1)[0]
        record = new_record(a=1)
        for session_id in (lost, kept):
            assert door.run(store.create(session_id, record)) == Created()
        read = door.run(store.load(lost))
        assert isinstance(read, Record)
        first.kill()
        verbs: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: store.load(lost),
            lambda: store.create(ids_on(store, nodes, first, 1)[0], record),
            lambda: store.save(lost, changing(read, a=2), read),
            lambda: store.touch(lost, record.seen_at, record.expires_at),
            lambda: store.end(lost, new_tombstone()),
            lambda: store.retire(lost, new_tombstone(), revision=0, version=0),
            lambda: store.end_everything(time.time()),
            store.diagnose,
        ]
        for verb in verbs:
            with pytest.raises(StoreUnavailable):
                door.run(verb())
        # end_everything did what it could: the other node's sessions are over.
        ended = door.run(store.load(kept))
        assert isinstance(ended, Tombstone)
        assert ended.reason is EndReason.EVERYTHING
        first.start()
        assert door.run(store.load(lost)) is None
        assert door.run(store.save(lost, changing(read, a=2), read)) == Gone()
        assert door.run(store.load(lost)) is None
        fresh = ids_on(store, nodes, first, 1)[0]
        assert door.run(store.create(fresh, record)) == Created()
        assert_same(door.run(store.load(fresh)), record)


@requirement("R64")
def test_a_node_that_lost_its_epoch_has_no_session(three: list[Node], door: Door) -> None:
    """Fail closed: nobody knows whether everything was ended meanwhile, and no later epoch lets those back in."""
    store, prefix = (door.open(three[0], prefix="lost:"), b"lost:")
    session_id, record = new_id(), new_record()
    door.run(store.create(session_id, record))
    read = door.run(store.load(session_id))
    assert isinstance(read, Record)
    deep = b"e\x93\xc4\x08" + bytes(8) + b"\x90" + DEEP
    for damage in (None, b"", b"e", b"garbage", items.encode_epoch(items.Epoch(b"short")), deep):
        if damage is None:
            assert three[0].ask(b"delete %bepoch\r\n" % prefix) == b"DELETED\r\n"
        else:
            three[0].put(prefix + b"epoch", damage)
        assert door.run(store.load(session_id)) is None
        assert door.run(store.save(session_id, changing(read, a=1), read)) == Gone()
        assert door.run(store.end(session_id, new_tombstone())).ended == ()
        fresh = new_id()
        assert door.run(store.create(fresh, record)) == Created()
        assert_same(door.run(store.load(fresh)), record)
        assert not isinstance(door.run(store.load(session_id)), Record)


class Impostor:
    """Listen like a memcached, and answer every command with the same bytes."""

    def __init__(self, answer: bytes, *, hang_up: bool = False) -> None:
        self.answer = answer
        self.hang_up = hang_up
        self.listener = socket.create_server(("127.0.0.1", free_port()))
        self.port: int = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self.threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(PATIENCE)
            while connection.recv(65536):
                connection.sendall(self.answer)
                if self.hang_up:
                    return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(PATIENCE)


_MALFORMED = [
    b"",
    b"\r\n",
    b"END",
    b"END \r\n",
    b"ERROR\r\n",
    b"CLIENT_ERROR hunter2\r\n",
    b"SERVER_ERROR hunter2\r\n",
    b"SERVER_ERROR out of memory writing get response\r\n",
    b"STORED\r\n",
    b"hunter2" * 1000,
    b"VALUE\r\n",
    b"VALUE other 0 7 1\r\nhunter2\r\nEND\r\n",
    b"VALUE x:epoch 0 7 1\r\nhunter2hunter2\r\nEND\r\n",
    b"VALUE x:epoch 0 -1 1\r\n\r\nEND\r\n",
    b"VALUE x:epoch 0 99999999999 1\r\nhunter2\r\nEND\r\n",
    b"VALUE x:epoch 0 7\r\nhunter2\r\nEND\r\n",
    b"VALUE x:epoch 0 7 hunter2\r\nhunter2\r\nEND\r\n",
    b"VALUE x:epoch 0 7 1\r\nhunter2\r\n" * 2 + b"END\r\n",
    b"VALUE x:epoch 0 7 1\r\nhunt",
    b"END\r\nEND\r\n",
]


@requirement("R45", "R46")
@pytest.mark.parametrize("hang_up", [False, True])
@pytest.mark.parametrize("answer", _MALFORMED)
def test_a_server_that_talks_nonsense_is_unavailable(door: Door, answer: bytes, *, hang_up: bool) -> None:
    """Never "no session", never a hang; and the error repeats neither what it said nor who was asked."""
    impostor = Impostor(answer, hang_up=hang_up)
    try:
        store, session_id = door.open(impostor.port, prefix="x:", timeout=0.2), new_id()

        async def scenario() -> None:
            with pytest.raises(StoreUnavailable) as caught:
                await store.load(session_id)
            said = str(caught.value)
            assert caught.value.__cause__ is None
            for secret in ("hunter2", session_id, "127.0.0.1", str(impostor.port)):
                assert secret not in said

        began = time.monotonic()
        door.run(scenario())
        assert time.monotonic() - began < PATIENCE
        door.run(store.close())
    finally:
        impostor.close()


def test_the_reply_of_a_cancelled_request_reaches_nobody_else(three: list[Node]) -> None:
    """What aiomcache does: the next request would be served another user's session."""
    with running() as node:
        door = Door(blocking=False)
        store = door.open(node)

        async def scenario() -> None:
            ids = {name: new_id() for name in ("ann", "bob")}
            for name, session_id in ids.items():
                await store.create(session_id, new_record(who=name))
            for _ in range(5):
                node.freeze()
                asked = asyncio.ensure_future(store.load(ids["ann"]))
                await asyncio.sleep(0.01)  # the question is on its way, and no answer can come
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
                later = asyncio.ensure_future(store.load(ids["bob"]))
                await asyncio.sleep(0)
                node.thaw()
                assert values(await later) == {"who": "bob"}
                assert values(await store.load(ids["ann"])) == {"who": "ann"}
            await store.close()

        door.run(scenario())


def test_a_connection_that_timed_out_is_not_used_again(door: Door) -> None:
    """The late reply would be taken for the next one's."""
    with running() as node:
        store = door.open(node, timeout=0.1)

        async def scenario() -> None:
            ids = {name: new_id() for name in ("ann", "bob")}
            for name, session_id in ids.items():
                await store.create(session_id, new_record(who=name))
            node.freeze()
            with pytest.raises(StoreUnavailable):
                await store.load(ids["ann"])
            node.thaw()
            assert values(await store.load(ids["bob"])) == {"who": "bob"}

        door.run(scenario())


# -- memory


def fill(door: Door, store: MemcachedStore, enough: Callable[[], bool]) -> None:
    """Create sessions until it is enough."""

    async def create() -> None:
        await store.create(new_id(), new_record(data="x" * 500))

    deadline = time.monotonic() + PATIENCE
    while not enough():
        assert time.monotonic() < deadline
        if door.blocking:
            for _ in range(500):
                drive(create())
        else:

            async def many() -> None:
                await asyncio.gather(*(create() for _ in range(500)))

            asyncio.run(many())


@requirement("R42")
def test_eviction_ends_sessions_and_brings_none_back(door: Door) -> None:
    """T8: more sessions than memory. Whoever was ended stays so, even when his tombstone is evicted too."""
    with running(megabytes=2) as node:
        store = door.open(node)
        ended: list[tuple[str, Record]] = []
        for number in range(50):
            session_id = new_id()
            door.run(store.create(session_id, new_record(f"user {number}", data="x" * 500)))
            read = door.run(store.load(session_id))
            assert isinstance(read, Record)
            assert door.run(store.end(session_id, new_tombstone())).confirmed
            ended.append((session_id, read))
        pressed = new_id()
        door.run(store.create(pressed, new_record("pressed", data="x" * 500)))
        fill(door, store, lambda: node.figure("evictions") > 10_000)
        assert door.run(store.load(pressed)) is None
        for session_id, read in ended:
            assert not isinstance(door.run(store.load(session_id)), Record)
            assert isinstance(door.run(store.save(session_id, changing(read, data="late"), read)), Gone)
            door.run(store.touch(session_id, read.seen_at + 9, read.expires_at + 9))
            assert not isinstance(door.run(store.load(session_id)), Record)
        codes = {finding.code: finding.severity for finding in door.run(store.diagnose())}
        assert codes["memcached-evictions"] == "warn"


@requirement("R42")
def test_a_late_save_after_the_tombstone_was_evicted_is_gone(three: list[Node], door: Door) -> None:
    """Cas on a key that is not there stores nothing, though the token was once right."""
    store, session_id, record = door.open(*three), new_id(), new_record(a=0)
    door.run(store.create(session_id, record))
    read = door.run(store.load(session_id))
    assert isinstance(read, Record)
    door.run(store.end(session_id, new_tombstone()))
    key = key_of(store, session_id)
    assert home(store, three, key).ask(b"delete %b\r\n" % key) == b"DELETED\r\n"
    for base in (read, record):
        assert door.run(store.save(session_id, changing(read, a=1), base)) == Gone()
        assert door.run(store.load(session_id)) is None


def test_a_full_node_says_so_and_can_still_end_sessions(door: Door) -> None:
    """With -M nothing is evicted: StoreFull, what is there stays, and an end needs no memory."""
    with running("-M", megabytes=2) as node:
        store = door.open(node)
        made: list[str] = []

        async def fill_up() -> None:
            for number in range(20_000):
                session_id = new_id()
                await store.create(session_id, new_record(f"user {number}", data="x" * 3000))
                made.append(session_id)

        with pytest.raises(StoreFull):
            door.run(fill_up())
        assert len(made) > 100

        async def end_all() -> None:
            for number, session_id in enumerate(made):
                assert isinstance(await store.load(session_id), Record)
                ending = await (
                    store.end_user(f"user {number}", new_tombstone())
                    if number % 2
                    else store.end(session_id, new_tombstone())
                )
                assert ending.ended == ((session_id, f"user {number}"),)
                assert not isinstance(await store.load(session_id), Record)

        door.run(end_all())


def test_a_session_that_no_item_can_hold_is_too_large(door: Door) -> None:
    """It names the largest change and the node's own limit; what was stored stays as it was."""
    with running("-I", "512k") as node:
        store, session_id, record = door.open(node), new_id(), new_record("ann", small=1)
        with pytest.raises(SessionTooLarge, match="'huge'") as caught:
            door.run(store.create(new_id(), new_record("ann", small=1, huge="x" * 600_000)))
        assert caught.value.limit == 512 * 1024
        assert door.run(store.of_user("ann")) == ()
        door.run(store.create(session_id, record))
        read = door.run(store.load(session_id))
        assert isinstance(read, Record)
        with pytest.raises(SessionTooLarge, match="'huge'"):
            door.run(store.save(session_id, changing(read, tiny=1, huge="x" * 600_000), read))
        assert_same(door.run(store.load(session_id)), record)


# -- the index


@requirement("R49")
def test_who_is_not_listed_is_over_within_the_lease(three: list[Node], door: Door) -> None:
    """An evicted index hides sessions from `end_user`: they end by themselves, and it says "unconfirmed" meanwhile."""
    store = door.open(*three, lease=0.05)
    session_id, record = new_id(), new_record("ann")
    door.run(store.create(session_id, record))
    time.sleep(0.06)
    assert isinstance(door.run(store.load(session_id)), Record), "it is listed"
    key = store._cells.user_key("ann")
    assert home(store, three, key).ask(b"delete %b\r\n" % key) == b"DELETED\r\n"
    time.sleep(0.06)
    gone = door.run(store.load(session_id))
    assert isinstance(gone, Tombstone)
    assert (gone.reason, gone.user) == (EndReason.EVICTED, "ann")
    assert door.run(store.load(session_id)) == gone
    other = new_id()
    door.run(store.create(other, new_record("ann")))
    assert [found for found, _ in door.run(store.of_user("ann"))] == [other]


@requirement("R51")
def test_the_end_of_a_user_is_confirmed_only_if_the_index_is_whole(door: Door) -> None:
    """A list older than the lease is; a missing one on a node that forgot something lately is not."""
    with running() as node:
        store = door.open(node, lease=0.3)
        session_id = new_id()
        door.run(store.create(session_id, new_record("ann")))
        time.sleep(0.31)
        assert door.run(store.end_user("ann", new_tombstone())) == Ending(((session_id, "ann"),), confirmed=True)
        door.run(store.create(new_id(), new_record("bob")))
        node.ask(b"flush_all\r\n")
        assert door.run(store.end_user("bob", new_tombstone())) == Ending((), confirmed=False)


@requirement("R51")
@posix
def test_a_session_out_of_reach_ends_when_its_node_returns(door: Door) -> None:
    """`end_user` ends the others at once, says "unconfirmed", and the lease does the rest."""
    with running() as first, running() as second:
        nodes = [first, second]
        store = door.open(*nodes, timeout=0.1, lease=0.3)
        user = next(name for name in map(str, range(100)) if home(store, nodes, store._cells.user_key(name)) is first)
        near, far = ids_on(store, nodes, first, 1)[0], ids_on(store, nodes, second, 1)[0]
        for session_id in (near, far):
            door.run(store.create(session_id, new_record(user)))
        second.freeze()
        try:
            ending = door.run(store.end_user(user, new_tombstone()))
        finally:
            second.thaw()
        assert ending == Ending(((near, user),), confirmed=False)
        time.sleep(0.31)
        assert isinstance(door.run(store.load(far)), Tombstone)


@requirement("R51")
@posix
def test_a_retry_says_no_more_than_is_known(door: Door) -> None:
    """A session whose node hangs stays listed: any process that ends all again asks that node again."""
    with running() as first, running() as second:
        nodes = [first, second]
        store, other = (door.open(*nodes, prefix="retry:", timeout=0.1, lease=0.5) for _ in range(2))
        user, far = user_and_far_session(door, store, nodes)
        time.sleep(0.51)  # the index is older than a lease
        second.freeze()
        try:
            for one in (store, other, store):
                assert door.run(one.end_user(user, new_tombstone())) == Ending((), confirmed=False)
        finally:
            second.thaw()
        assert door.run(other.end_user(user, new_tombstone())) == Ending(((far, user),), confirmed=True)
        assert isinstance(door.run(store.load(far)), Tombstone)
        assert door.run(store._users.read(user)) in (None, Index(born=ANY))


@requirement("R42", "R51")
@posix
def test_a_session_out_of_reach_is_not_renewed_when_its_node_returns(door: Door) -> None:
    """It is read for a lease still; a renewal would take it beyond that."""
    with running() as first, running() as second:
        nodes = [first, second]
        store = door.open(*nodes, timeout=0.1)
        user, far = user_and_far_session(door, store, nodes)
        second.freeze()
        try:
            assert not door.run(store.end_user(user, new_tombstone())).confirmed
        finally:
            second.thaw()
        read = door.run(store.load(far))
        assert isinstance(read, Record)
        renewed = new_id()
        answer = door.run(store.create(renewed, read, replaces=replacing(far, read, required=True)))
        assert answer == Gone()
        assert door.run(store.load(renewed)) is None


@requirement("R66")
@posix
def test_a_session_out_of_reach_does_not_count_against_the_limit(door: Door) -> None:
    """It is over as far as its user is concerned, and its node cannot be asked."""
    with running() as first, running() as second:
        nodes = [first, second]
        store = door.open(*nodes, timeout=0.1)
        user, _ = user_and_far_session(door, store, nodes)
        second.freeze()
        try:
            door.run(store.end_user(user, new_tombstone()))
            near, another = ids_on(store, nodes, first, 2)
            assert door.run(store.create(near, new_record(user), limit=1)) == Created()
            answer = door.run(store.create(another, new_record(user), limit=1))
            assert isinstance(answer, AtLimit)
            assert [found for found, _ in answer.sessions] == [near]
        finally:
            second.thaw()


def user_and_far_session(door: Door, store: MemcachedStore, nodes: list[Node]) -> tuple[str, str]:
    """Return a user whose index is on the first of two nodes, and the id of a session on the second."""
    user = next(name for name in map(str, range(100)) if home(store, nodes, store._cells.user_key(name)) is nodes[0])
    far = ids_on(store, nodes, nodes[1], 1)[0]
    assert door.run(store.create(far, new_record(user))) == Created()
    return user, far


def before(target: Any, name: str, monkeypatch: pytest.MonkeyPatch, step: Callable[..., Any]) -> None:
    """Do something once, before the next call that concerns a session's key or a user."""
    original = getattr(target, name)

    async def patched(subject: Any, *rest: Any) -> Any:
        if isinstance(subject, str) or b":s:" in subject:
            monkeypatch.setattr(target, name, original)
            await step()
        return await original(subject, *rest)

    monkeypatch.setattr(target, name, patched)


def after(target: Any, name: str, monkeypatch: pytest.MonkeyPatch, step: Callable[..., Any]) -> None:
    """Do something once, after the next call that concerns a session's key or a user."""
    original = getattr(target, name)

    async def patched(subject: Any, *rest: Any) -> Any:
        result = await original(subject, *rest)
        if isinstance(subject, str) or b":s:" in subject:
            monkeypatch.setattr(target, name, original)
            await step()
        return result

    monkeypatch.setattr(target, name, patched)


@requirement("R49", "R51")
@pytest.mark.parametrize("renewal", [False, True])
def test_a_sign_in_that_lost_its_entry_is_not_made(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch, *, renewal: bool
) -> None:
    """It stalls between entry and record longer than anybody waits for it; its id is free for another try."""
    store, other = (door.open(*three, prefix=prefix) for prefix in [f"{new_id()}:"] for _ in range(2))
    session_id, old_id, record = new_id(), new_id(), new_record("ann")
    door.run(other.create(new_id(), record))
    door.run(other.create(old_id, new_record()))
    monkeypatch.setattr("sessile.stores.memcached.index._MAKING", 0.0)

    async def end_all() -> None:
        await other.end_user("ann", new_tombstone())

    before(store._cells, "add_and_read" if renewal else "add", monkeypatch, end_all)
    replaces = replacing(old_id, new_record(), required=True) if renewal else None
    assert door.run(store.create(session_id, record, replaces=replaces)) == Taken()
    assert door.run(other.load(session_id)) is None
    assert isinstance(door.run(other.load(old_id)), Record), "nothing was written"
    assert door.run(store.create(session_id, record, replaces=replaces)) == Created()
    assert door.run(other.end_user("ann", new_tombstone())).ended == ((session_id, "ann"),)


@requirement("R49", "R51")
@pytest.mark.parametrize("moved", [False, True])
def test_a_session_that_comes_after_somebody_looked_for_it_stays_listed(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch, *, moved: bool
) -> None:
    """Whoever ends all finds nothing of it, then it is written, then he writes the index: the next one ends it."""
    store, other = (door.open(*three, prefix=prefix) for prefix in [f"{new_id()}:"] for _ in range(2))
    session_id, answers = new_id(), list[object]()
    if moved:
        door.run(store.create(session_id, new_record()))
    monkeypatch.setattr("sessile.stores.memcached.index._MAKING", 0.0)

    async def write() -> None:
        if moved:
            base = await store.load(session_id)
            assert isinstance(base, Record)
            answers.append(await store.save(session_id, moving(base, "ann"), base))
        else:
            answers.append(await store.create(session_id, new_record("ann")))

    door.run(store._users.enter("ann", session_id, time.time(), IDLE))
    after(other._cells, "read", monkeypatch, write)
    door.run(other.end_user("ann", new_tombstone()))
    assert isinstance(answers[0], Record if moved else Created)
    assert door.run(other.end_user("ann", new_tombstone())).ended == ((session_id, "ann"),)
    assert isinstance(door.run(store.load(session_id)), Tombstone)


def moving(base: Record, user: str) -> Change:
    """Return a change that gives a session to a user."""
    control = msgspec.structs.replace(base.control, user=user)
    return Change(seen_at=base.seen_at, expires_at=base.expires_at, control=control, revision=base.revision)


@requirement("R49", "R51")
@pytest.mark.parametrize("slow", [False, True])
def test_a_session_that_changes_its_user_meets_a_sign_out_everywhere(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch, *, slow: bool
) -> None:
    """It is listed and still nobody's: it comes after, and the next one ends it; if nobody waits for it, it is over."""
    store, other = (door.open(*three, prefix=prefix) for prefix in [f"{new_id()}:"] for _ in range(2))
    session_id = new_id()
    door.run(store.create(session_id, new_record()))
    base = door.run(store.load(session_id))
    assert isinstance(base, Record)
    if slow:
        monkeypatch.setattr("sessile.stores.memcached.index._MAKING", 0.0)

    async def end_all() -> None:
        assert (await other.end_user("ann", new_tombstone())).ended == ()

    after(store._users, "enter", monkeypatch, end_all)
    saved = door.run(store.save(session_id, moving(base, "ann"), base))
    assert isinstance(saved, Gone if slow else Record)
    expected = () if slow else ((session_id, "ann"),)
    assert door.run(other.end_user("ann", new_tombstone())).ended == expected
    assert isinstance(door.run(other.load(session_id)), Tombstone)


@requirement("R49")
def test_a_session_that_changed_its_user_is_looked_up_before_it_is_served(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer may die before it has looked whether the index still lists it."""
    store = door.open(*three)
    session_id = new_id()
    door.run(store.create(session_id, new_record()))
    base = door.run(store.load(session_id))
    assert isinstance(base, Record)

    async def lost() -> None:
        await store._users.leave("ann", session_id)
        monkeypatch.setattr(store._users, "lists", crash)

    async def crash(*_: Any) -> bool:
        raise Crash

    after(store._users, "enter", monkeypatch, lost)
    with pytest.raises(Crash):
        door.run(store.save(session_id, moving(base, "ann"), base))
    assert isinstance(door.run(store.load(session_id)), Tombstone)


@requirement("R42", "R49", "R51")
@pytest.mark.parametrize("making", [0.0, 0.01])
def test_whatever_happens_at_once_no_confirmed_end_is_undone(
    three: list[Node], monkeypatch: pytest.MonkeyPatch, making: float
) -> None:
    """Sign-ins, renewals, changes of user and ends of all, each step late by chance, and some answers lost."""
    door, chance = Door(blocking=False), random.Random(making)
    exchange, losses = AsyncNode.exchange, [0.0]
    monkeypatch.setattr("sessile.stores.memcached.index._MAKING", making)

    async def late(self: AsyncNode, *commands: Any) -> list[object]:
        await dawdle()
        answer = await exchange(self, *commands)
        await dawdle()
        return answer

    async def dawdle() -> None:
        for _ in range(chance.choice([0, 0, 1, 3, 8])):
            await asyncio.sleep(0)
        if chance.random() < 0.05:
            await asyncio.sleep(chance.random() * 0.01)
        if chance.random() < losses[0]:
            raise StoreUnavailable("lost")

    monkeypatch.setattr(AsyncNode, "exchange", late)

    async def at_once() -> None:
        store = door.open(*three, lease=100)
        monkeypatch.setattr(store._cells, "figures", untouched)
        anns: set[str] = set()  # whose sessions are known to be hers
        ended: set[str] = set()

        async def sign_in() -> None:
            session_id = new_id()
            if isinstance(await store.create(session_id, new_record("ann"), limit=chance.choice([None, 3])), Created):
                anns.add(session_id)

        async def renew() -> None:
            old_id, session_id = chance.choice([*anns, new_id()]), new_id()
            read = await store.load(old_id)
            if isinstance(read, Record):
                replaces = replacing(old_id, read, required=True)
                if isinstance(await store.create(session_id, read, replaces=replaces), Created):
                    anns.add(session_id)

        async def move() -> None:
            session_id = new_id()
            await store.create(session_id, new_record())
            saved: object = await store.load(session_id)
            for user in chance.choice([["ann"], ["bob", "ann"], ["ann", "bob", "ann"]]):
                if isinstance(saved, Record):
                    saved = await store.save(session_id, moving(saved, user), saved)
            if isinstance(saved, Record):
                anns.add(session_id)

        async def end_all() -> None:
            known = set(anns)
            if (await store.end_user("ann", new_tombstone())).confirmed:
                ended.update(known)

        async def one(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
            await asyncio.sleep(chance.random() * 0.02)
            with suppress(StoreUnavailable):
                await job()

        losses[0] = chance.choice([0.0, 0.0, 0.03])
        await asyncio.gather(*(one(chance.choice([sign_in, sign_in, renew, move, end_all])) for _ in range(14)))
        losses[0] = 0.0
        for session_id in ended:
            assert not isinstance(await store.load(session_id), Record)
        if (await store.end_user("ann", new_tombstone())).confirmed:
            for session_id in anns:
                assert not isinstance(await store.load(session_id), Record)
        await store.close()

    for _ in range(60):
        door.run(at_once())


def test_touches_keep_a_session_listed(three: list[Node], door: Door) -> None:
    """However often it is extended, the index lists it longer than it can live."""
    store, session_id = door.open(*three), new_id()
    record = new_record("ann")
    door.run(store.create(session_id, record))
    for _ in range(3):
        index = door.run(store._users.read("ann"))
        loaded = door.run(store.load(session_id))
        assert index is not None
        assert isinstance(loaded, Record)
        assert index.entries[0].until >= time.time() + loaded.expires_at - loaded.seen_at - 1
        door.run(store.touch(session_id, loaded.seen_at, loaded.expires_at + 2 * IDLE))


def test_a_user_with_many_sessions_can_list_and_end_them(three: list[Node], door: Door) -> None:
    """More than one question to each node."""
    store = door.open(*three)

    async def scenario() -> None:
        ids = [new_id() for _ in range(400)]
        for session_id in ids:
            await store.create(session_id, new_record("ann"), limit=400)
        assert {found for found, _ in await store.of_user("ann")} == set(ids)
        assert type(await store.create(new_id(), new_record("ann"), limit=400)).__name__ == "AtLimit"
        assert len((await store.end_user("ann", new_tombstone())).ended) == 400
        assert await store.of_user("ann") == ()

    door.run(scenario())


def test_entries_without_a_session_go_in_time(three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between entry and session leaves an entry; it neither counts for ever nor stays for ever."""
    store = door.open(*three)
    door.run(store._users.enter("ann", new_id(), time.time(), IDLE))
    answer = door.run(store.create(new_id(), new_record("ann"), limit=1))
    assert type(answer).__name__ == "AtLimit", "it may be in the making"
    moment = time.time() + 11
    monkeypatch.setattr(time, "time", lambda: moment)
    assert door.run(store.create(new_id(), new_record("ann"), limit=1)) == Created()
    index = door.run(store._users.read("ann"))
    assert index is not None
    assert [entry.barred for entry in index.entries] == [True, False]
    assert type(door.run(store.create(new_id(), new_record("ann"), limit=1))).__name__ == "AtLimit"
    monkeypatch.setattr("sessile.stores.memcached.creation.MOST", 2)
    monkeypatch.setattr("sessile.stores.memcached.index.MOST", 2)
    assert door.run(store.create(new_id(), new_record("ann"))) == Created()
    index = door.run(store._users.read("ann"))
    assert index is not None
    assert [entry.barred for entry in index.entries] == [False, False]


def test_an_index_nobody_can_read_lists_nobody(three: list[Node], door: Door) -> None:
    """It is replaced at the next sign-in, instead of failing it."""
    store = door.open(*three)
    key = store._cells.user_key("ann")
    for damage in DAMAGED_INDEXES:
        home(store, three, key).put(key, damage)
        assert door.run(store.of_user("ann")) == ()
        session_id = new_id()
        assert door.run(store.create(session_id, new_record("ann"))) == Created()
        assert [found for found, _ in door.run(store.of_user("ann"))] == [session_id]
        door.run(store.end(session_id, new_tombstone()))


async def untouched(_: bytes) -> dict[str, str]:
    """Answer like a node that has never forgotten anything."""
    return {"evictions": "0", "cmd_flush": "0", "uptime": "1000"}


@requirement("R46", "R51")
@pytest.mark.parametrize("healed", ["by an end", "by a sign-in", "by a load"])
def test_an_index_nobody_can_read_confirms_nothing_for_a_lease(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch, healed: str
) -> None:
    """Its sessions live that long, and no count of the node tells of it."""
    store, session_id = door.open(*three, lease=0.5), new_id()
    key = store._cells.user_key("ann")

    monkeypatch.setattr(store._cells, "figures", untouched)
    door.run(store.create(session_id, new_record("ann")))
    time.sleep(0.51)
    home(store, three, key).put(key, DAMAGED_INDEXES[-1])
    if healed == "by a sign-in":
        signed_in = new_id()
        door.run(store.create(signed_in, new_record("ann")))
        door.run(store.end(signed_in, new_tombstone()))
    elif healed == "by a load":
        assert isinstance(door.run(store.load(session_id)), Tombstone)
    assert not door.run(store.end_user("ann", new_tombstone())).confirmed
    time.sleep(0.1)
    assert not door.run(store.end_user("ann", new_tombstone())).confirmed
    time.sleep(0.45)
    assert door.run(store.end_user("ann", new_tombstone())).confirmed
    assert not isinstance(door.run(store.load(session_id)), Record)


def test_an_index_that_is_emptied_still_says_how_old_it_is(three: list[Node], door: Door) -> None:
    """One that is gone a second later could not be told from one that was never there."""
    store, session_id = door.open(*three, lease=100), new_id()
    door.run(store.create(session_id, new_record("ann")))
    door.run(store.end(session_id, new_tombstone()))
    key = store._cells.user_key("ann")
    reply = home(store, three, key).ask(b"mg %b t\r\n" % key)
    assert int(reply.split()[1][1:]) > 100


# -- one session takes the place of another


class Crash(Exception):
    """Stand for a process that dies."""


def crash_at(store: MemcachedStore, monkeypatch: pytest.MonkeyPatch, step: int, *, meanwhile: Any = None) -> None:
    """Die before the given cas on a session's key (1: the old one's, 2: the new one's), or do something else there."""
    original, count = store._cells.cas, 0

    async def cas(key: bytes, value: bytes, lifetime: int, token: int) -> Any:
        nonlocal count
        if b":s:" in key:
            count += 1
            if count == step:
                monkeypatch.setattr(store._cells, "cas", original)
                if meanwhile is None:
                    raise Crash
                await meanwhile()
        return await original(key, value, lifetime, token)

    monkeypatch.setattr(store._cells, "cas", cas)


@requirement("R42", "R49")
@pytest.mark.parametrize("step", [1, 2])
def test_a_crash_while_a_session_is_replaced_leaves_at_most_one(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before it is decided the old one lives on; after that nobody is signed in. The index hides neither."""
    store = door.open(*three)
    old_id, session_id, record = new_id(), new_id(), new_record("ann")
    door.run(store.create(old_id, record))
    crash_at(store, monkeypatch, step)
    with pytest.raises(Crash):
        door.run(store.create(session_id, record, replaces=replacing(old_id, record, required=True)))
    assert not isinstance(door.run(store.load(session_id)), Record)
    assert isinstance(door.run(store.load(old_id)), Record) == (step == 1)
    listed = [found for found, _ in door.run(store.of_user("ann"))]
    assert listed == ([old_id] if step == 1 else [])
    door.run(store.end_user("ann", new_tombstone()))
    assert not isinstance(door.run(store.load(old_id)), Record)
    assert not isinstance(door.run(store.load(session_id)), Record)


@requirement("R49")
@pytest.mark.parametrize("step", [1, 2])
def test_a_sign_out_everywhere_meets_a_renewal_at_every_step(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before it is decided, the old one is ended and nothing is made; after that, the new one is ended."""
    store, endings = door.open(*three), list[Ending]()
    old_id, session_id, record = new_id(), new_id(), new_record("ann")
    door.run(store.create(old_id, record))

    async def end_all() -> None:
        endings.append(await store.end_user("ann", new_tombstone(EndReason.ADMIN)))

    crash_at(store, monkeypatch, step, meanwhile=end_all)
    answer = door.run(store.create(session_id, record, replaces=replacing(old_id, record, required=True)))
    ended = old_id if step == 1 else session_id
    assert endings[0].ended == ((ended, "ann"),)
    assert isinstance(answer, Gone if step == 1 else Created)
    for found in (old_id, session_id):
        assert not isinstance(door.run(store.load(found)), Record)
    assert door.run(store.of_user("ann")) == ()


@requirement("R49")
def test_a_sign_out_everywhere_follows_a_renewal_that_it_did_not_see(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the index, then the session is renewed: the tombstone leads to the new one."""
    store = door.open(*three)
    old_id, session_id, record = new_id(), new_id(), new_record("ann")
    door.run(store.create(old_id, record))
    read = store._users.read

    async def read_then_renewed(user: str) -> Any:
        index = await read(user)
        assert await store.create(session_id, record, replaces=replacing(old_id, record, required=True)) == Created()
        return index

    monkeypatch.setattr(store._users, "read", read_then_renewed)
    assert door.run(store.end_user("ann", new_tombstone())).ended == ((session_id, "ann"),)
    assert not isinstance(door.run(store.load(session_id)), Record)


@requirement("R49")
def test_a_kept_session_that_is_renewed_meanwhile_is_kept(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "Sign out all other devices" does not sign out this one."""
    store = door.open(*three)
    old_id, session_id, record = new_id(), new_id(), new_record("ann")
    door.run(store.create(old_id, record))

    async def end_others() -> None:
        assert (await store.end_user("ann", new_tombstone(), frozenset({old_id}))).ended == ()

    crash_at(store, monkeypatch, 2, meanwhile=end_others)
    answer = door.run(store.create(session_id, record, replaces=replacing(old_id, record, required=True)))
    assert answer == Created()
    assert [found for found, _ in door.run(store.of_user("ann"))] == [session_id]


def test_a_touch_meanwhile_does_not_stop_a_sign_in(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes the token, but nothing that must come along."""
    store = door.open(*three)
    old_id, session_id, record = new_id(), new_id(), new_record()
    door.run(store.create(old_id, record))
    crash_at(
        store,
        monkeypatch,
        1,
        meanwhile=lambda: store.touch(old_id, record.seen_at + 1, record.expires_at + 1),
    )
    assert door.run(store.create(session_id, new_record("ann"), replaces=replacing(old_id, record))) == Created()
    assert isinstance(door.run(store.load(session_id)), Record)
    assert isinstance(door.run(store.load(old_id)), Tombstone)


# -- damaged items


@requirement("R46")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_items_are_no_sessions(data: st.DataObject) -> None:
    """Whatever stands in memcached, reading it ends in an answer."""
    session_id, record, epoch = new_id(), new_record("ann", cart=[1]), items.new_epoch()
    header = items.Header(epoch.current, record.seen_at, record.expires_at, 0, 0, 0.0, 0.0)
    whole = items.encode_record(session_id, record, header, items_codec)
    kinds = [whole, items.encode_making(items.Making(True, new_id(), whole)), items.encode_end(new_tombstone(), "s")]
    value = bytearray(data.draw(st.sampled_from(kinds)))
    for _ in range(data.draw(st.integers(0, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(value[: data.draw(st.integers(0, len(value)))])
    for candidate in (bytes(value), cut, data.draw(st.binary(max_size=80))):
        loaded = items.judge(session_id, Item(candidate, 1), epoch, items_codec)
        assert loaded is None or isinstance(loaded, (Record, Tombstone, Unreadable))
        with suppress(Undecodable):
            items.decode_making(candidate)


@requirement("R46")
def test_an_unreadable_session_can_be_ended_and_not_saved(three: list[Node], door: Door) -> None:
    """To everyone it is no session; an end puts its tombstone there."""
    store, session_id, record, tombstone = door.open(*three), new_id(), new_record(), new_tombstone()
    door.run(store.create(session_id, record))
    key = key_of(store, session_id)
    home(store, three, key).put(key, b"r" + b"\xff" * 80)
    assert isinstance(door.run(store.load(session_id)), Unreadable)
    assert door.run(store.save(session_id, changing(record, a=1), record)) == Gone()
    door.run(store.touch(session_id, record.seen_at, record.expires_at))
    assert isinstance(door.run(store.load(session_id)), Unreadable)
    assert door.run(store.retire(session_id, tombstone, revision=0, version=0)) == Gone()
    assert door.run(store.end(session_id, tombstone)).ended == ((session_id, None),)
    assert door.run(store.load(session_id)) == tombstone


# -- processes, threads, loops


@posix
def test_parent_and_child_do_not_share_connections(three: list[Node], door: Door) -> None:
    """After a fork each reads its own answers."""
    store = door.open(*three)
    ids = {name: new_id() for name in ("parent", "child")}
    for name, session_id in ids.items():
        door.run(store.create(session_id, new_record(who=name)))

    def read(name: str) -> bool:
        return all(values(door.run(store.load(ids[name]))) == {"who": name} for _ in range(100))

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if read("child") else 2
        finally:
            os._exit(code)
    assert read("parent")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_threads_and_event_loops_may_share_a_store(three: list[Node], door: Door) -> None:
    """Each is answered with its own session."""
    store, wrong = door.open(*three), list[str]()

    def work(name: str) -> None:
        async def scenario() -> None:
            session_id = new_id()
            await store.create(session_id, new_record(who=name))
            for _ in range(100):
                if values(await store.load(session_id)) != {"who": name}:
                    wrong.append(name)
            done.append(name)

        door.run(scenario())

    done: list[str] = []
    threads = [threading.Thread(target=work, args=(f"{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6
    assert wrong == []


# -- addresses, options, diagnosis


@given(st.lists(st.integers(1, 60_000), min_size=2, max_size=6, unique=True))
@settings(max_examples=20, deadline=None)
def test_a_node_that_leaves_moves_its_own_share_only(ports: list[int]) -> None:
    """And the order of the names plays no part."""
    addresses = tuple(Address("cache", port) for port in ports)
    placed, fewer = place(addresses), place(addresses[:-1])
    backwards = place(addresses[::-1])
    for slot, owner in enumerate(placed):
        assert addresses[::-1][backwards[slot]] == addresses[owner]
        if owner != len(ports) - 1:
            assert fewer[slot] == owner
    for node in range(len(ports)):
        assert placed.count(node) > 1024 / len(ports) / 1.5


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("one", ((("one", 11211),), None)),
        ("One,two:5", ((("one", 11211), ("two", 5)), None)),
        ("[::1]:7,[fe80::1]", ((("::1", 7), ("fe80::1", 11211)), None)),
        ("ann:p%40ss@one", ((("one", 11211),), ("ann", "p@ss"))),
    ],
)
def test_nodes_are_named_in_the_url(authority: str, expected: object) -> None:
    """Hosts with or without ports, and a user with a password for all of them."""
    assert parse_authority(authority) == expected


@pytest.mark.parametrize(
    "url",
    [
        "memcached://",
        "memcached://one,",
        "memcached://one,one",
        "memcached://one:0",
        "memcached://one:99999",
        "memcached://one:x",
        "memcached://::1",
        "memcached://hunter2@one",
        "memcached://hunter2:@one",
        "memcached://hunter2:a%20b@one",
        "memcached://one/hunter2",
        "memcached://one?hunter2=1",
        "memcached://one?timeout=hunter2",
        "memcached://one?timeout=0",
        "memcached://one?prefix=a%20b",
        "memcached://one?prefix=",
        "memcached://one?tls=hunter2",
        "memcached://one?ca=/no/such/hunter2.pem",
        "memcached://one?ca=hunter2%00",
        "memcached://one?ca=",
    ],
)
def test_a_wrong_memcached_url_is_refused(url: str) -> None:
    """At start, without repeating a secret."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url, blocking=True)
    assert "hunter2" not in str(caught.value).replace("option 'hunter2'", "")


@pytest.mark.parametrize("host", ["a" * 300, "a..b", "a\0b", ".b"])
@pytest.mark.parametrize("tls", [None, ssl.create_default_context()], ids=["plain", "tls"])
def test_a_name_that_no_host_has_is_unavailable(
    door: Door, monkeypatch: pytest.MonkeyPatch, host: str, tls: ssl.SSLContext | None
) -> None:
    """Whatever the resolver and TLS say to it."""
    kind = BlockingNode if door.blocking else AsyncNode
    node = kind(Address(host, 1), timeout=1.0, secret=None, tls=tls)
    with pytest.raises(StoreUnavailable):
        door.run(node.exchange(version()))


def test_a_user_with_a_password_is_let_in(door: Door, tmp_path: Path) -> None:
    """Memcached's -Y; without them, or with others, the store is unavailable and says no more."""
    secrets = tmp_path / "users"
    secrets.write_text("ann:hunter2\n")
    with closed_to_strangers(tmp_path, "-Y", str(secrets)) as node:
        for login, allowed in (("ann:hunter2@", True), ("ann:wrong@", False), ("", False)):
            store = open_store(f"memcached://{login}127.0.0.1:{node.port}", blocking=door.blocking)

            async def scenario(store: Store = store, *, allowed: bool = allowed) -> None:
                session_id, record = new_id(), new_record()
                try:
                    if allowed:
                        assert await store.create(session_id, record) == Created()
                        assert_same(await store.load(session_id), record)
                    else:
                        for _ in range(2):
                            with pytest.raises(StoreUnavailable) as caught:
                                await store.create(session_id, record)
                            assert "wrong" not in str(caught.value)
                finally:
                    await store.close()

            door.run(scenario())


def test_tls_is_spoken_and_the_certificate_checked(door: Door, tmp_path: Path) -> None:
    """With its authority it is trusted; without, nothing is sent."""
    chain, private = certificate(tmp_path)
    with closed_to_strangers(tmp_path, "-Z", "-o", f"ssl_chain_cert={chain},ssl_key={private}") as node:
        trusting, wary = door.open(node, ca=chain), door.open(node, tls="yes")
        session_id, record = new_id(), new_record(a=1)

        async def scenario() -> None:
            assert await trusting.create(session_id, record) == Created()
            assert_same(await trusting.load(session_id), record)
            with pytest.raises(StoreUnavailable):
                await wary.load(session_id)
            await trusting.close()
            await wary.close()

        door.run(scenario())


def test_the_nodes_say_what_they_are(three: list[Node], door: Door) -> None:
    """Version, limits; a name in the network without TLS is warned about, and no name is repeated."""
    store = door.open(*three)
    found = door.run(store.diagnose())
    assert {(finding.severity, finding.code) for finding in found} == {
        ("ok", "memcached-version"),
        ("ok", "memcached-limits"),
    }
    assert len(found) == 6
    far = (Address("cache.internal", 1), Address("10.0.0.7", 2), Address("localhost", 3))

    async def from_afar() -> None:
        findings = await diagnose(store._nodes, far, sealed=False)
        warned = [finding for finding in findings if finding.code == "memcached-transport"]
        assert [finding.severity for finding in warned] == ["warn", "warn"]
        assert not any(host in finding.found for finding in findings for host, _ in far)
        assert all(f.code != "memcached-transport" for f in await diagnose(store._nodes, far, sealed=True))

    door.run(from_afar())


def test_a_node_without_cas_is_a_failure(door: Door) -> None:
    """-C makes conditional writes impossible."""
    with running("-C") as node:
        store = door.open(node)
        assert ("fail", "memcached-cas") in {(f.severity, f.code) for f in door.run(store.diagnose())}


def test_a_renewal_that_a_sign_out_everywhere_overtakes_says_that_its_session_is_gone(
    three: list[Node], door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All sessions end after the new one was entered, and before it stands: it is not taken, what it renews is over."""
    store = door.open(*three)

    async def scenario() -> None:
        old_id, renewed = new_id(), new_id()
        await store.create(old_id, new_record("ann"))
        read = await store.load(old_id)
        assert isinstance(read, Record)
        whole = store._creation._is_listed

        async def overtaken(user: str | None, session_id: str) -> bool:
            await store.end_user("ann", new_tombstone(EndReason.ADMIN, "ann"))
            return await whole(user, session_id)

        monkeypatch.setattr(store._creation, "_is_listed", overtaken)
        replaces = replacing(old_id, read, required=True)
        assert isinstance(await store.create(renewed, new_record("ann"), replaces=replaces), Gone)
        assert not isinstance(await store.load(renewed), Record)
        assert not isinstance(await store.load(old_id), Record)

    door.run(scenario())
