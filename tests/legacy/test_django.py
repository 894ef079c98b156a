"""Django's sessions, in each of its engines: what they write, how long they mean it, and what is never read."""

from __future__ import annotations

import base64
import datetime as dt
import pickle
import time
import zlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import redis

from sessile.errors import ConfigurationError, StoreUnavailable
from sessile.legacy import DjangoDatabase
from tests.legacy.bench import Bench
from tests.legacy.peers import (
    SECRET,
    UNTIL,
    DjangoCachedDatabasePeer,
    DjangoCachePeer,
    DjangoCookiePeer,
    DjangoDatabasePeer,
    redis_url,
)
from tests.support import django_project

django_project.configure()

from django.conf import settings  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core import signing  # noqa: E402
from django.db import connections  # noqa: E402

USER = {"_auth_user_id": "1"}


class Pickled:
    """Serialize as Django's PickleSerializer did, which Django 5 has no more."""

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def loads(self, raw: bytes) -> Any:
        return pickle.loads(raw)


@pytest.fixture(autouse=True)
def fixture_connections() -> Iterator[None]:
    yield
    connections.close_all()


class TestTheDatabase:
    """db and cached_db."""

    def test_the_projects_own_connection_serves_both_doors(self) -> None:
        """A Django project names one of its DATABASES, and needs no other driver."""
        for blocking in (True, False):
            bench = Bench(blocking=blocking).stand(DjangoDatabase("django:default", secret_key=SECRET, until=UNTIL))
            cookie = DjangoDatabasePeer().write(USER)
            assert bench.visit(cookie).user == "1"
            assert not Session.objects.filter(pk=cookie.partition("=")[2]).exists()
            bench.close()

    def test_a_connection_that_the_project_has_not_is_a_mistake(self) -> None:
        """It is told as one, not as an outage."""
        bench = Bench().stand(DjangoDatabase("django:other", secret_key=SECRET, until=UNTIL))
        with pytest.raises(ConfigurationError, match="DATABASES"):
            bench.visit(DjangoDatabasePeer().write(USER))

    def test_a_table_that_is_not_there_is_an_outage(self) -> None:
        """By either way to it."""
        url = f"sqlite:///{settings.DATABASES['default']['NAME']}"
        cookie = DjangoDatabasePeer().write(USER)
        for address in (url, "django:default"):
            bench = Bench().stand(DjangoDatabase(address, secret_key=SECRET, until=UNTIL, table="absent"))
            with pytest.raises(StoreUnavailable):
                bench.visit(cookie)

    def test_it_is_refused_when_django_itself_would_refuse_it(self) -> None:
        """By the expiry of its row, at the very second."""
        peer = DjangoDatabasePeer()
        for age, lives in ((-1, True), (1, False)):
            cookie = peer.write({**USER, "expiry": 60})
            expires = Session.objects.get(pk=cookie.partition("=")[2]).expire_date
            at = (expires + dt.timedelta(seconds=age)).timestamp()
            with mock.patch("django.utils.timezone.now", return_value=dt.datetime.fromtimestamp(at, dt.UTC)):
                assert bool(peer.read(cookie)) is lives
            bench = Bench().stand(peer.bridge())
            bench.rig.now = at
            assert (bench.visit(cookie).user is not None) is lives
            assert bench.refusals() == ([] if lives else ["expired"])

    def test_a_pickled_row_is_refused(self) -> None:
        """Signed with the right key, and still not loaded: one copy of a key must not run code here."""
        peer = DjangoDatabasePeer()
        cookie = peer.write(USER)
        row = Session.objects.get(pk=cookie.partition("=")[2])
        for compress in (True, False):
            what = {**USER, "x": "y" * 500 if compress else "y"}
            row.session_data = signing.dumps(
                what, key=SECRET, salt="django.contrib.sessions.SessionStore", serializer=Pickled, compress=compress
            )
            row.save()
            bench = Bench().stand(peer.bridge())
            assert bench.visit(cookie).user is None
            assert bench.refusals() == ["pickle"]

    def test_a_row_signed_with_another_key_or_salt_is_refused(self) -> None:
        """Who can write the table cannot write sessions."""
        peer = DjangoDatabasePeer()
        cookie = peer.write(USER)
        row = Session.objects.get(pk=cookie.partition("=")[2])
        for key, salt in (("other", "django.contrib.sessions.SessionStore"), (SECRET, "django.core.signing")):
            row.session_data = signing.dumps(USER, key=key, salt=salt)
            row.save()
            bench = Bench().stand(peer.bridge())
            assert bench.visit(cookie).user is None
            assert bench.refusals() == ["forged"]
        assert Bench().stand(peer.bridge(secret_key=["new", "other"])).visit(cookie).user is None

    def test_a_bomb_in_a_row_is_refused(self) -> None:
        """No more than a megabyte is made of it."""
        peer = DjangoDatabasePeer()
        cookie = peer.write(USER)
        bomb = base64.urlsafe_b64encode(zlib.compress(b'{"a":"' + b" " * 9_000_000 + b'"}', 9)).rstrip(b"=").decode()
        signer = signing.TimestampSigner(key=SECRET, salt="django.contrib.sessions.SessionStore")
        Session.objects.filter(pk=cookie.partition("=")[2]).update(session_data=signer.sign("." + bomb))
        bench = Bench().stand(peer.bridge())
        assert bench.visit(cookie).user is None
        assert bench.refusals() == ["oversized"]

    def test_the_copy_in_the_cache_is_deleted_with_the_row(self) -> None:
        """cached_db reads it first: left there, the old application would go on serving it."""
        peer = DjangoCachedDatabasePeer()
        cookie = peer.write({**USER, "cart": 1})
        key = f":1:django.contrib.sessions.cached_db{cookie.partition('=')[2]}"
        client = redis.Redis.from_url(redis_url())
        assert client.exists(key)
        Bench().stand(peer.bridge()).visit(cookie)
        assert not client.exists(key)

    def test_an_address_that_is_none_is_refused(self) -> None:
        """And its password is repeated nowhere."""
        for address, table in (
            ("nothing", "django_session"),
            ("postgresql+nodriver://u:pa55word@h/d", "django_session"),
            ("sqlite://", "a; DROP TABLE x"),
        ):
            with pytest.raises(ConfigurationError) as refused:
                DjangoDatabase(address, secret_key=SECRET, until=UNTIL, table=table).open(blocking=True)
            assert "pa55word" not in str(refused.value)

    def test_a_key_that_is_none_of_djangos_never_reaches_the_database(self) -> None:
        """Whatever a cookie holds."""
        for text in ("A" * 32, "a'b" * 9, "a" * 7, "a" * 41, "ключ" * 8):
            bench = Bench().stand(DjangoDatabasePeer().unreachable())
            assert bench.visit(f"sessionid={text}").user is None
            assert bench.refusals() == ["forged"]


class TestTheCache:
    """cache on Redis."""

    def test_the_default_serializer_of_djangos_cache_is_refused(self) -> None:
        """It pickles: the how-to says how to change over first."""
        peer = DjangoCachePeer()
        peer._config["CACHES"]["default"].pop("OPTIONS")
        cookie = peer.write({**USER, "cart": 1})
        assert peer.read(cookie)["cart"] == "1"
        bench = Bench().stand(peer.bridge())
        assert bench.visit(cookie).user is None
        assert bench.refusals() == ["pickle"]
        assert peer.read(cookie)["cart"] == "1", "it is left alone"

    def test_the_caches_prefix_and_version_are_followed(self) -> None:
        """As CACHES says them."""
        peer = DjangoCachePeer()
        peer._config["CACHES"]["default"].update(KEY_PREFIX="shop", VERSION=3)
        cookie = peer.write(USER)
        assert Bench().stand(peer.bridge()).visit(cookie).user is None
        assert Bench().stand(peer.bridge(key_prefix="shop", version=3)).visit(cookie).user == "1"


class TestTheCookie:
    """signed_cookies."""

    def test_it_is_refused_when_django_itself_would_refuse_it(self) -> None:
        """At the very second."""
        peer = DjangoCookiePeer(SESSION_COOKIE_AGE=600)
        cookie, written = peer.write({**USER, "cart": 1}), int(time.time())
        for age, lives in ((600, True), (601, False)):
            bench = Bench().stand(peer.bridge(max_age=600))
            bench.rig.now = written + age
            with mock.patch("time.time", return_value=float(written + age)):
                assert ("cart" in peer.read(cookie)) is lives
            assert (bench.visit(cookie).user is not None) is lives
            assert bench.refusals() == ([] if lives else ["expired"])

    def test_what_set_expiry_said_is_honoured(self) -> None:
        """Django leaves that to the browser, and a thief's copy has none."""
        peer = DjangoCookiePeer()
        cookie = peer.write({**USER, "expiry": 60})
        bench = Bench().stand(peer.bridge())
        bench.advance(62)
        assert bench.visit(cookie).user is None
        assert bench.refusals() == ["expired"]

    def test_a_pickled_cookie_is_refused(self) -> None:
        """Signed with the right key, and still not loaded."""
        salt = "django.contrib.sessions.backends.signed_cookies"
        text = signing.dumps(USER, key=SECRET, salt=salt, serializer=Pickled, compress=True)
        bench = Bench().stand(DjangoCookiePeer().bridge())
        assert bench.visit(f"sessionid={text}").user is None
        assert bench.refusals() == ["pickle"]

    def test_a_row_of_the_database_is_no_cookie(self) -> None:
        """Each has its own salt."""
        text = signing.dumps(USER, key=SECRET, salt="django.contrib.sessions.SessionStore", compress=True)
        bench = Bench().stand(DjangoCookiePeer().bridge())
        assert bench.visit(f"sessionid={text}").user is None
        assert bench.refusals() == ["forged"]
