"""The servers of the tests: each starts, answers, freezes, dies and comes back."""

from __future__ import annotations

import time

import pytest
import redis

from tests.support.servers import (
    mariadb,
    memcached_server,
    postgres,
    redis_cluster,
    redis_sentinel_set,
    redis_server,
    valkey_server,
)


@pytest.mark.parametrize("start", [redis_server, valkey_server])
def test_a_redis_starts_freezes_dies_and_comes_back(start: object) -> None:
    with start() as server:  # type: ignore[operator]
        client = redis.Redis(port=server.port, socket_timeout=0.3, retry=None)
        assert client.set("a", "b")
        server.freeze()
        with pytest.raises(redis.TimeoutError):
            client.get("a")
        server.thaw()
        assert redis.Redis(port=server.port).get("a") == b"b"
        server.kill()
        with pytest.raises(redis.ConnectionError):
            redis.Redis(port=server.port, retry=None).ping()
        server.restart()
        assert redis.Redis(port=server.port).get("a") is None


def test_a_memcached_starts_and_dies() -> None:
    with memcached_server() as server:
        assert server.is_running
        server.kill()
        assert not server.is_running


@pytest.mark.slow
def test_databases_start_and_come_back() -> None:
    with postgres() as server:
        server.restart()
    with mariadb() as server:
        server.restart()


@pytest.mark.slow
def test_a_set_elects_another_primary() -> None:
    with redis_sentinel_set() as made:
        first = made.primary()
        first.kill()
        deadline = time.monotonic() + 20
        while made.primary() is first:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first.restart()
        made.await_whole()


@pytest.mark.slow
def test_a_cluster_elects_another_primary() -> None:
    with redis_cluster() as made:
        first = made.primaries()[0]
        first.kill()
        deadline = time.monotonic() + 20
        while first in made.primaries():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        made.await_whole()
