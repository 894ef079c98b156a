"""What most session libraries do: GET, SET, DEL, and what their drivers do by themselves. The lab must see it fail."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit

import msgspec
import redis.asyncio as redis
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheError
from redis.asyncio.sentinel import Sentinel

from sessile.core.ports import Created, Ending, Gone
from sessile.core.record import (
    Change,
    Record,
    Tombstone,
    apply,
    decode_control,
    decode_data,
    encode_control,
    encode_data,
)
from sessile.errors import StoreUnavailable


class _Naive:
    """Keep a session under its id; an end is a removal that was acknowledged."""

    async def load(self, session_id: str) -> Record | None:
        raw = await self._do("get", session_id)
        if raw is None:
            return None
        control, data, seen_at, expires_at, revision, version = msgspec.msgpack.decode(raw)
        return Record(decode_control(control), decode_data(data), seen_at, expires_at, revision, version)

    async def create(self, session_id: str, record: Record, **_: Any) -> Created:
        await self._do("set", session_id, _encoded(record))
        return Created()

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Gone:
        saved = apply(base, change)
        await self._do("set", session_id, _encoded(saved))
        return saved

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        raise NotImplementedError

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        await self._do("delete", session_id)
        return Ending(((session_id, None),))

    async def close(self) -> None:
        raise NotImplementedError

    async def _do(self, verb: str, *words: Any) -> Any:
        raise NotImplementedError


class NaiveRedis(_Naive):
    """Follow Sentinels or a cluster as redis-py does."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        hosts = [(host, int(port)) for host, _, port in (one.partition(":") for one in parts.netloc.split(","))]
        if "sentinel" in parts.scheme:
            sentinel = Sentinel(hosts, socket_timeout=1)
            self._sentinels: list[Any] = list(sentinel.sentinels)
            self._client: Any = sentinel.master_for(parts.path.strip("/"), socket_timeout=1)
        else:
            nodes = [redis.cluster.ClusterNode(host, port) for host, port in hosts]
            self._sentinels = []
            self._client = redis.RedisCluster(startup_nodes=nodes, socket_timeout=1)

    async def close(self) -> None:
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _do(self, verb: str, *words: Any) -> Any:
        try:
            return await getattr(self._client, verb)(*words)
        except (redis.RedisError, OSError, AttributeError) as error:  # the last: a connection that redis-py lost
            raise StoreUnavailable("no answer") from error


class NaiveMemcached(_Naive):
    """Leave out a node that does not answer, as pymemcache does when it is told to; for the blocking door.

    Each thread has a client of its own: the list of nodes that are left out is not made for more.
    """

    def __init__(self, url: str) -> None:
        self._hosts = [
            (host, int(port)) for host, _, port in (one.partition(":") for one in urlsplit(url).netloc.split(","))
        ]
        self._local = threading.local()
        self._clients: list[HashClient] = []

    def _client(self) -> HashClient:
        if not hasattr(self._local, "client"):
            self._local.client = HashClient(
                self._hosts, timeout=0.3, connect_timeout=0.3, retry_attempts=1, retry_timeout=0.1, dead_timeout=1
            )
            self._clients.append(self._local.client)
        return self._local.client

    async def close(self) -> None:
        for client in self._clients:
            for node in client.clients.values():
                node.close()

    async def _do(self, verb: str, *words: Any) -> Any:
        more = {"noreply": False} if verb in ("set", "delete") else {}
        try:
            return getattr(self._client(), verb)(*words, **more)
        except (MemcacheError, OSError) as error:
            raise StoreUnavailable("no answer") from error


def _encoded(record: Record) -> bytes:
    halves = encode_control(record.control), encode_data(record.data)
    return msgspec.msgpack.encode((*halves, record.seen_at, record.expires_at, record.revision, record.version))
