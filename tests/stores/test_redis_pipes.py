"""What a connection to Redis makes of bytes that come in pieces, unasked for, or not at all; both doors."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from sessile.core.bridge import drive
from sessile.core.record import Record, Tombstone
from sessile.errors import StoreUnavailable
from sessile.stores import open_store
from sessile.testing.store_contract import new_id, new_record, new_tombstone
from tests.support.servers import shared

both_doors = pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
Shape = Callable[[socket.socket, bytes], None]


def as_it_is(client: socket.socket, data: bytes) -> None:
    """Pass replies on."""
    client.sendall(data)


class Line:
    """Be a line to the Redis that the tests share; `shape` says how replies come through."""

    def __init__(self) -> None:
        self.shape: Shape = as_it_is
        self.asked: list[bytes] = []
        self.opened = 0
        self.clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self.clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.opened += 1
                self.clients.append(client)
                server = socket.create_connection(("127.0.0.1", shared("redis").port))
                there = lambda data, to=server: (self.asked.append(data), to.sendall(data))  # noqa: E731
                threading.Thread(target=self._pass, args=(client, server, there), daemon=True).start()
                back = lambda data, to=client: self.shape(to, data)  # noqa: E731
                threading.Thread(target=self._pass, args=(server, client, back), daemon=True).start()

    def _pass(self, source: socket.socket, other: socket.socket, forward: Callable[[bytes], object]) -> None:
        with source, suppress(OSError):
            while data := source.recv(1 << 16):
                forward(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line() -> Iterator[Line]:
    with closing(Line()) as made:
        yield made


def run(coroutine: Coroutine[Any, Any, None], *, blocking: bool) -> None:
    """Run a test's body through its door."""
    if blocking:
        drive(coroutine)
    else:
        asyncio.run(coroutine)


def opened(line: Line, *, blocking: bool, timeout: float = 10, more: str = "") -> Any:
    """Open a store at the other end of the line."""
    url = f"redis://127.0.0.1:{line.port}?timeout={timeout:g}&prefix={secrets.token_hex(3)}:{more}"
    return open_store(url, blocking=blocking)


@both_doors
@pytest.mark.parametrize("piece", [1, 7, 53])
def test_replies_in_pieces_are_the_same_replies(line: Line, piece: int, blocking: bool) -> None:
    """A byte at a time, cut anywhere; large ones too, and several of one turn."""

    def cut(client: socket.socket, data: bytes) -> None:
        for start in range(0, min(len(data), 600), piece):
            client.sendall(data[start : min(start + piece, 600)])
        if len(data) > 600:
            client.sendall(data[600:])

    async def body() -> None:
        store = opened(line, blocking=blocking)
        line.shape = cut
        records = {new_id(): new_record("ann", data={"k": secrets.token_hex(size)}) for size in (1, 300, 30_000)}
        for session_id, record in records.items():
            await store.create(session_id, record)
        if blocking:
            loaded = [await store.load(session_id) for session_id in records]
        else:
            loaded = await asyncio.gather(*(store.load(session_id) for session_id in records))
        for found, record in zip(loaded, records.values(), strict=True):
            assert isinstance(found, Record)
            assert {key: bytes(value) for key, value in found.data.items()} == record.data
        assert {each for each, _ in await store.of_user("ann")} == set(records)
        assert len((await store.end_user("ann", new_tombstone())).ended) == 3
        assert line.opened == 1
        await store.close()

    run(body(), blocking=blocking)


@both_doors
def test_what_nobody_asked_for_is_nobodys_reply(line: Line, blocking: bool) -> None:
    """Something comes on an idle connection: it is given up, and the next reply is the next reply."""

    async def body() -> None:
        store, session_id = opened(line, blocking=blocking), new_id()
        await store.create(session_id, new_record("ann"))
        line.clients[-1].sendall(b"*2\r\n$1\r\nx\r\n$-1\r\n")
        time.sleep(0.05)  # noqa: ASYNC251 - the loop stands still: it has read nothing of it
        assert isinstance(await store.load(session_id), Record)
        assert line.opened == 2
        await store.close()

    run(body(), blocking=blocking)


@both_doors
def test_a_connection_that_was_closed_while_idle_fails_no_request(line: Line, blocking: bool) -> None:
    async def body() -> None:
        store, session_id = opened(line, blocking=blocking), new_id()
        await store.create(session_id, new_record("ann"))
        for _ in range(3):
            line.clients[-1].shutdown(socket.SHUT_RDWR)
            time.sleep(0.05)  # noqa: ASYNC251
            assert isinstance(await store.load(session_id), Record)
        assert line.opened == 4
        await store.close()

    run(body(), blocking=blocking)


@both_doors
@pytest.mark.parametrize("left", [0, 1, 30])
def test_a_reply_that_breaks_off_is_an_outage_and_the_next_request_is_served(
    line: Line, left: int, blocking: bool
) -> None:
    """However much of it came."""

    def broken(client: socket.socket, data: bytes) -> None:
        client.sendall(data[:left])
        client.shutdown(socket.SHUT_RDWR)

    async def body() -> None:
        store, session_id = opened(line, blocking=blocking), new_id()
        await store.create(session_id, new_record("ann"))
        line.shape = broken
        with pytest.raises(StoreUnavailable):
            await store.load(session_id)
        line.shape = as_it_is
        assert isinstance(await store.load(session_id), Record)
        await store.close()

    run(body(), blocking=blocking)


@both_doors
@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 50, b"*-7\r\n", b"+\r\n"])
def test_what_is_no_reply_is_an_error_and_harms_no_later_request(line: Line, noise: bytes, blocking: bool) -> None:
    """Another server listens there, or something on the way speaks for it."""
    from sessile.errors import StoreError

    async def body() -> None:
        store, session_id = opened(line, blocking=blocking, timeout=1), new_id()
        await store.create(session_id, new_record("ann"))
        line.shape = lambda client, _: client.sendall(noise)
        with pytest.raises(StoreError):
            await store.load(session_id)
        line.shape = as_it_is
        for client in line.clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        assert isinstance(await store.load(session_id), Record)
        await store.close()

    run(body(), blocking=blocking)


def test_a_storm_of_requests_that_give_up_mixes_no_replies_up(line: Line) -> None:
    """A third of them stop waiting at some point; the others get their own sessions, on a few connections."""

    async def body() -> None:
        store = opened(line, blocking=False)
        ids = [new_id() for _ in range(40)]
        for number, session_id in enumerate(ids):
            await store.create(session_id, new_record(f"user {number}"))

        async def ask(turn: int) -> None:
            number = turn % len(ids)
            await asyncio.sleep(turn % 7 / 1000)
            reading = asyncio.ensure_future(store.load(ids[number]))
            if turn % 3 == 0:
                await asyncio.sleep(turn % 5 / 2000)
                reading.cancel()
            with suppress(asyncio.CancelledError):
                found = await reading
                assert isinstance(found, Record)
                assert found.control.user == f"user {number}"

        for _ in range(5):
            await asyncio.gather(*(ask(turn) for turn in range(600)))
        ended = await store.end(ids[0], new_tombstone())
        assert len(ended.ended) == 1
        assert isinstance(await store.load(ids[0]), Tombstone)
        assert line.opened <= 20
        await store.close()

    asyncio.run(body())


def test_a_lone_load_leaves_at_once_and_the_rest_of_its_turn_behind_it(line: Line) -> None:
    """The first of fifty is on its way before the second is asked for; the others leave together on its connection."""

    async def body() -> None:
        store = opened(line, blocking=False)
        ids = [new_id() for _ in range(50)]
        for number, session_id in enumerate(ids):
            await store.create(session_id, new_record(f"user {number}"))
        line.asked.clear()
        lone = asyncio.ensure_future(store.load(ids[0]))
        await asyncio.sleep(0)  # it has begun; the loop has not turned again
        time.sleep(0.2)  # noqa: ASYNC251 - nothing else can leave meanwhile
        assert len(line.asked) == 1
        assert (await lone).control.user == "user 0"
        line.asked.clear()
        found = await asyncio.gather(*(store.load(session_id) for session_id in ids))
        assert [record.control.user for record in found] == [f"user {number}" for number in range(50)]
        assert 1 <= len(line.asked) <= 2
        assert line.opened == 1
        await store.close()

    asyncio.run(body())


@both_doors
def test_each_request_has_its_whole_time(line: Line, blocking: bool) -> None:
    """One that follows another is not cut short by what was to end the first, and is not left waiting for more."""

    async def body() -> None:
        store, session_id = opened(line, blocking=blocking, timeout=1), new_id()
        await store.create(session_id, new_record("ann"))
        for pause in (0.5, 0.2):
            assert isinstance(await store.load(session_id), Record)
            time.sleep(pause)  # noqa: ASYNC251
            line.shape = lambda client, data: None
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.load(session_id)
            assert 0.95 <= time.monotonic() - began < 4
            line.shape = as_it_is
        await store.close()

    run(body(), blocking=blocking)


def test_nobody_waits_behind_a_load_that_is_stuck(line: Line) -> None:
    """The first connection falls silent: its load fails in its own time, and those that come later take another."""

    async def body() -> None:
        store, session_id = opened(line, blocking=False, timeout=2), new_id()
        await store.create(session_id, new_record("ann"))
        silent = line.clients[0]
        line.shape = lambda client, data: None if client is silent else client.sendall(data)
        began = time.monotonic()
        stuck = asyncio.ensure_future(store.load(session_id))
        for _ in range(3):
            await asyncio.sleep(0.3)
            asked = time.monotonic()
            assert isinstance(await store.load(session_id), Record)
            assert time.monotonic() - asked < 0.9
        with pytest.raises(StoreUnavailable):
            await stuck
        assert 1.9 < time.monotonic() - began < 2.9
        await store.close()

    asyncio.run(body())


def test_who_waits_for_a_connection_of_a_store_that_is_closed_opens_none(line: Line) -> None:
    store, session_id = opened(line, blocking=True, timeout=3, more="&pool=1"), new_id()
    drive(store.create(session_id, new_record("ann")))
    holds = threading.Event()

    def late(client: socket.socket, data: bytes) -> None:
        holds.set()
        time.sleep(0.5)
        client.sendall(data)

    line.shape, found = late, list[str]()

    def load() -> None:
        try:
            drive(store.load(session_id))
        except StoreUnavailable as error:
            found.append(str(error))

    threads = [threading.Thread(target=load) for _ in range(2)]
    threads[0].start()
    assert holds.wait(5)
    threads[1].start()
    time.sleep(0.1)
    drive(store.close())
    for thread in threads:
        thread.join()
    assert "the store is closed" in found
    assert line.opened == 1


def test_who_rides_behind_a_lost_load_fails_with_it_and_the_next_is_served(line: Line) -> None:
    async def body() -> None:
        store = opened(line, blocking=False, timeout=1)
        ids = [new_id() for _ in range(20)]
        for session_id in ids:
            await store.create(session_id, new_record("ann"))
        for silent in (True, False):
            line.shape = lambda client, data, silent=silent: None if silent else client.shutdown(socket.SHUT_RDWR)
            found = await asyncio.gather(*(store.load(session_id) for session_id in ids), return_exceptions=True)
            assert {type(each) for each in found} == {StoreUnavailable}
            line.shape = as_it_is
            assert {type(each) for each in await asyncio.gather(*map(store.load, ids))} == {Record}
        await store.close()

    asyncio.run(body())


def test_broken_connections_leave_the_pool_its_size(line: Line) -> None:
    """One connection is allowed: after every kind of loss another takes its place, and never a second one."""

    def broken(client: socket.socket, data: bytes) -> None:
        client.shutdown(socket.SHUT_RDWR)

    store, session_id = opened(line, blocking=True, timeout=2, more="&pool=1"), new_id()
    drive(store.create(session_id, new_record("ann")))
    for shape in (broken, lambda client, data: client.sendall(b"nonsense\r\n" * 9)) * 5:
        line.shape = shape
        with suppress(Exception):
            drive(store.load(session_id))
        with suppress(Exception):
            drive(store.load(session_id))  # now it is the greeting that fails
        line.shape = as_it_is
        assert isinstance(drive(store.load(session_id)), Record)
    drive(store.close())


def test_a_thread_that_waits_for_a_connection_gets_one_when_another_breaks(line: Line) -> None:
    """Nobody returns the only connection: it breaks under its user, and the waiting thread opens the next."""
    store, session_id = opened(line, blocking=True, timeout=8, more="&pool=1"), new_id()
    drive(store.create(session_id, new_record("ann")))
    holds, found = threading.Event(), list[object]()

    def stuck(client: socket.socket, data: bytes) -> None:
        holds.set()
        time.sleep(0.3)
        line.shape = as_it_is
        client.shutdown(socket.SHUT_RDWR)

    def load() -> None:
        try:
            found.append(drive(store.load(session_id)))
        except StoreUnavailable as error:
            found.append(error)

    line.shape = stuck
    threads = [threading.Thread(target=load) for _ in range(6)]
    began = time.monotonic()
    threads[0].start()
    assert holds.wait(5)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 6
    assert sorted(type(each).__name__ for each in found) == ["Record"] * 5 + ["StoreUnavailable"]
    drive(store.close())
