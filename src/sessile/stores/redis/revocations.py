"""Ends of sessions that live in cookies, remembered in Redis or Valkey: for many machines.

    sessile:{ends}:n          the number of everything; no lifetime. If it is lost, no session lives any more.
    sessile:{ends}:e:<id>     the tombstone of a session that ended by itself
    sessile:{ends}:u:<hash>   how a user's sessions ended together

All keys carry one hash tag, so one server of a cluster holds them. A look is one MGET. An end waits until every replica
that the primary sees has it; one that they have not confirmed is sent again until they have.
"""

from __future__ import annotations

import hashlib
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from ...core.marks import UserMark, first_number, next_mark, verdict
from ...core.ports import Claim, Diagnosis, Ending, Gone, Marks
from ...core.record import Tombstone, Undecodable, decode_tombstone, encode_tombstone
from ...errors import ConfigurationError, StoreError, StoreSchema, StoreUnavailable
from ..url import StoreUrl
from . import open_wire
from .address import Settings
from .link import Command
from .wire import Wire

_ROUNDS: Final = 50
_AGAIN: Final = 1.0  # seconds between attempts to have an end confirmed
_JOURNAL: Final = 10_000
_LEAST_LIFE: Final = 1_000  # milliseconds

# KEYS number, user's mark of the new session [, mark, user's mark of the replaced one]
# ARGV first number [, mark, ttl]
_BEGIN: Final = b"""
local n = redis.call('GET', KEYS[1])
if not n then n = ARGV[1]; redis.call('SET', KEYS[1], n) end
local user, ended, before = redis.call('GET', KEYS[2]), false, false
if KEYS[3] then
  ended, before = redis.call('GET', KEYS[3]), redis.call('GET', KEYS[4])
  if not ended then redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) end
end
return {n, user, ended, before}
"""
# KEYS number, mark, user's mark   ARGV mark, ttl
_END: Final = b"""
local found = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
if not found[2] then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
return found
"""
# KEYS number   ARGV first number
_END_EVERYTHING: Final = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.call('INCR', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1])
return tonumber(ARGV[1])
"""
# KEYS number   ARGV the least that it must be
_RAISE: Final = b"""
if tonumber(redis.call('GET', KEYS[1]) or '0') <= tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1
"""
# KEYS user's mark   ARGV what it must be now ('' for none), what it becomes, ttl
_END_USER: Final = b"""
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

_marks: Final = msgspec.msgpack.Decoder(UserMark)


def open_revocations_url(url: StoreUrl, *, blocking: bool) -> RedisRevocations:
    """Open a Redis or Valkey by the URL that a store has, too.

    Raises:
        ConfigurationError: the URL is malformed, or has an unknown option.
    """
    settings = Settings.of(url)
    if settings.cache:
        raise ConfigurationError("revocations are never cached: leave cache=… away")
    return RedisRevocations(settings, open_wire(settings, blocking=blocking), blocking=blocking)


class RedisRevocations:
    """Remember ends in Redis, through a wire for the blocking door or for the asynchronous one."""

    def __init__(self, settings: Settings, wire: Wire, *, blocking: bool) -> None:
        self._wire = wire
        self._blocking = blocking
        self._timeout = settings.timeout
        self._replicas = settings.replicas
        self._prefix = f"{settings.prefix}{{ends}}:".encode()
        self._number = self._prefix + b"n"
        self._journal: deque[Callable[[], Any]] = deque(maxlen=_JOURNAL)
        self._again = 0.0
        _opened.add(self)

    @property
    def blocking(self) -> bool:
        """Tell which door this was opened for."""
        return self._blocking

    async def check(self, claim: Claim) -> Tombstone | None:
        """Return why the session has ended, None if it lives: one MGET."""
        if self._journal and time.monotonic() > self._again:
            await self._repeat()
        keys = (self._number, self._mark(claim.session_id), self._user(claim.user))
        number, ended, user = await self._ask((b"MGET", *keys))
        return verdict(claim, _number(number), _tombstone(ended), _user_mark(user))

    async def begin(
        self,
        user: str | None,
        replaces: Claim | None = None,
        tombstone: Tombstone | None = None,
        *,
        required: bool = False,
    ) -> Marks | Gone:
        """Return the numbers to issue a session under, and end the one that it replaces, by one script."""
        keys: tuple[bytes, ...] = (self._number, self._user(user))
        arguments: tuple[bytes | int, ...] = (first_number(),)
        if replaces is not None and tombstone is not None:
            keys += (self._mark(replaces.session_id), self._user(replaces.user))
            arguments += (encode_tombstone(tombstone), _life(tombstone))
        number, mine, ended, before = await self._ask((b"EVAL", _BEGIN, len(keys), *keys, *arguments))
        everything, mark = _number(number), _user_mark(mine)
        if replaces is not None and required:
            dead = verdict(replaces, everything, _tombstone(ended), _user_mark(before))
            if dead is not None:
                return Gone(dead)
        return Marks(everything or 0, 0 if mark is None else mark.number)

    async def end(self, session_id: str, tombstone: Tombstone, claim: Claim | None = None) -> Ending:
        """End a session by its id."""
        keys = (self._number, self._mark(session_id), self._user(None if claim is None else claim.user))
        command = (b"EVAL", _END, len(keys), *keys, encode_tombstone(tombstone), _life(tombstone))
        (number, ended, user), confirmed = await self._ask_all(command)
        if not confirmed:
            self._note(partial(self.end, session_id, tombstone, claim))
        dead = ended is not None
        if claim is not None and not dead:
            dead = verdict(claim, _number(number), None, _user_mark(user)) is not None
        return Ending(() if dead else ((session_id, tombstone.user),), confirmed)

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`."""
        key = self._user(user)
        for _ in range(_ROUNDS):
            found = await self._ask((b"GET", key))
            mark = msgspec.msgpack.encode(next_mark(_user_mark(found), tombstone, keep))
            command = (b"EVAL", _END_USER, 1, key, found or b"", mark, _life(tombstone))
            done, confirmed = await self._ask_all(command)
            if done:
                if not confirmed:
                    self._note(partial(self._restore, key, mark, _life(tombstone)))
                return Ending((), confirmed)
        raise StoreUnavailable("too many others ended the same user's sessions at once")

    async def end_everything(self, at: float) -> Ending:
        """End every session that was issued so far."""
        number, confirmed = await self._ask_all((b"EVAL", _END_EVERYTHING, 1, self._number, first_number()))
        if not confirmed:
            self._note(partial(self._raise, number))
        return Ending((), confirmed)

    async def sweep(self, now: float, limit: int) -> int:
        """Do nothing but what is left of unconfirmed ends: Redis forgets marks by itself."""
        if self._journal:
            await self._repeat()
        return 0

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Ask the server whether it keeps what it is told."""
        try:
            _, policy = await self._ask((b"CONFIG", b"GET", b"maxmemory-policy"))
        except (StoreError, ValueError):
            return ()
        if policy == b"noeviction":
            return (Diagnosis("ok", "revocations-eviction", "R61", "the Redis that remembers ends evicts nothing"),)
        return (
            Diagnosis(
                "fail",
                "revocations-eviction",
                "R61",
                f"the Redis that remembers ends may evict keys ({policy.decode('ascii', 'replace')[:32]})",
                "An ended session whose mark is evicted lives again until its deadline.",
                "Set maxmemory-policy noeviction, or give the ends a Redis of their own.",
            ),
        )

    async def close(self) -> None:
        """Close the connections; later verbs raise `StoreUnavailable`."""
        await self._wire.close()

    def forget(self) -> object:
        """Begin anew in a forked child."""
        self._journal.clear()
        return self._wire.forget()

    def _mark(self, session_id: str) -> bytes:
        return self._prefix + b"e:" + session_id.encode("utf-8", "surrogatepass")[:128]

    def _user(self, user: str | None) -> bytes:
        if user is None:
            return self._prefix + b"u:"  # never written
        return self._prefix + b"u:" + hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest().encode()

    async def _ask(self, command: Command) -> Any:
        return await self._wire.ask(self._number, command, time.monotonic() + self._timeout)

    async def _ask_all(self, command: Command) -> tuple[Any, bool]:
        """Send a write, and wait for the replicas that the primary sees; return its reply and whether all have it."""
        deadline = time.monotonic() + self._timeout
        role = await self._wire.ask(self._number, (b"ROLE",), deadline)
        replicas = max(self._replicas, len(role[2]) if role[0] == b"master" else 0)
        if not replicas:
            return await self._wire.ask(self._number, command, deadline), True
        patience = max(1, int((deadline - time.monotonic()) * 500))
        both = [(self._number, command), (self._number, (b"WAIT", replicas, patience))]
        reply, have = await self._wire.many(both, deadline)
        return reply, have >= replicas

    async def _restore(self, key: bytes, mark: bytes, ttl: int) -> Ending:
        """Write a user's mark again unless there is a later one."""
        found = await self._ask((b"GET", key))
        before, mine = _user_mark(found), _user_mark(mark)
        if mine is None or (before is not None and before.number > mine.number):
            return Ending(())
        _, confirmed = await self._ask_all((b"EVAL", _END_USER, 1, key, found or b"", mark, ttl))
        if not confirmed:
            self._note(partial(self._restore, key, mark, ttl))
        return Ending((), confirmed)

    async def _raise(self, number: int) -> None:
        _, confirmed = await self._ask_all((b"EVAL", _RAISE, 1, self._number, number))
        if not confirmed:
            self._note(partial(self._raise, number))

    def _note(self, attempt: Callable[[], Any]) -> None:
        self._journal.append(attempt)
        self._again = time.monotonic() + _AGAIN

    async def _repeat(self) -> None:
        """Send again what was not confirmed; what still is not comes back into the journal."""
        self._again = time.monotonic() + _AGAIN
        for _ in range(len(self._journal)):
            try:
                attempt = self._journal.popleft()
            except IndexError:
                return
            try:
                await attempt()
            except StoreError:
                self._note(attempt)
                return


def _life(tombstone: Tombstone) -> int:
    return max(_LEAST_LIFE, int((tombstone.expires_at - tombstone.at) * 1000))


def _number(raw: bytes | None) -> int | None:
    return int(raw) if raw is not None and raw.isdigit() else None


def _tombstone(raw: bytes | None) -> Tombstone | None:
    try:
        return None if raw is None else decode_tombstone(raw)
    except Undecodable:
        raise _unreadable() from None


def _user_mark(raw: bytes | None) -> UserMark | None:
    try:
        return None if raw is None else _marks.decode(raw)
    except msgspec.DecodeError:
        raise _unreadable() from None


def _unreadable() -> StoreSchema:
    # It may be the end that is asked for: nobody passes (R45).
    return StoreSchema("a mark of an ended session cannot be read")


_opened: weakref.WeakSet[RedisRevocations] = weakref.WeakSet()
_abandoned: list[object] = []


def _after_fork() -> None:
    for one in tuple(_opened):
        _abandoned.append(one.forget())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
