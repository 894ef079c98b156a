"""Redis Cluster: the contract, keys that move, and a primary that dies."""

from __future__ import annotations

import secrets

from sessile.core.ports import Store
from sessile.stores import open_store
from sessile.testing import StoreContract
from tests.support.servers import shared


def fresh(url: str) -> str:
    """Return the URL with a prefix that nobody used before."""
    return f"{url}?timeout=10&prefix={secrets.token_hex(4)}:"


class TestBlocking(StoreContract):
    blocking = True

    def open_store(self) -> Store:
        return open_store(fresh(shared("cluster").url), blocking=True)


class TestAsync(StoreContract):
    def open_store(self) -> Store:
        return open_store(fresh(shared("cluster").url), blocking=False)
