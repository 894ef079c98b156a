"""The audit of the failure lab: it sees each way in which a store can break its word."""

from __future__ import annotations

import time

from sessile.core.ports import Created
from sessile.stores.memory import MemoryStore
from tests.failure.audit import PATIENCE, audit, until_dead
from tests.failure.traffic import Ended, Memory, new_record, tombstone


def long_ago() -> float:
    return time.monotonic() - PATIENCE - 1


async def holding(*session_ids: str) -> MemoryStore:
    """Return a store in which these are alive."""
    store = MemoryStore()
    for session_id in session_ids:
        assert isinstance(await store.create(session_id, new_record("ann")), Created)
    return store


def ended(**confirmed: bool) -> Memory:
    """Return the memory of ends that were acknowledged, confirmed or not."""
    memory = Memory()
    memory.ends = {session_id: Ended(session_id, long_ago(), sure) for session_id, sure in confirmed.items()}
    return memory


async def test_a_session_alive_after_a_confirmed_end_is_seen() -> None:
    memory = ended(alive=True, dead=True)
    found = await audit(await holding("alive"), memory, long_ago())
    assert (memory.revived, found.late, found.lost) == ({"alive"}, set(), 0)


async def test_a_session_alive_long_after_an_unconfirmed_end_is_late() -> None:
    memory = ended(alive=False, dead=False)
    found = await audit(await holding("alive"), memory, long_ago())
    assert (memory.revived, found.late, found.lost) == (set(), {"alive"}, 0)


async def test_a_session_that_nobody_ended_and_is_gone_is_lost() -> None:
    memory = Memory(created={"here": "ann", "gone": "ann"})
    found = await audit(await holding("here"), memory, long_ago())
    assert (memory.revived, found.late, found.lost) == (set(), set(), 1)


async def test_an_end_that_is_made_up_for_in_time_is_not_late() -> None:
    """The time runs from when all was whole, not from when the audit begins to look."""
    store = await holding("slow")
    late, _ = await until_dead(store, ["slow"], long_ago())
    assert late == {"slow"}
    await store.end("slow", tombstone())
    late, seconds = await until_dead(store, ["slow"], long_ago())
    assert late == set()
    assert seconds > PATIENCE, "and it says how long it took"


async def test_what_comes_back_while_the_audit_runs_is_seen() -> None:
    """A journal that was replayed once does not help against a copy that is read later."""
    store = await holding("back")

    class Later(MemoryStore):
        asked = 0

        async def load(self, session_id: str):  # type: ignore[no-untyped-def]
            self.asked += 1
            return await store.load(session_id) if self.asked > 1 else None

    memory = ended(back=True)
    await audit(Later(), memory, long_ago())
    assert memory.revived == {"back"}
