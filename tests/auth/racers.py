"""Processes that meet at a line and start at the same moment, on one vault that a test names."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sessile.auth.vaults import open_vault
from sessile.core.bridge import drive
from tests.stores.sql_databases import Database
from tests.support.servers import shared

_PATIENCE: Final = 120.0  # seconds; a busy machine starts processes slowly


@contextmanager
def shared_vault(kind: Any, folder: Path) -> Iterator[str]:
    """Lend the URL of an empty vault that several processes can use."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/v.db?wait=60"
        return
    made = Database(shared(kind))
    try:
        vault: Any = open_vault(made.url(), blocking=True)
        drive(vault.migrate())
        drive(vault.close())
        yield made.url(options="timeout=60")
    finally:
        made.drop()


class Line:
    """Be where a process waits for the others, and tells what became of its turn."""

    def __init__(self, barrier: Any, results: Any) -> None:
        self._barrier = barrier
        self._results = results

    def wait(self) -> None:
        """Wait until everybody is here."""
        self._barrier.wait(_PATIENCE)

    def tell(self, result: Any) -> None:
        """Hand the result of a turn in."""
        self._results.put(result)


class Race:
    """Hold processes that run `runner(line, *given)`: each waits, does a turn and tells, again and again."""

    def __init__(self, runners: list[Any], line: Line, results: Any) -> None:
        self._runners = runners
        self._line = line
        self._results = results

    def turn(self) -> list[Any]:
        """Start one turn, and return what each of them told."""
        self._line.wait()
        return [self._results.get(timeout=_PATIENCE) for _ in self._runners]


@contextmanager
def race(runner: Callable[..., None], *given: tuple[Any, ...]) -> Iterator[Race]:
    """Start a process for each of `given`; they must have ended by themselves when the race is over."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(len(given) + 1), context.Queue()
    line = Line(barrier, results)
    runners = [context.Process(target=runner, args=(line, *each), daemon=True) for each in given]
    for one in runners:
        one.start()
    try:
        yield Race(runners, line, results)
        for one in runners:
            one.join(_PATIENCE)
            assert one.exitcode == 0
    finally:
        for one in runners:
            one.kill()
