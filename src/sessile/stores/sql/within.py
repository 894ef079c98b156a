"""The verbs inside a transaction of the application's own (the outbox pattern)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.util import greenlet_spawn

from ...core.ports import Ending
from ...errors import ConfigurationError
from .faults import Fault, fault_of, store_error
from .link import BorrowedLink, Link
from .queries import Queries
from .verbs import Verbs

T = TypeVar("T")


class Within(Verbs):
    """Carry out verbs on a connection whose transaction the application commits, or rolls back.

    Nothing is tried again here: after an error, the transaction is the application's to repeat as a whole. An ending is
    never confirmed, because it is not committed yet. The application's own time limits hold.
    """

    def __init__(self, connection: Connection, queries: Queries, *, blocking: bool) -> None:
        self._connection = connection
        self._queries = queries
        self._blocking = blocking

    @property
    def blocking(self) -> bool:
        """Tell for which door the handle is."""
        return self._blocking

    async def close(self) -> None:
        """Do nothing: the connection is the application's."""

    async def _read(self, work: Callable[[Link], T]) -> T:
        return await self._do(work, durable=False)

    async def _write(self, work: Callable[[Link], T], *, repeatable: bool = False) -> T:
        return await self._do(work, durable=False)

    async def _transact(self, work: Callable[[Link], T], *, durable: bool = False) -> T:
        return await self._do(work, durable=durable)

    async def _confirm(self, ending: Ending) -> Ending:
        return ending._replace(confirmed=False)

    async def _do(self, work: Callable[[Link], T], *, durable: bool) -> T:
        fault: Fault
        try:
            if self._blocking:
                return self._work(work, durable=durable)
            return await greenlet_spawn(partial(self._work, work, durable=durable))
        except (ConfigurationError, asyncio.CancelledError, ValueError):
            raise
        except Exception as error:  # noqa: BLE001 - raised as the store's own, which repeats nothing of it
            fault = fault_of(error)
        raise store_error(fault)

    def _work(self, work: Callable[[Link], T], *, durable: bool) -> T:
        detect = getattr(self._connection.dialect, "detect_autocommit_setting", None)
        if detect is not None and detect(self._connection.connection.dbapi_connection):
            raise ConfigurationError("this connection commits each statement by itself; a transaction is needed")
        link = BorrowedLink(self._queries, math.inf, self._connection)
        if durable:
            link.harden()
        return work(link)
