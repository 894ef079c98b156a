"""The servers of the tests: each starts, answers, freezes, dies and comes back."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import redis

from tests.support.ports import free_port
from tests.support.servers import (
    mariadb,
    memcached_server,
    postgres,
    redis_cluster,
    redis_sentinel_set,
    redis_server,
    valkey_server,
)
from tests.support.servers.process import Server, ServerMissing, program


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


def test_a_memcached_answers_freezes_and_dies() -> None:
    with memcached_server() as server, socket.create_connection((server.host, server.port), 0.3) as connection:

        def version() -> bytes:
            connection.sendall(b"version\r\n")
            return connection.recv(100)

        assert version().startswith(b"VERSION")
        server.freeze()
        with pytest.raises(TimeoutError):
            version()
        server.thaw()
        connection.settimeout(5)
        assert connection.recv(100).startswith(b"VERSION")
        server.kill()
        assert connection.recv(100) == b""
        assert not server.is_running


def connect(server: Server) -> Any:
    if server.url.startswith("postgresql:"):
        return psycopg.connect(server.url, autocommit=True)
    return pymysql.connect(host=server.host, port=server.port, user="sessile", password="sessile")


@pytest.mark.slow
@pytest.mark.parametrize("start", [postgres, mariadb])
def test_a_database_answers_freezes_with_all_its_processes_dies_and_comes_back(start: Any) -> None:
    with start() as server, ThreadPoolExecutor(1) as thread:
        with closing(connect(server)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SELECT 1")
            server.freeze()
            answer = thread.submit(cursor.execute, "SELECT 2")
            with pytest.raises(TimeoutError):
                answer.result(0.5)
            server.thaw()
            answer.result(20)
            assert tuple(cursor.fetchone()) == (2,)
        server.kill()
        with pytest.raises((psycopg.OperationalError, pymysql.OperationalError)):
            connect(server)
        server.restart()
        connect(server).close()


CHILD = """
import threading
from contextlib import ExitStack
from tests.support.servers import redis_server

stack = ExitStack()
servers = [stack.enter_context(redis_server())]

def elsewhere():
    servers.append(stack.enter_context(redis_server()))
    servers[0].restart()

thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
print(*(server.pid for server in servers), *(server.is_running for server in servers), flush=True)
input()
"""


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_servers_die_with_a_killed_test_run_but_not_with_the_thread_that_started_them() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as run:
        assert run.stdout is not None
        first, second, *running = run.stdout.readline().split()
        assert running == [b"True", b"True"]
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not (is_gone(int(first)) and is_gone(int(second))):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_is_not_installed_fails_the_test_and_says_how_it_is_installed() -> None:
    with pytest.raises(ServerMissing, match=r"no-such-server is not installed: run `make setup`"):
        program("no-such-server")


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="FATAL CONFIG FILE ERROR"), redis_server(no_such_setting="1"):
        pass


def test_free_ports_lie_below_those_that_the_system_hands_out() -> None:
    assert all(20_000 <= free_port() < 32_768 for _ in range(50))


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
