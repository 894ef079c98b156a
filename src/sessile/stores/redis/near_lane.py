"""What is kept near, and who vouches for it. No waiting and no locks: the doors (`near_doors`) see to those.

An entry is trusted while all of this holds

- the connection through which it was read lives, and what had arrived on it by now was taken in;
- neither its key nor its bucket's epoch was reported as changed since, nor everything flushed;
- the server has answered something on that connection lately (`VOUCHED` seconds): a network that swallows what is sent
  does not close a connection;
- its own time, as the server counts it (PTTL), is not over, and it is not older than `KEPT` seconds.

Costs do not depend on how much is kept: an invalidation removes one entry, that of an epoch moves a counter.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

import hiredis

from ...core.ports import Loaded
from ...core.record import Codec, Record, Tombstone
from . import layout
from .address import Place
from .link import packed
from .near_channel import Broken, Channel

VOUCHED: Final = 2.0  # seconds
KEPT: Final = 60.0  # seconds
LARGEST: Final = 1 << 16  # bytes; larger sessions are read each time
_ASK_AGAIN: Final = 0.5  # seconds without an answer after which a hit asks for one, without waiting for it
_PING: Final = packed((b"PING",))


class Entry:
    """Hold what was read of one session, and what it hangs on."""

    __slots__ = ("counted", "epoch_key", "lane", "loaded", "until")

    def __init__(self, lane: Lane, loaded: Loaded, until: float, epoch_key: bytes, counted: int) -> None:
        self.lane = lane
        self.loaded = loaded
        self.until = until
        self.epoch_key = epoch_key
        self.counted = counted


class Shelf:
    """Keep up to `limit` entries; who was not asked for longest makes room. Any thread may call."""

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        """Return the entry, trusted or not."""
        return self._entries.get(key)

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry."""
        self._entries[key] = entry
        self.used(key)
        while len(self._entries) > self._limit:
            try:
                self._entries.popitem(last=False)
            except KeyError:
                break

    def used(self, key: bytes) -> None:
        """Take note that an entry was asked for."""
        try:  # noqa: SIM105  # each hit comes here
            self._entries.move_to_end(key)
        except KeyError:  # another thread has just removed it
            pass

    def drop(self, key: bytes, lane: Lane | None = None) -> None:
        """Forget an entry; with a lane, only if that one vouched for it."""
        entry = self._entries.get(key)
        if entry is not None and (lane is None or entry.lane is lane):
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


class Question:
    """Hold one read that is on its way."""

    __slots__ = (
        "answered",
        "counted",
        "epoch_key",
        "failed",
        "is_answered",
        "key",
        "loaded",
        "refused",
        "replies",
        "sent_at",
        "session_id",
        "spoiled",
    )

    def __init__(self, session_id: str, key: bytes, epoch_key: bytes, counted: int, sent_at: float) -> None:
        self.session_id = session_id
        self.key = key
        self.epoch_key = epoch_key
        self.counted = counted
        self.sent_at = sent_at
        self.replies: list[Any] = []
        self.spoiled = False
        self.is_answered = False
        self.answered: Callable[[Question], None] | None = None  # for who waits in an event loop
        self.failed: asyncio.Future[Question] | None = None
        self.loaded: Loaded = None
        self.refused = False


class Lane:
    """Keep a shelf in step with one server, through one channel."""

    def __init__(self, place: Place, channel: Channel, shelf: Shelf, codec: Codec) -> None:
        self.place: Final = place
        self.channel: Final = channel
        self.alive = True
        self._shelf: Final = shelf
        self._codec: Final = codec
        self._asked: deque[Question | None] = deque()  # None: a PING
        self._pinged = 0.0
        self._vouched_at = time.monotonic()
        self._changes: dict[bytes, int] = {}  # of epochs
        self._flushes = 0

    def question(self, session_id: str, key: bytes, epoch_key: bytes) -> tuple[Question, bytes]:
        """Begin a read, and return what must be sent for it."""
        self._changes.setdefault(epoch_key, 0)
        question = Question(session_id, key, epoch_key, self._counted(epoch_key), time.monotonic())
        self._asked.append(question)
        return question, packed((b"MGET", key, epoch_key)) + packed((b"PTTL", key))

    def take_in(self) -> None:
        """Take in all that has arrived.

        Raises:
            Broken: the connection is lost; nothing is trusted any more.
        """
        if self.channel.receive():
            for reply in self.channel.replies():
                if isinstance(reply, hiredis.PushNotification):
                    self._told(reply)
                else:
                    self._answered(reply)

    def vouches(self, key: bytes, entry: Entry) -> bool:
        """Tell whether an entry may be trusted now, everything that had arrived being taken in.

        Raises:
            Broken: the connection is lost.
        """
        now = time.monotonic()
        silent = now - self._vouched_at
        if silent > _ASK_AGAIN and now - self._pinged > _ASK_AGAIN and self.alive:
            self._pinged = now
            self._ask_again()
        return (
            silent < VOUCHED
            and self.alive
            and now < entry.until
            and self._counted(entry.epoch_key) == entry.counted
            and self._shelf.get(key) is entry
        )

    def spoil(self, key: bytes) -> None:
        """See to it that what is being read of a key is not kept."""
        for question in tuple(self._asked):
            if question is not None and key in (question.key, question.epoch_key):
                question.spoiled = True

    def spoil_all(self) -> None:
        """See to it that nothing of what is being read is kept."""
        for question in tuple(self._asked):
            if question is not None:
                question.spoiled = True

    def lose(self) -> list[Question]:
        """Trust nothing any more, and return who waits for an answer that will not come."""
        self.alive = False
        self._shelf.clear()
        self.channel.close()
        waiting = [question for question in self._asked if question is not None]
        self._asked.clear()
        return waiting

    def may_ping(self) -> bool:
        """Tell whether a PING can leave now, behind everything that was asked."""
        return not self._asked

    def _ask_again(self) -> None:
        if self.may_ping():
            if self.channel.send(_PING) < len(_PING):
                raise Broken
            self._asked.append(None)

    def _counted(self, epoch_key: bytes) -> int:
        return self._flushes + self._changes[epoch_key]

    def _told(self, told: list[Any]) -> None:
        if told[0] != b"invalidate":
            return
        if told[1] is None:  # FLUSHALL, or the server gave up tracking
            self._flushes += 1
            self.spoil_all()
            return
        for key in told[1]:
            if key in self._changes:
                self._changes[key] += 1
            else:
                self._shelf.drop(key, self)
            self.spoil(key)

    def _answered(self, reply: Any) -> None:
        if not self._asked:
            raise Broken
        question = self._asked[0]
        if question is None:
            self._asked.popleft()
            self._vouched_at = max(self._vouched_at, self._pinged)
            return
        question.replies.append(reply)
        if len(question.replies) < 2:
            return
        self._asked.popleft()
        self._vouched_at = max(self._vouched_at, question.sent_at)
        self._keep(question)
        question.is_answered = True
        if question.answered is not None:
            question.answered(question)

    def _keep(self, question: Question) -> None:
        if any(isinstance(reply, Exception) for reply in question.replies):
            question.refused = True
            return
        (raw, epoch), ttl = question.replies
        loaded = question.loaded = layout.decode(self._codec, question.session_id, raw, epoch)
        if question.spoiled or not isinstance(loaded, Record | Tombstone) or len(raw) > LARGEST:
            return
        left = KEPT if ttl < 0 else min(ttl / 1000, KEPT)
        entry = Entry(self, loaded, question.sent_at + left, question.epoch_key, question.counted)
        self._shelf.put(question.key, entry)
