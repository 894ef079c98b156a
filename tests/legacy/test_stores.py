"""Adoption on every store that machines share: the marks live in whichever store the sessions do."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sessile import AsyncSessions, Sessions
from sessile.core.answers import Answer
from sessile.core.ports import UserIndex
from sessile.errors import StoreUnavailable
from tests.core.rig import RING, facts
from tests.legacy.own import OwnBridge
from tests.support.requirements import requirement
from tests.support.servers import shared

SERVERS = ("redis", "valkey", "postgresql", "mariadb", "memcached")


@pytest.fixture(params=SERVERS, name="url")
def fixture_url(request: pytest.FixtureRequest) -> str:
    """Return the address of each kind of store in turn, on a real server."""
    server: Any = shared(request.param)
    return f"{server.url}?migrate=auto" if request.param in ("postgresql", "mariadb") else str(server.url)


@pytest.fixture(name="own")
def fixture_own() -> OwnBridge:
    """Return a bridge whose rows and users no other test has."""
    user = uuid.uuid4().hex
    return OwnBridge({uuid.uuid4().hex: {"user_id": user, "cart": [number]} for number in range(3)})


@pytest.fixture(name="door", params=["blocking", "asynchronous"])
def fixture_door(request: pytest.FixtureRequest, url: str, own: OwnBridge) -> Iterator[Door]:
    """Return sessions on the store, through either door."""
    door = Door(url, own, blocking=request.param == "blocking")
    yield door
    door.close()


class Door:
    """Send requests through a door of either kind."""

    def __init__(self, url: str, own: OwnBridge, *, blocking: bool) -> None:
        self._loop = None if blocking else asyncio.new_event_loop()
        kind = Sessions if blocking else AsyncSessions
        self.sessions: Any = kind(url, keys=RING, legacy=[own], sinks=())

    def wait(self, made: Any) -> Any:
        """Wait for what the asynchronous door promises."""
        if self._loop is None:
            return made
        return self._loop.run_until_complete(made) if asyncio.iscoroutine(made) else made

    def open(self, cookie: str) -> Any:
        """Load a request's session."""
        return self.wait(self.sessions.open(facts(cookie=cookie)))

    def commit(self, session: Any) -> str:
        """Commit, and return the Cookie header that the browser sends next."""
        answer: Answer = self.wait(self.sessions.commit(session))
        return "" if answer.cookie is None else answer.cookie.partition(";")[0]

    def close(self) -> None:
        """Release what is open."""
        self.wait(self.sessions.close())
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


@requirement("R25", "R61")
def test_an_old_session_is_adopted_once_on_every_store(door: Door, own: OwnBridge) -> None:
    """Two tabs, one session; after the sign-out the old cookie opens nothing, though its row came back."""
    key, data = next(iter(own.rows.items()))
    left, right = door.open(f"old={key}"), door.open(f"old={key}")
    assert left.user_id == right.user_id == data["user_id"]
    assert left.id == right.id
    ours, also = door.commit(left), door.commit(right)
    assert key not in own.rows
    own.rows[key] = data
    assert dict(door.open(also))["cart"] == data["cart"]
    leaving = door.open(ours)
    leaving.logout()
    door.commit(leaving)
    for cookie in (f"old={key}", ours, also):
        assert door.open(cookie).user_id is None


@requirement("R62")
def test_ending_a_user_reaches_what_was_not_adopted_on_every_store(door: Door, own: OwnBridge) -> None:
    """And nobody else."""
    if not isinstance(door.sessions.engine.store, UserIndex):
        pytest.skip("this store keeps no index of its users")
    first, second, third = own.rows
    user = own.rows[first]["user_id"]
    other = own.rows[third]["user_id"] = uuid.uuid4().hex
    ours = door.commit(door.open(f"old={first}"))
    assert door.wait(door.sessions.end_all(user)) == 1
    assert door.open(ours).user_id is None
    assert door.open(f"old={second}").user_id is None
    assert door.open(f"old={third}").user_id == other


def test_nodes_that_race_for_an_old_cookie_make_one_session_on_every_store(url: str, own: OwnBridge) -> None:
    """Eight doors of their own, as eight processes have them."""
    key, data = next(iter(own.rows.items()))
    doors = [Door(url, OwnBridge({key: dict(data)}), blocking=True) for _ in range(8)]
    for door in doors:
        door.open("old=nothing")  # connected, and the tables made

    def opened_by(door: Door) -> Any:
        """Ask again, as a browser does after a 503: whoever adopts may be slow between a store's steps."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return door.open(f"old={key}")
            except StoreUnavailable:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(opened_by, doors))
    assert {session.user_id for session in opened} == {data["user_id"]}
    assert len({session.id for session in opened}) == 1
    assert sum(door.sessions.bridges()[0].adopted for door in doors) == 1
    for door in doors:
        door.close()
