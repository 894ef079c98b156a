"""Ends of sessions that live in cookies, remembered in Redis or Valkey: for many machines.

    sessile:{en}:n          the number of everything; no lifetime. If it is lost, no session lives any more.
    sessile:{en}:e:<id>     the tombstone of a session that ended by itself
    sessile:{en}:u:<hash>   how a user's sessions ended together, its number in front as a big-endian double

All keys carry one hash tag, so one server of a cluster holds them. A look is one MGET. Ends are carried out as those of
stored sessions are: certain when every replica has them (`ending`), and carried out again where they were lost
(`keeper`), for which each of them can be done twice: none takes back what came later.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import weakref
from typing import Any, Final

import msgspec

from ...core.marks import UserMark, first_number, next_mark, next_number, verdict
from ...core.ports import Claim, Diagnosis, Ending, Gone, Marks
from ...core.record import Tombstone, Undecodable, decode_tombstone, encode_tombstone
from ...errors import ConfigurationError, StoreError, StoreSchema, StoreUnavailable
from ..url import StoreUrl
from . import open_wire
from .address import Settings
from .ending import surely
from .keeper import Keeper
from .layout import Names
from .link import Command
from .wire import Wire

_ROUNDS: Final = 50
_LEAST_LIFE: Final = 1_000  # milliseconds
_DIGITS: Final = 20
_DOUBLE: Final = struct.Struct(">d")

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
# KEYS user's mark   ARGV what it must be now ('' for none), what it becomes, ttl
_END_USER: Final = b"""
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
# An end that was lost is carried out again. Others may have ended the same since, on a server that had not heard of it:
# then neither what was issued under the lost end may live, nor what that one kept.
# KEYS user's mark   ARGV what it was, what it becomes again, ttl, what it becomes where it is another one by now
_USER_AGAIN: Final = b"""
local found, mark = redis.call('GET', KEYS[1]), ARGV[2]
if found and struct.unpack('>d', found) >= struct.unpack('>d', mark) then return 0 end
if found and found ~= ARGV[1] then mark = ARGV[4] end
redis.call('SET', KEYS[1], mark, 'PX', ARGV[3])
return 1
"""
# KEYS number   ARGV the least that it must be, what it becomes otherwise
_RAISE: Final = b"""
local found = redis.call('GET', KEYS[1])
if found and tonumber(found) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
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
        self._names = Names(settings.prefix)
        self._prefix = f"{settings.prefix}{{en}}:".encode()
        self._number = self._prefix + b"n"
        self._keeper = Keeper(wire, self._names, blocking=blocking, patience=settings.timeout)
        _opened.add(self)

    @property
    def blocking(self) -> bool:
        """Tell which door this was opened for."""
        return self._blocking

    async def check(self, claim: Claim) -> Tombstone | None:
        """Return why the session has ended, None if it lives: one MGET."""
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
        everything, present = _number(number), _user_mark(mine)
        if replaces is not None and tombstone is not None:
            dead = verdict(replaces, everything, _tombstone(ended), _user_mark(before))
            if dead is not None and required:
                return Gone(dead)
            # Nobody waits for the replicas here: the keeper does.
            key = self._mark(replaces.session_id)
            marked = (b"SET", key, encode_tombstone(tombstone), b"NX", b"PX", _life(tombstone))
            self._keeper.keep([(key, marked)], [""], certain=False)
        return Marks(everything or 0, 0 if present is None else present.number)

    async def end(self, session_id: str, tombstone: Tombstone, claim: Claim | None = None) -> Ending:
        """End a session by its id."""
        keys = (self._number, self._mark(session_id), self._user(None if claim is None else claim.user))
        command = (b"EVAL", _END, len(keys), *keys, encode_tombstone(tombstone), _life(tombstone))
        (number, ended, user), confirmed = await self._surely(keys[1], command)
        dead = ended is not None
        if claim is not None and not dead:
            dead = verdict(claim, _number(number), None, _user_mark(user)) is not None
        return Ending(() if dead else ((session_id, tombstone.user),), confirmed)

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`."""
        key = self._user(user)
        for _ in range(_ROUNDS):
            present = await self._ask((b"GET", key))
            mark = next_mark(_user_mark(present), tombstone, keep)
            command = b"EVAL", _END_USER, 1, key, present or b"", _written(mark), _life(tombstone)
            harder = _written(UserMark(next_number(mark.number), tombstone))
            again = b"EVAL", _USER_AGAIN, 1, key, present or b"", _written(mark), _life(tombstone), harder
            done, confirmed = await self._surely(key, command, again)
            if done:
                return Ending((), confirmed)
        raise StoreUnavailable("too many others ended the same user's sessions at once")

    async def end_everything(self, at: float) -> Ending:
        """End every session that was issued so far."""
        for _ in range(_ROUNDS):
            present = _number(await self._ask((b"GET", self._number)))
            number = first_number() if present is None else next_number(present)
            command = b"EVAL", _RAISE, 1, self._number, number, number
            again = b"EVAL", _RAISE, 1, self._number, number, next_number(number)
            done, confirmed = await self._surely(self._number, command, again)
            if done:
                return Ending((), confirmed)
        raise StoreUnavailable("too many others ended everything at once")

    async def sweep(self, now: float, limit: int) -> int:
        """Do nothing: Redis forgets marks by itself."""
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
        """Try once more what is not certain, and close the connections; later verbs raise `StoreUnavailable`."""
        await self._keeper.close()
        await self._wire.close()

    def forget(self) -> object:
        """Begin anew in a forked child and return what belongs to the parent."""
        return self._keeper.forget(), self._wire.forget()

    def _mark(self, session_id: str) -> bytes:
        return self._prefix + b"e:" + session_id.encode("utf-8", "surrogatepass")[:128]

    def _user(self, user: str | None) -> bytes:
        if user is None:
            return self._prefix + b"u:"  # never written
        return self._prefix + b"u:" + hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest().encode()

    async def _ask(self, command: Command) -> Any:
        if self._keeper.idle:
            self._keeper.follow()
        return await self._wire.ask(self._number, command, time.monotonic() + self._timeout)

    async def _surely(self, key: bytes, command: Command, again: Command | None = None) -> tuple[Any, bool]:
        """Carry out an end; return its reply and whether it is certain. What failed is tried again all the same.

        `again` is how it is carried out where it was lost, if not by the same command.
        """
        ends = [(key, again or command)]
        deadline = time.monotonic() + self._timeout
        try:
            node = await self._wire.home(self._number, deadline)
            outcome = await surely(node, self._names.pulse(key), (command,), deadline)
        except BaseException as error:
            self._keeper.keep(ends, [""], certain=False)
            if isinstance(error, StoreError):
                self._wire.doubt()
            raise
        if outcome.replies[0] != 0:  # 0: another one came first, and this one was not made
            self._keeper.keep(ends, [outcome.identity], certain=outcome.certain)
        return outcome.replies[0], outcome.certain


def _written(mark: UserMark) -> bytes:
    return _DOUBLE.pack(mark.number) + msgspec.msgpack.encode(mark)


def _life(tombstone: Tombstone) -> int:
    return max(_LEAST_LIFE, int((tombstone.expires_at - tombstone.at) * 1000))


def _number(raw: bytes | None) -> int | None:
    if raw is not None and len(raw) > _DIGITS:
        raise _unreadable()
    return int(raw) if raw is not None and raw.isdigit() else None


def _tombstone(raw: bytes | None) -> Tombstone | None:
    try:
        return None if raw is None else decode_tombstone(raw)
    except Undecodable:
        raise _unreadable() from None


def _user_mark(raw: bytes | None) -> UserMark | None:
    try:
        return None if raw is None else _marks.decode(raw[_DOUBLE.size :])
    except (msgspec.DecodeError, ValueError, RecursionError):
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
