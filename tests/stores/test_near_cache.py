"""The near cache of the Redis store."""

from __future__ import annotations

import secrets

from sessile.core.ports import Store
from sessile.stores import open_store
from sessile.testing import StoreContract
from tests.support.servers import shared


def fresh(url: str) -> str:
    return f"{url}?timeout=10&cache=near&prefix={secrets.token_hex(4)}:"


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
