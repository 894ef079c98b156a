"""What a hostile review of the mover found: sessions that it lost, and losses that it did not tell."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessile.core.bridge import drive
from sessile.core.keys import KeyRing, generate
from sessile.core.record import EndReason, Record, Tombstone, Unreadable
from sessile.core.sealing import SealedCodec
from sessile.errors import ConfigurationError, StoreFull
from sessile.stores import open_store
from sessile.stores.memory import MemoryStore
from sessile.stores.moving import Moving
from sessile.stores.moving.mover import Mover
from sessile.testing.store_contract import new_id, new_record
from tests.core.rig import Rig
from tests.support.servers import redis_server


async def filled(store: Any, count: int = 5) -> list[str]:
    """Put sessions into a store and return their ids."""
    ids = [new_id() for _ in range(count)]
    for number, sid in enumerate(ids):
        await store.create(sid, new_record(f"user{number}", note="swordfish"))
    return ids


async def alive(store: Any, ids: list[str]) -> int:
    """Return how many of them are alive in a store."""
    return sum([isinstance(await store.load(sid), Record) for sid in ids])


def opened(url: str, keys: str = "") -> Any:
    """Open a store, sealed if there are keys."""
    sealed = {"codec": SealedCodec(KeyRing.parse(keys))} if keys else {}
    return open_store(url, blocking=False, **sealed)


class TestOneStore:
    """A move onto itself would put a mark in the place of every session, and nothing in the place of the mark."""

    async def test_two_spellings_of_one_file_are_one_store(self, tmp_path: Path) -> None:
        """Whatever the URLs say: it is found out before anything moves."""
        old = opened(f"sqlite:///{tmp_path}/a.db")
        ids = await filled(old)
        os.symlink(tmp_path / "a.db", tmp_path / "b.db")
        (tmp_path / "sub").mkdir()
        for url in (f"sqlite:///{tmp_path}/sub/../a.db", f"sqlite:///{tmp_path}/b.db"):
            new = opened(url)
            with pytest.raises(ConfigurationError, match="same store"):
                await Mover(Moving(old, new)).run()
            await new.close()
        assert await alive(old, ids) == 5
        await old.close()

    async def test_so_is_one_that_is_read_with_other_keys(self, tmp_path: Path) -> None:
        """To encrypt a store in its own place is no move."""
        url = f"sqlite:///{tmp_path}/a.db"
        old, new = opened(url), opened(f"sqlite:///{tmp_path}/./a.db", generate())
        ids = await filled(old)
        with pytest.raises(ConfigurationError, match="same store"):
            await Mover(Moving(old, new)).run()
        assert await alive(old, ids) == 5
        await old.close()
        await new.close()

    @pytest.mark.parametrize(
        "other", ["redis://localhost:{0}/0", "valkey://127.0.0.1:{0}", "redis://127.0.0.1:{0}/0?pool=3"]
    )
    async def test_so_are_two_names_of_one_redis(self, other: str) -> None:
        """Names, schemes and options differ; what lies there does not."""
        with redis_server() as server:
            old, new = opened(server.url), opened(other.format(server.port))
            ids = await filled(old)
            with pytest.raises(ConfigurationError, match="same store"):
                await Mover(Moving(old, new)).run()
            assert await alive(old, ids) == 5
            await old.close()
            await new.close()

    def test_an_application_is_not_given_one_store_twice(self) -> None:
        """Where the URLs agree to the letter, it is a slip."""
        with pytest.raises(ConfigurationError, match="same store"):
            open_store("moving://?from=memory://&to=memory://", blocking=True)


class TestBack:
    """Sessions that moved can be moved back, or they stay where they are."""

    async def test_a_move_back_loses_nobody(self, tmp_path: Path) -> None:
        """Where they came from still says that they left: an end is final, so none of them can begin there anew."""
        old, new = (opened(f"sqlite:///{tmp_path}/{name}.db") for name in ("old", "new"))
        ids = await filled(old)
        assert (await Mover(Moving(old, new)).run()).moved == 5
        born = await filled(new, 2)
        back = await Mover(Moving(new, old)).run()
        assert (back.moved, back.held, back.wrong, back.ended) == (2, 5, 0, 0)
        assert await alive(new, ids) == 5
        assert await alive(old, born) == 2
        await old.close()
        await new.close()

    async def test_two_movers_in_opposite_directions_lose_nobody(self, tmp_path: Path) -> None:
        """Each session is somewhere in the end."""
        old, new = (opened(f"sqlite:///{tmp_path}/{name}.db") for name in ("old", "new"))
        ids = [*await filled(old, 40), *await filled(new, 40)]
        there, back = Mover(Moving(old, new), at_once=8), Mover(Moving(new, old), at_once=8)
        await asyncio.gather(there.run(), back.run())
        assert await alive(old, ids) + await alive(new, ids) == len(ids)
        assert there.counted.wrong == back.counted.wrong == 0
        await old.close()
        await new.close()

    async def test_what_ended_in_the_new_store_ends_though_a_backup_of_the_old_one_has_it(self) -> None:
        """It is not carried over its own end."""
        old, new = MemoryStore(), MemoryStore()
        (sid,) = await filled(old, 1)
        now = time.time()
        await new.create(sid, new_record("user0"))
        await new.end(sid, Tombstone(EndReason.LOGOUT, now, now + 600, "user0"))
        counted = await Mover(Moving(old, new)).run()
        assert (counted.moved, counted.ended) == (0, 1)
        assert await alive(old, [sid]) + await alive(new, [sid]) == 0


class TestKeys:
    """What cannot be read is not moved, and nobody is told that nothing is left."""

    async def test_a_store_that_these_keys_do_not_open_is_left_and_counted(self, tmp_path: Path) -> None:
        """Without the keys, or with others."""
        keys = generate()
        old = opened(f"sqlite:///{tmp_path}/old.db", keys)
        ids = await filled(old)
        for number, wrong in enumerate(("", generate())):
            blind, new = opened(f"sqlite:///{tmp_path}/old.db", wrong), opened(f"sqlite:///{tmp_path}/new{number}.db")
            counted = await Mover(Moving(blind, new)).run()
            assert (counted.moved, counted.unreadable, counted.left) == (0, 5, 5)
            await blind.close()
            await new.close()
        assert await alive(old, ids) == 5
        await old.close()

    async def test_one_damaged_record_is_counted_and_the_others_move(self, tmp_path: Path) -> None:
        """It stays where it is."""
        old, new = (opened(f"sqlite:///{tmp_path}/{name}.db") for name in ("old", "new"))
        ids = await filled(old)
        with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
            connection.execute("UPDATE session SET control = x'c1' WHERE id = ?", (ids[2],))
            connection.commit()
        counted = await Mover(Moving(old, new)).run()
        assert (counted.moved, counted.unreadable, counted.left) == (4, 1, 1)
        assert isinstance(await old.load(ids[2]), Unreadable)
        await old.close()
        await new.close()

    async def test_nothing_moves_into_a_store_whose_sessions_these_keys_do_not_open(self, tmp_path: Path) -> None:
        """The application encrypts there, and could read nothing of what this would write."""
        keys = generate()
        old, theirs = opened(f"sqlite:///{tmp_path}/old.db"), opened(f"sqlite:///{tmp_path}/new.db", keys)
        ids, born = await filled(old), await filled(theirs, 2)
        for wrong in ("", generate()):
            new = opened(f"sqlite:///{tmp_path}/new.db", wrong)
            with pytest.raises(ConfigurationError, match="these keys"):
                await Mover(Moving(old, new)).run()
            await new.close()
        assert await alive(old, ids) == 5
        assert await alive(theirs, born) == 2
        assert (await Mover(Moving(old, theirs)).run()).verified == 5
        await old.close()
        await theirs.close()

    async def test_what_cannot_be_read_back_is_wrong(self) -> None:
        """It is not verified because it is no record."""

        class Rotten(MemoryStore):
            """Be a store whose records rot as soon as they arrive."""

            async def load(self, session_id: str) -> Any:
                found = await super().load(session_id)
                return Unreadable("control") if isinstance(found, Record) and "note" in found.data else found

        old = MemoryStore()
        await filled(old, 3)
        counted = await Mover(Moving(old, Rotten())).run()
        assert (counted.moved, counted.verified, counted.wrong) == (3, 0, 3)


class TestNodesThatWereForgotten:
    """A node that still opens the old store alone signs nobody out elsewhere."""

    def test_it_does_not_put_its_own_cookie_in_the_place_of_one_that_lives_on(self) -> None:
        """It takes them for nobody; what it answers must not overwrite the token that the other nodes know."""
        forgotten, new = Rig(), MemoryStore()
        moving = Moving(forgotten.store, new, clock=forgotten.clock)
        token = forgotten.sign_in("ada")
        drive(moving.move(forgotten.id_of(token)))
        proper = Rig(moving)
        for later in (0.0, 3_600.0):
            forgotten.now += later
            proper.now = forgotten.now
            session = forgotten.open(token)
            assert (session.user_id, session.ended) == (None, EndReason.MOVED)
            session["cart"] = ["milk"]
            assert forgotten.close(session) is None
            assert proper.user_of(token) == "ada"
        assert forgotten.sign_in("ada", token) != token


class TestAFullStore:
    """A new store that takes no more loses nobody, and is told in one sentence."""

    async def test_the_move_stops_and_goes_on_when_there_is_room(self) -> None:
        """Whoever was on the way is still found, and so is everybody after the second run."""
        import redis

        told: list[Any] = []
        client: Any
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        old = MemoryStore()
        ids = [new_id() for _ in range(300)]
        for sid in ids:
            await old.create(sid, new_record("ann", note="x" * 2_000))
        with redis_server() as server, closing(redis.Redis(port=server.port)) as client:
            new = opened(f"{server.url}?timeout=10")
            await new.stats(0.0)
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 300_000)
            first = Mover(Moving(old, new))
            with pytest.raises(StoreFull):
                await first.run()
            gc.collect()
            assert told == []
            assert await alive(old, ids) > 0
            client.config_set("maxmemory", 0)
            assert await alive(Moving(old, new), ids) == 300
            second = await Mover(Moving(old, new)).run()
            assert (second.left, second.wrong, second.ended) == (0, 0, 0)
            assert await alive(new, ids) == 300
            await new.close()
