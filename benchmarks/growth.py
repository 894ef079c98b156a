"""Growth: what a read costs with a thousand live sessions and with a million, and what sweeping and ending cost."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.asgi_cells import run
from sessile.core.ids import session_id
from sessile.core.record import SCHEMA, Control, EndReason, Record, Tombstone, encode_control, encode_data
from sessile.stores import open_store
from sessile.stores.redis.store import RedisStore

NOW = 1_800_000_000.0
PER_USER = 5
STEP = 20_000


def sid(number: int) -> str:
    """Return the id of the session of that number."""
    return session_id(number.to_bytes(20, "big"))


def record(number: int) -> Record:
    """Return a signed-in session; every user has five."""
    control = Control(SCHEMA, NOW, NOW, NOW, user=f"user-{number // PER_USER}")
    return Record(control, {"user_name": b"\xa3Ada", "cart": b"\x93\x01\x02\x03"}, NOW, NOW + 3600)


def each(step: Callable[[int], Any], numbers: list[int]) -> float:
    """Return the median microseconds of the step over the numbers."""
    samples: list[float] = []
    for number in numbers:
        start = time.perf_counter()
        step(number)
        samples.append((time.perf_counter() - start) * 1e6)
    return statistics.median(samples)


def measure(directory: Path, sizes: tuple[int, ...], servers: dict[str, str]) -> list[dict[str, Any]]:
    """Return one row per store and size, in median microseconds an operation; `servers` are further stores by URL."""
    rows: list[dict[str, Any]] = []
    urls = {
        "memory": f"memory://?capacity={max(sizes) + 10_000}",
        "sqlite": f"sqlite:///{directory}/growth.db",
        **servers,
    }
    for kind, url in urls.items():
        store: Any = open_store(url, blocking=True)
        filled = 0
        for size in sizes:
            for start in range(filled, size, STEP):
                _fill(kind, url, store, range(start, min(size, start + STEP)))
                print(f"\r  {kind}: {start + STEP:,} sessions", end="", flush=True)
            filled = size
            row = {"store": kind, "sessions": size, **_costs(store, size)}
            rows.append(row)
            print(f"\r  {kind} {size:>9,}: read {row['read']:.1f} µs" + " " * 20)
        run(store.close())
    return rows


def _fill(kind: str, url: str, store: Any, numbers: range) -> None:
    """Put sessions in; behind a socket many at a time, or a million would take an hour."""
    if kind == "redis":
        asyncio.run(_fill_together(url, numbers))
    elif kind == "postgresql":
        _copy(url, store, numbers)
    else:
        for number in numbers:
            run(store.create(sid(number), record(number)))


async def _fill_together(url: str, numbers: range) -> None:
    store: Any = open_store(url, blocking=False)
    for start in range(numbers.start, numbers.stop, 500):
        part = range(start, min(start + 500, numbers.stop))
        await asyncio.gather(*(store.create(sid(number), record(number)) for number in part))
    await store.close()


def _copy(url: str, store: Any, numbers: range) -> None:
    """Copy rows as the store writes them, after the first of them has made the tables."""
    import psycopg

    run(store.create(sid(numbers[0]), record(numbers[0])))
    columns = "id, epoch, seen_at, expires_at, due, revision, version, owner, control, data"
    with psycopg.connect(url.partition("?")[0]) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY sessile_session ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["bytea", "int8", *["float8"] * 3, "int8", "int8", *["bytea"] * 3])
            for number in numbers[1:]:
                one, user = record(number), f"user-{number // PER_USER}"
                owner = hashlib.sha256(user.encode()).digest()[:20]
                times = one.seen_at, one.expires_at, one.expires_at
                halves = encode_control(one.control), encode_data(one.data)
                copy.write_row((bytes.fromhex(sid(number)), 0, *times, 0, 0, owner, *halves))
        connection.commit()
        cursor.execute("ANALYZE sessile_session")


def _costs(store: Any, size: int) -> dict[str, float]:
    """Return the median microseconds of each operation, in a store of that many sessions."""
    spread = [number * 7919 % size for number in range(2000)]
    users = [number // PER_USER for number in spread[:200]]
    return {
        "read": each(lambda number: run(store.load(sid(number))), spread),
        "list a user's 5": each(lambda user: run(store.of_user(f"user-{user}")), users),
        "end a user's 5": each(lambda user: _end_all(store, user), users[:50]),
        "sweep 100": _sweep(store),
    }


def _sweep(store: Any) -> float:
    """Return what it costs to remove 100 sessions that have expired, among all that have not."""
    samples: list[float] = []
    for turn in range(10):
        for number in range(100):
            expired = Record(Control(SCHEMA, NOW, NOW, NOW), {}, NOW - 7200, NOW - 3600)
            run(store.create(session_id(b"expired" + (turn * 100 + number).to_bytes(13, "big")), expired))
        start = time.perf_counter()
        swept = 0
        for _ in range(1000):  # Redis removes most of it by itself, and sweeps its indexes a step at a time
            swept += len(run(store.sweep(NOW, 100)))
            if swept >= 100 or isinstance(store, RedisStore):
                break
        samples.append((time.perf_counter() - start) * 1e6)
    return statistics.median(samples)


def _end_all(store: Any, user: int) -> None:
    run(store.end_user(f"user-{user}", Tombstone(EndReason.USER, NOW, NOW + 60, f"user-{user}")))
