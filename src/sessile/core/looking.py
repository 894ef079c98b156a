"""The half of the engine that changes nothing: which sessions live, by whose limits, and whom to tell.

A token family hangs on its parent: it lives while that one does, and is never proved better.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ..errors import StoreError, Unsupported
from . import events
from .families import beneath, family_of, is_family
from .ids import is_session_id
from .policy import Policy
from .ports import Store, UserIndex
from .record import Control, EndReason, Record

_log: Final = logging.getLogger("sessile")


class Looking:
    """Look at the sessions of a store, and tell the sinks what is seen."""

    def __init__(
        self, store: Store, policy: Policy, sinks: tuple[events.Sink, ...], clock: Callable[[], float]
    ) -> None:
        self.store = store
        self.policy = policy
        self.sinks = sinks
        self.clock = clock
        # The limits of token families: set by `sessile.auth.tokens`.
        self.family_policy: Policy | None = None

    @property
    def index(self) -> UserIndex:
        """Return the store's index of users.

        Raises:
            Unsupported: it keeps none.
        """
        if not isinstance(self.store, UserIndex):
            raise Unsupported("this store keeps no index of its users' sessions")
        return self.store

    async def is_alive(self, sid: str) -> bool:
        """Tell whether a session lives now, without touching it: for what stays open longer than a request (R24).

        Raises:
            StoreError: the store failed; what cannot be checked must not stay open.
        """
        if not is_session_id(sid):
            return False
        return await self.living(sid) is not None

    async def living(self, sid: str) -> Record | None:
        """Return the session of an id if it lives now, a family's as it counts beside its parent; touch nothing.

        A family whose parent has ended is dead, although nobody may have met it since.

        Raises:
            StoreError: the store failed.
        """
        try:
            record = await self._loaded_alive(sid)
            if record is None or not is_family(record.control):
                return record
            family = family_of(record)
            if family is None or family.parent is None:
                return None if family is None else record
            parent = await self._loaded_alive(family.parent)
        except StoreError as error:
            self.tell(events.StoreFailed(at=self.clock(), error=error.code, session=sid))
            raise
        if parent is None or is_family(parent.control) or parent.control.user != record.control.user:
            return None
        return beneath(record, parent.control)

    async def _loaded_alive(self, sid: str) -> Record | None:
        found = await self.store.load(sid)
        return found if isinstance(found, Record) and self.expired(found) is None else None

    def policy_of(self, control: Control) -> Policy:
        """Return the limits that count for a session: a token family has its own."""
        return self.policy if self.family_policy is None or not is_family(control) else self.family_policy

    def expired(self, record: Record) -> EndReason | None:
        """Return which limit a session has passed, if any."""
        now = self.clock()
        if self.family_policy is None and is_family(record.control):
            return None if now < record.expires_at else EndReason.IDLE  # its limits are not known here
        return self.policy_of(record.control).expired(record.control, record.seen_at, now)

    def deadline(self, record: Record) -> float:
        """Return when a session ends if nothing more happens (seconds since 1970)."""
        if self.family_policy is None and is_family(record.control):
            return record.expires_at
        return self.policy_of(record.control).deadline(record.control, record.seen_at)

    def tell(self, event: events.Event) -> None:
        """Tell the sinks what happened around a session; a sink that fails stops nobody."""
        for sink in self.sinks:
            try:
                sink(event)
            except Exception:  # noqa: BLE001 - what is told of was stored; an error would take the token from its browser
                _log.exception("an event sink failed; it must not raise")
