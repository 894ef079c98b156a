"""Single sign-out with a real provider: one user, two browsers, four applications in four frameworks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("joserfc")

from sessile.core.record import Record
from tests.auth.oidc.sign_on_app import OP, SSO, Browser, Shops, applications
from tests.support.requirements import requirement

pytestmark = pytest.mark.slow

ADDRESSES = {
    "a": ("starlette", "127.0.0.2"),
    "b": ("flask", "127.0.0.3"),
    "c": ("django", "127.0.0.4"),
    "d": ("wsgi", "127.0.0.5"),
}


@pytest.fixture(scope="module")
def shops() -> Iterator[Shops]:
    """Serve everything once; the provider tells D no session ids."""
    with applications(ADDRESSES, without_sid=("d",)) as shops:
        yield shops


def release(gates: list[asyncio.Event]) -> None:
    """Open gates at which an application's own loop waits."""
    for gate in gates:
        gate._loop.call_soon_threadsafe(gate.set)  # type: ignore[attr-defined]


def two_browsers(shops: Shops, user: str) -> tuple[Browser, Browser]:
    """Sign a user in with browser 1 at A, B and C, and with browser 2 at A and B."""
    first, second = shops.browser(), shops.browser()
    first.sign_in("a", user)
    first.sign_in("b")
    first.sign_in("c")
    second.sign_in("a", user)
    second.sign_in("b")
    return first, second


@requirement("R69", "R72", "R73")
def test_signing_out_at_one_application_ends_exactly_this_browsers_sessions_everywhere(shops: Shops) -> None:
    """At the provider, too: the next sign-in asks; and in the other browser nothing has changed."""
    first, second = two_browsers(shops, "ada")
    page = first.press("a")
    assert first.who("a") == "nobody", "the session here ends first, before the provider has asked anything"
    assert first.is_in("b", "c") == [True, True]
    assert "Do you want to sign-out" in page.text
    page = first.send(page, logout="yes")
    assert "You are signed out of this application." in page.text
    assert "The provider has sent you back." in page.text
    assert first.is_in("a", "b", "c") == [False, False, False]
    assert second.is_in("a", "b") == [True, True]
    heard = shops.op.heard(3)
    assert [(one["client"], one["event"]) for one in heard] == [(name, "backchannel.success") for name in "abc"]
    assert len({one["sid"] for one in heard}) == 3, "each application has a sid of its own"
    assert not first.knows("a")
    assert second.knows("b")


@requirement("R73")
def test_who_chooses_to_stay_signed_in_is_signed_out_of_this_application_only(shops: Shops) -> None:
    """And the page does not claim more: the provider sends the browser back in both cases."""
    first, second = two_browsers(shops, "bob")
    page = first.send(first.press("a"))
    assert "It does not say whether your session there has ended" in page.text
    assert first.is_in("a", "b", "c") == [False, True, True]
    assert second.is_in("a", "b") == [True, True]
    [heard] = shops.op.heard(1)
    assert (heard["client"], heard["event"]) == ("a", "backchannel.success")
    assert first.knows("a")


@requirement("R69")
def test_a_token_without_a_sid_ends_all_of_the_users_sessions_at_that_application(shops: Shops) -> None:
    """In every browser, because nobody can tell which one is meant; at the others, exactly this browser's."""
    first, second = two_browsers(shops, "cyd")
    first.sign_in("d")
    second.sign_in("d")
    other = shops.browser()
    other.sign_in("d", "dan")
    first.send(first.press("b"), logout="yes")
    assert first.is_in("a", "b", "c", "d") == [False] * 4
    assert second.is_in("a", "b", "d") == [True, True, False]
    assert other.who("d") != "nobody"
    assert [one["error"] for one in shops.op.heard(4)] == [None] * 4


@requirement("R61")
def test_signing_out_everywhere_ends_the_users_sessions_here_in_every_browser(shops: Shops) -> None:
    """And, through the provider, this browser's at the other applications."""
    first, second = two_browsers(shops, "eve")
    page = first.send(first.press("a", everywhere="1"), logout="yes")
    assert "in every browser" in page.text
    assert first.is_in("a", "b", "c") == [False, False, False]
    assert second.is_in("a", "b") == [False, True]
    assert second.knows("a"), "an application cannot end the provider's session of another browser"
    shops.op.heard(3)


@requirement("R72")
@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_application_whose_receiver_fails_stops_nobody_else(shops: Shops, status: int) -> None:
    """The user is signed out where they asked for it and where it worked; the provider knows where it did not."""
    first, _ = two_browsers(shops, "fay")
    shops.apps["b"].broken = status
    try:
        page = first.send(first.press("a"), logout="yes")
    finally:
        shops.apps["b"].broken = None
    assert "You are signed out of this application." in page.text
    assert first.is_in("a", "b", "c") == [False, True, False]
    heard = {one["client"]: one["error"] for one in shops.op.heard(3)}
    assert heard["a"] is heard["c"] is None
    assert str(status) in heard["b"]


@requirement("R72")
def test_a_slow_application_answers_before_the_provider_gives_up(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it has not confirmed the end, and ends the session when its store can."""
    first, _ = two_browsers(shops, "gil")
    store, gate = shops.apps["b"].sessions.engine.store, threading.Event()
    end = store.end

    async def slowly(*about: Any) -> Any:
        gate.wait(60)
        return await end(*about)

    monkeypatch.setattr(store, "end", slowly)
    first.send(first.press("a"), logout="yes")
    heard = {one["client"]: one["error"] for one in shops.op.heard(3)}
    assert heard["b"] is not None
    assert first.who("b") != "nobody"
    gate.set()
    deadline = time.monotonic() + 60
    while first.who("b") != "nobody" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert first.is_in("a", "b", "c") == [False, False, False]


@requirement("R69")
def test_a_sign_out_overtakes_a_sign_in_that_is_on_its_way(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> None:
    """In at A and, in another tab, out at B: when A is told, its session is not stored yet, and must not stand."""
    browser = shops.browser()
    browser.sign_in("b", "hal")
    application = shops.apps["a"]
    store = application.sessions.engine.store
    create, reached, gates = store.create, threading.Event(), list[asyncio.Event]()

    async def held(session_id: str, record: Record, **how: Any) -> Any:
        if record.control.user is not None:
            gates.append(asyncio.Event())
            reached.set()
            await asyncio.wait_for(gates[-1].wait(), 60)
        return await create(session_id, record, **how)

    monkeypatch.setattr(store, "create", held)
    pages: list[Any] = []
    tab = threading.Thread(target=lambda: pages.append(browser.visit(f"{application.origin}{SSO}/login/{OP}")))
    tab.start()
    assert reached.wait(60)
    browser.send(browser.press("b"), logout="yes")
    assert [(one["client"], one["error"]) for one in shops.op.heard(2)] == [("a", None), ("b", None)]
    release(gates)
    tab.join(60)
    assert pages[0].status_code >= 400
    assert browser.is_in("a", "b") == [False, False]
    assert [event.reason for event in application.told("session-ended")][-1] == "provider"


@requirement("R73")
def test_a_provider_that_is_down_keeps_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session has ended, and the page says that the provider was not reached."""
    with applications({"a": ("asgi", "127.0.0.6")}) as shops:
        ada = shops.browser()
        ada.sign_in("a", "ada")
        shops.op.process.terminate()
        shops.op.process.wait(30)
        page = ada.press("a")
        assert page.status_code == 200
        assert "You are signed out of this application." in page.text
        assert "The provider could not be reached." in page.text
        assert ada.who("a") == "nobody"
