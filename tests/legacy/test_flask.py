"""Flask's cookie and Flask-Session: every type that they write, every key that verifies, and what is never read."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import pickle
import time
import tracemalloc
import uuid
import zlib
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import flask
import pytest
import redis
from flask.json.tag import JSONTag
from itsdangerous import Signer, TimestampSigner
from markupsafe import Markup

from sessile.errors import ConfigurationError
from sessile.legacy import FlaskCookie, FlaskSessionRedis, StarletteCookie
from tests.legacy.bench import Bench
from tests.legacy.peers import SECRET, UNTIL, FlaskPeer, FlaskSessionPeer, redis_url
from tests.support.requirements import requirement


class Planted:
    """Write a file when it is unpickled: the proof that nobody did."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


@pytest.fixture
def flask_bench() -> Bench:
    """Return a bench with the bridge to Flask's cookie."""
    return Bench().stand(FlaskPeer().bridge())


class TestTheCookie:
    """Flask's own sessions."""

    def test_every_type_that_flask_tags_comes_back_as_itself(self, flask_bench: Bench) -> None:
        """Nested and alone, and what looks like a tag and is none."""
        data = {
            "tuple": (1, (2, 3), [4]),
            "bytes": b"\x00\xff",
            "markup": Markup("<b>"),
            "uuid": uuid.UUID(int=7),
            "when": dt.datetime(2020, 2, 29, 12, 30, tzinfo=dt.UTC),
            "nested": {"deep": [{"t": (b"x",)}]},
            "looks like a tag": {" t": [1, 2]},
            "empty": {},
        }
        visit = flask_bench.visit(FlaskPeer().write(data))
        assert {key: visit.data[key] for key in data} == data
        assert type(visit.data["markup"]) is Markup

    def test_a_session_of_one_key_that_looks_like_a_tag_keeps_it(self, flask_bench: Bench) -> None:
        """Flask escapes it, and so it is read."""
        for data in ({" t": [1]}, {" d": "text"}, {"user_id": "ada"}):
            assert flask_bench.visit(FlaskPeer().write(data)).data == data

    def test_a_type_that_the_application_tagged_itself_is_left_behind_and_named(self, flask_bench: Bench) -> None:
        """The rest is adopted: nobody is signed out for a value."""

        class TagDecimal(JSONTag):
            key = " dec"

            def check(self, value: Any) -> bool:
                return isinstance(value, Decimal)

            def to_json(self, value: Any) -> Any:
                return str(value)

            def to_python(self, value: Any) -> Any:
                return Decimal(value)

        class Interface(flask.sessions.SecureCookieSessionInterface):
            serializer = flask.json.tag.TaggedJSONSerializer()

        Interface.serializer.register(TagDecimal, index=0)
        peer = FlaskPeer()
        peer.app.session_interface = Interface()
        cookie = peer.write({"_user_id": "ada", "total": Decimal("1.5"), "lines": [Decimal(1)], "a b@c": Decimal(2)})
        visit = flask_bench.visit(cookie)
        assert (visit.user, visit.data) == ("ada", {"_user_id": "ada"})
        (event,) = flask_bench.events
        assert event.dropped == ("?", "lines", "total")  # type: ignore[attr-defined]
        assert "total" in event.sentence()
        assert "a b@c" not in event.sentence()

    def test_what_flask_compresses_is_inflated(self, flask_bench: Bench) -> None:
        """A large session begins with a dot."""
        cookie = FlaskPeer().write({"text": "tea " * 500})
        assert cookie.startswith("session=.")
        assert flask_bench.visit(cookie).data["text"] == "tea " * 500

    def test_it_is_refused_when_flask_itself_would_refuse_it(self) -> None:
        """At the very second."""
        peer = FlaskPeer(PERMANENT_SESSION_LIFETIME=3600)
        cookie, written = peer.write({"_user_id": "ada"}), int(time.time())
        for age, lives in ((3600, True), (3601, False), (-5, False)):
            bench = Bench().stand(peer.bridge(max_age=3600))
            bench.rig.now = written + age + 0.9
            with mock.patch("time.time", return_value=written + age + 0.9):
                served = bool(peer.read(cookie))
            assert served is lives
            assert (bench.visit(cookie).user is not None) is lives
            assert bench.refusals() == ([] if lives else ["expired"])

    def test_keys_that_were_rotated_out_verify_if_they_are_given(self) -> None:
        """As SECRET_KEY_FALLBACKS do."""
        cookie = FlaskPeer().write({"_user_id": "ada"})
        assert Bench().stand(FlaskCookie(secret_key=["new", SECRET], until=UNTIL)).visit(cookie).user == "ada"
        bench = Bench().stand(FlaskCookie(secret_key="new", until=UNTIL))
        assert bench.visit(cookie).user is None
        assert bench.refusals() == ["forged"]

    def test_a_cookie_of_another_salt_is_none_of_flasks(self, flask_bench: Bench) -> None:
        """An application signs other things with the same key: none of them is a session."""
        for salt in (b"remember-me", b"itsdangerous.Signer", b"cookie-sessio"):
            signer = TimestampSigner(SECRET, salt=salt, key_derivation="hmac")
            text = signer.sign(base64.urlsafe_b64encode(b'{"_user_id":"eve"}').rstrip(b"=")).decode()
            assert flask_bench.visit(f"session={text}").user is None

    def test_a_bomb_is_refused_before_it_goes_off(self, flask_bench: Bench) -> None:
        """Signed by who holds the key, and still no more than a megabyte is ever made of it."""
        bomb = base64.urlsafe_b64encode(zlib.compress(b'"' + b" " * 8_000_000 + b'"', 9)).rstrip(b"=")
        signer = TimestampSigner(SECRET, salt=b"cookie-session", key_derivation="hmac")
        cookie = f"session={signer.sign(b'.' + bomb).decode()}"
        tracemalloc.start()
        try:
            assert flask_bench.visit(cookie).user is None
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert flask_bench.refusals() == ["oversized"]
        assert peak < 4 << 20

    def test_a_cookie_of_any_length_costs_one_look(self, flask_bench: Bench) -> None:
        """What is longer than any browser's is not even hashed."""
        assert flask_bench.visit("session=" + "A" * 100_000).user is None
        assert flask_bench.refusals() == ["oversized"]

    def test_deep_nesting_is_refused(self, flask_bench: Bench) -> None:
        """It would exhaust the stack of whoever decodes it."""
        signer = TimestampSigner(SECRET, salt=b"cookie-session", key_derivation="hmac")
        deep = base64.urlsafe_b64encode(zlib.compress(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")).rstrip(b"=")
        assert flask_bench.visit(f"session={signer.sign(b'.' + deep).decode()}").user is None
        assert flask_bench.refusals() == ["undecodable"]

    def test_what_nests_deeper_than_a_session_may_is_left_behind(self, flask_bench: Bench) -> None:
        """The user stays signed in."""
        deep: list[Any] = []
        for _ in range(40):
            deep = [deep]
        visit = flask_bench.visit(FlaskPeer().write({"_user_id": "ada", "deep": deep}))
        assert (visit.user, visit.data) == ("ada", {"_user_id": "ada"})

    def test_what_is_signed_and_no_session_is_refused(self, flask_bench: Bench) -> None:
        """A list, a number, nothing, or text that is no JSON."""
        signer = TimestampSigner(SECRET, salt=b"cookie-session", key_derivation="hmac")
        for payload in (b"[]", b"1", b"", b"{", b"\xff", b'{"a":1}x'):
            text = signer.sign(base64.urlsafe_b64encode(payload).rstrip(b"=")).decode()
            assert flask_bench.visit(f"session={text}").data == {}
        assert set(flask_bench.refusals()) == {"undecodable"}

    @requirement("R89")
    def test_flask_logins_word_on_freshness_is_taken_back(self, flask_bench: Bench) -> None:
        """Nobody knows when that was: a page for fresh sign-ins asks again."""
        visit = flask_bench.visit(FlaskPeer().write({"_user_id": "ada", "_fresh": True, "_id": "client"}))
        assert visit.data == {"_user_id": "ada", "_fresh": False, "_id": "client"}

    def test_signing_out_by_the_applications_own_key_works(self, flask_bench: Bench) -> None:
        """The key that named the user still does."""
        token = flask_bench.visit(FlaskPeer().write({"_user_id": "ada", "cart": 1})).token
        gone = flask_bench.visit(flask_bench.ours(token), lambda session: session.pop("_user_id"))
        assert gone.token == ""
        assert flask_bench.visit(flask_bench.ours(token)).user is None


class TestFlaskSession:
    """Sessions in Redis."""

    @pytest.mark.parametrize("form", ["msgpack", "json"])
    def test_both_of_its_formats_are_read(self, form: str) -> None:
        """With what each can hold."""
        peer = FlaskSessionPeer(SESSION_SERIALIZATION_FORMAT=form)
        data: dict[str, Any] = {"user_id": 7, "cart": [1, {"n": None}], "text": "ø"}
        if form == "msgpack":
            data["raw"] = b"\x00\xff"
            data["when"] = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        visit = Bench().stand(peer.bridge()).visit(peer.write(data))
        assert {key: visit.data[key] for key in data} == data
        assert visit.user == "7"

    def test_a_pickled_row_is_refused_and_not_loaded(self, tmp_path: Path) -> None:
        """As older versions wrote it, by every protocol; Flask-Session itself would run it."""
        peer = FlaskSessionPeer()
        name, _, sid = peer.write({"_user_id": "ada"}).partition("=")
        client = redis.Redis.from_url(redis_url())
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for what in ({"_user_id": "ada"}, {}, {"_user_id": Planted(str(tmp_path / f"planted-{protocol}"))}):
                client.set(f"session:{sid}", pickle.dumps(what, protocol))
                bench = Bench().stand(peer.bridge())
                visit = bench.visit(f"{name}={sid}")
                assert (visit.user, visit.token) == (None, None)
                assert bench.refusals() == ["pickle"]
        assert not list(tmp_path.iterdir())
        assert client.exists(f"session:{sid}"), "it is not ours to delete"

    def test_a_signed_id_is_unsigned_and_an_unsigned_one_refused(self) -> None:
        """SESSION_USE_SIGNER, which older applications set."""
        with pytest.warns(DeprecationWarning, match="use_signer"):
            peer = FlaskSessionPeer(SESSION_USE_SIGNER=True)
        cookie = peer.write({"_user_id": "ada"})
        assert cookie.count(".") == 1
        bridge = peer.bridge(secret_key=SECRET)
        assert Bench().stand(bridge).visit(cookie.rpartition(".")[0]).user is None
        name, _, value = cookie.partition("=")
        wrong = Signer("another", salt="flask-session", key_derivation="hmac").sign(value.rpartition(".")[0]).decode()
        assert Bench().stand(bridge).visit(f"{name}={wrong}").user is None
        assert Bench().stand(bridge).visit(cookie).user == "ada"

    def test_a_prefix_of_its_own_is_kept_to(self) -> None:
        """Other keys are out of reach, whatever the cookie says."""
        peer = FlaskSessionPeer(SESSION_KEY_PREFIX="shop:")
        cookie = peer.write({"_user_id": "ada"})
        bench = Bench().stand(peer.bridge())
        assert bench.visit(cookie).user is None
        assert bench.refusals() == ["unknown"]
        assert Bench().stand(peer.bridge(key_prefix="shop:")).visit(cookie).user == "ada"
        for text in ("../x", "a" * 600, "x:y", "short", "Ærø" * 9, "a" * 15):
            bench = Bench().stand(peer.bridge())
            assert bench.visit(f"session={text}").user is None
            assert bench.refusals() == ["forged"]

    def test_a_row_whose_time_is_over_is_gone(self) -> None:
        """Redis keeps the peer's own limit."""
        peer = FlaskSessionPeer(PERMANENT_SESSION_LIFETIME=dt.timedelta(seconds=1))
        cookie = peer.write({"_user_id": "ada"})
        sid = cookie.partition("=")[2]
        assert 0 < peer.client.pttl(f"session:{sid}") <= 1000
        peer.client.pexpire(f"session:{sid}", 1)
        while peer.client.exists(f"session:{sid}"):
            time.sleep(0.001)
        bench = Bench().stand(peer.bridge())
        assert bench.visit(cookie).user is None
        assert bench.refusals() == ["unknown"]

    def test_a_row_that_is_larger_than_any_session_is_refused(self) -> None:
        """And not even fetched as a whole."""
        peer = FlaskSessionPeer()
        cookie = peer.write({"_user_id": "ada"})
        row = json.dumps({"_user_id": "ada", "x": "y" * (2 << 20)})
        peer.client.set(f"session:{cookie.partition('=')[2]}", row)
        bench = Bench().stand(peer.bridge())
        assert bench.visit(cookie).user is None
        assert bench.refusals() == ["oversized"]

    def test_more_than_a_session_of_ours_may_hold_loses_its_largest_values(self) -> None:
        """The user stays signed in, and the event names what is lost."""
        peer = FlaskSessionPeer()
        cookie = peer.write({"_user_id": "ada", "large": "x" * 300_000, "small": "y"})
        bench = Bench().stand(peer.bridge())
        visit = bench.visit(cookie)
        assert (visit.user, visit.data["small"], "large" in visit.data) == ("ada", "y", False)
        assert bench.events[0].dropped == ("large",)  # type: ignore[attr-defined]

    def test_keys_that_are_no_text_are_left_behind_or_read_as_json_would(self) -> None:
        """MessagePack knows more keys than sessions do."""
        peer = FlaskSessionPeer()
        cookie = peer.write(OrderedDict([("_user_id", "ada"), (5, "five"), (None, "none")]))  # type: ignore[arg-type]
        bench = Bench().stand(peer.bridge())
        visit = bench.visit(cookie)
        assert (visit.data["5"], visit.data["_user_id"]) == ("five", "ada")
        assert "none" not in visit.data.values()
        assert bench.events[0].dropped == ("?",)  # type: ignore[attr-defined]


def test_settings_that_cannot_be_meant_are_refused_at_once() -> None:
    """Each with a sentence that repeats no secret."""
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (FlaskCookie, {"secret_key": "", "until": UNTIL}),
        (FlaskCookie, {"secret_key": [], "until": UNTIL}),
        (FlaskCookie, {"secret_key": "s3cret", "until": "soon"}),
        (FlaskCookie, {"secret_key": "s3cret", "until": dt.datetime(2099, 1, 1)}),
        (FlaskCookie, {"secret_key": "s3cret", "until": 5}),
        (FlaskCookie, {"secret_key": "s3cret", "until": UNTIL, "max_age": 0}),
        (FlaskCookie, {"secret_key": "s3cret", "until": UNTIL, "max_age": float("nan")}),
        (FlaskCookie, {"secret_key": "s3cret", "until": UNTIL, "cookie": "a b"}),
        (FlaskCookie, {"secret_key": "s3cret", "until": UNTIL, "path": "/; Domain=evil"}),
        (FlaskCookie, {"secret_key": "s3cret", "until": UNTIL, "domain": "a;b"}),
        (FlaskCookie, {"secret_key": "s3cret", "until": UNTIL, "samesite": "lax"}),
        (FlaskCookie, {"secret_key": "s3cret", "until": UNTIL, "on_outage": "shrug"}),
        (FlaskCookie, {"secret_key": "s3cret", "until": UNTIL, "colour": "red"}),
        (StarletteCookie, {"secret_key": "s3cret", "until": UNTIL, "max_age": -1}),
    ]
    for kind, given in wrong:
        with pytest.raises(ConfigurationError) as refused:
            kind(**given)
        assert "s3cret" not in str(refused.value)


def test_an_address_that_is_none_is_refused_when_the_door_opens() -> None:
    """Or a client for the other door."""
    hosts = ("host:notaport", "a..b", "a" * 70, "a%00b", "[:::]")
    for address in ("http://x", *(f"redis://:pa55word@{host}/0" for host in hosts), 5, object()):
        for blocking in (True, False):
            with pytest.raises(ConfigurationError) as refused:
                FlaskSessionRedis(address, until=UNTIL).open(blocking=blocking)
            assert "pa55word" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="asyncio"):
        FlaskSessionRedis(redis.Redis(), until=UNTIL).open(blocking=False)
    with pytest.raises(ConfigurationError, match=r"redis\.Redis"):
        FlaskSessionRedis(redis.asyncio.Redis(), until=UNTIL).open(blocking=True)


def test_a_deadline_may_be_a_date_a_time_or_text() -> None:
    """A date alone is its first moment, in UTC."""
    at = dt.datetime(2031, 3, 31, tzinfo=dt.UTC)
    for until in ("2031-03-31", at.date(), at, "2031-03-31T00:00:00+00:00", "2031-03-31T02:00:00+02:00"):
        assert FlaskCookie(secret_key=SECRET, until=until).open(blocking=True).until == at.timestamp()
