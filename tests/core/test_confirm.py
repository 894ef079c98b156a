"""A sign-in that somebody else has a say in: it is stored, then asked about, then told; or it never was."""

from __future__ import annotations

import pytest

from sessile import AsyncSessions
from sessile.errors import SessionGone, StoreUnavailable
from tests.core.rig import facts
from tests.support.requirements import requirement

pytestmark = requirement("R69")


def opened() -> AsyncSessions:
    return AsyncSessions("memory://", clock=lambda: 1_000_000.0, sinks=())


async def test_a_sign_in_that_may_not_stand_is_ended_before_anybody_is_told() -> None:
    sessions, seen = opened(), []
    session = await sessions.open(facts())
    session.login("ann", factor="sso")

    async def confirm() -> bool:
        seen.extend(one.id for one in await sessions.of_user("ann"))
        return False

    session.confirm = confirm
    with pytest.raises(SessionGone):
        await sessions.commit(session)
    assert len(seen) == 1, "it was stored when it was asked about: what looked for it before would have met it"
    assert len(await sessions.of_user("ann")) == 0


async def test_a_sign_in_that_nobody_can_confirm_is_ended() -> None:
    sessions = opened()
    session = await sessions.open(facts())
    session.login("ann", factor="sso")

    async def confirm() -> bool:
        raise StoreUnavailable("the vault is down")

    session.confirm = confirm
    with pytest.raises(StoreUnavailable):
        await sessions.commit(session)
    assert len(await sessions.of_user("ann")) == 0


async def test_a_sign_in_that_stands_is_told() -> None:
    sessions = opened()
    session = await sessions.open(facts())
    session.login("ann", factor="sso")

    async def confirm() -> bool:
        return True

    session.confirm = confirm
    assert (await sessions.commit(session)).cookie is not None
    assert len(await sessions.of_user("ann")) == 1


async def test_what_is_no_sign_in_needs_no_confirmation() -> None:
    sessions, asked = opened(), []
    session = await sessions.open(facts())
    session["a"] = 1

    async def confirm() -> bool:
        asked.append(1)
        return False

    session.confirm = confirm
    assert (await sessions.commit(session)).cookie is not None
    assert asked == []
