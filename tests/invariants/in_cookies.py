"""Sessions that live in cookies, as one more store of the invariants: ends are remembered in an SQLite file.

What a test does to a store's verbs is done to what remembers the ends:

    load      the look at a session's ends when a request begins
    save      the second look, before a response writes
    create    the numbers that a session is issued under, and the end of the one it replaces
    end       the mark of an end

Which tests do not apply, and why, stands in `NOT_APPLICABLE`. What only a store could list or count is not asked: the
application's door answers with `ANYTHING` there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from sessile.errors import StoreUnavailable
from sessile.stores.sqlite.revocations import SqliteRevocations

_NO_SIBLINGS: Final = "two copies of one cookie share no state, so nothing tells them apart: no rotation, no replays"
_NO_MERGE: Final = "two responses that write at once do not merge: the browser keeps the later one, as documented"
NOT_APPLICABLE: Final = {
    "test_a_thief_and_a_victim_never_both_live_past_a_rotation": _NO_SIBLINGS,
    "test_successors_handed_to_both_settle_for_one_of_them": _NO_SIBLINGS,
    "test_fifty_requests_at_the_rotation_all_succeed_in_any_order": _NO_SIBLINGS,
    "test_the_old_token_dies_when_its_grace_is_over": _NO_SIBLINGS,
    "test_a_dropped_cookie_logs_nobody_out": _NO_SIBLINGS,
    "test_rotation_after_rotation_under_load_loses_nobody_and_nothing": _NO_SIBLINGS,
    "test_concurrent_writers_of_different_keys_all_win": _NO_MERGE,
    "test_requests_that_run_at_once_see_their_own_user_each": _NO_MERGE,
    "test_a_damaged_record_is_refused_and_harms_nobody": "no record is kept anywhere; a damaged cookie is a forged one",
    "test_a_limit_on_sessions_ends_the_user_s_own_oldest_and_nobody_else_s": "nobody can count sessions in cookies",
}


class Anything:
    """Be what nobody can tell: equal to whatever it is compared with."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __len__(self) -> int:
        return 1

    def __getattr__(self, _name: str) -> Anything:
        return self


ANYTHING: Final = Anything()


class CookieSwitch:
    """Be the store of sessions in cookies, whose ends can be made to fail and tell which verbs were called."""

    limit = 7_168
    compress = False

    def __init__(self, directory: Path, *, blocking: bool) -> None:
        self.inner = SqliteRevocations(directory / "ends.db", blocking=blocking)
        self.failing: set[str] = set()
        self.calls: list[str] = []

    @property
    def revocations(self) -> Any:
        return self

    @property
    def key_file(self) -> Path:
        return self.inner.key_file

    async def _call(self, verb: str, method: str, *args: Any, **options: Any) -> Any:
        self.calls.append(verb)
        if verb in self.failing:
            raise StoreUnavailable("the ends cannot be asked")
        return await getattr(self.inner, method)(*args, **options)

    async def check(self, claim: Any) -> Any:
        # The engine asks the same for both; who asks tells them apart.
        verb = "save" if sys._getframe(1).f_code.co_name == "_save" else "load"
        return await self._call(verb, "check", claim)

    async def begin(self, *args: Any, **options: Any) -> Any:
        return await self._call("create", "begin", *args, **options)

    async def end(self, *args: Any) -> Any:
        return await self._call("end", "end", *args)

    async def end_user(self, *args: Any) -> Any:
        return await self._call("end_user", "end_user", *args)

    async def end_everything(self, at: float) -> Any:
        return await self._call("end_everything", "end_everything", at)

    async def sweep(self, now: float, limit: int) -> Any:
        return await self._call("sweep", "sweep", now, limit)

    async def close(self) -> None:
        await self.inner.close()

    def damage(self, half: str) -> None:
        """Raise: no record is kept anywhere.

        Raises:
            NotImplementedError: always; the tests that damage records do not apply.
        """
        raise NotImplementedError(half)

    # A store's own verbs, which the engine of cookies never calls.

    load = create = save = touch = None


class Unlisted:
    """Be an application whose door cannot list or count sessions."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def request(self, request: Any) -> Any:
        return self._app.request(request)

    def door(self, verb: str, *args: Any, **options: Any) -> Any:
        if verb in ("of_user", "stats"):
            return ANYTHING
        found = self._app.door(verb, *args, **options)
        return ANYTHING if verb == "end_all" else found

    def close(self) -> None:
        self._app.close()
