"""A bridge to a library that is nobody's: rows in a dict, and every step can be made to fail or to wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from sessile.core.legacy import Found, OldCookie, OldSession, Refusal, deadline, who
from sessile.core.requests import Facts
from sessile.errors import StoreUnavailable


class OwnBridge:
    """Adopt sessions whose cookie `old` holds the key of a row; this is all that a bridge of one's own needs."""

    name = "own"
    kind = b"own"
    cookie = OldCookie("old")

    def __init__(
        self,
        rows: dict[str, dict[str, Any]],
        *,
        until: str = "2099-01-01",
        on_outage: Literal["refuse", "ignore"] = "refuse",
        name: str = "own",
    ) -> None:
        self.rows = rows
        self.until = deadline(until)
        self.on_outage: Literal["refuse", "ignore"] = on_outage
        self.name = name
        self.cookie = OldCookie("old" if name == "own" else name)
        self.failing: set[str] = set()
        self.in_find: Callable[[], Awaitable[Any]] | None = None
        self.calls: list[str] = []
        self.closed = False

    def open(self, *, blocking: bool) -> OwnBridge:
        return self

    def recognise(self, facts: Facts, now: float) -> OldSession | Refusal | None:
        text = self.cookie.read(facts)
        return OldSession(identity=text.encode(), held=text) if isinstance(text, str) else text

    async def find(self, old: OldSession, now: float) -> Found | Refusal | None:
        self._note("find")
        data = self.rows.get(old.held)
        if self.in_find is not None:
            await self.in_find()
        if data is None:
            return None
        return Found(data=data, user=who(data, "user_id"))

    async def end(self, old: OldSession) -> None:
        self._note("end")
        self.rows.pop(old.held, None)

    async def close(self) -> None:
        self.closed = True

    def _note(self, verb: str) -> None:
        self.calls.append(verb)
        if verb in self.failing:
            raise StoreUnavailable("the old store is down")
