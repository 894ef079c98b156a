"""A TCP proxy in front of one Redis node, which can make its copies lag and cut it off from its peers.

It stands at the node's *announced* address, so replicas, Sentinels and clients all come through it, and it tells them
apart by what they say first: a replica begins with PING and later says PSYNC, a Sentinel names itself, a client does
neither. Lag is added to the stream of changes alone: on loopback, without it, nothing is ever lost.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from tests.support.ports import free_port

T = TypeVar("T")

_REPLICA: Final = b"*1\r\n$4\r\nPING"
PEERS: Final = frozenset({"replica", "sentinel"})
CLIENTS: Final = frozenset({"client"})
_READS: Final = (b"MGET", b"GET")


class Proxies:
    """Run proxies on an event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self.proxies: dict[int, Proxy] = {}

    def before(self, port: int) -> int:
        """Put a proxy in front of `port` and return the port it listens on."""
        made = Proxy(port)
        self._do(made.start())
        self.proxies[port] = made
        return made.port

    def lag(self, seconds: float, *, answers: float = 0.0) -> None:
        """Let every copy see changes that much later, and every primary hear of it that much later."""
        for proxy in self.proxies.values():
            proxy.lag, proxy.answers = seconds, answers

    def cut(self, port: int, *, kinds: frozenset[str] = PEERS) -> None:
        """Cut the node at `port` off from its peers, or from others: they may send, and nothing arrives."""
        self._loop.call_soon_threadsafe(self.proxies[port].cut, kinds)

    def heal(self) -> None:
        """Let everything through again. What was cut is closed: its ends connect anew."""
        for proxy in self.proxies.values():
            self._loop.call_soon_threadsafe(proxy.heal)

    def close(self) -> None:
        """Stop."""
        for proxy in self.proxies.values():
            self._do(proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


class Proxy:
    """Pass bytes between whoever connects and one port."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.target = target
        self.lag = 0.0  # seconds, of what this node sends to its copies
        self.answers = 0.0  # seconds, of what they send back
        self.reads: list[float] = []  # when clients read here, by the monotonic clock
        self._cut: frozenset[str] = frozenset()
        self._passages: set[_Passage] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Stop listening and close everything."""
        assert self._server is not None
        self._server.close()
        for passage in tuple(self._passages):
            passage.close()
        if self._tasks:  # they end by themselves: asyncio's streams complain of handlers that are cancelled
            await asyncio.wait(self._tasks, timeout=5)

    def cut(self, kinds: frozenset[str]) -> None:
        """Let nothing of these through, in neither direction."""
        self._cut = kinds

    def heal(self) -> None:
        """Let everything through; close what had been cut."""
        cut, self._cut = self._cut, frozenset()
        for passage in tuple(self._passages):
            if passage.kind in cut:
                passage.close()

    def is_cut(self, kind: str) -> bool:
        """Tell whether nothing of this kind passes now."""
        return kind in self._cut

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            try:
                there = await asyncio.open_connection("127.0.0.1", self.target)
            except OSError:
                writer.close()
                return
            passage = _Passage(self, (reader, writer), there)
            self._passages.add(passage)
            try:
                await passage.run()
            finally:
                self._passages.discard(passage)
        finally:
            self._tasks.discard(task)


class _Passage:
    """Hold one connection through the proxy; `kind` says who it is."""

    def __init__(self, proxy: Proxy, near: Any, far: Any) -> None:
        self.proxy = proxy
        self.kind = ""
        self._near_reader, self._near_writer = near
        self._far_reader, self._far_writer = far
        self._to_copy: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._from_copy: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    def close(self) -> None:
        for writer in (self._near_writer, self._far_writer):
            with suppress(Exception):
                writer.transport.abort()

    async def run(self) -> None:
        pumps = [
            asyncio.create_task(work)
            for work in (
                self._up(),
                self._down(),
                self._deliver(self._to_copy, self._near_writer),
                self._deliver(self._from_copy, self._far_writer),
            )
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.close()

    async def _up(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await self._near_reader.read(65536):
            if not self.kind:
                self.kind = "replica" if data.startswith(_REPLICA) else "sentinel" if b"sentinel-" in data else "client"
            if self.proxy.is_cut(self.kind):
                continue
            if self.kind == "replica":
                self._from_copy.put_nowait((loop.time() + self.proxy.answers, data))
                continue
            if self.kind == "client" and any(word in data for word in _READS):
                self.proxy.reads.append(time.monotonic())
            self._far_writer.write(data)
            await self._far_writer.drain()

    async def _down(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await self._far_reader.read(65536):
            if self.proxy.is_cut(self.kind):
                continue
            if self.kind == "replica":
                self._to_copy.put_nowait((loop.time() + self.proxy.lag, data))
            else:
                self._near_writer.write(data)
                await self._near_writer.drain()

    async def _deliver(self, late: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        """Pass on what waits, in order, when its time has come; what waits when the node dies is lost with it."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await late.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not self.proxy.is_cut(self.kind):
                writer.write(data)
                await writer.drain()
