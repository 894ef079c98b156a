"""The engine is tested on every store that is embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessile.core.bridge import drive
from sessile.stores.memory import MemoryStore
from sessile.stores.sqlite import SqliteStore
from tests.core.rig import Rig


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Return what builds an engine on a fresh store."""
    stores: list[Any] = []

    def build(**options: Any) -> Rig:
        store: Any
        if request.param == "memory":
            store = MemoryStore()
        else:
            store = SqliteStore(tmp_path / f"{len(stores)}.db", blocking=True)
        stores.append(store)
        return Rig(store, **options)

    yield build
    for store in stores:
        drive(store.close())


@pytest.fixture
def rig(make: Callable[..., Rig]) -> Rig:
    """Return an engine on a fresh store, with everything at its default."""
    return make()
