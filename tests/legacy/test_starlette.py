"""Starlette's cookie and starsessions: what they write, how long they mean it, and what is never read."""

from __future__ import annotations

import base64
import json
import pickle
import time
from typing import Any
from unittest import mock

import pytest
from itsdangerous import TimestampSigner

from sessile.errors import ConfigurationError
from sessile.legacy import StarletteCookie, StarsessionsCookie
from tests.legacy.bench import Bench
from tests.legacy.peers import SECRET, UNTIL, StarlettePeer, StarsessionsPeer, StarsessionsRedisPeer


@pytest.mark.parametrize(
    ("kind", "limit"), [(StarlettePeer, "max_age"), (StarsessionsPeer, "lifetime")], ids=["starlette", "starsessions"]
)
def test_it_is_refused_when_the_old_library_would_refuse_it(kind: Any, limit: str) -> None:
    """At the very second."""
    peer = kind(**{limit: 600})
    cookie, written = peer.write({"user_id": "ada"}), int(time.time())
    for age, lives in ((600, True), (601, False), (-5, False)):
        bench = Bench().stand(peer.bridge(**{limit: 600}))
        bench.rig.now = written + age + 0.9
        with mock.patch("time.time", return_value=written + age + 0.9):
            assert bool(peer.read(cookie)) is lives
        assert (bench.visit(cookie).user is not None) is lives
        assert bench.refusals() == ([] if lives else ["expired"])


def test_starlette_without_a_limit_means_it() -> None:
    """Such a cookie is adopted years later, and its mark is kept beyond the bridge's own deadline."""
    peer = StarlettePeer(max_age=None)
    bench = Bench().stand(peer.bridge(max_age=None))
    cookie = peer.write({"user_id": "ada"})
    bench.advance(400 * 86_400)
    assert bench.visit(cookie).user == "ada"


def test_a_session_cookie_of_starsessions_is_adopted() -> None:
    """Its lifetime of 0 means until the browser closes."""
    peer = StarsessionsPeer(lifetime=0)
    cookie = peer.write({"user_id": "ada"})
    bench = Bench().stand(peer.bridge())
    bench.advance(100 * 86_400)
    assert bench.visit(cookie).user == "ada"


def test_another_name_of_the_cookie_is_followed() -> None:
    """As the middleware was told."""
    peer = StarlettePeer(session_cookie="shop")
    cookie = peer.write({"user_id": "ada"})
    assert Bench().stand(peer.bridge()).visit(cookie).user is None
    visit = Bench().stand(peer.bridge(cookie="shop")).visit(cookie)
    assert (visit.user, visit.forgotten) == ("ada", ("shop",))


def test_each_library_refuses_the_others_cookie() -> None:
    """starsessions and Starlette sign alike, with one key: whichever bridge is told, what it reads is theirs alone."""
    flask_like = TimestampSigner(SECRET, salt=b"cookie-session", key_derivation="hmac")
    text = flask_like.sign(base64.b64encode(b'{"user_id":"eve"}')).decode()
    for bridge in (StarletteCookie(secret_key=SECRET, until=UNTIL), StarsessionsCookie(secret_key=SECRET, until=UNTIL)):
        bench = Bench().stand(bridge)
        assert bench.visit(f"session={text}").user is None
        assert bench.refusals() == ["forged"]


@pytest.mark.parametrize(
    "payload", [b"[]", b"{", b"\xff\xfe", b'"text"', pickle.dumps({"user_id": "eve"}), b'{"a":' + b"[" * 9000], ids=repr
)
def test_what_is_signed_and_no_json_object_is_refused(payload: bytes) -> None:
    """Whoever signed it."""
    bench = Bench().stand(StarletteCookie(secret_key=SECRET, until=UNTIL))
    assert bench.visit(f"session={TimestampSigner(SECRET).sign(base64.b64encode(payload)).decode()}").user is None
    assert bench.refusals() == ["pickle" if payload[:1] == b"\x80" else "undecodable"]


def test_numbers_that_json_has_not_come_along() -> None:
    """Python writes NaN and Infinity, and sessions hold them."""
    peer = StarlettePeer()
    visit = Bench().stand(peer.bridge()).visit(peer.write({"big": 10**30, "inf": float("inf"), "user_id": 7}))
    assert (visit.data["big"], visit.data["inf"], visit.user) == (10**30, float("inf"), "7")


def test_text_that_is_no_unicode_is_left_behind() -> None:
    """A lone surrogate, which JSON can spell and nothing can store."""
    text = TimestampSigner(SECRET).sign(base64.b64encode(b'{"user_id":"ada","odd":"\\ud800"}')).decode()
    bench = Bench().stand(StarletteCookie(secret_key=SECRET, until=UNTIL))
    visit = bench.visit(f"session={text}")
    assert (visit.user, visit.data) == ("ada", {"user_id": "ada"})
    assert bench.events[0].dropped == ("odd",)  # type: ignore[attr-defined]


def test_a_user_whose_name_cannot_be_stored_is_nobody() -> None:
    """No crash, and no session of a user whom nobody could end."""
    text = TimestampSigner(SECRET).sign(base64.b64encode(b'{"user_id":"\\ud800","cart":1}')).decode()
    bench = Bench().stand(StarletteCookie(secret_key=SECRET, until=UNTIL))
    visit = bench.visit(f"session={text}")
    assert (visit.user, visit.data) == (None, {"cart": 1})


@pytest.mark.parametrize("user", [True, False, None, "", [], {"id": 1}, 1.5])
def test_what_names_nobody_signs_nobody_in(user: Any) -> None:
    """A flag is no user."""
    peer = StarlettePeer()
    assert Bench().stand(peer.bridge()).visit(peer.write({"user_id": user, "cart": 1})).user is None


def test_a_row_of_starsessions_that_is_no_json_is_refused() -> None:
    """Its own serializers are the application's business; pickles are refused by name."""
    peer = StarsessionsRedisPeer()
    sid = peer.write({"user_id": "ada"}).partition("=")[2]
    for row, why in (
        (pickle.dumps({"user_id": "ada"}), "pickle"),
        (b"\xff", "undecodable"),
        (json.dumps([1]).encode(), "undecodable"),
    ):
        peer.client.set(f"starsessions.{sid}", row)
        bench = Bench().stand(peer.bridge())
        assert bench.visit(f"session={sid}").user is None
        assert bench.refusals() == [why]


def test_a_lifetime_that_is_none_is_refused() -> None:
    """Zero is a session cookie; less is a mistake."""
    with pytest.raises(ConfigurationError, match="lifetime"):
        StarsessionsCookie(secret_key=SECRET, until=UNTIL, lifetime=-1)
