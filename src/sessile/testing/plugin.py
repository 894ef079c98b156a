"""The pytest plugin: fixtures for applications that use Sessile. pytest finds it by itself.

    fixture                gives
    sessile_clock, clock   a `FrozenClock`: `clock.advance(3600)`
    sessile_events         a `RecordingSink`
    login_as               `login_as(client, user)`: signs a test client in
    assert_rotated         `assert_rotated(before, after)`
    assert_not_cacheable   `assert_not_cacheable(response)`

A fixture of the same name in your own conftest.py takes the place of ours. Nothing but pytest is imported before a
fixture is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .clock import FrozenClock
    from .sink import RecordingSink


@pytest.fixture
def sessile_clock() -> FrozenClock:
    """Return a clock that stands still; give it to your sessions, or `freeze` them with it."""
    from .clock import FrozenClock

    return FrozenClock()


@pytest.fixture
def clock(sessile_clock: FrozenClock) -> FrozenClock:
    """Return `sessile_clock`, by its short name."""
    return sessile_clock


@pytest.fixture
def sessile_events() -> RecordingSink:
    """Return a sink that remembers; give it to your sessions, or `record` them with it."""
    from .sink import RecordingSink

    return RecordingSink()


@pytest.fixture
def login_as() -> Callable[..., str]:
    """Return what signs a test client in: `login_as(client, user, factors=("password", "totp"))`."""
    from .client import login

    return login


@pytest.fixture
def assert_rotated() -> Callable[[Any, Any], None]:
    """Return the assertion that a token was rotated."""
    from .assertions import assert_rotated

    return assert_rotated


@pytest.fixture
def assert_not_cacheable() -> Callable[[Any], None]:
    """Return the assertion that no cache keeps a response."""
    from .assertions import assert_not_cacheable

    return assert_not_cacheable
