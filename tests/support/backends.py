"""Every store, opened empty for one test, with a way to damage what it holds behind its back.

    with backend("redis", directory, blocking=True) as opened:
        opened.store
        opened.damage("control")

Servers are shared by the tests of one process; each test has names of its own on them.
"""

from __future__ import annotations

import secrets
import socket
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from sessile.core.keys import KeyRing, generate
from sessile.core.ports import Store
from sessile.core.record import PLAIN, Record, Unreadable
from sessile.core.sealing import SealedCodec
from sessile.stores import open_store
from tests.support.servers import shared

EMBEDDED: Final = ("memory", "sqlite")
NETWORKED: Final = ("redis", "valkey", "sentinel", "cluster", "postgresql", "mariadb", "memcached")
_MEMCACHED_HEAD: Final = 53
SPOILED: Final = b"\xc1"  # the one byte that no MessagePack begins with


class Backend(NamedTuple):
    """Hold a store that is empty; `damage(half)` spoils that half of every record in it; `url` opens another of it."""

    store: Any
    damage: Callable[[str], None]
    url: str


@contextmanager
def backend(name: str, directory: Path, *, blocking: bool, options: str = "") -> Generator[Backend]:
    """Open the store of that name; `sealed` is SQLite with encryption at rest. Closing it is the test's business."""
    codec = PLAIN
    if name == "sealed":
        codec, name = SealedCodec(KeyRing.parse(generate())), "sqlite"
    url, damage = _KINDS[name](directory)
    if options:
        url += ("&" if "?" in url else "?") + options
    store = open_store(url, blocking=blocking, codec=codec)
    yield Backend(store, lambda half: damage(store, half), url)


def _memory(_: Path) -> tuple[str, Callable[[Store, str], None]]:
    return "memory://", _damage_memory


def _damage_memory(store: Any, half: str) -> None:
    """Put what no decoder reads in place of the values; a record's other half is never bytes in memory."""
    held = store._held
    for session_id, record in list(held.items()):
        if isinstance(record, Record):
            held[session_id] = (
                msgspec.structs.replace(record, data=dict.fromkeys(record.data, SPOILED))
                if half == "data"
                else Unreadable(half)
            )


def _sqlite(directory: Path) -> tuple[str, Callable[[Store, str], None]]:
    path = directory / "sessions.db"

    def damage(_: Store, half: str) -> None:
        connection = sqlite3.connect(path, timeout=10)
        with connection:
            spoiled = connection.execute(f"UPDATE session SET {half} = x'c1c1c1c1' WHERE tombstone IS NULL")
            assert spoiled.rowcount
        connection.close()

    return f"sqlite:///{path}", damage


def _redis(kind: str) -> Callable[[Path], tuple[str, Callable[[Store, str], None]]]:
    def make(_: Path) -> tuple[str, Callable[[Store, str], None]]:
        import redis

        server = shared(kind)
        prefix = f"t{secrets.token_hex(4)}:"

        def damage(_: Store, half: str) -> None:
            ports = [server.port] if kind in ("redis", "valkey") else [node.port for node in server.nodes]
            spoiled = 0
            for port in ports:
                with redis.Redis(port=port) as client:
                    if client.info("replication")["role"] != "master":
                        continue
                    for key in client.scan_iter(f"{prefix}*}}s*", count=1000):
                        raw = bytes(client.get(key) or b"")
                        if raw[1:2] == b"R":
                            client.set(key, _spoiled(raw, half), keepttl=True)
                            spoiled += 1
            assert spoiled

        return f"{server.url}?timeout=5&prefix={prefix}", damage

    return make


def _spoiled(raw: bytes, half: str) -> bytes:
    """Spoil a value of the Redis store: 54 bytes of header, whose last four are the length of control."""
    end = 54 + int.from_bytes(raw[50:54], "big")
    if half == "control":
        return raw[:54] + SPOILED * (end - 54) + raw[end:]
    return raw[:end] + SPOILED * 4


def _sql(kind: str) -> Callable[[Path], tuple[str, Callable[[Store, str], None]]]:
    def make(_: Path) -> tuple[str, Callable[[Store, str], None]]:
        server = shared(kind)
        prefix = f"t{secrets.token_hex(4)}_"

        def damage(_: Store, half: str) -> None:
            with _connected(kind, server.port) as connection, connection.cursor() as cursor:
                cursor.execute(f"UPDATE {prefix}session SET {half} = %s WHERE tombstone IS NULL", (SPOILED * 4,))
                assert cursor.rowcount

        return f"{server.url}?migrate=auto&prefix={prefix}", damage

    return make


def _connected(kind: str, port: int) -> Any:
    if kind == "postgresql":
        import psycopg

        return psycopg.connect(host="127.0.0.1", port=port, user="sessile", dbname="sessile", autocommit=True)
    import pymysql

    return pymysql.connect(
        host="127.0.0.1", port=port, user="sessile", password="sessile", database="sessile", autocommit=True
    )


def _memcached(_: Path) -> tuple[str, Callable[[Store, str], None]]:
    servers = shared("memcacheds")
    prefix = f"t{secrets.token_hex(4)}"

    def damage(_: Store, half: str) -> None:
        assert sum(_spoil_memcached(server.port, prefix, half) for server in servers)

    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"memcached://{hosts}?prefix={prefix}", damage


def _spoil_memcached(port: int, prefix: str, half: str) -> int:
    """Spoil every session of a prefix: 53 bytes of header, whose last four are the length of control."""
    from urllib.parse import unquote

    from pymemcache import Client

    with socket.create_connection(("127.0.0.1", port), 5) as listing, listing.makefile("rwb") as lines:
        lines.write(b"lru_crawler metadump all\r\n")
        lines.flush()
        keys: list[str] = []
        while (line := lines.readline()) not in (b"END\r\n", b""):
            keys.append(unquote(line.split(b" ")[0].decode().removeprefix("key=")))
    client = Client(("127.0.0.1", port), no_delay=True)
    spoiled = 0
    for key in keys:
        raw = client.get(key) if key.startswith(prefix) else None
        if raw is None or raw[:1] != b"r":
            continue
        end = _MEMCACHED_HEAD + int.from_bytes(raw[_MEMCACHED_HEAD - 4 : _MEMCACHED_HEAD], "big")
        control = SPOILED * (end - _MEMCACHED_HEAD)
        value = raw[:_MEMCACHED_HEAD] + control + raw[end:] if half == "control" else raw[:end] + SPOILED * 4
        client.set(key, value, noreply=False)
        spoiled += 1
    client.close()
    return spoiled


_KINDS: Final[dict[str, Callable[[Path], tuple[str, Callable[[Any, str], None]]]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis("redis"),
    "valkey": _redis("valkey"),
    "sentinel": _redis("sentinel"),
    "cluster": _redis("cluster"),
    "postgresql": _sql("postgresql"),
    "mariadb": _sql("mariadb"),
    "memcached": _memcached,
}
