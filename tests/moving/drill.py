"""Move sessions between each pair of stores while people use them: `python -m tests.moving.drill [--sessions N]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sessile.core.ids import session_id
from sessile.core.keys import generate
from sessile.core.record import Record
from sessile.stores import open_store
from tests.moving.crowd import fill, seed_of
from tests.support.servers import postgres, redis_server

KINDS = ("sqlite", "redis", "postgresql")
PROCESSES = 2


@dataclass
class Seen:
    """Hold what one move showed."""

    pair: str
    sessions: int
    seconds: float
    killed_after: int
    counted: dict[str, int]
    people: dict[str, int]
    left: int  # sessions that are alive in the old store afterwards
    missing: int  # sessions that nobody touched, and that are not in the new store

    @property
    def is_kept(self) -> bool:
        """Tell whether nobody was signed out, nothing was lost and nothing came back."""
        wrong = [self.people[name] for name in ("signed out of nowhere", "clicks lost", "revived")]
        return not any(wrong) and not self.left and not self.missing and not self.counted["wrong"]


@contextmanager
def place(kind: str, folder: Path) -> Generator[str]:
    """Return the URL of an empty store."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/{os.urandom(4).hex()}.db"
    elif kind == "redis":
        with redis_server(appendonly="yes") as server:
            yield f"{server.url}?timeout=10"
    else:
        with postgres() as server:
            yield f"{server.url}?timeout=10&migrate=auto"


def move(source: str, target: str, count: int, folder: Path, *, shown: int = 3000) -> Seen:
    """Move `count` sessions while people use `shown` of them; kill the mover on the way, once, and run it again."""
    keys, stop = generate(), folder / f"stop-{os.urandom(4).hex()}"
    with place(source, folder) as old, place(target, folder) as new:
        asyncio.run(fill(old, count))
        asyncio.run(fill(new, 0))
        url = f"moving://?from={quote(old, safe='')}&to={quote(new, safe='')}"
        shown = min(shown, count // 2)
        crowds = [list(range(number, shown, PROCESSES)) for number in range(PROCESSES)]
        people = [_people(url, keys, crowd, seed, stop) for seed, crowd in enumerate(crowds)]
        time.sleep(1)
        started = time.monotonic()
        first = _mover(old, new)
        moved = _wait_until_some_moved(first, new, count)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        second = _mover(old, new)
        out, err = second.communicate()
        if second.returncode not in (0, 1):
            raise RuntimeError(f"the mover failed: {err[-800:]}")
        counted = json.loads(out)
        seconds = time.monotonic() - started
        time.sleep(1)
        stop.touch()
        totals: dict[str, int] = {}
        for process in people:
            said, wrong = process.communicate(timeout=300)
            if process.returncode:
                raise RuntimeError(f"people failed: {wrong[-1500:]}")
            for name, number in json.loads(said).items():
                totals[name] = totals.get(name, 0) + number
        left, missing = asyncio.run(_audit(old, new, range(shown, count)))
    return Seen(f"{source} → {target}", count, seconds, moved, counted, totals, left, missing)


def _people(url: str, keys: str, numbers: list[int], seed: int, stop: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.moving.people"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    pause = 0.002 if len(numbers) < 500 else 0.02
    settings: dict[str, Any] = {
        "url": url,
        "keys": keys,
        "numbers": numbers,
        "seed": seed,
        "seconds": 3600,
        "stop": str(stop),
    }
    settings["pause"] = pause
    process.stdin.write(json.dumps(settings))
    process.stdin.close()
    process.stdin = None
    return process


def _mover(old: str, new: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sessile", "move", old, new, "--json", "--at-once", "32"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_until_some_moved(mover: subprocess.Popen[str], new: str, count: int) -> int:
    """Wait until about a third has moved; people's new sessions count too, which does no harm."""

    async def look() -> int:
        store: Any = open_store(new, blocking=False)
        try:
            while mover.poll() is None:
                held = (await store.stats(time.time())).live
                if held >= count // 3:
                    return int(held)
                await asyncio.sleep(0.1)
            return count
        finally:
            await store.close()

    return asyncio.run(look())


async def _audit(old: str, new: str, untouched: range) -> tuple[int, int]:
    before: Any = open_store(old, blocking=False)
    after: Any = open_store(new, blocking=False)
    left = (await before.stats(time.time())).live
    missing = 0
    for start in range(untouched.start, untouched.stop, 200):
        part = range(start, min(start + 200, untouched.stop))
        found = await asyncio.gather(*(after.load(session_id(seed_of(number))) for number in part))
        missing += sum(not isinstance(one, Record) for one in found)
    await before.close()
    await after.close()
    return left, missing


def main() -> int:
    """Move between all pairs and print the table; the exit status is 1 if something was lost."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--only", default="", help="pairs that hold this")
    chosen = parser.parse_args()
    table = Table(title=f"Moving {chosen.sessions:,} sessions under traffic, the mover killed and resumed once")
    columns = (
        "seconds",
        "killed at",
        "second run moved",
        "wrong",
        "left",
        "missing",
        "requests",
        "sign-ins",
        "sign-outs",
    )
    bad = ("signed out of nowhere", "clicks lost", "revived", "errors")
    for name in ("pair", *columns, *bad):
        table.add_column(name, justify="left" if name == "pair" else "right")
    kept = True
    with tempfile.TemporaryDirectory() as name:
        for source in KINDS:
            for target in KINDS:
                pair = f"{source} → {target}"
                if source == target or chosen.only not in pair:
                    continue
                seen = move(source, target, chosen.sessions, Path(name))
                kept = kept and seen.is_kept
                cells = [f"{seen.seconds:.0f}", seen.killed_after, seen.counted["moved"], seen.counted["wrong"]]
                cells += [seen.left, seen.missing, *(seen.people[one] for one in ("requests", "sign-ins", "sign-outs"))]
                cells += [seen.people[one] for one in bad]
                row = [f"{cell:,}" if isinstance(cell, int) else cell for cell in cells]
                print(pair, dict(zip((*columns, *bad), row, strict=True)), flush=True)
                table.add_row(pair, *row)
    Console(width=200).print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
