"""Keep the ends of this process until they are certain, and carry them out again where they were lost.

A journal holds each end of the last two minutes, and those that are not certain yet for an hour. It is gone through

- when another server answers than the one that the ends were carried out on: a replica that took over may not have them
- every half second while some are not certain, or failed

Ends are idempotent and name sessions by their ids, which are never given out again: doing one twice does no harm.
One end that is carried out again makes all earlier ones on the same server certain, because replicas receive writes in
their order.

The blocking door's journal is a daemon thread's work, the other's a task's on the loop that ended a session last.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from ...core.bridge import drive
from ...errors import StoreError, StoreUnavailable
from .ending import is_kept, surely
from .layout import Names
from .link import Command
from .wire import MOVED, Node, Wire

KEPT: Final = 120.0  # seconds
KEPT_UNCERTAIN: Final = 3600.0
_AGAIN: Final = 0.5
_LOOK: Final = 1.0  # seconds between two looks at who answers, while there is something to keep
_MOST: Final = 100_000
_AT_ONCE: Final = 500

End = tuple[bytes, Command]


class _Entry:
    __slots__ = ("at", "certain", "command", "find", "identity", "key")

    def __init__(self, key: bytes, command: Command, identity: str, *, certain: bool, at: float) -> None:
        self.key = key
        self.command = command
        self.identity = identity
        self.certain = certain
        self.at = at
        self.find: Callable[[], Awaitable[Iterable[End]]] | None = None


class Keeper:
    """Keep the ends of one store. `patience` is how many seconds one attempt may take."""

    def __init__(self, wire: Wire, names: Names, *, blocking: bool, patience: float) -> None:
        self._wire: Final = wire
        self._names: Final = names
        self._blocking: Final = blocking
        self._patience: Final = patience
        self._entries: deque[_Entry] = deque(maxlen=_MOST)
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gate = threading.Lock()
        self._closed = False

    def keep(self, ends: Sequence[End], identities: Sequence[str], *, certain: bool) -> None:
        """Remember ends, and the identities of the servers that made them; empty: nobody knows whether they did."""
        now = time.monotonic()
        self._add(
            [
                _Entry(key, command, identity, certain=certain, at=now)
                for (key, command), identity in zip(ends, identities, strict=True)
            ]
        )

    def keep_search(self, find: Callable[[], Awaitable[Iterable[End]]]) -> None:
        """Remember an end that failed before it was known whom it concerns; `find` is asked until it answers."""
        entry = _Entry(b"", (), "", certain=False, at=time.monotonic())
        entry.find = find
        self._add([entry])

    @property
    def uncertain(self) -> int:
        """Count the ends that are not certain."""
        return sum(not entry.certain for entry in tuple(self._entries))

    @property
    def idle(self) -> bool:
        """Tell whether there may be work that nobody attends to, because the loop that did has ended."""
        return bool(self._entries) and not self._blocking

    async def turn(self) -> float | None:
        """Go through the journal once; return after how many seconds to come again, or None if it is empty.

        Failures leave what they concern for the next turn.
        """
        self._forget_old()
        if not self._entries:
            return None
        deadline = time.monotonic() + self._patience
        with suppress(StoreError):
            await self._search(deadline)
        by_node: dict[int, tuple[Node, list[_Entry]]] = {}
        for entry in tuple(self._entries):
            if entry.find is None:
                with suppress(StoreError):
                    node = await self._wire.home(entry.key, deadline)
                    by_node.setdefault(id(node), (node, []))[1].append(entry)
        for node, entries in by_node.values():
            with suppress(StoreError):
                await self._settle(node, entries)
        return _AGAIN if self.uncertain else _LOOK

    async def close(self) -> None:
        """Try once more what is not certain, and stop."""
        self._closed = True
        self._wake.set()
        task, self._task = self._task, None
        if task is not None and self._loop is asyncio.get_running_loop():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._patience * 2)
        if self.uncertain:
            await self.turn()
        self._entries.clear()

    def forget(self) -> object:
        """Begin anew in a forked child: the parent keeps its own."""
        abandoned = self._entries, self._thread, self._task
        self._entries = deque(maxlen=_MOST)
        self._thread = self._task = self._loop = None
        self._wake, self._gate = threading.Event(), threading.Lock()
        return abandoned

    async def _settle(self, node: Node, entries: Sequence[_Entry]) -> None:
        deadline = time.monotonic() + self._patience
        if node.assurance.identity == "" or time.monotonic() - node.assurance.seen_at >= _AGAIN / 2:
            await surely(node, self._names.pulse(entries[0].key), (), deadline)  # who is it?
        lost = [entry for entry in entries if entry.identity != node.assurance.identity or entry.identity == ""]
        uncertain = [entry for entry in entries if not entry.certain]
        if not lost and not uncertain:
            return
        if not lost and not node.assurance.expected:
            # It was carried out here, and nobody else could have it: what is missing is this server's own file.
            certain = await is_kept(node, deadline)
        else:
            certain = True
            repeated = lost or uncertain[-1:]
            for start in range(0, len(repeated), _AT_ONCE):
                some = repeated[start : start + _AT_ONCE]
                pulse, deadline = self._names.pulse(some[0].key), time.monotonic() + self._patience
                outcome = await surely(node, pulse, [entry.command for entry in some], deadline)
                moved = any(isinstance(reply, MOVED) for reply in outcome.replies)
                if moved:
                    self._wire.doubt()
                    return
                for entry in some:
                    entry.identity = outcome.identity
                certain = outcome.certain
        for entry in {*lost, *uncertain}:
            entry.certain = certain

    async def _search(self, deadline: float) -> None:
        """Find whom ends concern that failed before that was known; again when another server has taken over."""
        searches = [entry for entry in tuple(self._entries) if entry.find is not None]
        if not searches:
            return
        nodes = await self._wire.primaries(deadline)
        certain = True
        for node in nodes:
            outcome = await surely(node, await self._pulse_on(node, deadline), (), time.monotonic() + self._patience)
            certain = certain and outcome.certain
        who = " ".join(node.assurance.identity for node in nodes)
        for entry in searches:
            if entry.find is not None and entry.identity != who:
                ends = await entry.find()
                self._add([_Entry(key, command, "", certain=False, at=entry.at) for key, command in ends])
                entry.identity = who  # what it found has been ended by then; what was ended before is certain next time
            else:
                entry.certain = certain

    async def _pulse_on(self, node: Node, deadline: float) -> bytes:
        for key in self._names.epochs.values():
            if await self._wire.home(key, deadline) is node:
                return self._names.pulse(key)
        raise StoreUnavailable("a server of the cluster holds no bucket")

    def _forget_old(self) -> None:
        now = time.monotonic()
        with self._gate:
            young = [entry for entry in self._entries if now - entry.at < (KEPT if entry.certain else KEPT_UNCERTAIN)]
            if len(young) < len(self._entries):
                self._entries = deque(young, maxlen=_MOST)

    def _add(self, entries: list[_Entry]) -> None:
        if not entries or self._closed:
            return
        with self._gate:
            self._entries.extend(entries)
        if self._blocking:
            with self._gate:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name="sessile-redis-keeper", daemon=True)
                    self._thread.start()
            if not all(entry.certain for entry in entries):
                self._wake.set()
        else:
            self.follow()

    def follow(self) -> None:
        """Let the running loop do the work, if the loop that did it has ended."""
        if self._blocking or self._closed or not self._entries:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a coroutine that was thrown away: the next verb sees to it
            return
        if self._task is None or self._task.done() or self._loop is not loop:
            self._loop, self._task = loop, loop.create_task(self._attend())

    def _serve(self) -> None:
        pause: float | None = _AGAIN
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._closed:
                return
            try:
                pause = drive(self.turn())
            except Exception:  # noqa: BLE001 - a journal that stops is worse than one that stumbles
                pause = _AGAIN
            with self._gate:
                if not self._entries:
                    self._thread = None
                    return
            pause = pause or _AGAIN

    async def _attend(self) -> None:
        pause: float | None = _AGAIN
        while pause is not None and not self._closed:
            await asyncio.sleep(pause)
            try:
                pause = await self.turn()
            except Exception:  # noqa: BLE001
                pause = _AGAIN
