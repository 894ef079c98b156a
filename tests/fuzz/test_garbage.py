"""Garbage in cookies, headers, stores and settings: nothing escapes, is echoed, or reaches a store while forged."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sessile.core import values
from sessile.core.bridge import drive
from sessile.core.cookies import CookieRules
from sessile.core.crosssite import CrossSiteGuard
from sessile.core.events import Event, RecordRefused
from sessile.core.keys import KeyRing
from sessile.core.network import Proxies
from sessile.core.policy import Policy
from sessile.errors import ConfigurationError
from sessile.monitor import LogSink
from sessile.stores import open_store
from sessile.stores.sqlite import SqliteStore
from tests.core.rig import RING, Rig, facts
from tests.support.requirements import requirement

HEADER = st.text(max_size=300) | st.text(alphabet='__Host-id=;, \t"AEIM019-_.\x00\r\n\ud800é', max_size=120)
GOOD = Rig().mint.mint(b"s" * 20, 0, b"branch")
SHARED = settings(suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture])


class Lines(logging.Handler):
    """Keep the lines of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def logged(events: list[Event]) -> str:
    """Return what the log sink makes of these events."""
    logger = logging.getLogger("sessile.fuzz")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers.clear()
    lines = Lines()
    logger.addHandler(lines)
    for event in events:
        LogSink(logger)(event)
    return "\n".join(lines.lines)


class TestCookiesAndHeaders:
    """What a client sends."""

    @requirement("R6", "R46")
    @given(HEADER)
    @example("__Host-id=" + GOOD[:-1])
    @example("__Host-id=" + GOOD + "A")
    @example("__Host-id=" + "A" * 63)
    @example("__Host-id=" + "A" * 100_000)
    @example("x=1; __Host-id=" + GOOD.swapcase() + "; y")
    def test_no_cookie_header_escapes_or_reaches_the_store(self, header: str) -> None:
        """It is served as nobody, whatever the application then does, and the log repeats nothing of it."""
        rig = Rig()
        session = rig.open(cookie=header)
        assert session.user_id is None
        assert dict(session) == {}
        session.pop("x", None)
        answer = rig.commit(session)
        assert answer.cookie is None
        assert rig.calls == []
        told = logged(rig.events)
        for part in header.replace("=", ";").split(";"):
            assert len(part) < 12 or part not in told

    @requirement("R6", "R21")
    @given(HEADER, HEADER)
    def test_garbage_around_a_good_cookie_never_makes_it_another(self, before: str, after: str) -> None:
        """The session is found, or nobody is; never an exception."""
        rig = Rig()
        token = rig.sign_in()
        session = rig.open(cookie=f"{before};__Host-id={token};{after}")
        assert session.user_id in ("ada", None)
        rig.commit(session)

    @given(
        st.dictionaries(st.sampled_from(["user_agent", "sec_ch_ua_platform", "x_forwarded_for", "forwarded"]), HEADER),
        HEADER,
        HEADER,
    )
    def test_no_other_header_escapes_or_is_echoed(self, headers: dict[str, str], peer: str, host: str) -> None:
        """Agents, addresses and hosts of any text: a session can be signed in, found and ended."""
        rig = Rig(proxies=Proxies(["10.0.0.0/8", "unix"]))
        token = rig.sign_in(peer=peer, host=host, **headers)
        session = rig.open(token, peer="10.0.0.1", host=host, **headers)
        session["x"] = 1
        rig.commit(session)
        drive(rig.engine.end_user("ada", "admin"))  # type: ignore[arg-type]
        told = logged(rig.events)
        assert token not in told
        for text in (*headers.values(), peer):
            assert len(text) < 12 or text not in told


class Damaged:
    """Hold one store with Ada's and Bob's rows, as bytes to damage and to repair."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "damaged.db"
        self.rig = Rig(SqliteStore(self.path, blocking=True))
        self.tokens = {}
        for user in ("ada", "bob"):
            session = self.rig.open()
            session.login(user)
            session.update(name=user, cart=[{"n": 1}], at=(1, 2))
            self.tokens[user] = self.rig.close(session)
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.rows = self.database.execute("SELECT * FROM session ORDER BY key").fetchall()
        self.columns = [row[1] for row in self.database.execute("PRAGMA table_info(session)")]

    def repair(self) -> None:
        """Put the rows back as they were."""
        self.database.execute("DELETE FROM session")
        marks = ", ".join("?" * len(self.columns))
        self.database.executemany(f"INSERT INTO session VALUES ({marks})", self.rows)
        self.rig.events.clear()

    def set(self, user: str, column: str, value: Any) -> None:
        """Put a value into a user's row."""
        sid = self.rig.id_of(self.tokens[user])  # type: ignore[arg-type]
        self.database.execute(f"UPDATE session SET {column} = ? WHERE id = ?", (value, sid))

    def get(self, user: str, column: str) -> Any:
        """Return a value of a user's row."""
        sid = self.rig.id_of(self.tokens[user])  # type: ignore[arg-type]
        return self.database.execute(f"SELECT {column} FROM session WHERE id = ?", (sid,)).fetchone()[0]

    def use(self, user: str) -> str | None:
        """Make a whole request: read everything, write something, commit; return whose it was."""
        session = self.rig.open(self.tokens[user])
        dict(session)
        repr(session)
        session.get("name")
        list(session.items())
        session["more"] = 1
        self.rig.commit(session)
        return session.user_id if session.base is not None else None


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    """Return the store to damage."""
    store = Damaged(tmp_path_factory.mktemp("fuzz"))
    yield store
    store.database.close()
    drive(store.rig.store.close())


COLUMNS = st.sampled_from(["control", "data", "tombstone"])
NUMBERS = st.sampled_from(["seen_at", "expires_at", "revision", "version", "epoch"])


class TestStoreContents:
    """What stands in the store, damaged."""

    @requirement("R46")
    @given(column=COLUMNS, raw=st.binary(max_size=120))
    @SHARED
    def test_any_bytes_in_a_row_are_served_as_nobody_or_as_a_session(
        self, damaged: Damaged, column: str, raw: bytes
    ) -> None:
        """Random bytes do not decode to a user, and the other rows go on."""
        damaged.repair()
        damaged.set("ada", column, raw)
        who = damaged.use("ada")
        assert who is None or column == "data"
        assert damaged.use("bob") == "bob"

    @requirement("R46")
    @given(column=st.sampled_from(["control", "data"]), cut=st.integers(0, 200))
    @SHARED
    def test_a_truncated_row_is_nobodys_and_told(self, damaged: Damaged, column: str, cut: int) -> None:
        """A cut record is refused by the one decoder, and RecordRefused says so."""
        damaged.repair()
        whole = damaged.get("ada", column)
        cut %= len(whole)
        damaged.set("ada", column, whole[:cut])
        assert damaged.use("ada") is None
        assert [event.code for event in damaged.rig.events].count("record-refused") == 1
        assert damaged.use("bob") == "bob"

    @requirement("R46")
    @given(column=st.sampled_from(["control", "data"]), bits=st.lists(st.integers(0, 8 * 400), min_size=1, max_size=6))
    @SHARED
    def test_flipped_bits_never_escape(self, damaged: Damaged, column: str, bits: list[int]) -> None:
        """A damaged record is refused, or reads as another valid one; a damaged value is absent; nothing raises."""
        damaged.repair()
        content = bytearray(damaged.get("ada", column))
        for bit in bits:
            content[bit // 8 % len(content)] ^= 1 << bit % 8
        damaged.set("ada", column, bytes(content))
        damaged.use("ada")
        assert damaged.use("bob") == "bob"

    @requirement("R46")
    @given(
        column=NUMBERS | COLUMNS,
        value=st.one_of(
            st.none(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(),
            st.text(max_size=9).filter(str.isprintable),
            st.binary(max_size=9),
        ),
    )
    @SHARED
    def test_values_of_another_type_in_a_row_never_escape(self, damaged: Damaged, column: str, value: Any) -> None:
        """SQLite's types are advice; a row that ignores it is nobody's, or still a session."""
        damaged.repair()
        try:
            damaged.set("ada", column, value)
        except sqlite3.Error:
            return  # the schema itself refuses it
        damaged.use("ada")
        assert damaged.use("bob") == "bob"

    @requirement("R46")
    @pytest.mark.parametrize("column", ["control", "data", "tombstone"])
    def test_halves_in_each_others_columns_are_refused(self, damaged: Damaged, column: str) -> None:
        """Control is no data, data is no control, and neither is a tombstone."""
        damaged.repair()
        other = "data" if column == "control" else "control"
        damaged.set("ada", column, damaged.get("ada", other))
        assert damaged.use("ada") is None

    def test_a_damaged_value_is_absent_and_told_and_the_others_stay(self, damaged: Damaged) -> None:
        """One unreadable value does not take the session down: not in `in`, not in iteration, not in a copy."""
        damaged.repair()
        good = values.encode("k", "v")
        damaged.set("ada", "data", b"\x82" + b"\xa3bad" + b"\xd4\x63\x00" + b"\xa1k" + good)
        session = damaged.rig.open(damaged.tokens["ada"])
        assert session.user_id == "ada"
        assert "bad" not in session
        assert session.get("bad") is None
        assert dict(session) == session.copy() == {"k": "v"}
        assert len(session) == 1
        assert session.pop("bad", 7) == 7
        damaged.rig.commit(session)
        assert [type(event) for event in damaged.rig.events] == [RecordRefused]

    @pytest.mark.parametrize("depth", [1_000, 50_000])
    @pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xc9\xff\xff\xff\xff\x01"])
    def test_deep_nesting_in_a_row_is_refused(self, damaged: Damaged, opening: bytes, depth: int) -> None:
        """A bomb of brackets, or of extensions within extensions, does not exhaust the stack."""
        damaged.repair()
        bomb = opening * depth
        if opening[0] == 0xC9:
            bomb = b"\xc0"
            for _ in range(depth // 50):
                inner = b"\x91" + bomb
                bomb = b"\xc9" + len(inner).to_bytes(4, "big") + b"\x01" + inner
        damaged.set("ada", "data", b"\x81\xa1x" + bomb)
        damaged.use("ada")
        assert damaged.use("bob") == "bob"


class TestSettings:
    """What an operator writes: wrong settings are ConfigurationErrors, and secrets are not repeated."""

    @requirement("R12", "R13", "R15")
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.text(max_size=20)
                | st.sampled_from(["__Host-id", "__Secure-id", "id", "__host-x", "__Host-Http-id"]),
                "path": st.text(max_size=8).map("/{}".format) | st.sampled_from(["/", "/app", "app"]),
                "domain": st.none() | st.text(max_size=9),
                "samesite": st.sampled_from(["Lax", "Strict", "None", "lax", ""]),
                "max_age": st.none() | st.integers(-5, 10**9) | st.floats() | st.booleans(),
                "cross_site_cookie_is_my_decision": st.booleans(),
            },
        )
    )
    def test_cookie_rules(self, given_rules: dict[str, Any]) -> None:
        """Any settings make a header of one line without a stray attribute, or a ConfigurationError."""
        try:
            rules = CookieRules(**given_rules)
        except ConfigurationError:
            return
        for header in (rules.set(GOOD), rules.delete()):
            assert header.isascii()
            assert header.isprintable()
            assert re.fullmatch(
                r"[^;]+=[^;]*(; (Path=/[^;]*|Domain=[^;]+|Secure|HttpOnly|SameSite=\w+|Max-Age=\d+|Expires=[^;]+))+",
                header,
            )
            assert "; Secure; HttpOnly;" in header
            names = [part.partition("=")[0] for part in header.split("; ")]
            assert len(names) == len(set(names))

    @given(
        st.dictionaries(
            st.sampled_from(["idle", "absolute", "rotation", "grace", "touch", "clock_skew", "tombstone"]),
            st.floats() | st.integers(-10, 10**7),
        ),
        st.none() | st.integers(-2, 5),
        st.integers(-1, 10**6),
    )
    @requirement("R33", "R39")
    def test_policies(self, limits: dict[str, float], most: int | None, size: int) -> None:
        """Any numbers make a policy that ends sessions, or a ConfigurationError."""
        try:
            policy = Policy(max_sessions=most, max_bytes=size, **limits)  # type: ignore[arg-type]
        except ConfigurationError:
            return
        assert 0 < policy.grace * 2 <= policy.rotation
        assert 0 < policy.idle <= policy.absolute < float("inf")
        assert str(policy.report())

    @given(
        st.lists(st.text(max_size=40) | st.text(alphabet="0123456789abcdef.:/[]%", max_size=40), max_size=4),
        st.text(max_size=12),
    )
    def test_proxies(self, trusted: list[str], header: str) -> None:
        """Any list makes proxies, or a ConfigurationError."""
        for written in ("x-forwarded", header):
            try:
                Proxies(trusted, header=written).client(facts(peer="10.0.0.1"))  # type: ignore[arg-type]
            except ConfigurationError:
                continue

    @given(st.lists(st.text(max_size=60), max_size=3), st.lists(st.text(max_size=9), max_size=3))
    @example(["https://a.example:99999"], [])
    @example(["https://[::1"], [])
    @example(["https://user@a.example/path"], [])
    def test_guards(self, origins: list[str], paths: list[str]) -> None:
        """Any origins make a guard, or a ConfigurationError."""
        try:
            CrossSiteGuard(trusted_origins=origins, exempt_paths=paths)
        except ConfigurationError:
            return

    @requirement("R96")
    @given(
        st.text(max_size=120)
        | st.text(alphabet="k0123.,- AEIMab_", max_size=120)
        | st.integers(0, 99).map(lambda n: f"k{n}." + "A" * 43)
    )
    @example("k0." + "A" * 43 + ",k0." + "B" * 43)
    @example("k0." + "A" * 44)
    @example("k0." + "A" * 45)
    @example("k٣." + "A" * 43)
    def test_key_rings(self, text: str) -> None:
        """Any text is a ring, or a ConfigurationError that does not repeat it."""
        said = ""
        try:
            said = repr(KeyRing.parse(text))
        except ConfigurationError as error:
            said = str(error)
        assert said
        assert len(text) < 8 or text not in said
        assert "A" * 12 not in said

    @requirement("R6")
    @given(
        st.text(max_size=60)
        | st.sampled_from(["memory://", "sqlite://", "redis://"]).flatmap(
            lambda s: st.text(alphabet="ab:@/?&=#%[].0", max_size=40).map(lambda t: s + t)
        )
    )
    @example("memory://user:hunter2hunter2@host")
    @example("sqlite://user:hunter2hunter2@host/x.db")
    @example("redis://:hunter2hunter2@host")
    @example("memory://?capacity=hunter2hunter2")
    @example("sqlite:///x.db?wait=nan")
    @example("sqlite:///\x00")
    @example("memory://[hunter2hunter2")
    def test_store_urls(self, url: str) -> None:
        """Any text opens a store, or is a ConfigurationError without a password in it."""
        said = ""
        try:
            said = repr(open_store(url, blocking=True))
        except ConfigurationError as error:
            said = str(error)
        assert said
        assert "hunter2hunter2" not in said


@requirement("R10")
def test_a_ring_of_another_installation_verifies_nothing() -> None:
    """Tokens of one application are garbage to the next."""
    other = Rig(ring=KeyRing({0: b"z" * 32}))
    assert Rig(ring=RING).mint.verify(GOOD)
    assert other.counted(lambda: other.visit(GOOD)) == []
