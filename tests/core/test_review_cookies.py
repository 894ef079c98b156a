"""What a hostile review of sessions in cookies found, and what it tried in vain."""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
import time
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sessile.core.record import EndReason, Tombstone
from sessile.errors import StoreError, StoreUnavailable
from sessile.stores.cookie import open_revocations
from sessile.stores.sqlite.revocations import SqliteRevocations
from tests.core.cookie_rig import NAME, Rig
from tests.support.requirements import requirement


@pytest.fixture(params=["memory", "sqlite"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Return a rig whose ends are remembered."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ends.db'}"
    one = Rig(open_revocations(url, blocking=True))
    yield one
    one.close()


class TestMarks:
    """An end holds for as long as what it ended could live, and what cannot be read lets nobody in."""

    @requirement("R45")
    @pytest.mark.parametrize("user", [b"\x94\xa6logout\x01\x01\xa1\xff", b"\x94\xa1\xff\x01\x01\x01", b"\xc0"])
    def test_a_mark_that_is_no_text_is_an_outage(self, user: bytes, tmp_path: Path) -> None:
        """It is refused with 503, and not an error that nobody expects."""
        ends = SqliteRevocations(tmp_path / "ends.db", blocking=True)
        rig = Rig(ends)
        ada = rig.browser().sign_in("ada")
        rig.run(rig.engine.end_user("ada", EndReason.ADMIN))
        with sqlite3.connect(tmp_path / "ends.db") as connection:
            connection.execute("UPDATE user SET mark = ?", (b"\x93\x01" + user + b"\x80",))
        connection.close()
        with pytest.raises(StoreError):
            ada.look()
        rig.close()

    @requirement("R45")
    def test_a_mark_that_is_nested_without_end_is_an_outage(self, tmp_path: Path) -> None:
        """A file may hold anything."""
        rig = Rig(SqliteRevocations(tmp_path / "ends.db", blocking=True))
        ada = rig.browser().sign_in("ada")
        rig.run(rig.engine.end_user("ada", EndReason.ADMIN))
        with closing(sqlite3.connect(tmp_path / "ends.db")) as connection:
            [(mark,)] = connection.execute("SELECT mark FROM user")
            assert mark[0] == 0x93
            connection.execute("UPDATE user SET mark = ?", (b"\x94" + mark[1:] + b"\x91" * 100_000 + b"\x01",))
            connection.commit()
        with pytest.raises(StoreError):
            ada.look()
        rig.close()

    @requirement("R45", "R62")
    @pytest.mark.parametrize("how", ["removed", "replaced"])
    def test_a_file_that_was_taken_away_under_a_process_is_an_outage(self, how: str, tmp_path: Path) -> None:
        """Another worker has begun a new one: what signs out there must not go on living here."""
        url = f"sqlite:///{tmp_path / 'ends.db'}"
        here = Rig(open_revocations(url, blocking=True))
        ada = here.browser().sign_in("ada")
        assert ada.look()[0] == "ada"
        for file in tmp_path.glob("ends.db*"):
            file.unlink()
        there = Rig(open_revocations(url, blocking=True))
        if how == "replaced":
            there.browser().sign_in("bob")
        deadline = time.monotonic() + 30
        with suppress(StoreUnavailable):
            while time.monotonic() < deadline:
                ada.look()
        with pytest.raises(StoreUnavailable):
            ada.look()
        for verb in (here.ends.begin("ada"), here.ends.end("0" * 40, Tombstone(EndReason.ADMIN, 1.0, 2.0))):
            with pytest.raises(StoreUnavailable):
                here.run(verb)
        assert there.browser(ada.jar).look()[0] is None
        here.close()
        there.close()


def _fork(work: Callable[[], object]) -> bytes:
    """Return what `work` says in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(30)  # rather than wait for a lock for good
        try:
            os.write(writing, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read()


class TestForks:
    """A worker that was forked after the application was loaded does not believe what it cannot check."""

    @requirement("R61", "R62")
    def test_what_signed_out_in_one_worker_is_not_alive_in_another(self) -> None:
        """In memory, a child hears of no end but its own: so nothing that was issued elsewhere lives there."""
        rig = Rig(open_revocations("memory://", blocking=True))
        ada = rig.browser().sign_in("ada")
        thief = ada.copy()
        assert thief.look()[0] == "ada"
        assert (
            _fork(lambda: (thief.look()[0], ada.do(lambda session: session.logout()).sets_cookie)) == b"(None, False)"
        )
        assert thief.look()[0] == "ada"
        ada.do(lambda session: session.logout())
        assert thief.look()[0] is None
        assert _fork(lambda: thief.look()[0]) == b"None"

    @requirement("R61")
    def test_a_child_serves_those_who_sign_in_there(self) -> None:
        """Also if a thread of the parent held the lock."""
        rig = Rig(open_revocations("memory://", blocking=True))
        with rig.ends._lock:
            assert _fork(lambda: rig.browser().sign_in("bob").look()[0]) == b"'bob'"

    @requirement("R61")
    def test_two_children_draw_different_nonces_and_numbers(self) -> None:
        """Both come from the operating system, each time."""
        rig = Rig(open_revocations("memory://", blocking=True))

        def work() -> Any:
            jar = rig.browser().sign_in("bob").jar
            return base64.urlsafe_b64decode(jar[NAME][1:49])[:34], rig.ends._everything

        said = [literal_eval(_fork(work).decode()) for _ in range(3)] + [work()]
        assert len({head[:20] for head, _ in said}) == 4
        assert len({head[22:] for head, _ in said}) == 4
        assert len({number for _, number in said}) == 4


class TestWhatIsShown:
    """Nothing that a log may show holds a session."""

    @requirement("R47")
    def test_no_repr_holds_the_data_the_user_or_the_id(self, rig: Rig) -> None:
        """Tools that report errors show the variables of every frame."""
        ada = rig.browser().sign_in("ada.lovelace", card="4111-1111")
        session = ada.open()
        session.get("card")
        sid = str(session.id)
        found = rig.engine._cookies.read(ada.header)
        shown = repr(session) + repr(found) + repr(session.opened)
        for secret in ("4111", "ada.lovelace", sid, repr(bytes.fromhex(sid))[2:-1]):
            assert secret not in shown


class TestHeaders:
    """No Cookie header stops a worker or is believed."""

    def test_any_header_is_nobody_or_the_session(self, rig: Rig) -> None:
        """Cut, doubled, padded, of other alphabets, and long."""
        ada = rig.browser().sign_in("ada", pad="x" * 5_000)
        whole, first = ada.header, ada.jar[NAME]
        names = list(ada.jar)
        assert len(names) > 1
        tries: list[str] = [whole[:end] for end in range(0, len(whole), 97)]
        tries += [f"{NAME}={count}{rest}" for count in "0123456789a\x00\ud800é" for rest in ("", "A", first[1:])]
        tries += [whole.replace("; ", separator) for separator in (";", ",", ";\x0b", "; ;", ";\x00", "\n", "; \t")]
        tries += [f"{whole}; {name}={value}" for name in names for value in ("", "x", ada.jar[name])]
        tries += [f"{NAME}.t={value}; {whole}" for value in ("", "\ud800", "A" * 44, first, "=" * 44)]
        tries += [f"{NAME}=" * 10_000, f"{NAME}=;" * 5_000, " " * 60_000 + whole, (";" + " " * 50) * 1_000 + whole]
        tries += [f"{NAME}=9{'A' * 4000}; " + "; ".join(f"{NAME}.{n}={'A' * 4000}" for n in range(1, 9))]
        for header in tries:
            browser = ada.copy()
            session = rig.call("open", replace(browser.facts(), cookie=header))
            assert session.user_id in (None, "ada")
            session["seen"] = 1
            rig.call("commit", session)


class TestAnswers:
    """No answer with a cookie of ours may be cached, and none that may say what became of a session."""

    @requirement("R19")
    def test_a_page_that_says_that_a_session_has_ended_is_kept_apart(self, rig: Rig) -> None:
        """It is shown to who had it, and not by a cache to everybody."""
        ada = rig.browser().sign_in("ada")
        rig.run(rig.engine.end_user("ada", EndReason.ADMIN))
        session = ada.open()
        assert session.ended is EndReason.ADMIN
        assert dict(ada.answer(session).headers("public, max-age=600", None))["vary"] == "Cookie"

    @requirement("R19")
    def test_a_time_of_use_that_is_written_though_nobody_looked_is_not_cached(self, rig: Rig) -> None:
        """It is the browser's own cookie."""
        ada = rig.browser().sign_in("ada")
        rig.now += 10 * 60
        answer = ada.do()
        assert answer.sets_cookie
        headers = dict(answer.headers("public, max-age=600", None))
        assert headers["cache-control"] == "no-store"
        assert headers["vary"] == "Cookie"
