"""A world for each test of the invariants: every adapter that is present, on every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.invariants.harness import ADAPTERS, STORES, World, is_present, world

Make = Callable[..., World]


@pytest.fixture(params=STORES, name="store")
def fixture_store(request: pytest.FixtureRequest) -> str:
    """Name the store."""
    return str(request.param)


@pytest.fixture(params=[name for name in ADAPTERS if is_present(name)], name="adapter")
def fixture_adapter(request: pytest.FixtureRequest) -> str:
    """Name the adapter."""
    return str(request.param)


@pytest.fixture(name="make")
def fixture_make(adapter: str, store: str, tmp_path: Path) -> Iterator[Make]:
    """Return what starts a world with other options than the defaults."""
    with ExitStack() as stack:

        def make(**options: Any) -> World:
            return stack.enter_context(world(adapter, store, tmp_path, **options))

        yield make


@pytest.fixture(name="world")
def fixture_world(make: Make) -> World:
    """Return a world with the default policy."""
    return make()
