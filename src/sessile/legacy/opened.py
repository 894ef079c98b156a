"""The two kinds of open bridges: the session lives in its cookie, or in a store under an id that the cookie holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from ..core.legacy import Found, OldCookie, OldSession, Refusal
from ..core.requests import Facts
from .terms import Settled


class Rows(Protocol):
    """Reach the rows of an old store by their keys."""

    async def get(self, key: str) -> Any | None:
        """Return a row, None if there is none.

        Raises:
            StoreError: the store failed.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove a row, if it is there.

        Raises:
            StoreError: the store failed.
        """
        ...

    async def close(self) -> None:
        """Release what is held open."""
        ...


class _Named:
    """Answer what the settled terms say."""

    def __init__(self, settled: Settled) -> None:
        self._settled = settled

    @property
    def name(self) -> str:
        """Return what events call it."""
        return self._settled.name

    @property
    def kind(self) -> bytes:
        """Return what tells its identities from those of other kinds."""
        return self._settled.kind

    @property
    def until(self) -> float:
        """Return when it stops."""
        return self._settled.until

    @property
    def on_outage(self) -> Literal["refuse", "ignore"]:
        """Return what happens when the old store fails."""
        return self._settled.on_outage

    @property
    def cookie(self) -> OldCookie:
        """Return the old cookie."""
        return self._settled.cookie


class InCookie(_Named):
    """Adopt sessions that live in their cookie.

    `verify` checks the text; `decode` reads what the session holds from what `verify` left in `OldSession.held`.
    """

    def __init__(
        self,
        settled: Settled,
        verify: Callable[[str, float], OldSession | Refusal],
        decode: Callable[[OldSession, float], Found | Refusal],
    ) -> None:
        super().__init__(settled)
        self._verify = verify
        self._decode = decode

    def recognise(self, facts: Facts, now: float) -> OldSession | Refusal | None:
        """Return what the request's cookie proves."""
        text = self.cookie.read(facts)
        return self._verify(text, now) if isinstance(text, str) else text

    async def find(self, old: OldSession, now: float) -> Found | Refusal | None:
        """Read the session from its cookie."""
        return self._decode(old, now)

    async def end(self, old: OldSession) -> None:
        """Do nothing: the engine deletes the cookie, and remembers that it was adopted."""

    async def close(self) -> None:
        """Do nothing: nothing is open."""


class InRows(_Named):
    """Adopt sessions that live in a store.

    `identify` finds the session's id in the cookie's text; `key` is where the store has it; `decode` reads the row.
    """

    def __init__(
        self,
        settled: Settled,
        rows: Rows,
        identify: Callable[[str], str | Refusal],
        key: Callable[[str], str],
        decode: Callable[[Any, float], Found | Refusal | None],
    ) -> None:
        super().__init__(settled)
        self._rows = rows
        self._identify = identify
        self._key = key
        self._decode = decode

    def recognise(self, facts: Facts, now: float) -> OldSession | Refusal | None:
        """Return what the request's cookie proves: an id, which says nothing yet of whether its session lives."""
        text = self.cookie.read(facts)
        if not isinstance(text, str):
            return text
        sid = self._identify(text)
        return sid if isinstance(sid, Refusal) else OldSession(identity=sid.encode(), held=sid)

    async def find(self, old: OldSession, now: float) -> Found | Refusal | None:
        """Read the row."""
        row = await self._rows.get(self._key(old.held))
        return None if row is None else self._decode(row, now)

    async def end(self, old: OldSession) -> None:
        """Remove the row."""
        await self._rows.delete(self._key(old.held))

    async def close(self) -> None:
        """Release the rows."""
        await self._rows.close()
