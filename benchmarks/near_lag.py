"""How long a process still serves from its near cache what another process has ended: `python -m benchmarks.near_lag`.

Another process ends 1,000 sessions, one by one, each while it is kept here. Two figures a door and server

- seen after: from the moment at which the other process had its answer to the start of the first read here that says
  so, reading without a pause: p50, p99 and the longest, in milliseconds;
- told, then read: the other process says so through a pipe once it has its answer, and then we read once: how many of
  these reads still said "alive".

Exit status 1 if a p99 is over 20 ms, or if a kept session cost a round trip.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import secrets
import statistics
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any

import redis

from sessile.core.bridge import drive
from sessile.core.record import SCHEMA, Control, EndReason, Record, Tombstone
from sessile.stores import open_store
from tests.support.servers import Server, redis_server, valkey_server

LIMIT = 20.0  # ms


def new_record() -> Record:
    """Return a session like any."""
    now = time.time()
    return Record(Control(SCHEMA, now, now, now, user="ann"), {"cart": b"\x93\x01\x02\x03"}, now, now + 3600)


def enders(url: str, line: Connection) -> None:
    """Be the other process: end each session that is named, and say when that was acknowledged."""
    store = open_store(url, blocking=True)
    while (session_id := line.recv()) is not None:
        now = time.time()
        drive(store.end(session_id, Tombstone(EndReason.ADMIN, now, now + 300, "ann")))
        line.send(time.monotonic())  # one clock for all processes of a machine
    drive(store.close())


async def measure(near: Any, line: Connection, server: Server, rounds: int) -> tuple[list[float], int, int]:
    """Return the lags in milliseconds, the stale reads among those that were told, and the MGETs of kept sessions."""
    lags: list[float] = []
    stale = 0
    for number in range(2 * rounds):
        session_id = secrets.token_hex(20)
        await near.create(session_id, new_record())
        await near.load(session_id)
        line.send(session_id)
        if number % 2:
            line.recv()
            stale += isinstance(await near.load(session_id), Record)
            continue
        while True:
            began = time.monotonic()
            if not isinstance(await near.load(session_id), Record):
                break
        lags.append((began - line.recv()) * 1000)
    session_id = secrets.token_hex(20)
    await near.create(session_id, new_record())
    await near.load(session_id)
    with redis.Redis(port=server.port) as client:
        before = _reads(client)
        for _ in range(1000):
            await near.load(session_id)
        trips = _reads(client) - before
    await near.close()
    return lags, stale, trips


def _reads(client: Any) -> int:
    return int(client.info("commandstats")["cmdstat_mget"]["calls"])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    rounds: int = parser.parse_args().rounds
    kept = True
    servers: dict[str, Callable[[], Any]] = {"Redis": redis_server, "Valkey": valkey_server}
    runs: dict[str, Callable[[Coroutine[Any, Any, Any]], Any]] = {"blocking": drive, "asyncio": asyncio.run}
    print("| server | door | seen after: p50 | p99 | longest | told, then read: stale | round trips of 1,000 hits |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name, serve in servers.items():
        for door, run in runs.items():
            with serve() as server:
                ours, theirs = multiprocessing.Pipe()
                other = multiprocessing.get_context("spawn").Process(target=enders, args=(server.url, theirs))
                other.start()
                near = open_store(f"{server.url}?cache=near", blocking=door == "blocking")
                lags, stale, trips = run(measure(near, ours, server, rounds))
                ours.send(None)
                other.join()
            lags.sort()
            p99 = lags[int(len(lags) * 0.99)]
            kept = kept and p99 < LIMIT and trips == 0
            print(
                f"| {name} | {door} | {statistics.median(lags):.2f} ms | {p99:.2f} ms | {lags[-1]:.2f} ms "
                f"| {stale} of {rounds:,} | {trips} |",
                flush=True,
            )
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
