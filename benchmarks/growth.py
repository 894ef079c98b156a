"""Growth: what a read costs with a thousand live sessions and with a million, and what sweeping and ending cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.asgi_cells import run
from sessile.core.ids import session_id
from sessile.core.record import SCHEMA, Control, EndReason, Record, Tombstone
from sessile.stores import open_store

NOW = 1_800_000_000.0
PER_USER = 5


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


def measure(directory: Path, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return one row per store and size, in median microseconds an operation."""
    rows: list[dict[str, Any]] = []
    for kind in ("memory", "sqlite"):
        url = f"memory://?capacity={max(sizes) + 10_000}" if kind == "memory" else f"sqlite:///{directory}/growth.db"
        store: Any = open_store(url, blocking=True)
        filled = 0
        for size in sizes:
            while filled < size:
                run(store.create(sid(filled), record(filled)))
                filled += 1
                if filled % 20_000 == 0:
                    print(f"\r  {kind}: {filled:,} sessions", end="", flush=True)
            row = {"store": kind, "sessions": size, **_costs(store, size)}
            rows.append(row)
            print(f"\r  {kind} {size:>9,}: read {row['read']:.1f} µs" + " " * 20)
        run(store.close())
    return rows


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
        while swept < 100:
            swept += len(run(store.sweep(NOW, 100)))
        samples.append((time.perf_counter() - start) * 1e6)
    return statistics.median(samples)


def _end_all(store: Any, user: int) -> None:
    run(store.end_user(f"user-{user}", Tombstone(EndReason.USER, NOW, NOW + 60, f"user-{user}")))
