"""The proxy of the failure lab: it slows copies alone, in either direction, and cuts off whom it is told to."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
import redis

from tests.failure.proxy import CLIENTS, Proxies
from tests.support.servers import Server, redis_server
from tests.support.servers.replicated import until

LAG = 3.0
AT_ONCE = 2.5  # seconds: less than the lag is all that "nobody slows it" means, and a busy machine has its own pace


@dataclass
class Pair:
    """Hold a primary behind a proxy, its copy, and clients: of the primary through the proxy, of the copy directly."""

    proxies: Proxies
    server: Server
    primary: redis.Redis
    copy: redis.Redis

    def seconds_until_the_copy_has(self, value: bytes) -> float:
        """Write through the proxy, and measure."""
        began = time.monotonic()
        self.primary.set("key", value)
        assert time.monotonic() - began < AT_ONCE, "the client was slowed"
        until(lambda: self.copy.get("key") == value, "the copy has it", 10)
        return time.monotonic() - began


@contextmanager
def paired() -> Generator[Pair]:
    with ExitStack() as stack:
        proxies = Proxies()
        stack.callback(proxies.close)
        server = stack.enter_context(redis_server(repl_diskless_sync_delay=0))
        door = proxies.before(server.port)
        replica = stack.enter_context(redis_server(replicaof=f"127.0.0.1 {door}"))
        primary = stack.enter_context(redis.Redis(port=door, socket_timeout=8, retry=None))
        copy = stack.enter_context(redis.Redis(port=replica.port))
        until(lambda: copy.info("replication")["master_link_status"] == "up", "the copy follows")
        # A primary sends nothing on before it has heard from its copy, which speaks once a second.
        until(lambda: primary.info("replication")["slave0"]["state"] == "online", "the primary knows of it")
        primary.set("key", b"first")
        until(lambda: copy.get("key") == b"first", "the copy has what is written")
        yield Pair(proxies, server, primary, copy)


@pytest.fixture
def pair() -> Generator[Pair]:
    with paired() as made:
        yield made


def test_copies_lag_and_clients_do_not(pair: Pair) -> None:
    assert pair.seconds_until_the_copy_has(b"1") < AT_ONCE
    pair.proxies.lag(LAG)
    assert LAG <= pair.seconds_until_the_copy_has(b"2") < LAG + AT_ONCE
    pair.proxies.lag(0)
    assert pair.seconds_until_the_copy_has(b"3") < AT_ONCE


def test_what_copies_answer_lags_by_itself(pair: Pair) -> None:
    pair.proxies.lag(0, answers=LAG)
    assert pair.seconds_until_the_copy_has(b"1") < AT_ONCE
    began = time.monotonic()
    assert pair.primary.wait(1, 5000) == 1
    assert time.monotonic() - began >= LAG / 2, "the answer was on its way for a part of that already"


def test_a_primary_that_dies_takes_along_what_its_copy_had_not_got(pair: Pair) -> None:
    """Without this, killing a server on one machine loses nothing."""
    pair.seconds_until_the_copy_has(b"old")
    pair.proxies.lag(5)
    assert pair.primary.set("key", b"new")
    pair.server.kill()
    until(lambda: pair.copy.info("replication")["master_link_status"] == "down", "the copy is alone")
    assert pair.copy.get("key") == b"old"


def test_a_primary_that_is_cut_off_from_its_copy_still_has_its_clients(pair: Pair) -> None:
    pair.seconds_until_the_copy_has(b"old")
    pair.proxies.cut(pair.server.port)
    assert pair.primary.set("key", b"new")
    assert pair.primary.wait(1, 300) == 0
    assert pair.copy.get("key") == b"old"
    pair.proxies.heal()
    until(lambda: pair.copy.get("key") == b"new", "the copy has caught up", 20)


def test_clients_that_are_cut_off_hear_nothing_and_the_copy_goes_on(pair: Pair) -> None:
    pair.proxies.cut(pair.server.port, kinds=CLIENTS)
    with pytest.raises(redis.TimeoutError):
        pair.primary.get("key")
    with redis.Redis(port=pair.server.port) as direct:
        direct.set("key", b"new")
    until(lambda: pair.copy.get("key") == b"new", "the copy has it", 10)
    pair.proxies.heal()
    assert pair.primary.get("key") == b"new"


def test_reads_of_clients_are_counted_and_writes_are_not(pair: Pair) -> None:
    counted = pair.proxies.proxies[pair.server.port].reads
    pair.primary.set("key", b"1")
    assert len(counted) == 0
    pair.primary.get("key")
    pair.primary.mget(["key", "other"])
    assert len(counted) == 2
