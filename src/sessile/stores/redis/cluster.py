"""Reach the servers of a cluster, and stop using them when too few of the primaries answer.

The primaries are asked every half second who holds which slot, and at once when one of them says that a key has moved.
When a slot changes its server, all connections to the old one are given up, so that a server that was frozen or cut off
is not read when it comes back. (A primary in a minority stops answering by itself after `cluster-node-timeout`.)
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, cast

from redis.crc import key_slot
from redis.exceptions import AskError, NoScriptError

from ...core.bridge import drive
from ...errors import StoreError, StoreUnavailable
from .address import Address, Place, Settings
from .link import Command
from .standing import Assurance
from .tasks import LoopedNode
from .threads import BlockingNode
from .topology import Topology, members
from .wire import MOVED, Node, checked, whole

_EVERY: Final = 0.5
_PATIENCE: Final = 0.4  # seconds for one server's answer about the others
_SHUNNED: Final = 1.5  # seconds for which a server that did not answer is not asked about the others
_HOPS: Final = 8
_NODES: Final[Command] = (b"CLUSTER", b"NODES")


class ClusterWire:
    """Reach the primaries of one cluster."""

    def __init__(self, settings: Settings, *, blocking: bool) -> None:
        self._settings: Final = settings
        self._blocking: Final = blocking
        self._kind: Final = BlockingNode if blocking else LoopedNode
        self._topology = Topology()
        self._slots: Final[dict[bytes, int]] = {}
        self._nodes: dict[Address, Node] = {}
        self._askers: dict[Address, Node] = {}
        self._shunned: dict[Address, float] = {}
        self._doubted = False
        self._stop = threading.Event()
        self._gate = threading.Lock()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def together(self) -> bool:
        """Return False: a script may use the keys of one bucket alone."""
        return False

    @property
    def topology(self) -> Topology:
        """Return who holds what."""
        return self._topology

    async def ask(self, key: bytes, command: Command, deadline: float) -> Any:
        """Send a command to the server of `key`, wherever that has moved meanwhile."""
        for _ in range(_HOPS):
            node = await self.home(key, deadline)
            try:
                reply = await node.ask(command, deadline)
                if isinstance(reply, NoScriptError):
                    command = whole(command)
                    reply = await node.ask(command, deadline)
            except StoreUnavailable:
                self.doubt()
                raise
            if isinstance(reply, AskError):
                moving = cast("Any", reply)
                target = self._node(Address(str(moving.host), int(moving.port)))
                _, reply = await target.exchange(((b"ASKING",), command), deadline)
            if not isinstance(reply, (*MOVED, NoScriptError)):
                self._check()
                return checked(reply)
            self.doubt()
            if time.monotonic() >= deadline:
                break
        raise StoreUnavailable("the cluster is moving keys, or misses servers")

    async def many(self, commands: Sequence[tuple[bytes, Command]], deadline: float) -> list[Any]:
        """Send commands, one write for each server."""
        groups: dict[int, tuple[Node, list[int]]] = {}
        for place, (key, _) in enumerate(commands):
            node = await self.home(key, deadline)
            groups.setdefault(id(node), (node, []))[1].append(place)
        replies: list[Any] = [None] * len(commands)

        async def send(node: Node, places: list[int]) -> None:
            answers = await node.exchange([commands[place][1] for place in places], deadline)
            for place, answer in zip(places, answers, strict=True):
                replies[place] = answer

        if self._blocking:
            for node, places in groups.values():
                await send(node, places)
        else:
            await asyncio.gather(*(send(node, places) for node, places in groups.values()))
        for place, reply in enumerate(replies):
            if isinstance(reply, (*MOVED, NoScriptError)):
                replies[place] = await self.ask(*commands[place], deadline)
        self._check()
        return [checked(reply) for reply in replies]

    async def primaries(self, deadline: float) -> Sequence[Node]:
        """Return all primaries, in the order of their addresses."""
        await self._ready(deadline)
        return [self._node(address) for address in self._topology.primaries]

    async def home(self, key: bytes, deadline: float) -> Node:
        """Return the primary of `key`.

        Raises:
            StoreUnavailable: none holds it, or too few servers answer.
        """
        await self._ready(deadline)
        owner = self._topology.owner(self._slot(key))
        if owner is None:
            raise StoreUnavailable("no server of the cluster holds this part of the sessions")
        return self._node(owner)

    def place(self, key: bytes) -> Place | None:
        """Return where the primary of `key` is, or None if too few servers vouch for that."""
        if self._doubted or not self._vouched():
            return None
        owner = self._topology.owner(self._slot(key))
        return None if owner is None else Place(owner, (id(self._topology), self._topology.changes))

    def doubt(self) -> None:
        """Ask who holds what before the next command."""
        self._doubted = True

    async def close(self) -> None:
        """Stop watching and close the connections."""
        self._closed = True
        self._stop.set()
        task, self._task = self._task, None
        if task is not None and self._loop is asyncio.get_running_loop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(2 * _EVERY)
        for node in (*self._nodes.values(), *self._askers.values()):
            await node.close()

    def forget(self) -> object:
        """Begin anew in a forked child."""
        abandoned = self._nodes, self._askers, self._thread, self._task
        self._nodes, self._askers, self._shunned = {}, {}, {}
        self._thread = self._task = self._loop = None
        self._stop, self._gate = threading.Event(), threading.Lock()
        self._topology = Topology()
        return abandoned

    def _slot(self, key: bytes) -> int:
        start = key.find(b"{")
        tag = key[start : key.find(b"}", start) + 1] or key
        slot = self._slots.get(tag)
        if slot is None:
            slot = self._slots[tag] = key_slot(tag)
        return slot

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            with self._gate:
                node = self._nodes.get(address)
                if node is None:
                    assurance = Assurance(lambda: max(self._settings.replicas, self._topology.replicas.get(address, 0)))
                    node = self._nodes[address] = self._kind(self._settings, _at(address), assurance)
        return node

    def _vouched(self) -> bool:
        return not self._settings.lease or self._topology.holds(time.monotonic())

    def _check(self) -> None:
        if not self._vouched():
            raise StoreUnavailable("too few primaries of the cluster answer")

    async def _ready(self, deadline: float) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if not self._topology.primaries or self._doubted or not self._watched():
            self._doubted = False
            if not self._vouched() or not self._topology.primaries or self._watched():
                await self._round(min(deadline, time.monotonic() + 2 * _PATIENCE))
            if not self._topology.primaries:
                raise StoreUnavailable("no server of the cluster answers")
            self._watch_over()
        self._check()

    def _watched(self) -> bool:
        if self._blocking:
            return self._thread is not None
        return self._loop is asyncio.get_running_loop() and self._task is not None and not self._task.done()

    def _watch_over(self) -> None:
        if self._blocking:
            with self._gate:
                if self._thread is None and not self._closed:
                    self._thread = threading.Thread(target=self._watch, name="sessile-cluster", daemon=True)
                    self._thread.start()
        elif not self._watched():
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._attend())

    async def _round(self, deadline: float) -> None:
        """Ask the primaries that are known, or those that the URL names, who holds what."""
        now = time.monotonic()
        known = self._topology.primaries or self._settings.addresses
        asked = [each for each in known if now - self._shunned.get(each, 0.0) > _SHUNNED] or list(known)
        if len(asked) < len(known) // 2 + 1:
            asked = list(known)
        if self._blocking:
            for address in asked:
                if time.monotonic() < deadline:
                    await self._hear(address, deadline)
        else:
            await asyncio.gather(*(self._hear(address, deadline) for address in asked))
        if not self._topology.holds(now - _EVERY):
            for address in self._settings.addresses:  # all that was known may have gone
                if address not in asked and time.monotonic() < deadline:
                    await self._hear(address, deadline)

    async def _hear(self, address: Address, deadline: float) -> None:
        asker = self._askers.get(address)
        if asker is None:
            brief = replace(self._settings, timeout=_PATIENCE, pool=2)
            asker = self._askers.setdefault(address, self._kind(brief, _at(address), None))
        asked_at = time.monotonic()
        try:
            reply = await asker.ask(_NODES, min(deadline, asked_at + _PATIENCE))
        except StoreError:
            self._shunned[address] = asked_at
            return
        self._shunned.pop(address, None)
        if isinstance(reply, bytes):
            for gone in self._topology.heard(address, members(reply, address), asked_at):
                node = self._nodes.get(gone)
                if node is not None:
                    node.drop()

    def _watch(self) -> None:
        stop = self._stop
        while not stop.wait(_EVERY):
            with suppress(Exception):
                drive(self._round(time.monotonic() + 2 * _PATIENCE))

    async def _attend(self) -> None:
        while not self._closed:
            await asyncio.sleep(_EVERY)
            with suppress(Exception):
                await self._round(time.monotonic() + 2 * _PATIENCE)


def _at(address: Address) -> Callable[[], Address]:
    return lambda: address
