"""Sessions in memcached: `memcached://host1,host2:port,host3`, for either door.

Every node has a share of the sessions, and no other node has a copy. What that means, said aloud

- A node that does not answer makes its share fail closed: `StoreUnavailable`. It is never left out (`nodes`). Its share
  are its sessions and, within the `lease`, the sessions of the users whose index it has: five of nine, on three nodes.
- A node that restarts, is flushed, or runs out of memory forgets: that same share is signed out. Nothing that was ended
  comes back by it: a session is alive because its record is there, and a write never makes a record anew.
- An end is final once the node has answered, and then confirmed: there is one copy. Nodes that remember across restarts
  (`memcached -e`), or proxies that write to stand-ins or copies, void that.
- `end_user` goes by the user's index, an item that memcached may evict. A session of a user is therefore checked
  against it once a `lease` (30 s), and one that is not listed is over. So an index that was lost signs its user out
  within the lease; `end_user` meanwhile answers unconfirmed, if it cannot rule out that this has just happened. So it
  does as long as a session's node does not answer. It is atomic in what it ends and what it meets: of a sign-in or a
  renewal that runs at the same time, either it is ended or it came after, and the next one finds it (`creation`).
- There is no list of all sessions, hence no census; and nothing to sweep, memcached drops what is past its time.
- The clocks of the application's machines may differ by less than the idle timeout.
- A user may have 2,000 sessions, an item one megabyte (`memcached -I`).

Round trips: a read is one, and two more once a lease for a session of a user; a save is one if nobody wrote since
the read, else two more each time; a touch is two.

Both doors use a client of our own (`protocol`, `blocking`, `asynchronous`). aiomcache 0.8 has no timeouts, gives the
reply of a cancelled request to the next one, and spins for ever when the server hangs up inside a reply. pymemcache 4
is sound, but its timeouts hold for each piece of a reply only; and one reader of replies for both doors is one to
trust.
"""

from __future__ import annotations

import os
import re
import ssl
import time
import weakref
from contextlib import suppress
from typing import Any, Final

import msgspec

from ...core.ports import AtLimit, Clash, Created, Diagnosis, Ending, Gone, Loaded, Replaces, Stale, Taken
from ...core.record import PLAIN, Change, Codec, EndReason, Record, Tombstone, apply, clashes
from ...errors import ConfigurationError, StoreFull, StoreUnavailable
from ..url import StoreUrl, seconds
from . import items
from .asynchronous import AsyncNode
from .blocking import BlockingNode
from .cells import Cells
from .creation import Creation
from .diagnosis import diagnose
from .ending import Endings
from .index import Users
from .items import Header, Mark, judge
from .nodes import Address, Login, parse_authority, place
from .protocol import Answer

LEASE: Final = 30.0
TIMEOUT: Final = 1.0
PREFIX: Final = "sessile:"
_KEPT: Final = 300.0  # seconds that the tombstone of a session stays which the index does not list


def open_url(url: StoreUrl, *, blocking: bool, codec: Codec = PLAIN) -> MemcachedStore:
    """Open `memcached://user:password@host1,host2:port`.

    Options: `timeout` (seconds for one exchange with a node, 1), `lease` (seconds, 30), `prefix` of all keys
    (`sessile:`), `tls=yes`, `ca` (a file of certificates to trust instead of the system's).

    Raises:
        ConfigurationError: the URL names no nodes, has a path, or an unknown option.
    """
    if url.path not in ("", "/"):
        raise ConfigurationError("memcached:// takes no path; give ?prefix= to share the nodes with others")
    addresses, login = parse_authority(url.authority)
    options = url.options({"timeout": seconds, "lease": seconds, "prefix": _prefix, "tls": _yes, "ca": _file})
    ca = options.pop("ca", None)
    tls = _context(ca) if options.pop("tls", False) or ca is not None else None
    return MemcachedStore(addresses, blocking=blocking, codec=codec, login=login, tls=tls, **options)


class MemcachedStore:
    """Keep sessions in the memcacheds at `addresses`, for the blocking door or for the asynchronous one."""

    def __init__(
        self,
        addresses: tuple[Address, ...],
        *,
        blocking: bool,
        codec: Codec = PLAIN,
        timeout: float = TIMEOUT,
        lease: float = LEASE,
        prefix: str = PREFIX,
        login: Login | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        kind = BlockingNode if blocking else AsyncNode
        self._nodes = [kind(address, timeout=timeout, secret=login, tls=tls) for address in addresses]
        self._addresses = addresses
        self._sealed = tls is not None
        self._codec = codec
        self._lease = lease
        self._cells = Cells(self._nodes, place(addresses), prefix=prefix, patience=timeout, blocking=blocking)
        self._users = Users(self._cells, lease=lease)
        self._creation = Creation(self._cells, self._users, codec)
        self._endings = Endings(self._cells, self._users, codec, lease=lease)
        _stores.add(self)

    async def load(self, session_id: str) -> Loaded:
        """Read the session and its node's epoch, in one round trip."""
        key = self._cells.session_key(session_id)
        cell = await self._cells.read(key)
        loaded = judge(session_id, cell.item, cell.epoch, self._codec)
        if not isinstance(loaded, Record) or loaded.control.user is None:
            return loaded
        mark: Mark = loaded.etag
        if abs(time.time() - mark.header.vouched_at) <= self._lease:
            return loaded
        header = await self._vouched(session_id, loaded, mark.header)
        if isinstance(header, Tombstone):
            await self._cells.cas(key, items.encode_end(header), items.lifetime_of(header), mark.token)
            return header
        assert cell.item is not None
        await self._cells.cas(key, items.with_header(cell.item.value, header), header.lifetime, mark.token)
        return msgspec.structs.replace(loaded, etag=None)

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session; the one it replaces ends at one stroke with it, although they lie on different nodes."""
        return await self._creation.create(session_id, record, replaces, limit)

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Merge the change by cas: over `base` if nobody wrote since it was read, else over what stands there now."""
        attempts = self._cells.attempts("too many others write to this session")
        hint = isinstance(base.etag, Mark) and base.etag.session_id == session_id
        stored: Loaded = base
        while True:
            if not hint:
                stored = await self._read(session_id)
                if not isinstance(stored, Record):
                    return Gone(stored if isinstance(stored, Tombstone) else None)
            assert isinstance(stored, Record)
            stale = change.control is not None and change.revision != stored.revision
            clashing = clashes(stored.data, change)
            if not stale and not clashing:
                saved = await self._over(session_id, stored, change)
                if saved is not None:
                    return saved
                await attempts.pause()
            elif not hint:
                return Stale(stored) if stale else Clash(clashing, stored)
            hint = False

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times forward in the header. If somebody else writes at the same moment, that moves them too."""
        key = self._cells.session_key(session_id)
        cell = await self._cells.read(key)
        loaded = judge(session_id, cell.item, cell.epoch, self._codec)
        if not isinstance(loaded, Record):
            return
        assert cell.item is not None
        touched = apply(loaded, Change(seen_at=seen_at, expires_at=expires_at))
        header = await self._header_for(session_id, touched, loaded)
        if isinstance(header, Header):
            await self._cells.cas(key, items.with_header(cell.item.value, header), header.lifetime, cell.item.token)

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """Put the tombstone in the record's place."""
        return await self._endings.end(session_id, tombstone)

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session if nobody wrote to it since."""
        return await self._endings.retire(session_id, tombstone, revision, version)

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions that the index lists, oldest first."""
        index = await self._users.read(user)
        ids = [entry.session_id for entry in index.entries] if index is not None else []
        cells = await self._cells.read_many([self._cells.session_key(session_id) for session_id in ids])
        found: list[tuple[str, Record]] = []
        for session_id in ids:
            cell = cells[self._cells.session_key(session_id)]
            loaded = judge(session_id, cell.item, cell.epoch, self._codec)
            if isinstance(loaded, Record) and loaded.control.user == user:
                found.append((session_id, loaded))
        return tuple(sorted(found, key=lambda entry: entry[1].control.created_at))

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`."""
        return await self._endings.end_user(user, tombstone, keep)

    async def end_everything(self, at: float) -> Ending:
        """Begin a new epoch on every node.

        Raises:
            StoreUnavailable: a node did not answer; on the others everything has ended. It may be asked again.
        """
        failed: StoreUnavailable | None = None
        for node in self._nodes:
            try:
                await self._cells.end_epoch(node, at)
            except StoreUnavailable as error:
                failed = error
        if failed is not None:
            raise failed
        return Ending(())

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Ask every node about itself."""
        return await diagnose(self._nodes, self._addresses, sealed=self._sealed)

    async def close(self) -> None:
        """Close the connections; later verbs raise `StoreUnavailable`."""
        for node in self._nodes:
            if isinstance(node, AsyncNode):
                await node.close()
            else:
                node.close()

    async def _read(self, session_id: str) -> Loaded:
        cell = await self._cells.read(self._cells.session_key(session_id))
        return judge(session_id, cell.item, cell.epoch, self._codec)

    async def _over(self, session_id: str, stored: Record, change: Change) -> Record | Gone | None:
        """Save over what was read; None: somebody else wrote meanwhile."""
        saved = msgspec.structs.replace(apply(stored, change), etag=None)
        mark: Mark = stored.etag
        header = await self._header_for(session_id, saved, stored)
        key = self._cells.session_key(session_id)
        if isinstance(header, Tombstone):
            await self._cells.cas(key, items.encode_end(header), items.lifetime_of(header), mark.token)
            return Gone(header)
        value = items.encode_record(session_id, saved, header, self._codec)
        answer, epoch = await self._cells.cas_and_epoch(key, value, header.lifetime, mark.token)
        if answer is Answer.EXISTS:
            return None
        if answer is Answer.NOT_FOUND:
            return Gone()
        await self._cells.refuse(answer, key, value, change.put or saved.data)
        if stored.control.user != saved.control.user:
            gone = await self._moved(session_id, stored.control.user, saved.control.user)
            if gone is not None:
                return gone
        if epoch is None or epoch.current != header.epoch:
            now = await self._read(session_id)
            return Gone(now if isinstance(now, Tombstone) else None)
        return saved

    async def _moved(self, session_id: str, before: str | None, user: str | None) -> Gone | None:
        """Settle the indexes after a session has changed its user; end it if somebody took its entry before it came."""
        if before is not None:
            with suppress(StoreUnavailable, StoreFull):
                await self._users.bar(before, session_id)  # not removed: it may be on its way back
        if user is None or await self._users.lists(user, session_id):
            return None
        tombstone = _unlisted(user, time.time())
        await self._endings.end(session_id, tombstone)
        return Gone(tombstone)

    async def _header_for(self, session_id: str, record: Record, before: Record) -> Header | Tombstone:
        """Return the header under which a record may be written: listed in its user's index for as long as it lives."""
        header: Header = before.etag.header
        header = header._replace(
            seen_at=record.seen_at,
            expires_at=record.expires_at,
            revision=record.revision,
            version=record.version,
        )
        user = record.control.user
        if user is None:
            return header._replace(vouched_at=0.0, vouched_until=0.0)
        span = record.expires_at - record.seen_at
        if user != before.control.user:
            # Whoever reads it first looks whether it is listed still: who writes it may die before he has looked.
            until = await self._users.enter(user, session_id, record.control.created_at, span)
            return header._replace(vouched_at=0.0, vouched_until=until)
        if time.time() + span <= header.vouched_until:
            return header
        return await self._vouched(session_id, record, header)

    async def _vouched(self, session_id: str, record: Record, header: Header) -> Header | Tombstone:
        """Look whether the user's index lists the session; if not, nobody could end it by its user, and it is over."""
        user, now = record.control.user, time.time()
        assert user is not None
        until = await self._users.vouch(user, session_id, record.expires_at - record.seen_at)
        if until is None:
            return _unlisted(user, now)
        return header._replace(vouched_at=now, vouched_until=until)

    def _after_fork_in_child(self) -> None:
        for node in self._nodes:
            if isinstance(node, AsyncNode):
                _abandoned.append(node.forget())
            else:
                node.forget()


def _unlisted(user: str, now: float) -> Tombstone:
    return Tombstone(EndReason.EVICTED, now, now + _KEPT, user)


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_.:-]{1,64}", value, re.ASCII):
        raise ValueError("must be 1 to 64 letters, digits or _ . : -")
    return value


def _yes(value: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError("must be yes or no")
    return value == "yes"


def _file(value: str) -> str:
    if not value:
        raise ValueError("must be the path of a file")
    return value


def _context(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ValueError):
        raise ConfigurationError("the option 'ca' of memcached:// names no file of certificates") from None


_stores: weakref.WeakSet[MemcachedStore] = weakref.WeakSet()
_abandoned: list[Any] = []


def _let_go() -> None:
    for store in tuple(_stores):
        store._after_fork_in_child()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
