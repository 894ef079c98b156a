"""The two doors of the near cache: threads that share lanes by locks, and event loops with a lane each.

Whoever cannot be served here at once is told so (None), and reads as if there were no near cache.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final, Protocol

from ...core.ports import Loaded
from ...core.record import Codec
from ...errors import StoreError, StoreUnavailable
from .address import Address, Place, Settings
from .near_channel import Broken, Channel, open_channel
from .near_lane import Lane, Question, Shelf

_LANES: Final = 4  # of the blocking door: who finds all of them in use reads elsewhere
_REST: Final = 0.5  # seconds after a lane could not be opened, in which nobody tries again
_LATE: Final = "Redis did not answer in time"


class Read:
    """Hold what a read brought."""

    __slots__ = ("loaded",)

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded


class Door(Protocol):
    """Read what is kept near, and keep what is read."""

    def hit(self, key: bytes, place: Place) -> Read | None:
        """Return what is kept, if it can be trusted. This never waits."""
        ...

    async def read(self, place: Place, session_id: str, key: bytes, epoch_key: bytes, deadline: float) -> Read | None:
        """Read from the server and keep it.

        Raises:
            StoreError: the server did not answer before the deadline, or with an error.
        """
        ...

    def drop(self, key: bytes) -> None:
        """Forget what is kept of a key, and keep nothing of what is being read of it: we have just changed it."""
        ...

    def clear(self) -> None:
        """Forget everything: we have just changed more than one key."""
        ...

    async def close(self) -> None:
        """Close the connections; what is read later is read elsewhere."""
        ...

    def forget(self) -> object:
        """Begin anew in a forked child and return what belongs to the parent."""
        ...


class _Opening:
    """Remember how it went when a lane was opened last."""

    __slots__ = ("_failed_at",)

    def __init__(self) -> None:
        self._failed_at = -_REST

    def may_try(self) -> bool:
        return time.monotonic() - self._failed_at > _REST

    def failed(self) -> None:
        self._failed_at = time.monotonic()


class _SharedLane(Lane):
    """Be a lane that threads take in turns. While one waits for a reply, `occupied` sends the others elsewhere."""

    def __init__(self, place: Place, channel: Channel, shelf: Shelf, codec: Codec) -> None:
        super().__init__(place, channel, shelf, codec)
        self.lock: Final = threading.Lock()
        self.occupied = False


class ThreadDoor:
    """Serve threads."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings: Final = settings
        self._codec: Final = codec
        self._closed = False
        self._begin()

    def hit(self, key: bytes, place: Place) -> Read | None:
        """Return what is kept, if it can be trusted."""
        shelf = self._shelf
        entry = shelf.get(key)
        if entry is None:
            return None
        lane = entry.lane
        assert isinstance(lane, _SharedLane)
        if lane.occupied or lane.place != place:
            return None
        with lane.lock:
            if not lane.alive:
                return None
            try:
                lane.take_in()
                trusted = lane.vouches(key, entry)
            except Broken:
                self._lose(lane)
                return None
        if not trusted:
            return None
        shelf.used(key)
        return Read(entry.loaded)

    async def read(self, place: Place, session_id: str, key: bytes, epoch_key: bytes, deadline: float) -> Read | None:
        """Read on a lane that nobody uses, or on a new one."""
        lane = self._take(place, deadline)
        if lane is None:
            return None
        try:
            lane.occupied = True
            lane.take_in()
            question, payload = lane.question(session_id, key, epoch_key)
            lane.channel.send_all(payload, deadline)
            while not question.is_answered:
                lane.channel.wait(deadline)
                lane.take_in()
        except TimeoutError:
            self._lose(lane)
            raise StoreUnavailable(_LATE) from None
        except Broken:
            self._lose(lane)
            return None
        except BaseException:  # an interrupt: the reply would be read by somebody else
            self._lose(lane)
            raise
        finally:
            lane.occupied = False
            lane.lock.release()
        return _result(question)

    def drop(self, key: bytes) -> None:
        """Forget a key."""
        for lane in tuple(self._lanes):
            lane.spoil(key)
        self._shelf.drop(key)

    def clear(self) -> None:
        """Forget everything."""
        for lane in tuple(self._lanes):
            lane.spoil_all()
        self._shelf.clear()

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        for lane in tuple(self._lanes):
            with lane.lock:
                self._lose(lane)

    def forget(self) -> object:
        """Begin anew in a forked child."""
        abandoned = self._lanes, self._shelf
        self._begin()
        return abandoned

    def _begin(self) -> None:
        self._shelf = Shelf(self._settings.entries)
        self._lanes: list[_SharedLane] = []
        self._opening = _Opening()
        self._gate = threading.Lock()

    def _take(self, place: Place, deadline: float) -> _SharedLane | None:
        """Return a lane, locked for us."""
        there = 0
        for lane in tuple(self._lanes):
            if lane.place.address != place.address:
                continue
            if not lane.occupied and lane.lock.acquire(blocking=False):
                if lane.alive and lane.place == place:
                    return lane
                self._lose(lane)  # it is of the time before the mark changed
                lane.lock.release()
            elif lane.place == place:
                there += 1
        if self._closed or there >= _LANES or not self._opening.may_try():
            return None
        if not self._gate.acquire(blocking=False):  # somebody is opening one
            return None
        try:
            channel = open_channel(self._settings, place.address, deadline)
            lane = _SharedLane(place, channel, self._shelf, self._codec)
            lane.lock.acquire()
            self._lanes.append(lane)
        except StoreError:
            self._opening.failed()
            if time.monotonic() >= deadline:
                raise
            return None
        finally:
            self._gate.release()
        return lane

    def _lose(self, lane: _SharedLane) -> None:
        lane.lose()
        with suppress(ValueError):
            self._lanes.remove(lane)


class _LoopLane(Lane):
    """Be the lane of one event loop: questions of one turn leave together, and the loop takes in what arrives."""

    def __init__(
        self, place: Place, channel: Channel, shelf: Shelf, codec: Codec, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(place, channel, shelf, codec)
        self._loop: Final = loop
        self._unsent = bytearray()
        self._waits_to_send = False
        loop.add_reader(channel.connection, self.arrived)

    def ask(self, session_id: str, key: bytes, epoch_key: bytes) -> asyncio.Future[Question]:
        answer: asyncio.Future[Question] = self._loop.create_future()
        question, payload = self.question(session_id, key, epoch_key)

        def answered(question: Question) -> None:
            if not answer.done():
                answer.set_result(question)

        question.answered = answered
        question.failed = answer
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent += payload
        return answer

    def arrived(self) -> None:
        try:
            self.take_in()
        except Broken:
            self.lost()

    def lost(self) -> None:
        """Trust nothing any more; who waits reads elsewhere."""
        if not self.alive:
            return
        self._loop.remove_reader(self.channel.connection)
        self._loop.remove_writer(self.channel.connection)
        for question in self.lose():
            if question.failed is not None and not question.failed.done():
                question.failed.set_exception(Broken())

    def may_ping(self) -> bool:
        return not self._unsent and super().may_ping()

    def _send(self) -> None:
        if not self.alive:
            return
        try:
            del self._unsent[: self.channel.send(bytes(self._unsent))]
        except Broken:
            self.lost()
            return
        if bool(self._unsent) != self._waits_to_send:
            self._waits_to_send = bool(self._unsent)
            if self._waits_to_send:
                self._loop.add_writer(self.channel.connection, self._send)
            else:
                self._loop.remove_writer(self.channel.connection)


class _Room:
    """Hold what one event loop keeps."""

    def __init__(self, limit: int) -> None:
        self.shelf: Final = Shelf(limit)
        self.lanes: dict[Address, _LoopLane] = {}
        self.opening: Final = _Opening()
        self.gate: Final = asyncio.Lock()
        self.guard: AsyncGenerator[None] | None = None


class LoopDoor:
    """Serve event loops: each keeps its own, in step through a connection of its own."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings: Final = settings
        self._codec: Final = codec
        self._closed = False
        self._rooms: dict[asyncio.AbstractEventLoop, _Room] = {}

    def hit(self, key: bytes, place: Place) -> Read | None:
        """Return what is kept, if it can be trusted."""
        room = self._rooms.get(asyncio.get_running_loop())
        entry = None if room is None else room.shelf.get(key)
        if room is None or entry is None:
            return None
        lane = entry.lane
        assert isinstance(lane, _LoopLane)
        if not lane.alive or lane.place != place:
            return None
        try:
            lane.take_in()
            trusted = lane.vouches(key, entry)
        except Broken:
            lane.lost()
            return None
        if not trusted:
            return None
        room.shelf.used(key)
        return Read(entry.loaded)

    async def read(self, place: Place, session_id: str, key: bytes, epoch_key: bytes, deadline: float) -> Read | None:
        """Read on this loop's lane."""
        lane = None
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                lane = await self._lane(place, deadline)
                if lane is None:
                    return None
                question = await lane.ask(session_id, key, epoch_key)
        except TimeoutError:
            if lane is not None:
                lane.lost()
            raise StoreUnavailable(_LATE) from None
        except Broken:
            return None
        return _result(question)

    def drop(self, key: bytes) -> None:
        """Forget a key, in the other loops as well."""
        for room in tuple(self._rooms.values()):
            for lane in tuple(room.lanes.values()):
                lane.spoil(key)
            room.shelf.drop(key)

    def clear(self) -> None:
        """Forget everything."""
        for room in tuple(self._rooms.values()):
            for lane in tuple(room.lanes.values()):
                lane.spoil_all()
            room.shelf.clear()

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        for loop, room in tuple(self._rooms.items()):
            if loop is asyncio.get_running_loop():
                await self._leave(room)
            else:
                for lane in tuple(room.lanes.values()):
                    with suppress(RuntimeError):  # the loop ended, and has closed it
                        loop.call_soon_threadsafe(lane.lost)
        self._rooms.clear()

    def forget(self) -> object:
        """Begin anew in a forked child; what the parent's loop watches is not touched."""
        abandoned, self._rooms = self._rooms, {}
        return abandoned

    async def _lane(self, place: Place, deadline: float) -> _LoopLane | None:
        loop = asyncio.get_running_loop()
        room = self._rooms.get(loop)
        if room is None:
            if self._closed:
                return None
            for ended in [other for other in tuple(self._rooms) if other.is_closed()]:
                self._rooms.pop(ended, None)
            room = self._rooms[loop] = _Room(self._settings.entries)
            room.guard = self._close_with_loop(loop, room)
            await anext(room.guard)
        lane = room.lanes.get(place.address)
        if lane is not None and lane.alive and lane.place == place:
            return lane
        if self._closed or not room.opening.may_try() or room.gate.locked():
            return None
        async with room.gate:
            if lane is not None:
                lane.lost()
            work = loop.run_in_executor(None, open_channel, self._settings, place.address, deadline)
            try:
                channel = await asyncio.shield(work)
            except StoreError:
                room.opening.failed()
                return None
            except BaseException:
                work.add_done_callback(_close_channel)
                raise
            lane = room.lanes[place.address] = _LoopLane(place, channel, room.shelf, self._codec, loop)
            return lane

    async def _close_with_loop(self, loop: asyncio.AbstractEventLoop, room: _Room) -> AsyncGenerator[None]:
        # A loop that ends closes the generators that were begun on it: the one hook there is.
        try:
            yield
        finally:
            self._rooms.pop(loop, None)
            for lane in tuple(room.lanes.values()):
                lane.lost()

    async def _leave(self, room: _Room) -> None:
        guard, room.guard = room.guard, None
        if guard is not None:
            await guard.aclose()


def _close_channel(work: asyncio.Future[Channel]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().close()


def _result(question: Question) -> Read | None:
    """Return what was read. Where the server replied an error, the store asks again and knows what it means."""
    return None if question.refused else Read(question.loaded)
