"""A world for each test of the invariants: every adapter that is present, on every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.invariants.harness import ADAPTERS, STORES, World, is_present, world
from tests.invariants.in_cookies import NOT_APPLICABLE
from tests.support.backends import EMBEDDED

Make = Callable[..., World]


def _param(store: str) -> Any:
    """Leave all but the embedded stores out of the quick tests."""
    return store if store in EMBEDDED else pytest.param(store, marks=pytest.mark.slow)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what cannot apply to sessions that live in cookies; `in_cookies` says why, test by test."""
    out = [item for item in items if _is_about_stores_alone(item)]
    if out:
        items[:] = [item for item in items if item not in out]
        config.hook.pytest_deselected(items=out)


def _is_about_stores_alone(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or item.originalname not in NOT_APPLICABLE:
        return False
    return getattr(item, "callspec", None) is not None and item.callspec.params.get("store") == "cookie"


@pytest.fixture(params=[_param(name) for name in STORES], name="store")
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
