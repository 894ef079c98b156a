"""The contract of a store, as tests that every store inherits.

    class TestMyStore(StoreContract):
        blocking = False

        def open_store(self) -> Store:
            return MyStore(...)

Each test opens a store, which must be empty, and closes it. The five verbs are always asked for; what belongs to a
further interface (`UserIndex`, `Epochs`, `Sweeping`, `Census`) is skipped for a store that does not have it.

`blocking` says which door is tested. Override `run` and `together` for another event loop.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

import msgspec
import pytest

from sessile.core.factors import Factor
from sessile.core.ports import (
    AtLimit,
    Census,
    Clash,
    Created,
    Ending,
    Epochs,
    Gone,
    Replaces,
    Retiring,
    Stale,
    Stats,
    Store,
    Sweeping,
    Taken,
    UserIndex,
)
from sessile.core.record import (
    SCHEMA,
    Change,
    Control,
    EndReason,
    Line,
    Record,
    Superseded,
    Tombstone,
    same_value,
)
from sessile.errors import StoreUnavailable

from .rehearsal import Rehearsal

T = TypeVar("T")

IDLE = 3600.0
KEPT = 300.0


def new_id() -> str:
    """Return a session id like those that Sessile makes: 40 hexadecimal digits."""
    return secrets.token_hex(20)


def encoded(value: object) -> bytes:
    """Return a value as it travels."""
    return msgspec.msgpack.encode(value)


def new_record(user: str | None = None, *, at: float | None = None, **data: object) -> Record:
    """Return a record with every part of `Control` in use, created and seen `at` (seconds since 1970; now)."""
    now = time.time() if at is None else at
    line = Line(b"branch", now, (b"branch", b"other!"), (Superseded(b"older!", now),))
    control = Control(SCHEMA, now, now, now, 3, line, Line(), user, (Factor("password", now),) if user else ())
    return Record(control, {key: encoded(value) for key, value in data.items()}, now, now + IDLE)


def new_tombstone(reason: EndReason = EndReason.LOGOUT, user: str | None = None) -> Tombstone:
    """Return a tombstone that is kept for a while."""
    now = time.time()
    return Tombstone(reason, now, now + KEPT, user)


def replacing(session_id: str, record: Record, *, required: bool = False) -> Replaces:
    """Name a session to replace, as it was read."""
    tombstone = new_tombstone(EndReason.RENEWED, record.control.user)
    return Replaces(session_id, tombstone, required, record.revision, record.version)


def changing(record: Record, control: Control | None = None, *, drop: tuple[str, ...] = (), **put: object) -> Change:
    """Return a change of single keys, or of the control as it was read."""
    return Change(
        seen_at=record.seen_at,
        expires_at=record.expires_at,
        control=control,
        revision=record.revision,
        put={key: encoded(value) for key, value in put.items()},
        drop=frozenset(drop),
    )


def values(loaded: object) -> dict[str, Any]:
    """Return what a record's data decodes to."""
    assert isinstance(loaded, Record), loaded
    return {key: msgspec.msgpack.decode(value) for key, value in loaded.data.items()}


def assert_same(loaded: object, expected: Record) -> None:
    """Fail unless both hold the same; the store's own `etag` does not count."""
    assert isinstance(loaded, Record), loaded
    assert _comparable(loaded) == _comparable(expected)


def _comparable(record: Record) -> tuple[object, ...]:
    data: Mapping[str, bytes] = {key: bytes(value) for key, value in record.data.items()}
    return record.control, data, record.seen_at, record.expires_at, record.revision, record.version


def scenario(*needs: type[Any]) -> Callable[[Callable[[Any, Any], Awaitable[None]]], Callable[[Any], None]]:
    """Turn `async def test(self, store)` into a test that opens the store, runs, and closes it."""

    def decorate(body: Callable[[Any, Any], Awaitable[None]]) -> Callable[[Any], None]:
        def test(self: StoreContract) -> None:
            async def run() -> None:
                store = self.open_store()
                try:
                    for need in needs:
                        if not isinstance(store, need):
                            pytest.skip(f"this store has no {need.__name__}")
                    await body(self, store)
                finally:
                    await store.close()

            self.run(run())

        # Not functools.wraps: pytest would look through it and take `store` for a fixture.
        test.__name__, test.__qualname__, test.__doc__ = body.__name__, body.__qualname__, body.__doc__
        return test

    return decorate


class StoreContract(Rehearsal):
    """Inherit this, say how the store is opened, and pytest does the rest."""

    def open_store(self) -> Store:
        """Return a store that is empty.

        Raises:
            TypeError: the inheriting class does not say how.
        """
        raise TypeError(f"{type(self).__name__} must say how its store is opened: def open_store(self)")

    # -- load and create

    @scenario()
    async def test_an_unknown_id_is_no_session(self, store: Store) -> None:
        """Loading what was never created answers None, and so does what is no id at all."""
        assert await store.load(new_id()) is None
        for nonsense in ("", "x", "-1", "../../etc/passwd", "é" * 40, "'; --", "0" * 5000):
            assert await store.load(nonsense) is None

    @scenario()
    async def test_a_created_session_is_loaded_as_it_was(self, store: Store) -> None:
        """Every field of both halves comes back, and the data byte for byte."""
        session_id, record = (
            new_id(),
            new_record("ann", cart=[1, 2, {"three": 3.5}], name="Ännchen", raw=b"\0\xff", nothing=None),
        )
        assert await store.create(session_id, record) == Created()
        assert_same(await store.load(session_id), record)

    @scenario()
    async def test_a_session_may_hold_nothing(self, store: Store) -> None:
        """Empty data and no user are a session like any other."""
        session_id, record = new_id(), new_record()
        await store.create(session_id, record)
        assert_same(await store.load(session_id), record)

    @scenario()
    async def test_a_large_session_comes_back_whole(self, store: Store) -> None:
        """A hundred kilobytes in a thousand keys lose nothing."""
        session_id, record = new_id(), new_record(**cast("Any", {f"key {number}": "x" * 100 for number in range(1000)}))
        await store.create(session_id, record)
        assert_same(await store.load(session_id), record)

    @scenario()
    async def test_the_callers_mapping_is_not_the_stores(self, store: Store) -> None:
        """Changing the mapping after create changes nothing that is stored."""
        session_id, data = new_id(), {"cart": encoded(1)}
        await store.create(session_id, msgspec.structs.replace(new_record(), data=data))
        data["cart"] = encoded(2)
        data["more"] = encoded(3)
        assert values(await store.load(session_id)) == {"cart": 1}

    @scenario()
    async def test_creating_on_a_live_id_is_refused(self, store: Store) -> None:
        """The second create answers Taken and writes nothing (R4)."""
        session_id, record = new_id(), new_record("ann", cart=1)
        await store.create(session_id, record)
        assert await store.create(session_id, new_record("eve", cart=2)) == Taken()
        assert_same(await store.load(session_id), record)

    @scenario()
    async def test_creating_on_a_tombstone_is_refused(self, store: Store) -> None:
        """An id that was ended is not given out again."""
        session_id, tombstone = new_id(), new_tombstone()
        await store.create(session_id, new_record())
        await store.end(session_id, tombstone)
        assert await store.create(session_id, new_record()) == Taken()
        assert await store.load(session_id) == tombstone

    @scenario()
    async def test_one_of_many_creates_on_one_id_wins(self, store: Store) -> None:
        """Eight at once: one Created, seven Taken, and the record is the winner's (R4)."""
        for _ in range(max(1, self.rounds // 50)):
            session_id = new_id()

            async def create(number: int, session_id: str = session_id) -> object:
                return await store.create(session_id, new_record(by=number))

            answers = await self.together(*(lambda number=number: create(number) for number in range(8)))
            assert sorted(map(type, answers), key=str) == [Created] + [Taken] * 7
            assert values(await store.load(session_id)) == {"by": answers.index(Created())}

    # -- create that replaces

    @scenario()
    async def test_a_sign_in_ends_the_session_it_replaces(self, store: Store) -> None:
        """The new one is alive and the old one is its tombstone."""
        old_id, old, session_id = new_id(), new_record(), new_id()
        await store.create(old_id, old)
        replaces = replacing(old_id, old)
        assert await store.create(session_id, new_record("ann"), replaces=replaces) == Created()
        assert await store.load(old_id) == replaces.tombstone
        assert isinstance(await store.load(session_id), Record)

    @scenario()
    async def test_a_sign_in_does_not_need_the_session_it_replaces(self, store: Store) -> None:
        """Not required: an old session that is unknown or ended is no obstacle, and its first reason stays."""
        unknown, ended, tombstone = new_id(), new_id(), new_tombstone(EndReason.ADMIN)
        await store.create(ended, new_record())
        await store.end(ended, tombstone)
        for old_id in (unknown, ended):
            assert (
                await store.create(new_id(), new_record("ann"), replaces=replacing(old_id, new_record())) == Created()
            )
        assert await store.load(unknown) is None
        assert await store.load(ended) == tombstone

    @scenario()
    async def test_a_renewal_of_a_dead_session_creates_nothing(self, store: Store) -> None:
        """Required and not alive: Gone, with the tombstone if there is one (R42)."""
        ended, tombstone = new_id(), new_tombstone(EndReason.ADMIN)
        await store.create(ended, new_record("ann"))
        await store.end(ended, tombstone)
        for old_id, expected in ((ended, Gone(tombstone)), (new_id(), Gone())):
            session_id = new_id()
            answer = await store.create(
                session_id, new_record("ann"), replaces=replacing(old_id, new_record(), required=True)
            )
            assert answer == expected
            assert await store.load(session_id) is None

    @pytest.mark.parametrize("required", [False, True])
    @pytest.mark.parametrize("what", ["data", "control"])
    def test_what_was_written_meanwhile_is_not_left_behind(self, *, what: str, required: bool) -> None:
        """Its data or control changed since it was read: Stale with the present record, and nothing is written."""

        @scenario()
        async def test(self: StoreContract, store: Store) -> None:
            old_id, old, session_id = new_id(), new_record(cart=1), new_id()
            await store.create(old_id, old)
            newer = msgspec.structs.replace(old.control, generation=9) if what == "control" else None
            present = await store.save(old_id, changing(old, newer) if newer else changing(old, cart=2), old)
            assert isinstance(present, Record)
            answer = await store.create(
                session_id, new_record("ann"), replaces=replacing(old_id, old, required=required)
            )
            assert isinstance(answer, Stale)
            assert_same(answer.record, present)
            assert await store.load(session_id) is None
            assert_same(await store.load(old_id), present)

        test(self)

    @scenario()
    async def test_a_create_that_is_refused_leaves_the_old_session_alive(self, store: Store) -> None:
        """All or nothing: Taken ends nothing."""
        old_id, old, taken = new_id(), new_record(), new_id()
        await store.create(old_id, old)
        await store.create(taken, new_record())
        assert await store.create(taken, new_record("ann"), replaces=replacing(old_id, old)) == Taken()
        assert_same(await store.load(old_id), old)

    # -- save

    @scenario()
    async def test_a_save_merges_keys(self, store: Store) -> None:
        """What a change names is put or dropped; what it does not name stays (R43)."""
        session_id, record = new_id(), new_record(kept=1, changed=1, dropped=1)
        await store.create(session_id, record)
        saved = await store.save(
            session_id, changing(record, changed=2, added=3, drop=("dropped", "never there")), record
        )
        assert isinstance(saved, Record)
        assert values(saved) == {"kept": 1, "changed": 2, "added": 3}
        assert (saved.version, saved.revision) == (record.version + 1, record.revision)
        assert_same(await store.load(session_id), saved)

    @scenario()
    async def test_two_writers_of_different_keys_both_win(self, store: Store) -> None:
        """Both start from the same record; neither overwrites the other (R43)."""
        session_id, record = new_id(), new_record(a=0, b=0)
        await store.create(session_id, record)
        await store.save(session_id, changing(record, a=1), record)
        await store.save(session_id, changing(record, b=2), record)
        assert values(await store.load(session_id)) == {"a": 1, "b": 2}

    @scenario()
    async def test_the_last_writer_of_one_key_wins(self, store: Store) -> None:
        """Unless it says what it expects."""
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        await store.save(session_id, changing(record, a=1), record)
        await store.save(session_id, changing(record, a=2), record)
        assert values(await store.load(session_id)) == {"a": 2}

    @scenario()
    async def test_a_save_that_expects_something_else_clashes(self, store: Store) -> None:
        """The answer names the keys and holds the present record; nothing was written."""
        session_id, record = new_id(), new_record(a=0, b=0)
        await store.create(session_id, record)
        present = await store.save(session_id, changing(record, a=1, c=1), record)
        assert isinstance(present, Record)
        expect = {"a": encoded(0), "b": encoded(0), "c": None, "d": None}
        answer = await store.save(
            session_id, msgspec.structs.replace(changing(record, a=5, b=5, d=5), expect=expect), record
        )
        assert isinstance(answer, Clash)
        assert sorted(answer.keys) == ["a", "c"]
        assert_same(answer.record, present)
        assert_same(await store.load(session_id), present)

    @scenario()
    async def test_a_save_that_expects_what_is_there_is_done(self, store: Store) -> None:
        """A value and an absence that still hold let the change pass."""
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        change = msgspec.structs.replace(changing(record, a=1, b=1), expect={"a": encoded(0), "b": None})
        assert values(await store.save(session_id, change, record)) == {"a": 1, "b": 1}

    @scenario()
    async def test_the_control_is_replaced_over_the_revision_that_was_read(self, store: Store) -> None:
        """The first change of the control is made and counted; the second, from the same reading, is Stale."""
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        newer = msgspec.structs.replace(record.control, generation=4)
        saved = await store.save(session_id, changing(record, newer), record)
        assert isinstance(saved, Record)
        assert (saved.control, saved.revision, saved.version) == (newer, record.revision + 1, record.version)
        answer = await store.save(
            session_id, changing(record, msgspec.structs.replace(newer, generation=5), a=1), record
        )
        assert isinstance(answer, Stale)
        assert_same(answer.record, saved)
        assert_same(await store.load(session_id), saved)

    @scenario()
    async def test_data_may_be_saved_over_another_revision(self, store: Store) -> None:
        """A change without control asks for no revision."""
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        await store.save(session_id, changing(record, msgspec.structs.replace(record.control, generation=4)), record)
        assert values(await store.save(session_id, changing(record, a=1), record)) == {"a": 1}

    @scenario()
    async def test_a_save_moves_the_times_forward_only(self, store: Store) -> None:
        """A slow request that started earlier does not shorten what a later one extended."""
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        later = Change(seen_at=record.seen_at + 60, expires_at=record.expires_at + 60)
        assert isinstance(await store.save(session_id, later, record), Record)
        earlier = Change(seen_at=record.seen_at - 60, expires_at=record.expires_at - 60, put={"a": encoded(1)})
        assert isinstance(await store.save(session_id, earlier, record), Record)
        loaded = await store.load(session_id)
        assert isinstance(loaded, Record)
        assert (loaded.seen_at, loaded.expires_at) == (later.seen_at, later.expires_at)
        assert values(loaded) == {"a": 1}

    @scenario()
    async def test_a_stale_hint_does_no_harm(self, store: Store) -> None:
        """`base` only hints: what other requests wrote since is kept."""
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        for number in range(5):
            await store.save(session_id, changing(record, **cast("Any", {f"key{number}": number})), record)
        assert values(await store.load(session_id)) == {"a": 0} | {f"key{number}": number for number in range(5)}

    @scenario()
    async def test_a_save_of_an_ended_session_is_gone(self, store: Store) -> None:
        """It answers with the tombstone and brings nothing back (R42); an unknown session is Gone as well."""
        session_id, record, tombstone = new_id(), new_record(a=0), new_tombstone(EndReason.ADMIN)
        await store.create(session_id, record)
        await store.end(session_id, tombstone)
        for change in (changing(record, a=1), changing(record, record.control), changing(record)):
            assert await store.save(session_id, change, record) == Gone(tombstone)
        assert await store.load(session_id) == tombstone
        unknown = new_id()
        assert await store.save(unknown, changing(record, a=1), record) == Gone()
        assert await store.load(unknown) is None

    # -- touch

    @scenario()
    async def test_a_touch_moves_the_times_and_nothing_else(self, store: Store) -> None:
        """Data, control, revision and version stay as they are (R44)."""
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        await store.touch(session_id, record.seen_at + 60, record.expires_at + 90)
        expected = msgspec.structs.replace(record, seen_at=record.seen_at + 60, expires_at=record.expires_at + 90)
        assert_same(await store.load(session_id), expected)
        await store.touch(session_id, record.seen_at, record.expires_at)
        assert_same(await store.load(session_id), expected)

    @scenario()
    async def test_a_touch_does_not_undo_a_save(self, store: Store) -> None:
        """A request that only read does not write back what it read (R44)."""
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        await store.save(session_id, changing(record, a=1), record)
        await store.touch(session_id, record.seen_at + 1, record.expires_at + 1)
        assert values(await store.load(session_id)) == {"a": 1}

    @scenario()
    async def test_a_touch_brings_nothing_back(self, store: Store) -> None:
        """An ended session stays ended and an unknown one unknown, silently (R42)."""
        session_id, tombstone, unknown = new_id(), new_tombstone(), new_id()
        await store.create(session_id, new_record())
        await store.end(session_id, tombstone)
        for target in (session_id, unknown):
            await store.touch(target, time.time(), time.time() + IDLE)
        assert await store.load(session_id) == tombstone
        assert await store.load(unknown) is None

    # -- end and close

    @scenario()
    async def test_an_ended_session_is_its_tombstone(self, store: Store) -> None:
        """The answer names the session and its user; load says why it ended."""
        for user in (None, "ann"):
            session_id, tombstone = new_id(), new_tombstone(EndReason.ADMIN, user)
            await store.create(session_id, new_record(user))
            ending = await store.end(session_id, tombstone)
            assert ending.ended == ((session_id, user),)
            assert await store.load(session_id) == tombstone

    @scenario()
    async def test_an_end_is_idempotent(self, store: Store) -> None:
        """The second end changes nothing: it names no session and the first reason stays."""
        session_id, first = new_id(), new_tombstone(EndReason.LOGOUT)
        await store.create(session_id, new_record())
        await store.end(session_id, first)
        assert (await store.end(session_id, new_tombstone(EndReason.ADMIN))).ended == ()
        assert await store.load(session_id) == first

    @scenario()
    async def test_ending_what_is_unknown_stores_nothing(self, store: Store) -> None:
        """Whoever guesses ids cannot fill the store with tombstones."""
        session_id = new_id()
        assert (await store.end(session_id, new_tombstone())).ended == ()
        assert await store.load(session_id) is None

    def test_a_store_may_be_closed_twice(self) -> None:
        """The second close is silent, and after it every verb fails instead of answering (R45)."""

        async def run() -> None:
            store, record, session_id = self.open_store(), new_record(), new_id()
            await store.create(session_id, record)
            await store.close()
            await store.close()
            verbs: tuple[Callable[[], Coroutine[Any, Any, Any]], ...] = (
                lambda: store.load(session_id),
                lambda: store.create(new_id(), record),
                lambda: store.save(session_id, changing(record), record),
                lambda: store.touch(session_id, 0.0, 0.0),
                lambda: store.end(session_id, new_tombstone()),
            )
            for verb in verbs:
                with pytest.raises(StoreUnavailable):
                    await verb()

        self.run(run())

    # -- retire

    @scenario(Retiring)
    async def test_a_session_that_nobody_wrote_to_is_retired(self, store: Any) -> None:
        """Its tombstone stands in its place, and it left its user's index."""
        session_id, record, tombstone = new_id(), new_record("ann", cart=1), new_tombstone(EndReason.MOVED)
        await store.create(session_id, record)
        answer = await store.retire(session_id, tombstone, revision=record.revision, version=record.version)
        assert answer.ended == ((session_id, "ann"),)
        assert await store.load(session_id) == tombstone
        if isinstance(store, UserIndex):
            assert await store.of_user("ann") == ()

    @pytest.mark.parametrize("what", ["data", "control"])
    def test_a_session_that_was_written_to_is_not_retired(self, what: str) -> None:
        """Stale with the present record, which stays."""

        @scenario(Retiring)
        async def test(self: StoreContract, store: Any) -> None:
            session_id, record = new_id(), new_record("ann", cart=1)
            await store.create(session_id, record)
            newer = msgspec.structs.replace(record.control, generation=9) if what == "control" else None
            present = await store.save(
                session_id, changing(record, newer) if newer else changing(record, cart=2), record
            )
            answer = await store.retire(
                session_id, new_tombstone(EndReason.MOVED), revision=record.revision, version=record.version
            )
            assert isinstance(answer, Stale)
            assert_same(answer.record, present)
            assert_same(await store.load(session_id), present)

        test(self)

    @scenario(Retiring)
    async def test_what_is_not_alive_is_not_retired(self, store: Any) -> None:
        """Gone, with the tombstone if there is one; its first reason stays."""
        ended, first = new_id(), new_tombstone(EndReason.LOGOUT)
        await store.create(ended, new_record("ann"))
        await store.end(ended, first)
        for session_id, expected in ((ended, Gone(first)), (new_id(), Gone())):
            answer = await store.retire(session_id, new_tombstone(EndReason.MOVED), revision=0, version=0)
            assert answer == expected
        assert await store.load(ended) == first

    # -- the user index

    @scenario(UserIndex)
    async def test_a_users_sessions_are_found_oldest_first(self, store: Any) -> None:
        """Only this user's, only the living; anonymous sessions are nobody's."""
        now = time.time()
        ids = [new_id() for _ in range(3)]
        for age, session_id in enumerate(ids):
            await store.create(session_id, new_record("ann", at=now - age))
        await store.create(new_id(), new_record("bob"))
        await store.create(new_id(), new_record())
        found = await store.of_user("ann")
        assert [session_id for session_id, _ in found] == ids[::-1]
        assert all(record.control.user == "ann" for _, record in found)
        assert await store.of_user("nobody") == ()

    @scenario(UserIndex)
    async def test_names_of_users_are_not_patterns(self, store: Any) -> None:
        """Whatever a name contains, it finds itself alone."""
        names = ["a", "A", "a ", "a%", "a_", "*", "a:b", "a/b", "ä", "\U0001f600", "'--", "x" * 500]
        ids = {name: new_id() for name in names}
        for name, session_id in ids.items():
            await store.create(session_id, new_record(name))
        for name, session_id in ids.items():
            assert [found for found, _ in await store.of_user(name)] == [session_id]

    @scenario(UserIndex)
    async def test_an_ended_session_leaves_the_index(self, store: Any) -> None:
        """The index is no larger than the living sessions (R50)."""
        ids = [new_id() for _ in range(3)]
        for session_id in ids:
            await store.create(session_id, new_record("ann"))
        await store.end(ids[0], new_tombstone())
        replaced = await store.load(ids[1])
        renewed = new_id()
        await store.create(renewed, new_record("ann"), replaces=replacing(ids[1], replaced, required=True))
        assert {session_id for session_id, _ in await store.of_user("ann")} == {ids[2], renewed}

    @scenario(UserIndex)
    async def test_the_index_follows_a_change_of_user(self, store: Any) -> None:
        """A saved control with another user, or none, moves the session in the index (R49)."""
        session_id, record = new_id(), new_record("ann")
        await store.create(session_id, record)
        for user in ("bob", None, "ann"):
            record = await store.save(
                session_id, changing(record, msgspec.structs.replace(record.control, user=user)), record
            )
            for name in ("ann", "bob"):
                assert [found for found, _ in await store.of_user(name)] == ([session_id] if name == user else [])

    @scenario(UserIndex)
    async def test_all_sessions_of_a_user_end_at_once(self, store: Any) -> None:
        """Those to keep stay, another user's stay, and the answer names the ended ones."""
        ids, other = [new_id() for _ in range(4)], new_id()
        for session_id in ids:
            await store.create(session_id, new_record("ann"))
        await store.create(other, new_record("bob"))
        tombstone = new_tombstone(EndReason.USER, "ann")
        ending = await store.end_user("ann", tombstone, frozenset({ids[1], other}))
        assert isinstance(ending, Ending)
        assert set(ending.ended) == {(session_id, "ann") for session_id in ids if session_id != ids[1]}
        for session_id in (ids[0], ids[2], ids[3]):
            assert await store.load(session_id) == tombstone
        assert [session_id for session_id, _ in await store.of_user("ann")] == [ids[1]]
        assert isinstance(await store.load(other), Record)
        assert (await store.end_user("ann", tombstone)).ended == ((ids[1], "ann"),)
        assert (await store.end_user("ann", tombstone)).ended == ()

    @scenario(UserIndex)
    async def test_the_limit_counts_the_new_session_and_not_the_replaced_one(self, store: Any) -> None:
        """At the limit nothing is written and the answer lists the user's sessions, oldest first (R66)."""
        now = time.time()
        first, second = new_id(), new_id()
        await store.create(second, new_record("ann", at=now - 1), limit=2)
        older = new_record("ann", at=now - 2)
        assert await store.create(first, older, limit=2) == Created()
        refused = new_id()
        assert await store.create(refused, new_record("ann"), limit=2) == AtLimit(((first, now - 2), (second, now - 1)))
        assert await store.load(refused) is None
        assert await store.create(new_id(), new_record("bob"), limit=2) == Created()
        assert await store.create(new_id(), new_record(), limit=1) == Created()
        replaces = replacing(first, older)
        assert await store.create(new_id(), new_record("ann"), replaces=replaces, limit=2) == Created()
        assert await store.load(first) == replaces.tombstone

    @scenario(UserIndex)
    async def test_a_sign_in_at_the_limit_ends_nothing(self, store: Any) -> None:
        """All or nothing: the anonymous session that asked to sign in stays as it was."""
        anonymous_id, anonymous = new_id(), new_record(cart=1)
        await store.create(anonymous_id, anonymous)
        await store.create(new_id(), new_record("ann"))
        answer = await store.create(new_id(), new_record("ann"), replaces=replacing(anonymous_id, anonymous), limit=1)
        assert isinstance(answer, AtLimit)
        assert_same(await store.load(anonymous_id), anonymous)

    @scenario(UserIndex)
    async def test_an_expired_session_does_not_count_against_the_limit(self, store: Any) -> None:
        """A session past its deadline keeps nobody out until the next sweep."""
        await store.create(new_id(), new_record("ann", at=time.time() - IDLE - 5))
        assert await store.create(new_id(), new_record("ann"), limit=1) == Created()

    @scenario(UserIndex)
    async def test_the_limit_holds_when_many_sign_in_at_once(self, store: Any) -> None:
        """Eight sign-ins at once with a limit of three create three sessions."""
        answers = await self.together(*(lambda: store.create(new_id(), new_record("ann"), limit=3) for _ in range(8)))
        assert sum(isinstance(answer, Created) for answer in answers) == 3
        assert len(await store.of_user("ann")) == 3

    # -- epochs, sweeping, census

    @scenario(Epochs)
    async def test_everything_ends_at_once_and_later_sessions_live(self, store: Any) -> None:
        """What existed answers as ended, is gone for writes and from the index; what comes after is alive (R64)."""
        ended_before, first = new_id(), new_tombstone(EndReason.LOGOUT)
        await store.create(ended_before, new_record())
        await store.end(ended_before, first)
        session_id, record, at = new_id(), new_record("ann", a=0), time.time()
        await store.create(session_id, record)
        assert (await store.end_everything(at)).ended == ()
        later = new_id()
        await store.create(later, new_record("ann"))
        await store.end_everything(at + 1)
        last = new_id()
        await store.create(last, new_record("ann"), limit=1)
        loaded = await store.load(session_id)
        assert isinstance(loaded, Tombstone)
        assert (loaded.reason, loaded.at, loaded.user) == (EndReason.EVERYTHING, at, "ann")
        assert (await store.load(later)).at == at + 1
        assert await store.load(ended_before) == first
        assert isinstance(await store.load(last), Record)
        assert await store.save(session_id, changing(record, a=1), record) == Gone(loaded)
        await store.touch(session_id, record.seen_at + 9, record.expires_at + 9)
        assert await store.load(session_id) == loaded
        assert (await store.end(session_id, new_tombstone())).ended == ()
        assert await store.create(session_id, new_record()) == Taken()
        assert await store.create(
            new_id(), new_record(), replaces=replacing(session_id, record, required=True)
        ) == Gone(loaded)
        index: Any = store
        if isinstance(index, UserIndex):
            assert [found for found, _ in await index.of_user("ann")] == [last]
            assert (await index.end_user("ann", new_tombstone())).ended == ((last, "ann"),)

    @scenario(Sweeping)
    async def test_a_sweep_removes_what_is_past_its_deadline(self, store: Any) -> None:
        """Sessions as IDLE, tombstones as None, from the index too; the living stay (R50)."""
        now = time.time()
        expired, ended, alive = new_id(), new_id(), new_id()
        for session_id in (expired, ended, alive):
            await store.create(session_id, new_record("ann", at=now))
        await store.end(ended, new_tombstone())
        await store.touch(alive, now + IDLE, now + 3 * IDLE)
        assert await store.sweep(now, 10) == ()
        assert set(await store.sweep(now + 2 * IDLE, 10)) == {(expired, EndReason.IDLE), (ended, None)}
        assert await store.sweep(now + 2 * IDLE, 10) == ()
        assert await store.load(expired) is None
        assert await store.load(ended) is None
        assert isinstance(await store.load(alive), Record)
        index: Any = store
        if isinstance(index, UserIndex):
            assert [found for found, _ in await index.of_user("ann")] == [alive]
        assert await store.sweep(now + 4 * IDLE, 10) == ((alive, EndReason.IDLE),)

    @scenario(Sweeping)
    async def test_a_sweep_takes_small_steps(self, store: Any) -> None:
        """No more than `limit` at a time, and all in the end."""
        ids = {new_id() for _ in range(25)}
        for session_id in ids:
            await store.create(session_id, new_record())
        steps = [await store.sweep(time.time() + 2 * IDLE, 10) for _ in range(4)]
        assert [len(step) for step in steps] == [10, 10, 5, 0]
        assert {session_id for step in steps for session_id, _ in step} == ids

    @scenario(Sweeping)
    async def test_sessions_in_use_do_not_hold_up_a_sweep(self, store: Any) -> None:
        """However many were extended since, what has expired is found in the end."""
        now, used = time.time(), [new_id() for _ in range(40)]
        for session_id in used:
            await store.create(session_id, new_record(at=now - 10))
            await store.touch(session_id, now + IDLE, now + 9 * IDLE)
        expired = new_id()
        await store.create(expired, new_record(at=now))
        steps = [await store.sweep(now + 2 * IDLE, 4) for _ in range(20)]
        assert [entry for step in steps for entry in step] == [(expired, EndReason.IDLE)]

    @scenario(Sweeping, Epochs)
    async def test_a_sweep_removes_ended_epochs(self, store: Any) -> None:
        """Their sessions are reported as ended with everything; those of the new epoch stay."""
        old, ended, alive = new_id(), new_id(), new_id()
        await store.create(old, new_record("ann"))
        await store.create(ended, new_record())
        await store.end(ended, new_tombstone())
        await store.end_everything(time.time())
        await store.create(alive, new_record("ann"))
        removed = [entry for _ in range(3) for entry in await store.sweep(time.time(), 1)]
        assert set(removed) <= {(old, EndReason.EVERYTHING), (ended, None)}
        assert (old, EndReason.EVERYTHING) in removed
        assert await store.load(old) is None
        assert isinstance(await store.load(alive), Record)

    @scenario(Census)
    async def test_the_census_counts(self, store: Any) -> None:
        """Live sessions, those of users, distinct users, tombstones; the expired do not live."""
        now = time.time()
        assert await store.stats(now) == Stats(0, 0, 0, 0)
        ended = new_id()
        for session_id, user in (
            (new_id(), "ann"),
            (new_id(), "ann"),
            (new_id(), "bob"),
            (new_id(), None),
            (ended, "eve"),
        ):
            await store.create(session_id, new_record(user))
        await store.create(new_id(), new_record("old", at=now - IDLE - 5))
        await store.end(ended, new_tombstone())
        assert await store.stats(now) == Stats(live=4, signed_in=3, users=2, tombstones=1)

    @scenario(Census)
    async def test_a_scan_meets_each_living_session_once(self, store: Any) -> None:
        """Whatever the size of a page; ended sessions are not among them."""
        assert (await store.scan(None, 5)).sessions == ()
        ids = {new_id() for _ in range(23)}
        ended = {new_id() for _ in range(7)}
        for session_id in ids | ended:
            await store.create(session_id, new_record())
        for session_id in ended:
            await store.end(session_id, new_tombstone())
        for limit in (1, 5, 23, 100):
            met: list[str] = []
            cursor = None
            for _ in range(100):
                page = await store.scan(cursor, limit)
                assert len(page.sessions) <= limit
                met += [session_id for session_id, _ in page.sessions]
                cursor = page.cursor
                if cursor is None:
                    break
            assert cursor is None
            assert len(met) == len(ids)
            assert set(met) == ids
        for nonsense in ("", "x", "-1", "9" * 50):
            assert len((await store.scan(nonsense, 3)).sessions) <= 3

    # -- races

    @scenario()
    async def test_a_session_that_ends_while_it_is_saved_stays_ended(self, store: Store) -> None:
        """T1, the logout race: a request reads, a logout runs, the request writes. No round revives it (R42)."""
        for number in range(self.rounds):
            session_id, record, tombstone = new_id(), new_record("ann", a=0), new_tombstone()
            await store.create(session_id, record)

            async def slow(session_id: str = session_id) -> None:
                read = await store.load(session_id)
                await self.pause()
                if isinstance(read, Record):
                    newer = msgspec.structs.replace(read.control, generation=read.control.generation + 1)
                    await store.save(session_id, changing(read, newer, a=1), read)
                    await self.pause()
                    await store.touch(session_id, read.seen_at + 1, read.expires_at + 1)

            async def logout(session_id: str = session_id, tombstone: Tombstone = tombstone) -> None:
                await self.pause()
                await store.end(session_id, tombstone)

            await self.together(*((slow, logout) if number % 2 else (logout, slow)))
            assert await store.load(session_id) == tombstone
        index: Any = store
        if isinstance(index, UserIndex):
            assert await index.of_user("ann") == ()

    @scenario()
    async def test_twenty_five_writers_of_different_keys_all_win(self, store: Store) -> None:
        """T2, the lost update: every acknowledged write of every writer is there (R43)."""
        writers, writes = 25, max(1, self.rounds // 50)
        session_id, record = new_id(), new_record()
        await store.create(session_id, record)

        async def write(number: int) -> None:
            for turn in range(writes):
                read = await store.load(session_id)
                assert isinstance(read, Record)
                await self.pause()
                assert isinstance(
                    await store.save(session_id, changing(read, **cast("Any", {f"{number}.{turn}": turn})), read),
                    Record,
                )

        await self.together(*(lambda number=number: write(number) for number in range(writers)))
        expected = {f"{number}.{turn}": turn for number in range(writers) for turn in range(writes)}
        assert values(await store.load(session_id)) == expected

    @scenario()
    async def test_conditional_writers_of_one_key_lose_nothing(self, store: Store) -> None:
        """A counter that is raised by expecting what was read counts every acknowledged step."""
        session_id, record = new_id(), new_record(count=0)
        await store.create(session_id, record)

        async def count() -> int:
            done = 0
            for _ in range(max(1, self.rounds // 50)):
                read = await store.load(session_id)
                assert isinstance(read, Record)
                before = bytes(read.data["count"])
                await self.pause()
                change = changing(read, count=msgspec.msgpack.decode(before) + 1)
                answer = await store.save(session_id, msgspec.structs.replace(change, expect={"count": before}), read)
                if isinstance(answer, Clash):
                    assert not same_value(answer.record.data["count"], before)
                done += isinstance(answer, Record)
            return done

        acknowledged = sum(await self.together(*(count for _ in range(8))))
        assert values(await store.load(session_id)) == {"count": acknowledged}

    @scenario(UserIndex)
    async def test_nobody_survives_a_sign_out_everywhere(self, store: Any) -> None:
        """T7: sign-ins, renewals and "end all" interleaved: who survives came after, and the index ends empty (R49)."""
        for number in range(max(1, self.rounds // 10)):
            user = f"user {number}"
            old_id, old = new_id(), new_record(user)
            await store.create(old_id, old)
            anonymous_id, anonymous = new_id(), new_record()
            await store.create(anonymous_id, anonymous)
            signed_in, renewed = new_id(), new_id()

            async def renew(user: str = user, new: str = renewed, old_id: str = old_id, old: Record = old) -> object:
                return await store.create(new, new_record(user), replaces=replacing(old_id, old, required=True))

            async def sign_in(
                user: str = user, new: str = signed_in, old_id: str = anonymous_id, old: Record = anonymous
            ) -> object:
                return await store.create(new, new_record(user), replaces=replacing(old_id, old))

            async def end_all(user: str = user) -> Ending:
                return cast("Ending", await store.end_user(user, new_tombstone(EndReason.ADMIN, user)))

            jobs: list[Callable[[], Coroutine[Any, Any, Any]]] = [renew, sign_in, end_all]
            order = jobs[number % 3 :] + jobs[: number % 3]
            answers = dict(zip(order, await self.together(*order), strict=True))
            ended = {session_id for session_id, _ in answers[end_all].ended}
            # The old session ends once: by the renewal, or with all others; then the renewal has created nothing.
            assert not isinstance(await store.load(old_id), Record)
            assert isinstance(answers[renew], Gone) == (old_id in ended)
            alive = {session_id for session_id, _ in await store.of_user(user)}
            assert alive | ended == {signed_in} | ({old_id} if old_id in ended else {renewed})
            assert not alive & ended
            for session_id in (old_id, signed_in, renewed):
                assert isinstance(await store.load(session_id), Record) == (session_id in alive)
            await store.end_user(user, new_tombstone())
            assert await store.of_user(user) == ()
            for session_id in (old_id, signed_in, renewed):
                assert not isinstance(await store.load(session_id), Record)
