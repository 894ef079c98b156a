"""What a hostile review of the bridges found: old sessions that came back, and ones that stopped a worker."""

from __future__ import annotations

import datetime as dt
import json
import socket
import sqlite3
import threading
import time
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis

from sessile.core.legacy import storable
from sessile.core.policy import DAY, Policy
from sessile.core.record import EndReason
from sessile.core.session import Session
from sessile.core.shutouts import standing_until
from sessile.errors import StoreUnavailable
from sessile.legacy import (
    DjangoDatabase,
    FlaskCookie,
    FlaskSessionRedis,
    StarletteCookie,
    StarsessionsCookie,
    formats,
    tables,
)
from tests.legacy.bench import Bench
from tests.legacy.own import OwnBridge
from tests.legacy.peers import SECRET, UNTIL, DjangoCookiePeer, DjangoDatabasePeer, FlaskPeer, StarlettePeer, redis_url
from tests.stores.sql_databases import execute
from tests.support.requirements import requirement
from tests.support.servers import shared


def sign_out(session: Session) -> None:
    """Be the view that signs out."""
    session.logout()


class TestAfterTheEnd:
    """What ended does not come back by way of an old cookie."""

    @requirement("R45", "R62")
    @pytest.mark.parametrize("failing", [1, 2, 3])
    def test_an_outage_during_the_adoption_does_not_let_in_who_was_signed_out_everywhere(self, failing: int) -> None:
        """The session is there, whether it may be was never answered; the thief comes again."""
        own, bench = OwnBridge({"k1": {"user_id": "ada"}}), Bench()
        bench.stand(own)
        bench.run(bench.rig.engine.end_user("ada", EndReason.LOGOUT))
        load, loads = bench.store.load, 0

        async def broken(session_id: str) -> Any:
            nonlocal loads
            loads += 1
            if loads > failing:
                raise StoreUnavailable("down")
            return await load(session_id)

        bench.store.load = broken
        with pytest.raises(StoreUnavailable):
            bench.visit("old=k1")
        bench.store.load = load
        assert bench.visit("old=k1").user is None
        assert bench.visit("old=k1").user is None
        assert bench.live() == 0

    @requirement("R45", "R64")
    def test_nor_who_was_there_before_everything_ended(self) -> None:
        """Nobody is too small for it."""
        own, bench = OwnBridge({"k2": {"cart": ["milk"]}}), Bench()
        bench.stand(own)
        bench.run(bench.rig.engine.end_everything())
        load, loads = bench.store.load, 0

        async def broken(session_id: str) -> Any:
            nonlocal loads
            loads += 1
            if loads > 1:
                raise StoreUnavailable("down")
            return await load(session_id)

        bench.store.load = broken
        with pytest.raises(StoreUnavailable):
            bench.visit("old=k2")
        bench.store.load = load
        assert bench.visit("old=k2").data == {}
        assert bench.live() == 0

    @requirement("R62")
    def test_the_tab_that_ended_the_others_keeps_its_session_though_it_still_sends_the_old_cookie(self) -> None:
        """An end that came after the adoption has met the session itself, and has kept it."""
        own, bench = OwnBridge({"k1": {"user_id": "ada"}}), Bench()
        bench.stand(own)
        mine = bench.visit("old=k1")
        bench.advance(6)
        bench.run(bench.rig.engine.end_user("ada", EndReason.LOGOUT, frozenset({str(mine.id)})))
        assert bench.visit("old=k1").user == "ada"

    @requirement("R49")
    def test_a_cookie_that_two_bridges_can_read_is_not_adopted_by_the_second_after_the_end(self) -> None:
        """Starlette's middleware and starsessions sign in the same way, and call their cookies the same."""
        cookie, bench = StarlettePeer().write({"user_id": "ada"}), Bench(policy=Policy(tombstone=DAY))
        bench.stand(
            StarletteCookie(secret_key=SECRET, until=UNTIL, max_age=14 * DAY),
            StarsessionsCookie(secret_key=SECRET, until=UNTIL),
        )
        adopted = bench.visit(cookie)
        assert adopted.user == "ada"
        bench.visit(bench.ours(adopted.token), sign_out)
        bench.advance(3 * DAY)
        bench.run(bench.rig.engine.sweep(100))
        assert bench.visit(cookie).user is None

    @requirement("R38", "R49")
    def test_a_node_whose_clock_is_behind_does_not_adopt_again_what_the_others_have_forgotten(self) -> None:
        """A mark outlives the cookie by as much as clocks may differ."""
        cookie, bench = FlaskPeer().write({"_user_id": "ada"}), Bench()
        bench.stand(FlaskCookie(secret_key=SECRET, until=UNTIL, max_age=2 * DAY))
        adopted = bench.visit(cookie)
        bench.visit(bench.ours(adopted.token), sign_out)
        bench.advance(2 * DAY + 1)
        bench.run(bench.rig.engine.sweep(100))
        bench.advance(-bench.rig.policy.clock_skew)  # the same request, at the node that is behind
        assert bench.visit(cookie).user is None

    @requirement("R49")
    def test_an_old_cookie_that_a_sign_out_took_along_is_nobodys_at_once(self) -> None:
        """There is no adoption under way to wait for, so it is no outage, and costs no more than a look or two."""
        own, bench = OwnBridge({"k1": {"user_id": "ada"}}), Bench()
        bench.stand(own)
        token = bench.rig.sign_in("bob")
        assert bench.visit(f"old=k1; {bench.ours(token)}", sign_out).forgotten == ("old",)
        own.rows["k1"] = {"user_id": "ada"}
        bench.rig.calls.clear()
        assert bench.visit("old=k1").user is None
        assert bench.rig.calls == ["load", "load"]
        assert bench.refusals() == ["spent"]


class TestWorkers:
    """No old session stops the worker that reads it."""

    @pytest.mark.parametrize(
        "date",
        [
            "Thu, 01 Jan 99999999999999999999 00:00:00 GMT",
            "Thu, 99999999999999 Jan 2020 00:00:00 GMT",
            "Thu, 01 Jan 2020 99999999999:00:00 GMT",
        ],
    )
    def test_a_date_beyond_all_dates_is_lost(self, date: str) -> None:
        """And the rest of the session is not."""
        assert formats.untag({" d": date}) is formats.LOST

    @pytest.mark.parametrize("depth", [100, 300, 500, 900])
    def test_a_nested_value_is_read_or_lost(self, depth: int) -> None:
        """JSON is read deeper than it can be walked."""
        data = formats.read_json(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
        assert isinstance(data, dict)
        found = formats.untag(data["a"])
        assert found is formats.LOST or json.dumps(found) == "[" * depth + "]" * depth

    def test_many_small_values_are_dropped_in_no_time(self) -> None:
        """The largest go first; who fills a session with a hundred thousand of them stops nobody."""
        data: dict[str, Any] = {f"k{number:06}": number for number in range(50_000)} | {"largest": "x" * 60_000}
        began = time.process_time()
        kept, dropped = storable(data, 65_536)
        assert time.process_time() - began < 5
        assert "largest" in dropped
        total = sum(len(key) + len(value) for key, value in kept.items())
        assert 65_000 < total <= 65_536
        assert len(kept) + len(dropped) == len(data)


class TestRows:
    """A row that is damaged is refused; it is no error that nobody expects."""

    @pytest.mark.parametrize("date", ["garbage", "", "99999-01-01 00:00:00", b"\xff", 5, None])
    @pytest.mark.parametrize("address", ["url", "django"])
    def test_a_date_that_is_none_is_refused(self, address: str, date: Any) -> None:
        """By SQLAlchemy, and by Django's own connection."""
        from django.conf import settings
        from django.db import connections

        peer = DjangoDatabasePeer()
        cookie = peer.write({"_auth_user_id": "1"})
        with closing(sqlite3.connect(settings.DATABASES["default"]["NAME"])) as connection:
            sid = cookie.partition("=")[2]
            connection.execute("UPDATE django_session SET expire_date = ? WHERE session_key = ?", (date or b"", sid))
            connection.commit()
        own = DjangoDatabase("django:default", secret_key=SECRET, until=UNTIL)
        bench = Bench().stand(peer.bridge() if address == "url" else own)
        assert bench.visit(cookie).user is None
        assert bench.refusals() in (["undecodable"], ["expired"])
        bench.close()
        connections.close_all()

    @pytest.mark.parametrize("date", ["infinity", "0044-03-15 BC", None])
    def test_a_date_of_postgresql_that_python_has_not_is_refused(self, date: str | None) -> None:
        """It is no outage: that would lock its owner out until the bridge is gone."""
        server = shared("postgresql")
        table = f"django_session_{uuid4().hex[:8]}"
        execute(
            server,
            f"CREATE TABLE {table} (session_key varchar(40) PRIMARY KEY, session_data text, expire_date timestamptz)",
            f"INSERT INTO {table} VALUES ('abcdefgh', 'x', {repr(date) if date else 'NULL'})",
            f"GRANT ALL ON {table} TO PUBLIC",
            database="sessile",
        )
        url = server.url.replace("postgresql:", "postgresql+psycopg:")
        bench = Bench().stand(DjangoDatabase(url, secret_key=SECRET, until=UNTIL, table=table))
        assert bench.visit("sessionid=abcdefgh").user is None
        assert bench.refusals() == ["undecodable"]
        bench.close()

    def test_a_time_that_set_expiry_was_given_is_honoured_in_a_cookie(self) -> None:
        """Django leaves it to the browser, which a thief does not use."""
        peer, now = DjangoCookiePeer(), dt.datetime.now(dt.UTC)
        for hours, user in ((-1, None), (1, "1")):
            with peer.settings():
                from django.contrib.sessions.backends.signed_cookies import SessionStore

                store = SessionStore()
                store["_auth_user_id"] = "1"
                store.set_expiry(now + dt.timedelta(hours=hours))
                store.save()
                cookie = f"sessionid={store.session_key}"
            bench = Bench().stand(peer.bridge())
            bench.advance(5)
            assert bench.visit(cookie).user == user
            assert bench.refusals() == ([] if user else ["expired"])


class TestAnOldDatabase:
    """A server that takes connections and says nothing costs seconds, and not a worker."""

    @requirement("R45")
    @pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql"])
    def test_that_is_silent_is_an_outage(self, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The driver's own patience is minutes, or has no end."""
        pytest.importorskip(scheme.partition("+")[2])
        monkeypatch.setattr(tables, "_WAIT", 2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"{scheme}://django@127.0.0.1:{silent.getsockname()[1]}/project"
            bench = Bench().stand(DjangoDatabase(url, secret_key=SECRET, until=UNTIL))
            met: list[BaseException] = []

            def work() -> None:
                try:
                    bench.visit("sessionid=abcdefghijklmnopqrstuvwxyz012345")
                except StoreUnavailable as error:
                    met.append(error)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(60)
            assert len(met) == 1


class TestMarks:
    """What is left in the store is left of sessions, and not of whatever somebody sends."""

    @requirement("R6")
    def test_signing_out_with_invented_cookies_leaves_nothing_in_the_store(self) -> None:
        """An id that names no row is nobody's: each would be remembered for months."""
        own, bench = OwnBridge({}), Bench()
        bench.stand(own)
        before = bench.run(bench.store.stats(bench.rig.now))
        for number in range(5):
            assert bench.visit(f"old=invented{number}", sign_out).forgotten == ("old",)
        assert bench.run(bench.store.stats(bench.rig.now)) == before

    @pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
    def test_what_is_no_session_is_neither_read_nor_removed(self, *, blocking: bool) -> None:
        """Ids that are not signed name keys; what else lies under the prefix is no outage, and nobody's to delete."""
        ids = {name: f"{name}{uuid4().hex}" for name in ("list", "bytes", "number", "long", "session")}
        client: Any
        with closing(redis.Redis(port=urlsplit(redis_url()).port or 0)) as client:
            client.rpush(f"session:{ids['list']}", 1)
            client.set(f"session:{ids['bytes']}", b"\xff\xfe")
            client.set(f"session:{ids['number']}", b"17")
            client.set(f"session:{ids['long']}", b"{" * 2_000_000)
            client.set(f"session:{ids['session']}", b'{"user_id": "ada"}')
            bench = Bench(blocking=blocking).stand(FlaskSessionRedis(redis_url(), until=UNTIL))
            for name, why in (
                ("list", "unknown"),
                ("bytes", "undecodable"),
                ("number", "undecodable"),
                ("long", "oversized"),
            ):
                bench.events.clear()
                assert bench.visit(f"session={ids[name]}").user is None
                assert (bench.refusals(), "store-failed" in bench.codes()) == ([why], False)
            for sid in ids.values():
                bench.visit(f"session={sid}", lambda session: session.login("bob"))
            left = [name for name, sid in ids.items() if client.exists(f"session:{sid}")]
            assert left == ["list", "bytes", "number", "long"]
            bench.close()

    @requirement("R49")
    @pytest.mark.parametrize("failing", ["find", "end"])
    def test_what_cannot_be_looked_up_at_a_sign_out_is_remembered(self, failing: str) -> None:
        """The old store is down, and the bridge was told to go on: its session must not come back with it."""
        own, bench = OwnBridge({"k1": {"user_id": "ada"}}, on_outage="ignore"), Bench()
        bench.stand(own)
        token = bench.rig.sign_in("ada")
        own.failing = {failing}
        bench.visit(f"old=k1; {bench.ours(token)}", sign_out)
        own.failing.clear()
        assert bench.visit("old=k1").user is None


class TestWhoElseMustKnow:
    """An operator's tool knows the store alone; the store says that bridges stand, from the first end on."""

    @requirement("R62")
    def test_that_bridges_stand_is_said_by_an_end_though_nobody_was_adopted_yet(self) -> None:
        """A move would leave that end behind."""
        bench = Bench().stand(own := OwnBridge({}))
        assert bench.run(standing_until(bench.store)) is None
        bench.run(bench.rig.engine.end_user("ada", EndReason.ADMIN))
        assert bench.run(standing_until(bench.store)) == own.until

    @requirement("R64")
    def test_that_bridges_stand_is_not_forgotten_with_the_end_of_everything(self) -> None:
        """All marks of before are swept with what they were about."""
        bench = Bench().stand(own := OwnBridge({"k1": {"user_id": "ada"}}))
        assert bench.visit("old=k1").user == "ada"
        for _ in range(2):
            bench.advance(60)
            bench.run(bench.rig.engine.end_everything())
            bench.advance(60)
            bench.run(bench.store.sweep(bench.rig.now, 1_000))
            assert bench.run(standing_until(bench.store)) == own.until


class TestThieves:
    """Who adopts with a stolen cookie is found out by its owner."""

    @requirement("R30")
    def test_an_owner_who_comes_later_ends_what_a_thief_has_renewed(self) -> None:
        """As the owner of a token that was left behind does: whichever token the thief has by now."""
        own, bench = OwnBridge({"k1": {"user_id": "ada"}}), Bench()
        bench.stand(own)
        thief = bench.visit("old=k1", lambda session: session.rotate()).token
        assert bench.visit(bench.ours(thief)).user == "ada"
        bench.advance(600)
        assert bench.visit("old=k1").user is None
        assert "replay-detected" in bench.codes()
        assert bench.visit(bench.ours(thief)).user is None

    @requirement("R30")
    def test_a_second_tab_that_is_only_late_ends_nothing(self) -> None:
        """It was on its way when the first one signed in."""
        own, bench = OwnBridge({"k1": {"user_id": "ada"}}), Bench()
        bench.stand(own)
        mine = bench.visit("old=k1", lambda session: session.rotate()).token
        bench.advance(5)
        assert bench.visit("old=k1").token is None
        assert bench.visit(bench.ours(mine)).user == "ada"


class TestTheLimit:
    """An adoption makes room as a sign-in does."""

    @requirement("R66")
    @pytest.mark.parametrize("on_limit", ["refuse", "end-oldest"])
    def test_sign_ins_that_wait_for_a_factor_take_nobodys_place(self, on_limit: Any) -> None:
        """Who knows a password and no more keeps its owner out of nothing, and ends nothing."""
        own = OwnBridge({"k1": {"user_id": "ada"}})
        bench = Bench(policy=Policy(max_sessions=2, on_limit=on_limit))
        bench.stand(own)
        finished = bench.rig.sign_in("ada")
        for _ in range(3):
            bench.visit("", lambda session: session.login("ada", pending=True))
        assert bench.visit("old=k1").user == "ada"
        assert bench.visit(bench.ours(finished)).user == "ada"
