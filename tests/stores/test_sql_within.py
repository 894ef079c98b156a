"""The outbox: ending a session and the reason for it are committed together, or neither is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import text

from sessile import AsyncSessions, Sessions
from sessile.core.bridge import drive
from sessile.core.keys import generate
from sessile.core.ports import AtLimit, Created, Ending, Gone, Store
from sessile.core.record import Record
from sessile.errors import ConfigurationError, StoreSchema, StoreUnavailable
from sessile.stores.sql import SqlStore
from sessile.testing.store_contract import changing, new_id, new_record, new_tombstone, replacing, values
from tests.stores.sql_databases import Database, Kind, database, doors, kinds
from tests.support.requirements import requirement


class Roll(Exception):
    """Leave a transaction without committing it."""


async def in_transaction(own: Any, store: Any, blocking: bool, work: Any, *, commit: bool) -> Any:
    """Do work as an application would: in its own transaction, with a row of its own."""
    answer = None
    try:
        if blocking:
            with own.begin() as connection:
                connection.execute(text("INSERT INTO outbox VALUES ('the reason')"))
                answer = await work(store.within(connection))
                if not commit:
                    raise Roll
        else:
            async with own.begin() as connection:
                await connection.execute(text("INSERT INTO outbox VALUES ('the reason')"))
                answer = await work(store.within(connection))
                if not commit:
                    raise Roll
    except Roll:
        pass
    return answer


async def lent(made: Database, blocking: bool) -> tuple[Any, Any]:
    """Return an application's engine, and a store of its own beside."""
    own = made.engine(blocking=blocking)
    return own, made.open(blocking=blocking)


def run(blocking: bool, coroutine: Any) -> Any:
    """Run a coroutine through the door that is tested."""
    return drive(coroutine) if blocking else asyncio.run(coroutine)


@requirement("R62")
@kinds
@doors
@pytest.mark.parametrize("commit", [True, False], ids=["committed", "rolled back"])
def test_an_end_and_its_reason_are_committed_together_or_not_at_all(kind: Kind, blocking: bool, commit: bool) -> None:
    """Until the commit everybody else sees the session alive; after a rollback it still is."""

    async def main() -> None:
        own, store = await lent(made, blocking)
        one, two, three = new_id(), new_id(), new_id()
        for session_id in (one, two, three):
            await store.create(session_id, new_record("ann", a=0))

        async def work(within: Any) -> Any:
            ending = await within.end(one, new_tombstone())
            assert ending == Ending(((one, "ann"),), confirmed=False)
            everything = await within.end_user("ann", new_tombstone(), frozenset({three}))
            assert everything == Ending(((two, "ann"),), confirmed=False)
            assert not isinstance(await within.load(one), Record)
            assert isinstance(await store.load(one), Record)  # on another connection: not yet
            await within.close()
            return ending

        await in_transaction(own, store, blocking, work, commit=commit)
        alive = {session_id for session_id, _ in await store.of_user("ann")}
        assert alive == ({three} if commit else {one, two, three})
        assert made.run("SELECT count(*) FROM outbox")[0][0] == commit
        await store.close()
        own.dispose() if blocking else await own.dispose()

    with database(kind) as made:
        made.run("CREATE TABLE outbox (line VARCHAR(20))")
        run(blocking, main())


@kinds
@doors
@pytest.mark.parametrize("commit", [True, False], ids=["committed", "rolled back"])
def test_every_verb_belongs_to_the_applications_transaction(kind: Kind, blocking: bool, commit: bool) -> None:
    """Sign-ins with a limit, saves, touches, and the end of everything: all of it is there, or none."""

    async def main() -> None:
        own, store = await lent(made, blocking)
        old_id, old, saved_id = new_id(), new_record("ann", a=0), new_id()
        await store.create(old_id, old)
        await store.create(saved_id, new_record("bob", a=0))
        fresh, plain = new_id(), new_id()

        async def work(within: Any) -> None:
            created = await within.create(
                fresh, new_record("ann"), replaces=replacing(old_id, old, required=True), limit=1
            )
            assert created == Created()
            assert isinstance(await within.create(new_id(), new_record("ann"), limit=1), AtLimit)
            assert await within.create(plain, new_record("eve")) == Created()
            read = await within.load(saved_id)
            assert values(await within.save(saved_id, changing(read, a=1), read)) == {"a": 1}
            await within.touch(saved_id, read.seen_at + 5, read.expires_at + 5)
            retired = await within.retire(plain, new_tombstone(), revision=0, version=0)
            assert [session_id for session_id, _ in retired.ended] == [plain]
            assert [session_id for session_id, _ in await within.of_user("ann")] == [fresh]

        await in_transaction(own, store, blocking, work, commit=commit)
        assert isinstance(await store.load(fresh), Record) == commit
        assert isinstance(await store.load(old_id), Record) != commit
        assert values(await store.load(saved_id)) == {"a": int(commit)}
        assert (await store.load(plain) is None) != commit

        await in_transaction(own, store, blocking, lambda within: within.end_everything(time.time()), commit=commit)
        assert isinstance(await store.load(saved_id), Record) != commit
        await store.close()
        own.dispose() if blocking else await own.dispose()

    with database(kind) as made:
        made.run("CREATE TABLE outbox (line VARCHAR(20))")
        run(blocking, main())


@kinds
def test_a_handle_is_a_store_like_any_other(kind: Kind) -> None:
    """What takes a store takes it; the application's own transaction goes on after an answer that is no success."""
    with database(kind) as made:
        own = made.engine()
        store = SqlStore(own)
        with own.begin() as connection:
            within: Store = store.within(connection)
            assert drive(within.load(new_id())) is None
            assert drive(within.save(new_id(), changing(new_record(), a=1), new_record())) == Gone()
            session_id = new_id()
            drive(within.create(session_id, new_record()))
            assert type(drive(within.create(session_id, new_record()))).__name__ == "Taken"
            assert connection.execute(text("SELECT 1")).scalar() == 1
        assert isinstance(drive(store.load(session_id)), Record)
        own.dispose()


@requirement("R62")
@kinds
def test_the_doors_take_a_handle_as_their_store(kind: Kind) -> None:
    """What applications type: close an account and sign its owner out everywhere, in one transaction (asyncio)."""

    async def main(made: Database) -> None:
        own = made.engine(blocking=False)
        store, keys = SqlStore(own), generate()
        sessions = AsyncSessions(store, keys=keys, sinks=())
        ids = [new_id() for _ in range(2)]
        for session_id in ids:
            await store.create(session_id, new_record("ann"))
        async with own.connect() as connection:
            ended = await AsyncSessions(store.within(connection), keys=keys, sinks=()).end_all("ann")
            assert ended.outcome == "unconfirmed"
            await connection.rollback()
        assert len(await sessions.of_user("ann")) == 2
        async with own.begin() as connection:
            await AsyncSessions(store.within(connection), keys=keys, sinks=()).end_all("ann")
        assert await sessions.of_user("ann") == []
        await sessions.close()
        await own.dispose()

    with database(kind) as made:
        asyncio.run(main(made))
    with database(kind) as made:
        own, keys = made.engine(), generate()
        store = SqlStore(own)
        drive(store.create(session_id := new_id(), new_record("ann")))
        with own.begin() as connection:
            Sessions(store.within(connection), keys=keys, sinks=()).end_all("ann")
        assert not Sessions(store, keys=keys, sinks=()).is_alive(session_id)
        own.dispose()


@kinds
def test_a_connection_that_commits_by_itself_is_refused(kind: Kind) -> None:
    """Half of an end could be committed: say so instead."""
    with database(kind) as made:
        own = made.engine(isolation_level="AUTOCOMMIT")
        with own.connect() as connection:
            within = SqlStore(own).within(connection)
            with pytest.raises(ConfigurationError, match="transaction"):
                drive(within.end(new_id(), new_tombstone()))
        own.dispose()


@kinds
def test_a_connection_of_the_other_door_is_refused(kind: Kind) -> None:
    """At once, and not when it is used."""
    with database(kind) as made:
        own = made.engine()
        store = made.open(blocking=False)
        with own.connect() as connection, pytest.raises(ConfigurationError, match="AsyncConnection"):
            store.within(connection)
        own.dispose()


@requirement("R45")
@kinds
def test_an_error_in_the_applications_transaction_is_the_stores_and_says_nothing(kind: Kind) -> None:
    """A lock that stays, tables that are not there: what to do with the transaction is the application's to decide."""
    with database(kind) as made:
        own = made.engine()
        session_id = new_id()
        store = SqlStore(own)
        drive(store.create(session_id, new_record("ann")))
        limit = "SET LOCAL lock_timeout = 200" if kind == "postgresql" else "SET innodb_lock_wait_timeout = 1"
        with own.connect() as holder, own.connect() as other:
            holder.execute(text("SELECT id FROM sessile_session FOR UPDATE"))
            other.execute(text(limit))
            with pytest.raises(StoreUnavailable) as caught:
                drive(store.within(other).end(session_id, new_tombstone()))
            assert session_id not in repr(caught.value)
            assert caught.value.__context__ is None
            other.rollback()
            holder.rollback()
        with own.connect() as connection, pytest.raises(StoreSchema, match="sessile migrate"):
            drive(SqlStore(own, prefix="nowhere_").within(connection).load(session_id))
        assert isinstance(drive(store.load(session_id)), Record)
        own.dispose()
