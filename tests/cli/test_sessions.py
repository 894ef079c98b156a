"""`sessile sessions …`, on a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessile import Facts, Policy, Sessions
from sessile.core.bridge import drive
from sessile.core.cookieengine import CookieEngine
from sessile.core.ports import Claim
from sessile.core.sealedcookies import Found
from sessile.stores.cookie import CookieStore
from sessile.testing import FrozenClock, Minted, freeze, mint_session
from tests.cli.conftest import HOSTILE, Call, Shop
from tests.support.requirements import requirement


def user_of(shop: Shop, minted: Minted) -> str | None:
    """Ask the application whom a cookie signs in."""
    cookie = f"{minted.name}={minted.token}"
    return shop.sessions.open(Facts("GET", "https", "shop.example", "/", "", cookie, lambda _name: None)).user_id


def test_the_list_holds_every_live_session_once(sessile: Call, shop: Shop) -> None:
    """A pipe gets tab-separated lines with whole ids and times in UTC."""
    rows = sessile("sessions", "list", "--store", shop.url).rows
    assert {(row[0], row[1], row[2]) for row in rows} == {
        (shop.ann.id, "ann", "authenticated"),
        (shop.ann_again.id, "ann", "authenticated"),
        (shop.bob.id, "bob", "authenticated"),
        (shop.nobody.id, "", "anonymous"),
    }
    assert len(rows) == 4
    assert all(len(row) == 7 and row[4].endswith("Z") for row in rows)


def test_the_store_may_be_named_by_the_environment(sessile: Call, shop: Shop) -> None:
    """SESSILE_STORE stands in for --store."""
    assert len(sessile("sessions", "list", env={"SESSILE_STORE": shop.url}).rows) == 4


def test_json_is_one_object_a_line(sessile: Call, shop: Shop) -> None:
    """Machines can read a listing of any length as it comes."""
    said = sessile("sessions", "list", "--store", shop.url, "--user", "ann", "--json")
    objects = [json.loads(line) for line in said.out.splitlines()]
    assert {one["id"] for one in objects} == {shop.ann.id, shop.ann_again.id}
    assert {factor["name"] for factor in objects[0]["factors"]} == {"password", "totp"}
    assert objects[0]["aal"] == 2


def test_a_listing_reads_only_as_far_as_it_is_asked(sessile: Call, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million sessions are read page by page, and a limit stops the reading."""
    for number in range(20):
        mint_session(shop.sessions, f"user{number}")
    pages: list[str | None] = []
    scan = Sessions.scan
    monkeypatch.setattr("sessile.cli.sessions.PAGE", 5)

    def counted(self: Sessions, cursor: str | None = None, *, limit: int = 100) -> object:
        pages.append(cursor)
        return scan(self, cursor, limit=limit)

    monkeypatch.setattr(Sessions, "scan", counted)
    assert len(sessile("sessions", "list", "--store", shop.url, "--limit", "6").rows) == 6
    assert len(pages) == 2
    pages.clear()
    listed = [row[0] for row in sessile("sessions", "list", "--store", shop.url).rows]
    assert len(listed) == len(set(listed)) == 24
    assert len(pages) == 5


def test_expired_sessions_are_not_listed_or_shown(sessile: Call, shop: Shop) -> None:
    """What the policy has ended is gone for operators too, before any sweep."""
    with freeze(shop.sessions, FrozenClock(time.time() - 90_000)):
        old = mint_session(shop.sessions, "carol")
    assert old.id not in sessile("sessions", "list", "--store", shop.url).out
    assert sessile("sessions", "list", "--store", shop.url, "--user", "carol").out == ""
    assert sessile("sessions", "show", old.id, "--store", shop.url).code == 2


def test_deadlines_are_the_applications_not_the_tools(sessile: Call, tmp_path: Path) -> None:
    """A session that the application lets live for a month is alive for its operator too."""
    from sessile import Policy

    url = f"sqlite:///{tmp_path}/long.db"
    sessions = Sessions(url, policy=Policy.aal1(), sinks=())
    with freeze(sessions, FrozenClock(time.time() - 3 * 86_400)):
        old = mint_session(sessions, "ann")
    assert sessile("sessions", "list", "--store", url).rows[0][0] == old.id


def test_show_names_what_is_known_and_no_value_of_the_data(sessile: Call, shop: Shop) -> None:
    """An operator sees that there is a cart and how large it is, and never what is in it."""
    said = sessile("sessions", "show", shop.ann.id[:8], "--store", shop.url)
    shown = {row[0]: row[1] for row in said.rows}
    assert shown["id"] == shop.ann.id
    assert shown["user"] == "ann"
    assert shown["data"].startswith("cart (")
    assert "secret present" not in said.out
    told = json.loads(sessile("sessions", "show", shop.ann.id, "--store", shop.url, "--json").out)
    assert told["data"].keys() == {"cart"}


@requirement("R3", "R96")
def test_no_command_ever_prints_a_secret(sessile: Call, shop: Shop) -> None:
    """Neither the token nor the key that signs it stands in any output."""
    key = (shop.folder / "shop.db.key").read_text().strip()
    secrets = [shop.ann.token, shop.ann.token[10:40], key, key[3:30]]
    for arguments in (["list"], ["list", "--json"], ["show", shop.ann.id], ["stats"], ["end", shop.ann.id], ["sweep"]):
        said = sessile("sessions", *arguments, "--store", shop.url)
        assert not any(secret in said.out + said.err for secret in secrets)


@requirement("R61")
def test_an_ended_session_is_dead_for_its_token_at_once(sessile: Call, shop: Shop) -> None:
    """What an operator ends from outside is over in the running application, and stays over."""
    assert user_of(shop, shop.ann) == "ann"
    said = sessile("sessions", "end", shop.ann.id[:10], "--store", shop.url)
    assert (said.code, said.rows) == (0, [[shop.ann.id, "ended"]])
    assert user_of(shop, shop.ann) is None
    assert user_of(shop, shop.ann_again) == "ann"
    again = sessile("sessions", "end", shop.ann.id, "--store", shop.url)
    assert (again.code, again.rows) == (0, [[shop.ann.id, "had ended (admin)"]])
    shown = sessile("sessions", "show", shop.ann.id, "--store", shop.url, "--json")
    assert json.loads(shown.out)["user"] == "ann"


def test_ending_what_never_was_exits_with_1(sessile: Call, shop: Shop) -> None:
    """Scripts learn that there was nothing to end."""
    said = sessile("sessions", "end", "f" * 40, "--store", shop.url)
    assert (said.code, said.rows) == (1, [["f" * 40, "unknown"]])


@requirement("R64")
def test_a_users_sessions_end_together_and_nobody_elses(sessile: Call, shop: Shop) -> None:
    """`end-user` is "sign out everywhere" from outside."""
    said = sessile("sessions", "end-user", "ann", "--store", shop.url, "--json")
    assert json.loads(said.out) == {"ended": 2}
    assert [user_of(shop, one) for one in (shop.ann, shop.ann_again, shop.bob)] == [None, None, "bob"]
    assert sessile("sessions", "end-user", "ann", "--store", shop.url).code == 1


@requirement("R64")
def test_everybody_is_signed_out_only_on_a_clear_yes(sessile: Call, shop: Shop) -> None:
    """A script that forgot --yes ends nothing; one that says it ends all."""
    refused = sessile("sessions", "end-all", "--store", shop.url)
    assert refused.code == 2
    assert user_of(shop, shop.bob) == "bob"
    assert sessile("sessions", "end-all", "--yes", "--store", shop.url).out == "4\n"
    assert [user_of(shop, one) for one in (shop.ann, shop.ann_again, shop.bob)] == [None, None, None]
    assert sessile("sessions", "sweep", "--store", shop.url).out == "4\n"


@requirement("R50")
def test_a_sweep_removes_all_that_has_expired_and_nothing_else(
    sessile: Call, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on in steps until nothing is left to remove."""
    monkeypatch.setattr("sessile.cli.sessions.PAGE", 3)
    with freeze(shop.sessions, FrozenClock(time.time() - 90_000)):
        for number in range(10):
            mint_session(shop.sessions, f"old{number}")
    assert sessile("sessions", "sweep", "--store", shop.url).out == "10\n"
    counts = json.loads(sessile("sessions", "stats", "--store", shop.url, "--json").out)
    assert counts == {"live": 4, "signed_in": 3, "users": 2, "tombstones": 0}


def test_an_ambiguous_prefix_ends_nothing(sessile: Call, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two sessions begin alike, the operator must say more."""
    monkeypatch.setattr("sessile.cli.sessions.SHORTEST", 1)
    first = [row[0] for row in sessile("sessions", "list", "--store", shop.url).rows]
    for number in range(40):
        first.append(mint_session(shop.sessions, f"u{number}").id)
    twice = next(one[0] for one in first if sum(other[0] == one[0] for other in first) > 1)
    said = sessile("sessions", "end", twice, "--store", shop.url)
    assert said.code == 2
    assert f"begin with {twice}; give more of the id" in said.err
    assert json.loads(sessile("sessions", "stats", "--store", shop.url, "--json").out)["live"] == len(first)


@pytest.mark.parametrize("name", ["", "abc", "zzzzzzzz", "../../etc", "a" * 41, "abcdef%", "{token}"])
@requirement("R6")
def test_what_is_no_id_is_refused_and_never_repeated(sessile: Call, shop: Shop, name: str) -> None:
    """A token pasted by mistake does not end in a terminal's log."""
    wrong = name.format(token=shop.ann.token)
    said = sessile("sessions", "end", wrong, "--store", shop.url)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert len(wrong) < 4 or wrong not in said.err
    assert user_of(shop, shop.ann) == "ann"


@requirement("R6")
def test_a_hostile_name_cannot_drive_the_terminal_or_forge_a_row(sessile: Call, shop: Shop) -> None:
    """What users choose is shown with its control characters written out, one session one line."""
    minted = mint_session(shop.sessions, HOSTILE, data={"k\x1b]0;owned\x07": 1})
    for arguments in (["list"], ["list", "--json"], ["show", minted.id], ["show", minted.id, "--json"]):
        out = sessile("sessions", *arguments, "--store", shop.url).out
        assert not any(one in out for one in ("\x1b", "\x07", "\u202e"))
    rows = sessile("sessions", "list", "--store", shop.url).rows
    assert len(rows) == 5
    assert {len(row) for row in rows} == {7}
    assert sessile("sessions", "end-user", HOSTILE, "--store", shop.url).out == "1\n"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory://",
        "nonsense",
        "redis://user:hunter2@127.0.0.1:1/0",
        "sqlite://hunter2/x.db",
        "sqlite:///{folder}/missing.db",
        "sqlite:///{folder}/no/such/folder.db",
        "sqlite:///{folder}/empty.db",
        "sqlite:///{folder}/other.db",
        "sqlite:///{folder}/garbage.db",
        "sqlite:///{folder}",
    ],
)
@pytest.mark.parametrize("command", [("list",), ("sweep",), ("end-all", "--yes"), ("stats",)])
def test_a_store_that_is_not_there_is_one_line_and_creates_nothing(
    sessile: Call, tmp_path: Path, url: str, command: tuple[str, ...]
) -> None:
    """Operators' commands make no database, no key file and no schema in a file of somebody else's."""
    import sqlite3
    from contextlib import closing

    (tmp_path / "empty.db").touch()
    (tmp_path / "garbage.db").write_bytes(b"garbage" * 1000)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    said = sessile("sessions", *command, "--store", url.format(folder=tmp_path))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("sessile: ")
    assert said.err.count("\n") == 1
    assert "hunter2" not in said.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_operators_need_no_key_and_make_none(sessile: Call, shop: Shop) -> None:
    """The key may be where operators cannot read it, and a missing one is not replaced."""
    (shop.folder / "shop.db.key").unlink()
    assert sessile("sessions", "list", "--store", shop.url, env={"SESSILE_PRODUCTION": "1"}).code == 0
    assert not (shop.folder / "shop.db.key").exists()


def test_a_reader_that_goes_away_is_no_error(shop: Shop) -> None:
    """`sessile sessions list | head -1` ends without a traceback."""
    for number in range(300):
        mint_session(shop.sessions, f"user{number}" + "x" * 500)
    command = [sys.executable, "-m", "sessile", "sessions", "list", "--json", "--store", shop.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(30)
    assert errors == b""


@requirement("R48", "R64")
def test_a_sealed_store_is_listed_with_its_keys_and_ended_without(sessile: Call, tmp_path: Path) -> None:
    """SESSILE_DATA_KEYS opens the listing; whoever has no keys can still sign somebody out."""
    from sessile.core.keys import KeyRing, generate

    url, keys = f"sqlite:///{tmp_path / 'sealed.db'}", generate(3)
    sessions = Sessions(url, encrypt=KeyRing.parse(keys), sinks=())
    minted = mint_session(sessions, "ann")
    listed = sessile("sessions", "list", "--store", url, env={"SESSILE_DATA_KEYS": keys}).rows
    assert [row[:2] for row in listed] == [[minted.id, "ann"]]
    assert sessile("sessions", "list", "--store", url, env={"SESSILE_DATA_KEYS": ""}).rows == []
    cookie = f"{minted.name}={minted.token}"
    facts = Facts("GET", "https", "shop.example", "/", "", cookie, lambda _name: None)
    assert sessions.open(facts).user_id == "ann"
    sessile("sessions", "end-user", "ann", "--store", url)
    assert sessions.open(facts).user_id is None
    sessions.close()


class TestInCookies:
    """Sessions that live in cookies: an operator cannot list them, and can end them."""

    @pytest.fixture(name="door")
    def fixture_door(self, tmp_path: Path) -> Iterator[tuple[str, Sessions]]:
        """Return the URL and the application's own door."""
        url = f"cookie://?revocations=sqlite:///{tmp_path / 'ends.db'}"
        sessions = Sessions(url, sinks=(), policy=Policy.aal1())
        yield url, sessions
        sessions.close()

    def user(self, sessions: Sessions, minted: Minted) -> str | None:
        """Ask the application whom a cookie signs in."""
        cookie = f"{minted.name}={minted.token}"
        return sessions.open(Facts("GET", "https", "shop.example", "/", "", cookie, lambda _name: None)).user_id

    @requirement("R61", "R64")
    def test_they_are_ended_by_id_by_user_and_all(self, sessile: Call, door: tuple[str, Sessions]) -> None:
        """Each end counts at once; what is not named lives on."""
        url, sessions = door
        ann, again, bob, eve = (mint_session(sessions, name) for name in ("ann", "ann", "bob", "eve"))
        assert sessile("sessions", "end", ann.id, "--store", url).rows == [[ann.id, "ended"]]
        assert sessile("sessions", "end", ann.id, "--store", url).rows == [[ann.id, "had ended"]]
        found = [self.user(sessions, one) for one in (ann, again, bob, eve)]
        assert found == [None, "ann", "bob", "eve"]
        assert sessile("sessions", "end-user", "ann", "--store", url).out.strip() == "confirmed"
        assert [self.user(sessions, one) for one in (again, bob, eve)] == [None, "bob", "eve"]
        said = sessile("sessions", "end-all", "--yes", "--store", url, "--json").out
        assert json.loads(said) == {"ended": None, "outcome": "confirmed"}
        assert [self.user(sessions, one) for one in (bob, eve)] == [None, None]

    @requirement("R61")
    def test_an_end_is_remembered_whatever_the_application_s_policy_grants(
        self, sessile: Call, door: tuple[str, Sessions]
    ) -> None:
        """The operator's command does not know the policy: on day 29 of a session that may live 30, it is marked."""
        url, sessions = door
        with freeze(sessions) as clock:
            minted, other = mint_session(sessions, "ann"), mint_session(sessions, "bob")
            sessile("sessions", "end-user", "ann", "--store", url)
            sessile("sessions", "end", other.id, "--store", url)
            for _ in range(29):
                clock.advance(86_400)
                sessions.sweep()
            store = sessions.engine.store
            assert isinstance(store, CookieStore)
            assert store.revocations is not None
            for one, user in ((minted, "ann"), (other, "bob")):
                assert drive(store.revocations.check(_claim(sessions, one, user))) is not None

    def test_nothing_is_listed_and_nothing_is_made(self, sessile: Call, tmp_path: Path) -> None:
        """One sentence each; a file that is not there stays away."""
        url = f"cookie://?revocations=sqlite:///{tmp_path / 'none.db'}"
        for verb in (("list",), ("end-user", "ann"), ("end-all", "--yes")):
            assert sessile("sessions", *verb, "--store", url).code
        assert sessile("sessions", "end-user", "ann", "--store", "cookie://?revocations=memory://").code
        assert sessile("sessions", "end-user", "ann", "--store", "cookie://").code
        assert list(tmp_path.glob("none.db*")) == []


def _claim(sessions: Sessions, minted: Minted, user: str) -> Claim:
    engine = sessions.engine
    assert isinstance(engine, CookieEngine)
    found = engine._cookies.read(f"{minted.name}={minted.token}")
    assert isinstance(found, Found)
    return Claim(minted.id, user, *found.numbers)
