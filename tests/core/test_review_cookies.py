"""What a hostile review of sessions in cookies found, and what it tried in vain."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sessile.core.record import EndReason
from sessile.errors import StoreError
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
    """No answer with a cookie of ours may be cached."""

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
