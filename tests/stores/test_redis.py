"""The Redis store: the contract through both doors, on Redis, on Valkey and on a unix socket."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from sessile.core.ports import Store
from sessile.stores import open_store
from sessile.testing import StoreContract
from tests.support.servers import redis_server, shared


def fresh(url: str) -> str:
    """Return the URL with a prefix that nobody used before: a store that is empty on a server that is not."""
    return f"{url}{'&' if '?' in url else '?'}timeout=10&prefix={secrets.token_hex(4)}:"


class TestBlocking(StoreContract):
    blocking = True
    rounds = 200

    def open_store(self) -> Store:
        return open_store(fresh(shared("redis").url), blocking=True)


class TestAsync(StoreContract):
    rounds = 200

    def open_store(self) -> Store:
        return open_store(fresh(shared("redis").url), blocking=False)


class TestBlockingOnValkey(StoreContract):
    blocking = True

    def open_store(self) -> Store:
        return open_store(fresh(shared("valkey").url), blocking=True)


class TestAsyncOnValkey(StoreContract):
    def open_store(self) -> Store:
        return open_store(fresh(shared("valkey").url), blocking=False)


@pytest.fixture(scope="module")
def unix_socket(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Run a server that has no port."""
    path = Path(tmp_path_factory.mktemp("redis")) / "socket"
    with redis_server(port=0, unixsocket=path):
        yield path


@pytest.mark.usefixtures("bound")
class TestBlockingOnASocket(StoreContract):
    blocking = True
    rounds = 20
    socket: Path

    @pytest.fixture
    def bound(self, unix_socket: Path) -> None:
        type(self).socket = unix_socket

    def open_store(self) -> Store:
        return open_store(fresh(f"redis+unix://{self.socket}"), blocking=True)


@pytest.mark.usefixtures("bound")
class TestAsyncOnASocket(StoreContract):
    rounds = 20
    socket: Path

    @pytest.fixture
    def bound(self, unix_socket: Path) -> None:
        type(self).socket = unix_socket

    def open_store(self) -> Store:
        return open_store(fresh(f"redis+unix://{self.socket}"), blocking=False)
