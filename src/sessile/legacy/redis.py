"""The rows of an old store on Redis: read one, delete one. Nothing else of the old library's keys is touched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import Any, Final, NoReturn, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..errors import ConfigurationError, ExtraMissing, StoreUnavailable
from ..stores.url import host
from .formats import MAX_BYTES
from .opened import Rows

# A URL, a redis.Redis for the blocking door, or a redis.asyncio.Redis for the other.
Address = Any

_WAIT: Final = 5.0  # seconds, for a connection and for an answer


def rows_of(address: Address, *, blocking: bool) -> Rows:
    """Return the rows at a URL or behind a client.

    Raises:
        ConfigurationError: the address is no URL of Redis, or a client for the other door.
        ExtraMissing: redis-py is not installed.
    """
    try:
        import redis
        import redis.asyncio as redis_asyncio
    except ImportError as error:
        raise ExtraMissing("a bridge to sessions in Redis", "redis") from error
    if isinstance(address, str):
        if not address.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError("the old store's address begins with redis://, rediss:// or unix://")
        return _BlockingRows.at(address) if blocking else _AsyncRows.at(address)
    if isinstance(address, (redis_asyncio.Redis, redis_asyncio.RedisCluster)):
        if blocking:
            raise ConfigurationError("Sessions blocks: give the bridge a redis.Redis, or a URL")
        return _AsyncRows(client=address)
    if isinstance(address, (redis.Redis, redis.RedisCluster)):
        if not blocking:
            raise ConfigurationError("AsyncSessions must not block: give the bridge a redis.asyncio.Redis, or a URL")
        return _BlockingRows(address)
    raise ConfigurationError("the old store is a URL, as in redis://host:6379/0, or a client of redis-py")


def _failed(error: Exception) -> NoReturn:
    # redis-py's messages quote commands and addresses.
    raise StoreUnavailable("the old store did not answer") from None


def _failed_unless_no_row(error: Exception) -> None:
    """Return where the key holds a list or the like: no session, and no outage that whoever names it could make.

    Raises:
        StoreUnavailable: it is any other error.
    """
    from redis.exceptions import ResponseError

    if not (isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")):
        _failed(error)


class _BlockingRows:
    def __init__(self, client: Any, *, ours: bool = False) -> None:
        self._client = client
        self._ours = ours

    @classmethod
    def at(cls, url: str) -> _BlockingRows:
        import redis

        return cls(
            _checked(redis.Redis, url, socket_timeout=_WAIT, socket_connect_timeout=_WAIT),
            ours=True,
        )

    async def get(self, key: str) -> bytes | None:
        try:
            return _bounded(self._client.getrange(key, 0, MAX_BYTES))
        except Exception as error:  # noqa: BLE001 - a client has many, and each means that there is no answer
            _failed_unless_no_row(error)
            return None

    async def delete(self, key: str) -> None:
        try:
            self._client.delete(key)
        except Exception as error:  # noqa: BLE001
            _failed(error)

    async def close(self) -> None:
        if self._ours:
            self._client.close()


class _AsyncRows:
    """Hold one client for each event loop of each process: a connection belongs to the loop that opened it."""

    def __init__(self, *, client: Any = None, url: str = "") -> None:
        self._client = client
        self._url = url
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, Any]] = WeakKeyDictionary()

    @classmethod
    def at(cls, url: str) -> _AsyncRows:
        import redis.asyncio as redis_asyncio

        _checked(redis_asyncio.Redis, url)
        return cls(url=url)

    def _of_loop(self) -> Any:
        if self._client is not None:
            return self._client
        loop = asyncio.get_running_loop()
        pid, client = self._clients.get(loop, (0, None))
        if client is None or pid != os.getpid():
            import redis.asyncio as redis_asyncio

            client = _checked(redis_asyncio.Redis, self._url, socket_timeout=_WAIT, socket_connect_timeout=_WAIT)
            self._clients[loop] = os.getpid(), client
        return client

    async def get(self, key: str) -> bytes | None:
        try:
            return _bounded(await cast("Awaitable[Any]", self._of_loop().getrange(key, 0, MAX_BYTES)))
        except Exception as error:  # noqa: BLE001
            _failed_unless_no_row(error)
            return None

    async def delete(self, key: str) -> None:
        try:
            await self._of_loop().delete(key)
        except Exception as error:  # noqa: BLE001
            _failed(error)

    async def close(self) -> None:
        _, client = self._clients.pop(asyncio.get_running_loop(), (0, None))
        if client is not None:
            await client.aclose()


def _checked(kind: Any, url: str, **options: Any) -> Any:
    try:
        name = urlsplit(url).hostname
        if name is not None:
            host(name, bracketed=":" in name)
        return kind.from_url(url, **options)
    except ValueError:
        raise ConfigurationError("the old store's address is no URL that redis-py knows") from None


def _bounded(row: Any) -> bytes | None:
    """Return the row's bytes; Redis answers b"" for a key that is not there. No library writes an empty row."""
    if isinstance(row, str):  # a client with decode_responses, which can read JSON alone
        row = row.encode("utf-8", "surrogateescape")
    return row or None
