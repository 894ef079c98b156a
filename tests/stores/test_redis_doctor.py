"""What the Redis store says of its server, and the rights that it needs: those, and not one more."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import redis

from sessile.core.bridge import drive
from sessile.core.ports import Created, Diagnosable, Diagnosis, Store
from sessile.errors import StoreError, StoreUnavailable
from sessile.stores import open_store
from sessile.stores.redis.address import Settings
from sessile.stores.redis.doctor import Facts, acl, judge, sentinel_acl
from sessile.stores.url import StoreUrl
from sessile.testing import StoreContract
from sessile.testing.store_contract import changing, new_id, new_record, new_tombstone, replacing
from tests.support.requirements import requirement
from tests.support.servers import Server, redis_server, shared, valkey_server

PASSWORD = "p%40ss:w%2Frd"


def settings(url: str) -> Settings:
    """Return what a URL says."""
    return Settings.of(StoreUrl.parse(url))


def grant(server: Server, line: str, name: str) -> None:
    """Give a user the rights of a line of an ACL file."""
    _, _, *words = line.replace(">PASSWORD", ">p@ss:w/rd").split()
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", *words)


def diagnose(url: str, *, blocking: bool = True) -> dict[str, Diagnosis]:
    """Return what a store finds, by its code."""

    async def look() -> dict[str, Diagnosis]:
        store = open_store(url, blocking=blocking)
        assert isinstance(store, Diagnosable)
        try:
            return {one.code: one for one in await store.diagnose()}
        finally:
            await cast("Store", store).close()

    return drive(look()) if blocking else asyncio.run(look())


@contextmanager
def a_user(kind: Any) -> Iterator[tuple[Server, str]]:
    """Run a server with a user that has the least rights; return the server and the user's URL."""
    with kind() as server:
        grant(server, acl(settings(server.url)), "sessile")
        yield server, f"redis://sessile:{PASSWORD}@127.0.0.1:{server.port}/0"


@requirement("R48")
class TestWithTheLeastRights(StoreContract):
    """The store passes the contract as a user who has the rights of the line, in a database of its own."""

    blocking = True
    rounds = 20

    def open_store(self) -> Store:
        server, prefix = shared("redis"), f"{secrets.token_hex(4)}*:"
        url = f"redis://least:{PASSWORD}@127.0.0.1:{server.port}/1?prefix={prefix}"
        grant(server, acl(settings(url), name="least"), "least")
        return open_store(url, blocking=True)


@requirement("R48")
@pytest.mark.parametrize("kind", [redis_server, valkey_server])
def test_no_right_is_superfluous(kind: Any) -> None:
    """Without any one of them the doctor says so, or, for what only the doctor asks, knows less."""
    with a_user(kind) as (server, url):
        assert diagnose(url)["redis-rights"].severity == "ok"
        granted = [word[1:] for word in acl(settings(url)).split() if word.startswith("+")]
        assert len(granted) > 15
        for command in granted:
            with redis.Redis(port=server.port) as client:
                client.execute_command("ACL", "SETUSER", "sessile", f"-{command}")
            found = diagnose(url)
            if command == "config|get":
                assert found["redis-config"].severity == "warn"
            else:
                assert found["redis-rights"].severity == "fail"
                assert command.upper() in found["redis-rights"].found
            with redis.Redis(port=server.port) as client:
                client.execute_command("ACL", "SETUSER", "sessile", f"+{command}")


@requirement("R48")
def test_the_rights_end_at_the_prefix() -> None:
    """Other keys of the server are neither read nor written, and neither is the server's configuration changed."""
    with (
        a_user(redis_server) as (server, _),
        redis.Redis(port=server.port, username="sessile", password="p@ss:w/rd") as client,
    ):
        for command in (
            ("GET", "other"),
            ("MGET", "sessile:{00}e", "other"),
            ("EVAL", "return redis.call('GET', 'other')", 0),
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("SUBSCRIBE", "x"),
        ):
            with pytest.raises(redis.ResponseError):
                client.execute_command(*command)


@requirement("R45", "R51")
@pytest.mark.parametrize("blocking", [True, False])
def test_the_servers_settings_are_judged(blocking: bool) -> None:
    """By a real server of each kind: persistence, eviction, transport, version."""
    with redis_server(appendonly="yes") as server:
        found = diagnose(server.url, blocking=blocking)
        assert {one.severity for one in found.values()} == {"ok"}
    with redis_server(maxmemory="100mb", maxmemory_policy="allkeys-lru", save="60 1") as server:
        found = diagnose(server.url, blocking=blocking)
        assert found["redis-eviction"].severity == "fail"
        assert found["redis-persistence"].severity == "warn"
    with valkey_server(maxmemory="100mb", maxmemory_policy="volatile-ttl") as server:
        found = diagnose(server.url, blocking=blocking)
        assert found["redis-eviction"].severity == "warn"
        assert "Valkey" in found["redis-version"].found
    with (
        redis_server(repl_diskless_sync_delay=0) as server,
        redis_server(replicaof=f"127.0.0.1 {server.port}"),
    ):
        client = redis.Redis(port=server.port)
        while not client.info("replication")["connected_slaves"]:
            pass
        assert diagnose(server.url, blocking=blocking)["redis-replicas"].severity == "warn"
        client.config_set("min-replicas-to-write", 1)
        client.config_set("min-replicas-max-lag", 1)
        assert diagnose(server.url, blocking=blocking)["redis-replicas"].severity == "ok"
        client.close()
    with pytest.raises(StoreUnavailable):
        diagnose(server.url, blocking=blocking)


@requirement("R48")
def test_the_transport_and_the_version_are_judged() -> None:
    """By what the URL says: a network without TLS or password is worth a warning, and an old server is refused."""
    facts = Facts({"redis_version": "6.2.7"}, {"save": ""}, ())
    found = {one.code: one.severity for one in judge(settings("redis://db.example"), facts)}
    assert (found["redis-transport"], found["redis-password"], found["redis-version"]) == ("warn", "warn", "fail")
    found = {one.code: one.severity for one in judge(settings("rediss://ann:secret@db.example"), facts)}
    assert found["redis-transport"] == "ok"
    assert "redis-password" not in found
    for local in ("redis://localhost", "redis://[::1]", "redis://127.0.0.1", "redis+unix:///run/redis.sock"):
        found = {one.code: one.severity for one in judge(settings(local), facts)}
        assert found["redis-transport"] == "ok"


@requirement("R48")
def test_a_diagnosis_holds_no_secret() -> None:
    """Neither password nor host."""
    facts = Facts({"redis_version": "6.2.7"}, {}, ("GET",))
    for one in judge(settings("redis://ann:hunter2@hunter2.example/3?prefix=app:"), facts):
        assert "hunter2" not in repr(one)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_wrong_password_and_a_missing_right_are_told_apart(blocking: bool) -> None:
    """Both fail closed; neither message repeats the password, the key or the id."""

    async def body() -> None:
        session_id = new_id()
        wrong = open_store(url.replace("rd@", "rhunter2@"), blocking=blocking)
        with pytest.raises(StoreUnavailable, match="refused the user name or the password") as caught:
            await wrong.load(session_id)
        assert "hunter2" not in repr(caught.value)
        await wrong.close()
        store = open_store(url, blocking=blocking)
        await store.create(session_id, new_record("ann"))
        with redis.Redis(port=server.port) as client:
            client.execute_command("ACL", "SETUSER", "sessile", "-set")
        with pytest.raises(StoreError, match="denies this user") as denied:
            await store.end(session_id, new_tombstone())
        assert session_id not in repr(denied.value)
        assert denied.value.__cause__ is None
        assert denied.value.__suppress_context__
        await store.close()

    with a_user(redis_server) as (server, url):
        drive(body()) if blocking else asyncio.run(body())


@requirement("R48")
@pytest.mark.parametrize("blocking", [True, False])
def test_the_least_rights_are_enough_on_a_cluster_and_behind_sentinels(blocking: bool) -> None:
    """Every verb, and the doctor, as a user who has the rights of the lines and nothing else."""

    async def use(url: str) -> None:
        store = cast("Any", open_store(url, blocking=blocking))
        ids = [new_id() for _ in range(4)]
        for session_id in ids:
            await store.create(session_id, new_record("ann"), limit=10)
        record = await store.load(ids[0])
        await store.save(ids[0], changing(record, a=1), record)
        await store.touch(ids[0], record.seen_at + 1, record.expires_at + 1000)
        replaces = replacing(ids[1], record)
        assert await store.create(new_id(), new_record("ann"), replaces=replaces, limit=10) == Created()
        assert (await store.end(ids[0], new_tombstone())).confirmed
        assert len(await store.of_user("ann")) == 3
        assert (await store.end_user("ann", new_tombstone())).confirmed
        assert (await store.end_everything(time.time())).confirmed
        assert (await store.stats(time.time())).live == 0
        await store.sweep(time.time() + 9999, 100)
        assert {one.severity for one in await store.diagnose() if one.code == "redis-rights"} == {"ok"}
        await store.close()

    def run(url: str) -> None:
        drive(use(url)) if blocking else asyncio.run(use(url))

    name, prefix = f"u{secrets.token_hex(3)}", f"{secrets.token_hex(3)}:"
    lab = shared("cluster")
    url = lab.url.replace("://", f"://{name}:{PASSWORD}@") + f"?prefix={prefix}&timeout=5"
    for node in lab.nodes:
        grant(node, acl(settings(url), name=name), name)
    run(url)
    lab = shared("sentinel")
    for node in lab.nodes:
        grant(node, acl(settings(f"redis://h?prefix={prefix}"), name=name), name)
    for sentinel in lab.sentinels:
        grant(sentinel, sentinel_acl(name), name)
    more = f"?prefix={prefix}&timeout=5&sentinel_user={name}&sentinel_password={PASSWORD}"
    run(lab.url.replace("://", f"://{name}:{PASSWORD}@") + more)
