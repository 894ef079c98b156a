"""Sealing: what opens, for whom, and that nothing else does; the SQLite store with its records sealed."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessile import AsyncSessions, Sessions
from sessile.core.bridge import drive
from sessile.core.events import Event
from sessile.core.keys import KeyRing, generate
from sessile.core.ports import Store
from sessile.core.record import PLAIN, SCHEMA, Record, Undecodable, Unreadable, encode_control, encode_data
from sessile.core.requests import Facts, no_headers
from sessile.core.sealing import AES_256_GCM, HEAD_BYTES, LANES, NONCE_BYTES, OVERHEAD, TAG_BYTES, SealedCodec, Sealer
from sessile.core.session import anonymous
from sessile.errors import ConfigurationError, KeyMissing
from sessile.stores.sqlite import SqliteStore
from sessile.testing.store_contract import StoreContract, changing, new_id, new_record, new_tombstone, values
from tests.support.requirements import requirement

SECRET = bytes(range(32))
OTHER = bytes(range(32, 64))
RING = KeyRing({0: SECRET})


def sealer(ring: KeyRing = RING, purpose: bytes = b"test", **options: Any) -> Sealer:
    """Return a sealer for tests."""
    return Sealer(ring, purpose, feature="this test", **options)


# -- the sealer --------------------------------------------------------------------------------------------------------


@requirement("R48")
def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    """The text comes back; the sealed form holds the suite, the key's id and nothing of the text."""
    text = b"a private matter" * 4
    sealed = sealer().seal(text, b"session", b"context")
    assert sealer().open(sealed, b"session", b"context") == text
    assert sealer().open(memoryview(sealed), b"session", b"context") == text
    assert sealed[:2] == bytes([AES_256_GCM, 0])
    assert len(sealed) == len(text) + OVERHEAD
    assert b"private" not in sealed


@requirement("R46", "R48")
def test_no_bit_can_be_changed() -> None:
    """Every single bit of the sealed form counts, those of suite and key id too."""
    ring = KeyRing({0: SECRET, 1: SECRET})  # the same secret twice: a changed key id must not open it either
    sealed = sealer(ring).seal(b"text", b"session", b"context")
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises(Undecodable):
                sealer(ring).open(bytes(changed), b"session", b"context")


@requirement("R46")
def test_what_is_cut_short_or_grown_does_not_open() -> None:
    """No prefix opens, the empty one neither, nor does anything with bytes behind it."""
    sealed = sealer().seal(b"text", b"session", b"context")
    for wrong in [*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", b"\0" + sealed]:
        with pytest.raises(Undecodable):
            sealer().open(wrong, b"session", b"context")


@requirement("R46", "R48")
@pytest.mark.parametrize(
    ("ring", "purpose", "session", "context"),
    [
        (KeyRing({0: OTHER}), b"test", b"session", b"context"),
        (KeyRing({1: SECRET}), b"test", b"session", b"context"),
        (RING, b"other", b"session", b"context"),
        (RING, b"test", b"other", b"context"),
        (RING, b"test", b"session", b"other"),
        (RING, b"test", b"session", b""),
        (RING, b"test", b"sessionc", b"ontext"),
    ],
    ids=["another key", "unknown key id", "purpose", "session", "context", "no context", "moved border"],
)
def test_it_opens_for_nothing_else(ring: KeyRing, purpose: bytes, session: bytes, context: bytes) -> None:
    """Another key, purpose, session or context refuses it, and a key that left the ring too."""
    sealed = sealer().seal(b"text", b"session", b"context")
    with pytest.raises(Undecodable):
        sealer(ring, purpose).open(sealed, session, context)


@requirement("R46")
@pytest.mark.parametrize("nonsense", [0, 10**12, None, "text", 1.5, [1] * 40], ids=str)
def test_what_is_no_bytes_does_not_open(nonsense: Any) -> None:
    """A damaged file may hold a number where bytes belong; it is refused, and not turned into as many zeros."""
    with pytest.raises(Undecodable):
        sealer().open(nonsense, b"session", b"context")


@requirement("R48")
def test_the_newest_key_seals_and_older_ones_open() -> None:
    """A key that was added seals at once; what the old one sealed opens until it is dropped."""
    old = sealer().seal(b"text", b"session", b"")
    both = sealer(KeyRing({1: OTHER, 0: SECRET}))
    assert both.open(old, b"session", b"") == b"text"
    new = both.seal(b"text", b"session", b"")
    assert new[1] == 1
    assert sealer(KeyRing({1: OTHER})).open(new, b"session", b"") == b"text"
    with pytest.raises(Undecodable):
        sealer(KeyRing({1: OTHER})).open(old, b"session", b"")


@requirement("R48")
def test_no_nonce_comes_twice() -> None:
    """Each sealing draws its own 12 bytes from the operating system, and uses them."""
    one = sealer()
    nonces = {one.seal(b"", b"session", b"")[2:HEAD_BYTES] for _ in range(20_000)}
    assert len(nonces) == 20_000
    drawn: list[int] = []

    def entropy(count: int) -> bytes:
        drawn.append(count)
        return bytes(count)

    assert sealer(entropy=entropy).seal(b"", b"session", b"")[2:HEAD_BYTES] == bytes(NONCE_BYTES)
    assert drawn == [NONCE_BYTES]


@requirement("R48")
def test_a_ring_s_key_is_256_keys() -> None:
    """The same text under the same nonce differs from lane to lane: nonces are counted in each of them."""
    fixed = sealer(entropy=bytes)
    sealed = {fixed.seal(b"the same text", str(one).encode(), b"")[HEAD_BYTES:-TAG_BYTES] for one in range(10_000)}
    assert len(sealed) == LANES == 256
    assert len(fixed._ciphers) == LANES


def test_threads_share_a_sealer() -> None:
    """Eight threads that seal and open for the same sessions get what is theirs."""
    shared, failures = sealer(), list[BaseException]()

    def work(name: int) -> None:
        try:
            for turn in range(2_000):
                text, session = f"{name} {turn}".encode(), str(turn % 7).encode()
                assert shared.open(shared.seal(text, session, b""), session, b"") == text
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_without_its_package_it_says_what_to_install() -> None:
    """In a Python without `cryptography`, the settings fail with the line that installs it; Sessile itself works."""
    program = """
import sys
sys.modules["cryptography"] = sys.modules["cryptography.exceptions"] = None
from sessile import Sessions
Sessions("memory://").close()
try:
    Sessions("memory://", encrypt=True)
except Exception as error:
    print(type(error).__name__, error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.startswith("ExtraMissing encryption at rest needs")
    assert "pip install 'sessile[encryption]'" in ran.stdout


def test_it_is_loaded_only_when_asked_for() -> None:
    """`import sessile` and sessions without encryption leave `cryptography` alone."""
    program = "import sys, sessile; sessile.Sessions('memory://').close(); print('cryptography' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "False"


# -- the codec ---------------------------------------------------------------------------------------------------------


@requirement("R46", "R48")
def test_a_half_opens_only_in_its_place() -> None:
    """Neither half passes for the other, nor for a half of another session, nor under another schema's number."""
    codec, one, other = SealedCodec(RING), new_id(), new_id()
    control, data = new_record("u-1").control, {"a": b"\x01"}
    sealed_control, sealed_data = codec.encode_control(one, control), codec.encode_data(one, data)
    assert codec.decode_control(one, sealed_control) == control
    assert {key: bytes(raw) for key, raw in codec.decode_data(one, sealed_data).items()} == data
    for decode, sealed in (
        (codec.decode_control, sealed_data),
        (codec.decode_data, sealed_control),
        (codec.decode_control, encode_control(control)),
        (codec.decode_data, encode_data(data)),
    ):
        with pytest.raises(Undecodable):
            decode(one, sealed)
    with pytest.raises(Undecodable):
        codec.decode_control(other, sealed_control)
    with pytest.raises(Undecodable):
        codec.decode_data(other, sealed_data)
    later = Sealer(RING, b"record", feature="this test").seal(
        encode_data(data), one.encode(), (SCHEMA + 1).to_bytes(2, "big") + b"data"
    )
    with pytest.raises(Undecodable):
        codec.decode_data(one, later)


@requirement("R46")
def test_what_is_sealed_well_and_makes_no_record_is_refused_too() -> None:
    """Who holds the key can seal nonsense; the decoder behind it still looks."""
    sealed = Sealer(RING, b"record", feature="this test")
    context = SCHEMA.to_bytes(2, "big")
    with pytest.raises(Undecodable):
        SealedCodec(RING).decode_control("id", sealed.seal(b"\xc1", b"id", context + b"control"))
    with pytest.raises(Undecodable):
        SealedCodec(RING).decode_data("id", sealed.seal(b"\xc1", b"id", context + b"data"))


# -- the SQLite store --------------------------------------------------------------------------------------------------


class _Sealed(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def open_store(self) -> Store:
        codec = SealedCodec(RING)
        return SqliteStore(self.folder / f"{new_id()}.db", blocking=self.blocking, codec=codec)


class TestSealedBlocking(_Sealed):
    """The contract of a store, with sealed records, through the blocking door."""

    blocking = True


class TestSealedAsync(_Sealed):
    """The contract of a store, with sealed records, on an event loop."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file that does not exist yet."""
    return tmp_path / "sessions.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[..., SqliteStore]]:
    """Return what opens a sealed store; all are closed in the end."""
    stores: list[SqliteStore] = []

    def open_one(ring: KeyRing = RING, at: Path = path) -> SqliteStore:
        stores.append(SqliteStore(at, blocking=True, codec=SealedCodec(ring)))
        return stores[-1]

    yield open_one
    for store in stores:
        drive(store.close())


def edit(path: Path, statement: str, *arguments: object) -> None:
    """Change the file behind the store's back; at least one row must change."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        assert connection.execute(statement, arguments).rowcount


def halves(path: Path, session_id: str) -> tuple[bytes, bytes]:
    """Return what stands in the file."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        found = connection.execute("SELECT control, data FROM session WHERE id = ?", (session_id,)).fetchone()
    return bytes(found[0]), bytes(found[1])


@requirement("R48")
def test_the_files_hold_nothing_that_was_stored(path: Path, opened: Callable[..., SqliteStore]) -> None:
    """Neither database nor WAL shows data, factors, agents or places; the user's id stands in the index, as stated."""
    session_id, store = new_id(), opened()
    record = new_record("user-4711", note="a private matter")
    record = Record(record.control, record.data, record.seen_at, record.expires_at)
    drive(store.create(session_id, record))
    drive(store.save(session_id, changing(record, further="another secret"), record))
    written = b"".join(file.read_bytes() for file in path.parent.glob("sessions.db*"))
    for secret in (b"private", b"another secret", b"note", b"further", b"password", b"branch", b"older!"):
        assert secret not in written, secret
    assert b"user-4711" in written
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        row = connection.execute("SELECT * FROM session").fetchone()
    showing = [
        column for column in row if b"user-4711" in (column if isinstance(column, bytes) else str(column).encode())
    ]
    assert showing == ["user-4711"]  # one column: the index; not one of the halves


@requirement("R46", "R48")
def test_halves_that_changed_places_are_refused(path: Path, opened: Callable[..., SqliteStore]) -> None:
    """Whoever writes to the file can give nobody another one's session: rows and halves are bound to their place."""
    mine, theirs, store = new_id(), new_id(), opened()
    drive(store.create(mine, new_record("attacker", level="guest")))
    drive(store.create(theirs, new_record("admin", level="admin")))
    control, data = halves(path, mine)
    for column, value in (("control", halves(path, theirs)[0]), ("data", halves(path, theirs)[1]), ("control", data)):
        edit(path, f"UPDATE session SET {column} = ? WHERE id = ?", value, mine)
        assert isinstance(drive(store.load(mine)), Unreadable)
        assert [sid for sid, _ in drive(store.of_user("attacker"))] == []
        assert [sid for sid, _ in drive(store.scan(None, 10)).sessions] == [theirs]
        edit(path, "UPDATE session SET control = ?, data = ? WHERE id = ?", control, data, mine)
        assert isinstance(drive(store.load(mine)), Record)
    edit(path, "UPDATE session SET user = 'admin' WHERE id = ?", mine)
    assert {record.control.user for _, record in drive(store.of_user("admin"))} == {"admin", "attacker"}


@requirement("R46", "R48")
def test_a_row_of_another_database_is_refused(path: Path, opened: Callable[..., SqliteStore]) -> None:
    """A row that another installation sealed for the very same id does not open under this one's keys."""
    session_id, store = new_id(), opened()
    foreign = path.with_name("other.db")
    drive(store.create(session_id, new_record("u-1")))
    drive(opened(KeyRing({0: OTHER}), foreign).create(session_id, new_record("admin")))
    edit(path, "UPDATE session SET control = ?, data = ? WHERE id = ?", *halves(foreign, session_id), session_id)
    assert isinstance(drive(store.load(session_id)), Unreadable)


@requirement("R46")
def test_any_bit_that_flips_is_noticed(path: Path, opened: Callable[..., SqliteStore]) -> None:
    """One flipped bit anywhere in either half: no session."""
    session_id, store = new_id(), opened()
    drive(store.create(session_id, new_record("u-1", note="text")))
    for column, whole in zip(("control", "data"), halves(path, session_id), strict=True):
        for place in range(len(whole)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << place % 8
            edit(path, f"UPDATE session SET {column} = ? WHERE id = ?", bytes(flipped), session_id)
            assert isinstance(drive(store.load(session_id)), Unreadable), (column, place)
        edit(path, f"UPDATE session SET {column} = ? WHERE id = ?", whole, session_id)
    assert isinstance(drive(store.load(session_id)), Record)


@requirement("R46")
@pytest.mark.parametrize("nonsense", [None, 5, 10**12, 1.5, "text", b"", b"\x01\x00"], ids=str)
def test_a_damaged_row_is_no_session(path: Path, opened: Callable[..., SqliteStore], nonsense: object) -> None:
    """Whatever stands in the columns, the verbs answer."""
    session_id, store = new_id(), opened()
    drive(store.create(session_id, new_record("u-1")))
    for column in ("control", "data"):
        edit(path, f"UPDATE session SET {column} = ? WHERE id = ?", nonsense, session_id)
        assert isinstance(drive(store.load(session_id)), Unreadable)
        assert drive(store.of_user("u-1")) == ()
    assert drive(store.end(session_id, new_tombstone())).ended == ((session_id, "u-1"),)


@requirement("R46", "R48")
def test_a_plain_record_is_refused_where_records_are_sealed(path: Path, opened: Callable[..., SqliteStore]) -> None:
    """An attacker who can write to the file, or a file of before, finds no second decoder that would take it."""
    session_id = new_id()
    plain = SqliteStore(path, blocking=True, codec=PLAIN)
    drive(plain.create(session_id, new_record("admin")))
    assert isinstance(drive(opened().load(session_id)), Unreadable)
    sealed_id = new_id()
    drive(opened().create(sealed_id, new_record("u-1")))
    assert isinstance(drive(plain.load(sealed_id)), Unreadable)
    drive(plain.close())


@requirement("R48")
def test_a_new_key_signs_nobody_out(path: Path, opened: Callable[..., SqliteStore]) -> None:
    """The old key opens what it sealed; the next write seals with the new one, and then the old one may go."""
    session_id, record = new_id(), new_record("u-1", note="text")
    drive(opened().create(session_id, record))
    both = opened(KeyRing({1: OTHER, 0: SECRET}))
    assert values(drive(both.load(session_id))) == {"note": "text"}
    saved = drive(both.save(session_id, changing(record, record.control, other=1), record))
    assert isinstance(saved, Record)
    assert {half[1] for half in halves(path, session_id)} == {1}
    assert values(drive(opened(KeyRing({1: OTHER})).load(session_id))) == {"note": "text", "other": 1}


@requirement("R46", "R48")
def test_a_key_that_was_dropped_takes_its_sessions_along(path: Path, opened: Callable[..., SqliteStore]) -> None:
    """What no key of the ring sealed is no session, and can still be ended and swept."""
    session_id = new_id()
    drive(opened().create(session_id, new_record("u-1")))
    later = opened(KeyRing({1: OTHER}))
    assert isinstance(drive(later.load(session_id)), Unreadable)
    assert drive(later.end_user("u-1", new_tombstone(user="u-1"))).ended == ((session_id, "u-1"),)


# -- the option --------------------------------------------------------------------------------------------------------


def facts(cookie: str = "") -> Facts:
    """Return the facts of a request with this cookie."""
    return Facts("GET", "https", "app.example", "/", "198.51.100.7", cookie, no_headers)


def _stored(path: Path, **options: Any) -> tuple[str, list[Event]]:
    """Sign somebody in through the blocking door; return the cookie."""
    events: list[Event] = []
    sessions = Sessions(f"sqlite:///{path}", sinks=(events.append,), **options)
    session = sessions.open(facts())
    session["note"] = "a private matter"
    session.login("u-1")
    answer = sessions.commit(session)
    sessions.close()
    assert answer.cookie is not None
    return answer.cookie.partition(";")[0], events


def _open(path: Path, cookie: str, **options: Any) -> tuple[str | None, list[str]]:
    events: list[Event] = []
    sessions = Sessions(f"sqlite:///{path}", sinks=(events.append,), **options)
    session = sessions.open(facts(cookie))
    user = session.user_id
    sessions.close()
    return user, [event.code for event in events]


@requirement("R48")
@pytest.mark.parametrize("encrypt", [True, KeyRing({7: OTHER})], ids=["with the token keys", "with a ring of its own"])
def test_encryption_is_one_option(path: Path, encrypt: bool | KeyRing) -> None:
    """`encrypt=True` seals with the token keys, a ring with its own; the session lives as without."""
    cookie, _ = _stored(path, encrypt=encrypt)
    assert b"private" not in b"".join(file.read_bytes() for file in path.parent.glob("sessions.db*"))
    assert _open(path, cookie, encrypt=encrypt) == ("u-1", [])
    assert _open(path, cookie) == (None, ["record-refused"])


@requirement("R46", "R48")
def test_a_dropped_key_is_an_event_and_nobody_is_signed_in(path: Path) -> None:
    """The request of a session whose key is gone is served as nobody's, and `RecordRefused` tells why."""
    keys = KeyRing({0: SECRET})
    cookie, _ = _stored(path, keys=keys, encrypt=KeyRing({1: SECRET}))
    assert _open(path, cookie, keys=keys, encrypt=KeyRing({2: OTHER})) == (None, ["record-refused"])


def test_the_asynchronous_door_encrypts_too(path: Path) -> None:
    """The option is one for both doors."""

    async def run() -> None:
        sessions = AsyncSessions(f"sqlite:///{path}", encrypt=True)
        session = await sessions.open(facts())
        session["note"] = "a private matter"
        answer = await sessions.commit(session)
        assert answer.cookie is not None
        again = await sessions.open(facts(answer.cookie.partition(";")[0]))
        assert again["note"] == "a private matter"
        await sessions.close()

    asyncio.run(run())
    assert b"private" not in b"".join(file.read_bytes() for file in path.parent.glob("sessions.db*"))


def test_a_store_object_brings_its_own_codec(path: Path) -> None:
    """The option cannot reach into a store that is open already, and says so instead of doing nothing."""
    store = SqliteStore(path, blocking=True)
    with pytest.raises(ConfigurationError, match="codec"):
        Sessions(store, encrypt=True)
    drive(store.close())


@requirement("R48")
def test_the_environment_may_hold_the_data_s_own_keys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`encrypt=True` prefers them; without them, the token keys do not open what they sealed."""
    monkeypatch.setenv("SESSILE_DATA_KEYS", generate(5))
    cookie, _ = _stored(path, encrypt=True)
    assert _open(path, cookie, encrypt=True) == ("u-1", [])
    monkeypatch.setenv("SESSILE_DATA_KEYS", " ")
    assert _open(path, cookie, encrypt=True) == (None, ["record-refused"])
    monkeypatch.setenv("SESSILE_DATA_KEYS", "no ring")
    with pytest.raises(ConfigurationError):
        Sessions(f"sqlite:///{path}", encrypt=True)


def test_what_is_neither_true_nor_a_ring_is_refused(path: Path) -> None:
    """A ring's text, or a word, is a mistake at start and not a silent choice."""
    with pytest.raises(ConfigurationError, match="KeyRing"):
        Sessions(f"sqlite:///{path}", encrypt="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_production_wants_a_key_that_somebody_chose(path: Path) -> None:
    """`encrypt=True` in production is no reason to make up a key."""
    with pytest.raises(KeyMissing):
        Sessions(f"sqlite:///{path}", encrypt=True, production=True)
    Sessions(f"sqlite:///{path}", encrypt=True, production=True, keys=generate()).close()


def test_an_anonymous_control_is_sealed_as_any_other() -> None:
    """The shortest control there is comes back as it was."""
    codec = SealedCodec(RING)
    assert codec.decode_control("id", codec.encode_control("id", anonymous(1.0))) == anonymous(1.0)
