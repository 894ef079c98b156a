"""Single keys of the nodes, read and written conditionally: what everything above is made of."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

import msgspec

from ...errors import SessionTooLarge, StoreFull, StoreUnavailable
from . import protocol
from .items import Epoch, decode_epoch, encode_epoch, new_epoch
from .nodes import Node, slot_of
from .protocol import Answer, Found, Item

_PLAIN_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,100}", re.ASCII)
_AT_ONCE: Final = 100  # keys; a longer question could not be sent before its answers are read
_MILLISECOND: Final = 0.001
_DEFAULT_LIMIT: Final = 1 << 20  # bytes, of an item with its key


class Cell(NamedTuple):
    """Hold what stands under a session's key, and the epoch of its node; both from one round trip."""

    item: Item | None
    epoch: Epoch | None


class Cells:
    """Reach the keys of all nodes. `placed` says for each slot which node has it."""

    def __init__(
        self, nodes: Sequence[Node], placed: Sequence[int], *, prefix: str, patience: float, blocking: bool
    ) -> None:
        self.nodes = nodes
        self._placed = placed
        self._prefix = prefix.encode("ascii")
        self._epoch_key = self._prefix + b"epoch"
        self._patience = patience
        self._blocking = blocking

    def session_key(self, session_id: str) -> bytes:
        """Return the key of a session; an id that could not stand in a command is hashed."""
        if _PLAIN_ID.fullmatch(session_id):
            return self._prefix + b"s:" + session_id.encode("ascii")
        return self._prefix + b"x:" + _hashed(session_id)

    def user_key(self, user: str) -> bytes:
        """Return the key of a user's index. Names are hashed: they may be long, and hold anything."""
        return self._prefix + b"u:" + _hashed(user)

    def node(self, key: bytes) -> Node:
        """Return the node that has a key, whether or not it answers."""
        return self.nodes[self._placed[slot_of(key)]]

    async def read(self, key: bytes) -> Cell:
        """Read a session's key and its node's epoch."""
        (found,) = await self.node(key).exchange(protocol.gets(key, self._epoch_key))
        return self._cell(cast("Found", found), key)

    async def read_many(self, keys: Sequence[bytes]) -> dict[bytes, Cell]:
        """Read sessions' keys: of each node all at once, up to a hundred."""
        shares: dict[int, list[bytes]] = {}
        for key in keys:
            shares.setdefault(self._placed[slot_of(key)], []).append(key)
        cells: dict[bytes, Cell] = {}
        for place, share in shares.items():
            for start in range(0, len(share), _AT_ONCE):
                some = share[start : start + _AT_ONCE]
                (reply,) = await self.nodes[place].exchange(protocol.gets(*some, self._epoch_key))
                cells |= {key: self._cell(cast("Found", reply), key) for key in some}
        return cells

    async def read_one(self, key: bytes) -> Item | None:
        """Read a key that is no session's."""
        (found,) = await self.node(key).exchange(protocol.gets(key))
        return cast("Found", found).get(key)

    async def add(self, key: bytes, value: bytes, lifetime: int) -> Answer:
        """Store a value if the key is absent."""
        (answer,) = await self.node(key).exchange(protocol.add(key, value, lifetime))
        return cast("Answer", answer)

    async def add_and_read(self, key: bytes, value: bytes, lifetime: int) -> tuple[Answer, Item | None]:
        """Store a value if the key is absent, and read what stands there: its token, in the same round trip."""
        answer, found = await self.node(key).exchange(protocol.add(key, value, lifetime), protocol.gets(key))
        return cast("Answer", answer), cast("Found", found).get(key)

    async def cas(self, key: bytes, value: bytes, lifetime: int, token: int) -> Answer:
        """Store a value if nobody wrote since the token was read."""
        (answer,) = await self.node(key).exchange(protocol.cas(key, value, lifetime, token))
        return cast("Answer", answer)

    async def cas_and_epoch(self, key: bytes, value: bytes, lifetime: int, token: int) -> tuple[Answer, Epoch | None]:
        """Do the same and read the node's epoch afterwards, in one round trip."""
        ask = protocol.cas(key, value, lifetime, token), protocol.gets(self._epoch_key)
        answer, found = await self.node(key).exchange(*ask)
        return cast("Answer", answer), self._cell(cast("Found", found), key).epoch

    async def delete(self, key: bytes) -> Answer:
        """Remove a key, which needs no memory."""
        (answer,) = await self.node(key).exchange(protocol.delete(key))
        return cast("Answer", answer)

    async def begin_epoch(self, key: bytes) -> Epoch:
        """Give the node of `key` an epoch if it has none, and return the one it has.

        Raises:
            StoreFull: it has no room for one.
        """
        node, attempts = self.node(key), self.attempts("a memcached node loses its epoch as often as it is given one")
        while True:
            (found,) = await node.exchange(protocol.gets(self._epoch_key))
            item = cast("Found", found).get(self._epoch_key)
            if item is not None and (epoch := decode_epoch(item.value)) is not None:
                return epoch
            fresh = encode_epoch(new_epoch())
            if item is None:
                write = protocol.add(self._epoch_key, fresh, 0)
            else:  # nobody can read it, so that no session of this node is alive
                write = protocol.cas(self._epoch_key, fresh, 0, item.token)
            (answer,) = await node.exchange(write)
            refuse_without_room(cast("Answer", answer))
            await attempts.pause()

    async def end_epoch(self, node: Node, at: float) -> None:
        """End the epoch of a node: no session that it holds now is alive from here on. One without has none."""
        attempts = self.attempts("a memcached node's epoch is changed too often")
        while True:
            (found,) = await node.exchange(protocol.gets(self._epoch_key))
            item = cast("Found", found).get(self._epoch_key)
            epoch = None if item is None else decode_epoch(item.value)
            if item is None or epoch is None:
                return
            (answer,) = await node.exchange(protocol.cas(self._epoch_key, encode_epoch(epoch.after(at)), 0, item.token))
            if answer is Answer.NO_MEMORY:
                (answer,) = await node.exchange(protocol.delete(self._epoch_key))  # ends them as surely
            if answer is not Answer.EXISTS:
                return
            await attempts.pause()

    async def item_limit(self, key: bytes) -> int:
        """Return how many bytes an item may have on the node of `key`."""
        (settings,) = await self.node(key).exchange(protocol.stats(b"settings"))
        limit = cast("dict[str, str]", settings).get("item_size_max", "")
        return int(limit) if limit.isascii() and limit.isdigit() else _DEFAULT_LIMIT

    async def figures(self, key: bytes) -> dict[str, str]:
        """Return what the node of `key` counts."""
        (figures,) = await self.node(key).exchange(protocol.stats())
        return cast("dict[str, str]", figures)

    async def refuse(
        self, answer: Answer, key: bytes, value: bytes, changed: Mapping[str, msgspec.Raw | bytes]
    ) -> None:
        """Raise if a session was not stored for want of room.

        Raises:
            SessionTooLarge: it is larger than the node's items may be.
            StoreFull: the node has no memory and evicts nothing.
        """
        if answer is Answer.TOO_LARGE:
            largest = max(changed, key=lambda name: len(bytes(changed[name])), default="")
            raise SessionTooLarge(largest, len(value), await self.item_limit(key))
        refuse_without_room(answer)

    def attempts(self, why: str) -> Attempts:
        """Return a bound for a loop of cas."""
        return Attempts(self._patience, why, blocking=self._blocking)

    def _cell(self, found: Found, key: bytes) -> Cell:
        epoch = found.get(self._epoch_key)
        return Cell(found.get(key), decode_epoch(None if epoch is None else epoch.value))


class Attempts:
    """Bound a loop that writes until nobody came between: some attempts, then as many as `patience` seconds allow.

    Somebody succeeds in every round, so that contenders wait a little, at random, and longer each time.
    """

    _SURE: Final = 8

    def __init__(self, patience: float, why: str, *, blocking: bool) -> None:
        self._deadline = time.monotonic() + patience
        self._blocking = blocking
        self._why = why
        self._made = 0

    async def pause(self) -> None:
        """Wait before the next attempt.

        Raises:
            StoreUnavailable: there were enough of them.
        """
        self._made += 1
        if self._made >= self._SURE and time.monotonic() > self._deadline:
            raise StoreUnavailable(self._why)
        wait = random.uniform(0, min(self._made, 10)) * _MILLISECOND  # noqa: S311  # no secret: who goes first
        if self._blocking:
            time.sleep(wait)  # noqa: ASYNC251  # this door has no event loop
        else:
            await asyncio.sleep(wait)


def refuse_without_room(answer: Answer) -> None:
    """Raise if a node had no memory, or an item of ours outgrew what it takes.

    Raises:
        StoreFull: so it is.
    """
    if answer in (Answer.NO_MEMORY, Answer.TOO_LARGE):
        raise StoreFull("a memcached node has no memory left and evicts nothing")


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40].encode("ascii")
