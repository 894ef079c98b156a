"""What most session libraries do: GET, SET, DEL, through Sentinel or a cluster. The lab must find its sins."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
import redis.asyncio as redis
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


class NaiveStore:
    """Keep a session under its id; an end is a DEL that was acknowledged."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        hosts = [(host, int(port)) for host, _, port in (one.partition(":") for one in parts.netloc.split(","))]
        if "sentinel" in parts.scheme:
            sentinel = Sentinel(hosts, socket_timeout=1)
            self._client: Any = sentinel.master_for(parts.path.strip("/"), socket_timeout=1)
        else:
            nodes = [redis.cluster.ClusterNode(host, port) for host, port in hosts]
            self._client = redis.RedisCluster(startup_nodes=nodes, socket_timeout=1)

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
        await self._do("expire", session_id, 3600)

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        await self._do("delete", session_id)
        return Ending(((session_id, None),))

    async def close(self) -> None:
        await self._client.aclose()

    async def _do(self, verb: str, *words: Any) -> Any:
        try:
            return await getattr(self._client, verb)(*words)
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable("no answer") from error


def _encoded(record: Record) -> bytes:
    halves = encode_control(record.control), encode_data(record.data)
    return msgspec.msgpack.encode((*halves, record.seen_at, record.expires_at, record.revision, record.version))
