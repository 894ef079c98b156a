"""What the tests of bridges share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.legacy import peers
from tests.legacy.bench import Bench


@pytest.fixture(scope="session", name="express")
def fixture_express() -> Iterator[peers.ExpressPeer]:
    """Run one Express application for all tests of this process."""
    peer = peers.ExpressPeer()
    yield peer
    peer.close()


@pytest.fixture(params=[*peers.IN_COOKIES, *peers.STORED], ids=lambda kind: kind.__name__)
def peer(request: pytest.FixtureRequest) -> Any:
    """Return each of the old libraries in turn."""
    return _of(request.param, request)


@pytest.fixture(params=peers.STORED, ids=lambda kind: kind.__name__)
def stored_peer(request: pytest.FixtureRequest) -> Any:
    """Return each of the old libraries whose sessions are rows."""
    return _of(request.param, request)


def _of(kind: Any, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("express") if kind is peers.ExpressPeer else kind()


@pytest.fixture(params=["blocking", "asynchronous"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Return a bench for each of the two doors."""
    made = Bench(blocking=request.param == "blocking")
    yield made
    made.close()
