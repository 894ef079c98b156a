"""What Redis is asked, and what happens when it does not answer as it should."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from sessile.core.bridge import drive
from sessile.core.ports import Created, Ending, Replaces
from sessile.core.record import PLAIN, Change, Record, Tombstone, Unreadable, apply
from sessile.errors import ConfigurationError, StoreError, StoreFull, StoreUnavailable
from sessile.stores import open_store
from sessile.stores.redis import layout
from sessile.stores.redis.address import Settings
from sessile.stores.redis.scripts import TEXTS
from sessile.stores.url import StoreUrl
from sessile.testing.store_contract import (
    assert_same,
    changing,
    encoded,
    new_id,
    new_record,
    new_tombstone,
    replacing,
    values,
)
from tests.support.requirements import requirement
from tests.support.servers import Server, redis_server, shared

both_doors = pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])


def run(coroutine: Coroutine[Any, Any, None], *, blocking: bool) -> None:
    """Run a test's body through its door."""
    if blocking:
        drive(coroutine)
    else:
        asyncio.run(coroutine)


def opened(server: Server, *, blocking: bool, more: str = "") -> Any:
    """Open a store with a prefix of its own."""
    return open_store(f"{server.url}?prefix={secrets.token_hex(3)}:{more}", blocking=blocking)


@contextmanager
def counted(server: Server) -> Iterator[dict[str, int]]:
    """Fill a dictionary with how often each command was called meanwhile, those inside scripts left out."""
    calls: dict[str, int] = {}
    with redis.Redis(port=server.port) as client:
        client.config_resetstat()
        yield calls
        stats = cast("dict[str, dict[str, Any]]", client.info("commandstats"))
    inside = {"get", "set", "getrange", "setrange", "exists", "pttl", "pexpire", "del", "zadd", "zrem", "zrange"}
    ours = {"info", "config|resetstat", "client|setinfo"}
    for name, one in stats.items():
        command = name.removeprefix("cmdstat_")
        if command not in inside | ours:
            calls[command] = one["calls"]


# -- what is asked


@requirement("R42")
@both_doors
def test_a_read_is_one_command_and_a_write_is_one(blocking: bool) -> None:
    """As the server counts them; what can be no session's id costs none."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        await store.save(session_id, changing(record, a=1), record)
        await store.touch(session_id, record.seen_at + 1, record.expires_at + 1)
        loaded = await store.load(session_id)
        with counted(server) as calls:
            await store.load(session_id)
        assert calls == {"mget": 1}
        with counted(server) as calls:
            await store.save(session_id, changing(loaded, a=2), loaded)
        assert calls == {"evalsha": 1}
        with counted(server) as calls:
            await store.touch(session_id, record.seen_at + 9, record.expires_at + 9)
        assert calls == {"evalsha": 1}
        with counted(server) as calls:
            await store.create(new_id(), new_record("ann"), limit=5)
        assert calls == {"evalsha": 1}
        with counted(server) as calls:
            for nonsense in ("", "x" * 40, "../" * 13, "é" * 40):
                assert await store.load(nonsense) is None
        assert calls == {}
        await store.close()

    with redis_server() as server:
        run(body(), blocking=blocking)


@requirement("R64")
def test_ending_everything_takes_one_command_whatever_there_is() -> None:
    """O(1): as many keys are written for a thousand sessions as for none."""

    async def body() -> None:
        store = opened(server, blocking=False)
        await store.end_everything(time.time())
        await asyncio.gather(*(store.create(new_id(), new_record("ann")) for _ in range(1000)))
        with counted(server) as calls:
            assert await store.end_everything(time.time()) == Ending((), confirmed=True)
        assert calls.get("evalsha") == 1
        assert set(calls) <= {"evalsha", "ping"}
        await store.close()

    with redis_server() as server:
        asyncio.run(body())


@requirement("R50")
@both_doors
def test_the_index_shrinks_with_the_sessions_and_dies_after_them(blocking: bool) -> None:
    """Entries of ended sessions go at once, those of lost ones when it is read, and the key has a lifetime."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        client = redis.Redis(port=server.port)
        key = store._names.index(layout.owner_of("ann"))
        ids = [new_id() for _ in range(4)]
        for session_id in ids:
            await store.create(session_id, new_record("ann"))
        assert 24 * 3600 < client.ttl(key) <= 25 * 3600 + 1
        await store.touch(ids[0], time.time(), time.time() + 9 * 3600)
        assert client.ttl(key) > 32 * 3600
        await store.end(ids[0], new_tombstone())
        assert client.zcard(key) == 3
        client.delete(store._names.session(ids[1]))  # evicted
        assert {each for each, _ in await store.of_user("ann")} == set(ids[2:])
        assert client.zcard(key) == 2
        await store.end_user("ann", new_tombstone())
        assert not client.exists(key)
        client.close()
        await store.close()

    with redis_server() as server:
        run(body(), blocking=blocking)


def test_names_of_users_stand_in_no_key() -> None:
    """Keys are seen by whoever monitors the server."""
    server = shared("redis")

    async def body() -> None:
        store = opened(server, blocking=True)
        await store.create(new_id(), new_record("ann.example"))
        with redis.Redis(port=server.port) as client:
            assert not [key for key in client.scan_iter(count=10_000) if b"ann" in key]
        await store.close()

    drive(body())


# -- lost epochs, lost scripts


@requirement("R61")
@both_doors
def test_a_lost_epoch_fails_closed(blocking: bool) -> None:
    """Its sessions are ended, whatever is written afterwards; new ones live."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        session_id, record = new_id(), new_record("ann")
        await store.create(session_id, record)
        with redis.Redis(port=server.port) as client:
            client.delete(store._names.epoch(session_id))
        assert isinstance(await store.load(session_id), Tombstone)
        neighbour = session_id[:2] + new_id()[2:]
        assert await store.create(neighbour, record) == Created()
        assert isinstance(await store.load(neighbour), Record)
        assert isinstance(await store.load(session_id), Tombstone)
        assert [each for each, _ in await store.of_user("ann")] == [neighbour]
        await store.close()

    server = shared("redis")
    run(body(), blocking=blocking)


@both_doors
def test_scripts_that_the_server_forgot_are_sent_again(blocking: bool) -> None:
    """After SCRIPT FLUSH every verb goes on, also when many need the script at once."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        client = redis.Redis(port=server.port)
        session_id, record = new_id(), new_record("ann", a=0)
        verbs: list[Callable[[], Any]] = [
            lambda: store.create(session_id, record),
            lambda: store.save(session_id, changing(record, a=1), record),
            lambda: store.touch(session_id, record.seen_at + 1, record.expires_at + 1),
            lambda: store.of_user("ann"),
            lambda: store.end(session_id, new_tombstone()),
            lambda: store.end_user("ann", new_tombstone()),
            lambda: store.end_everything(time.time()),
            lambda: store.sweep(time.time() + 9999, 10),
        ]
        for verb in verbs:
            client.script_flush()
            await verb()
        client.script_flush()
        if not blocking:
            assert await asyncio.gather(*(store.create(new_id(), record) for _ in range(50))) == [Created()] * 50
        client.close()
        await store.close()

    with redis_server() as server:
        run(body(), blocking=blocking)


def test_every_script_is_known_by_its_own_digest() -> None:
    """No two share a text, and the server computes the same digests."""
    with redis.Redis(port=shared("redis").port) as client:
        for digest, text in TEXTS.items():
            assert client.script_load(text).encode() == digest


# -- when it fails


@requirement("R45")
@both_doors
def test_a_full_server_refuses_sign_ins_and_still_ends_sessions(blocking: bool) -> None:
    """StoreFull; a sign-out, and a sign-out of all, must work then."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        client = redis.Redis(port=server.port)
        ids = [new_id() for _ in range(3)]
        for session_id in ids:
            await store.create(session_id, new_record("ann", a="x" * 200))
        record = await store.load(ids[0])
        client.config_set("maxmemory", "1mb")
        with pytest.raises(StoreFull):
            await store.create(new_id(), new_record("ann"))
        with pytest.raises(StoreFull):
            await store.save(ids[0], changing(record, a="y" * 200), record)
        assert values(await store.load(ids[0])) == {"a": "x" * 200}
        await store.touch(ids[0], record.seen_at + 5, record.expires_at + 5)
        assert (await store.load(ids[0])).seen_at == record.seen_at + 5
        assert (await store.end(ids[0], new_tombstone())).ended == ((ids[0], "ann"),)
        assert isinstance(await store.load(ids[0]), Tombstone)
        assert len((await store.end_user("ann", new_tombstone())).ended) == 2
        client.close()
        await store.close()

    with redis_server(maxmemory_policy="noeviction") as server:
        run(body(), blocking=blocking)


@requirement("R45")
@both_doors
@pytest.mark.parametrize("how", ["frozen", "dead"])
def test_a_server_that_does_not_answer_fails_in_time(how: str, blocking: bool) -> None:
    """StoreUnavailable within the budget, never an answer; afterwards all goes on by itself."""

    async def body() -> None:
        store = opened(server, blocking=blocking, more="&timeout=0.3")
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        if how == "frozen":
            server.freeze()
        else:
            server.kill()
        verbs: list[Callable[[], Any]] = [
            lambda: store.load(session_id),
            lambda: store.create(new_id(), record, replaces=replacing(session_id, record)),
            lambda: store.save(session_id, changing(record, a=1), record),
            lambda: store.touch(session_id, record.seen_at + 1, record.expires_at + 1),
            lambda: store.of_user("ann"),
            lambda: store.stats(time.time()),
        ]
        for verb in verbs:
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable) as caught:
                await verb()
            assert time.monotonic() - begun < 5
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__ or caught.value.__context__ is None
            for secret in (session_id, "ann", str(server.port), "127.0.0.1"):
                assert secret not in str(caught.value)
        if how == "frozen":
            server.thaw()
        else:
            server.start()
        found = await store.load(session_id)
        assert isinstance(found, Record) if how == "frozen" else found is None
        await store.close()

    with redis_server() as server:
        run(body(), blocking=blocking)


@requirement("R45")
@both_doors
def test_a_replica_is_not_even_read(blocking: bool) -> None:
    """What it holds may be old; a server that became one is left at the first write that it refuses."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        session_id, record = new_id(), new_record()
        await store.create(session_id, record)
        client = redis.Redis(port=server.port)
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable):
            await store.save(session_id, changing(record, a=1), record)
        with pytest.raises(StoreUnavailable, match="replica"):
            await store.load(session_id)
        client.replicaof("NO", "ONE")
        assert isinstance(await store.load(session_id), Record)
        client.close()
        await store.close()

    with redis_server() as server:
        run(body(), blocking=blocking)


@requirement("R46")
@both_doors
def test_what_others_wrote_under_the_prefix_is_no_session(blocking: bool) -> None:
    """Garbage is unreadable, and can be ended; another type is an error that repeats no key."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        client = redis.Redis(port=server.port)
        garbage, listed = new_id(), new_id()
        client.set(store._names.session(garbage), b"\x01Rxx")
        client.rpush(store._names.session(listed), "x")
        assert isinstance(await store.load(garbage), Unreadable)
        assert (await store.end(garbage, new_tombstone())).ended == ((garbage, None),)
        assert isinstance(await store.load(garbage), Tombstone)
        assert await store.load(listed) is None
        with pytest.raises(StoreError) as caught:
            await store.end(listed, new_tombstone())
        assert listed not in str(caught.value)
        client.close()
        await store.close()

    server = shared("redis")
    run(body(), blocking=blocking)


# -- many at once


def test_loads_of_one_turn_travel_together() -> None:
    """Fifty loads use one connection, and so do fifty that start while those are under way."""

    async def body() -> None:
        store = opened(server, blocking=False)
        ids = [new_id() for _ in range(50)]
        for session_id in ids:
            await store.create(session_id, new_record())
        with redis.Redis(port=server.port) as client:
            before = client.info("stats")["total_connections_received"]
            found = await asyncio.gather(*(store.load(session_id) for session_id in ids))
            assert all(isinstance(each, Record) for each in found)
            assert client.info("stats")["total_connections_received"] == before
        await store.close()

    server = shared("redis")
    asyncio.run(body())


@requirement("R32")
def test_who_stops_waiting_harms_nobody() -> None:
    """Half of the loads are cancelled in flight: the others get their own sessions, and so does whoever comes next."""

    async def body() -> None:
        store = opened(server, blocking=False)
        ids = [new_id() for _ in range(40)]
        for number, session_id in enumerate(ids):
            await store.create(session_id, new_record(number=number))
        for turn in range(30):
            tasks = [asyncio.create_task(store.load(session_id)) for session_id in ids]
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            for number, each in enumerate(found):
                if number % 2:
                    assert values(each) == {"number": number}
                else:
                    assert isinstance(each, asyncio.CancelledError) or values(each) == {"number": number}
        await store.close()

    server = shared("redis")
    asyncio.run(body())


@both_doors
def test_no_more_connections_than_the_pool_holds(blocking: bool) -> None:
    """The others wait, and fail if it takes too long."""

    async def body() -> None:
        store = opened(server, blocking=blocking, more="&pool=2&timeout=5")
        session_id = new_id()
        await store.create(session_id, new_record())

        def work() -> None:
            for _ in range(50):
                assert isinstance(drive(store.load(session_id)), Record)

        if blocking:
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            for _ in range(10):
                await asyncio.gather(*(store.end(new_id(), new_tombstone()) for _ in range(20)))
        with redis.Redis(port=server.port) as client:
            assert len(client.client_list()) <= 3
        await store.close()

    with redis_server() as server:
        run(body(), blocking=blocking)


def test_a_store_serves_several_loops_one_after_the_other() -> None:
    """Each with connections of its own, which are closed with it."""
    server = shared("redis")
    store = opened(server, blocking=False)
    ids = [new_id() for _ in range(5)]
    for session_id in ids:
        assert asyncio.run(store.create(session_id, new_record())) == Created()
    for session_id in ids:
        assert isinstance(asyncio.run(store.load(session_id)), Record)
    asyncio.run(store.close())


@requirement("R32")
@both_doors
def test_parent_and_child_go_on_with_connections_of_their_own(blocking: bool) -> None:
    """After a fork neither reads what the other asked for."""
    server = shared("redis")
    store = opened(server, blocking=blocking)
    ids = [new_id() for _ in range(20)]

    def check() -> None:
        async def body() -> None:
            for number, session_id in enumerate(ids):
                assert values(await store.load(session_id)) == {"number": number}

        for _ in range(20):
            run(body(), blocking=blocking)

    async def begin() -> None:
        for number, session_id in enumerate(ids):
            await store.create(session_id, new_record(number=number))
        await store.end(new_id(), new_tombstone())

    run(begin(), blocking=blocking)
    child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            check()
            run(store.close(), blocking=blocking)
            status = 0
        os._exit(status)
    check()
    assert os.waitpid(child, 0)[1] == 0
    check()
    run(store.close(), blocking=blocking)


# -- the bytes


@requirement("R46")
@given(st.binary(max_size=200), st.binary(max_size=40) | st.none())
def test_no_bytes_make_decoding_fail(raw: bytes, epoch: bytes | None) -> None:
    """They are a record, a tombstone, unreadable or nothing."""
    for prefix in (b"", b"\x01R", b"\x01T", b"\x01P"):
        layout.decode(PLAIN, new_id(), prefix + raw, epoch)


@requirement("R46")
@given(st.data())
def test_a_damaged_record_is_never_another_one(data: st.DataObject) -> None:
    """Whatever byte of the header changes, decoding answers; a cut record is none."""
    session_id, record = "ab" * 20, new_record("ann", cart=[1, 2])
    before, after = layout.encode_record(PLAIN, session_id, record)
    raw = before + b"stamp..." + after
    assert_same(layout.decode(PLAIN, session_id, raw, b"stamp..."), record)
    cut = data.draw(st.integers(0, len(raw) - 1))
    assert not isinstance(layout.decode(PLAIN, session_id, raw[:cut], b"stamp..."), Record)
    place, value = data.draw(st.integers(0, layout.HEAD - 1)), data.draw(st.integers(0, 255))
    layout.decode(PLAIN, session_id, raw[:place] + bytes([value]) + raw[place + 1 :], b"stamp...")


@given(st.floats(), st.floats())
def test_times_travel_as_they_are_or_as_none(seen_at: float, expires_at: float) -> None:
    """What is no time counts as 1970, and nothing is kept for longer than its record says, or for no time at all."""
    assert layout.time_of(layout.time_bytes(seen_at)) == (seen_at if 0 < seen_at < 2**53 else 0.0)
    assert 1 <= layout.lifetime(seen_at, expires_at) <= 2**53 * 1000 + 1


@both_doors
def test_the_servers_clock_need_not_be_ours(blocking: bool) -> None:
    """A session of an application whose clock is a year off lives as long as it says."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        for away in (-365 * 86400.0, 365 * 86400.0):
            session_id = new_id()
            await store.create(session_id, new_record("ann", at=time.time() + away))
            assert isinstance(await store.load(session_id), Record)
            with redis.Redis(port=server.port) as client:
                assert 3590 < client.ttl(store._names.session(session_id)) <= 3601
        await store.close()

    server = shared("redis")
    run(body(), blocking=blocking)


# -- URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", ("localhost", 6379, 0, None, None, False)),
        ("redis://h:1/3", ("h", 1, 3, None, None, False)),
        ("valkey://u:p%40%2F%3A@[::1]", ("::1", 6379, 0, "u", "p@/:", False)),
        ("rediss://:p@h", ("h", 6379, 0, None, "p", True)),
        ("valkeys://h", ("h", 6379, 0, None, None, True)),
    ],
)
def test_urls_are_read(url: str, expected: tuple[object, ...]) -> None:
    """Host, port, database, user and password, each decoded."""
    found = Settings.of(StoreUrl.parse(url))
    address = found.addresses[0]
    assert (address.host, address.port, found.database, found.user, found.password, found.tls) == expected
    assert "p@/:" not in repr(found)


def test_urls_of_several_servers_are_read() -> None:
    """Sentinels have a service, and ports of their own; a cluster has no database."""
    found = Settings.of(StoreUrl.parse("redis+sentinel://u:p@a,b:1,c/main/2?sentinel_password=x"))
    assert [(one.host, one.port) for one in found.addresses] == [("a", 26379), ("b", 1), ("c", 26379)]
    assert (found.service, found.database, found.topology, found.sentinel_password) == ("main", 2, "sentinel", "x")
    found = Settings.of(StoreUrl.parse("rediss+cluster://a,b:1?timeout=2.5&pool=7"))
    assert (found.topology, found.tls, found.timeout, found.pool) == ("cluster", True, 2.5, 7)
    found = Settings.of(StoreUrl.parse("redis+unix:///run/redis.sock?db=4"))
    assert (found.addresses[0].path, found.database) == ("/run/redis.sock", 4)


@pytest.mark.parametrize(
    "url",
    [
        "redis://hunter2/x",
        "redis://hunter2:99999",
        "redis://hunter2:x",
        "redis://a,b/hunter2",
        "redis://a,b",
        "redis+sentinel://a,b",
        "redis+sentinel://a/hunter2 name",
        "redis+cluster://a/1",
        "redis+unix://hunter2/path",
        "redis+unix://",
        "redis://a?prefix=%7Bhunter2%7D",
        "redis://a?timeout=hunter2",
        "redis://a?ca=/hunter2",
        "rediss://a?ca=/hunter2",
        "redis://a?lease=0",
        "redis://a?hunter=2",
    ],
)
def test_wrong_urls_are_refused_without_repeating_them(url: str) -> None:
    """A host, a path and a value may be secret."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url, blocking=True)
    assert "hunter2" not in str(caught.value)


# -- TLS


@requirement("R48")
@both_doors
def test_certificates_are_verified(blocking: bool, tmp_path: Path) -> None:
    """With the authority's certificate the store works; without, and for another name, it does not connect."""
    from tests.stores.redis_certificates import authority, certificate

    ca_cert, ca_key = authority(tmp_path)
    cert, key = certificate(tmp_path, ca_cert, ca_key, "localhost")

    async def body() -> None:
        good = open_store(f"rediss://localhost:{port}?ca={ca_cert}", blocking=blocking)
        session_id = new_id()
        assert await good.create(session_id, new_record()) == Created()
        assert isinstance(await good.load(session_id), Record)
        await good.close()
        for url in (f"rediss://localhost:{port}", f"rediss://127.0.0.1:{port}?ca={ca_cert}"):
            bad = open_store(url, blocking=blocking)
            with pytest.raises(StoreUnavailable):
                await bad.load(session_id)
            await bad.close()

    from tests.support.ports import free_port

    port = free_port()
    options = {"tls-port": port, "tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": ca_cert}
    with redis_server(port=0, **options, **{"tls-auth-clients": "no"}):
        run(body(), blocking=blocking)


# -- a model


def test_a_save_is_the_change_applied_to_what_is_there() -> None:
    """Random changes through two stores on one session give what the one merge function gives."""
    server = shared("redis")
    one, other = (
        open_store(f"{server.url}?prefix=model{secrets.token_hex(3)}:", blocking=True),
        None,
    )
    other = open_store(f"{server.url}?prefix={cast('Any', one)._names.prefix.decode()}", blocking=True)
    session_id, record = new_id(), new_record("ann", a=0)
    drive(one.create(session_id, record))
    expected, bases = record, [record]
    for number in range(200):
        store, base = (one, other)[number % 2], bases[number % len(bases)]
        change = Change(
            seen_at=record.seen_at + number % 7,
            expires_at=record.expires_at + number % 5,
            put={f"k{number % 6}": encoded(number)},
            drop=frozenset({f"k{(number + 3) % 6}"}),
        )
        if number % 4 == 0:
            control = msgspec.structs.replace(expected.control, generation=number)
            change = msgspec.structs.replace(change, control=control, revision=expected.revision)
        expected = apply(expected, change)
        saved = drive(store.save(session_id, change, base))
        assert_same(saved, expected)
        bases = [*bases[-3:], cast("Record", saved)]
    assert_same(drive(one.load(session_id)), expected)
    for store in (one, other):
        drive(store.close())


def test_replaces_is_given_whole() -> None:
    """A sign-in that names what can be no session's id is one that replaces nothing."""
    server = shared("redis")
    store = opened(server, blocking=True)
    nonsense = Replaces("../x", new_tombstone(), required=False, revision=0, version=0)
    assert drive(store.create(new_id(), new_record("ann"), replaces=nonsense)) == Created()
    with pytest.raises(StoreError):
        drive(store.create("../x", new_record()))
    drive(store.close())


@requirement("R45")
@both_doors
def test_one_answer_that_is_late_costs_nobody_elses(blocking: bool) -> None:
    """Connections are given up after a loss; what others are just reading is not."""

    async def body() -> None:
        store = opened(server, blocking=blocking)
        session_id = new_id()
        await store.create(session_id, new_record())
        node = store._wire._node

        async def late() -> None:
            with pytest.raises(StoreUnavailable):
                await node.exchange(((b"WAIT", 1, 5000),), time.monotonic() + 0.02)

        async def read() -> None:
            for _ in range(10):
                assert isinstance(await store.load(session_id), Record)

        if blocking:
            failures: list[BaseException] = []

            def work(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
                try:
                    for _ in range(20):
                        drive(job())
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=work, args=(job,)) for job in (late, read, read, read)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert failures == []
        else:
            for _ in range(20):
                await asyncio.gather(late(), read(), read(), read())
        await store.close()

    server = shared("redis")
    run(body(), blocking=blocking)
