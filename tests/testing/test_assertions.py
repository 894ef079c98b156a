"""The assertions fail when they should, and say why without showing a token."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sessile import Facts, Sessions
from sessile.core.requests import no_headers
from sessile.testing import (
    FrozenClock,
    assert_not_cacheable,
    assert_renewed,
    assert_rotated,
    mint_session,
    session_token,
)
from tests.support.requirements import requirement


def response(**headers: str) -> SimpleNamespace:
    """Stand for a response with these headers."""
    return SimpleNamespace(status_code=200, headers={name.replace("_", "-"): value for name, value in headers.items()})


def tokens() -> tuple[str, str, str]:
    """Return a token, its successor and the one that a new sign-in put in its place."""
    clock = FrozenClock()
    sessions = Sessions("memory://", clock=clock, sinks=())
    minted = mint_session(sessions, "ann")

    def request(token: str, *, login: bool = False) -> str:
        session = sessions.open(Facts("GET", "https", "h", "/", "", f"{minted.name}={token}", no_headers))
        assert session.user_id == "ann"
        if login:
            session.login("ann")
        cookie = sessions.commit(session).cookie or ""
        return cookie.partition("=")[2].partition(";")[0]

    clock.advance(901)
    rotated = request(minted.token)
    return minted.token, rotated, request(rotated, login=True)


@requirement("R29", "R25")
def test_a_successor_is_rotated_and_a_new_session_is_renewed() -> None:
    """Rotation keeps the session, renewal takes another; both leave the old token behind."""
    first, second, third = tokens()
    assert_rotated(first, second)
    assert_rotated(second, third)
    assert_renewed(second, third)
    with pytest.raises(AssertionError, match="was not renewed"):
        assert_renewed(first, second)


@pytest.mark.parametrize("order", [(0, 0), (1, 0), (1, 1)], ids=["the same", "an older one", "the same, rotated"])
def test_a_token_that_did_not_move_on_is_not_rotated(order: tuple[int, int]) -> None:
    """The failure names session and generation."""
    held = tokens()
    with pytest.raises(AssertionError, match=r"was not rotated: it was session [0-9a-f]{8}, generation"):
        assert_rotated(held[order[0]], held[order[1]])


@requirement("R96")
def test_a_failure_shows_no_token() -> None:
    """What fails is printed and kept by CI."""
    first, second, _ = tokens()
    for before, after in ((first, first), (first, "x" * 63), (second, None)):
        with pytest.raises(AssertionError) as failure:
            assert_rotated(before, after)
        assert first not in str(failure.value)
        assert second not in str(failure.value)


@pytest.mark.parametrize("nothing", [None, "", "short", "x" * 63, "é" * 63, response(), response(set_cookie="a=b")])
def test_where_there_is_no_token_the_assertion_fails(nothing: object) -> None:
    """An assertion about nothing does not pass."""
    first, second, _ = tokens()
    with pytest.raises(AssertionError, match="no session token after"):
        assert_rotated(first, nothing)
    with pytest.raises(AssertionError, match="no session token before"):
        assert_renewed(nothing, second)


def test_the_same_client_before_and_after_is_a_mistake_that_is_named() -> None:
    """A client holds one token at a time."""
    one = response()
    with pytest.raises(AssertionError, match="the same object"):
        assert_rotated(one, one)


def test_a_response_gives_the_token_that_it_sets() -> None:
    """Whatever the cookie's name, a session token is known by its form."""
    first, *_ = tokens()
    assert session_token(response(set_cookie=f"__Host-id={first}; Path=/; Secure")) == first
    assert session_token(response(set_cookie=f"sid={first}; Path=/")) == first
    assert session_token(response(set_cookie="__Host-id=; Max-Age=0")) is None


@requirement("R19")
@pytest.mark.parametrize(
    "value", ["no-store", "private, no-store", "No-Store, max-age=0", "private", "private, max-age=5"]
)
def test_what_keeps_shared_caches_out_passes(value: str) -> None:
    """Without a cookie, the application's own `private` is enough."""
    assert_not_cacheable(response(cache_control=value))


@requirement("R19")
@pytest.mark.parametrize("value", ["", "public", "max-age=60", "private, public", "no-cache", "xno-store"])
def test_what_lets_a_cache_in_fails_and_says_what_stands_there(value: str) -> None:
    """The failure quotes the header."""
    with pytest.raises(AssertionError, match="hand it to somebody else") as failure:
        assert_not_cacheable(response(cache_control=value) if value else response())
    assert value in str(failure.value)


@requirement("R19")
def test_a_response_that_sets_a_session_cookie_must_not_be_stored_at_all() -> None:
    """`private` would leave the token in the browser's cache."""
    first, *_ = tokens()
    cookie = f"__Host-id={first}; Path=/"
    assert_not_cacheable(response(cache_control="no-store", set_cookie=cookie))
    with pytest.raises(AssertionError, match="sets a session cookie"):
        assert_not_cacheable(response(cache_control="private", set_cookie=cookie))
