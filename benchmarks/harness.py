"""Measure cells side by side: every round visits all cells in a new random order, so that drift hits them alike.

A cell is one way to serve one kind of request. What is quoted is the time that it adds to the same application without
sessions: the median over rounds of (cell - bare) of the same round. Ratios are made from those medians, within one run.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Requests = Callable[[int], object]


@dataclass
class Cell:
    """Hold one way (`name`) to serve one kind of request in one family; `requests(n)` serves n of them.

    `warm` requests go before each sample and do not count: between samples, the loop that keeps a near cache in step
    with its server stands still, which a server's does not.
    """

    family: str
    name: str
    kind: str
    requests: Requests
    warm: int = 0
    samples: list[float] = field(default_factory=list)

    def anew(self) -> Cell:
        """Return the same cell without samples."""
        return Cell(self.family, self.name, self.kind, self.requests, self.warm)

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what identifies the cell."""
        return self.family, self.name, self.kind


def measure(cells: Iterable[Cell], *, rounds: int, batch: float, seed: int = 1) -> None:
    """Fill each cell's samples: microseconds a request, one sample a round; `batch` is the seconds one sample takes."""
    listed = list(cells)
    sizes = {id(cell): _batch_size(cell.requests, batch) for cell in listed}
    order = random.Random(seed)
    for number in range(rounds):
        order.shuffle(listed)
        for cell in listed:
            if cell.warm:
                cell.requests(cell.warm)
            cell.samples.append(_time(cell.requests, sizes[id(cell)]))
        print(f"\r  round {number + 1} of {rounds}", end="", flush=True)
    print()


def _time(requests: Requests, times: int) -> float:
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        requests(times)
        return (time.perf_counter() - start) / times * 1e6
    finally:
        gc.enable()


def _batch_size(requests: Requests, batch: float) -> int:
    requests(20)
    each = _time(requests, 20) / 1e6
    return max(5, min(5000, int(batch / max(each, 1e-7))))


def added(cells: Iterable[Cell]) -> dict[tuple[str, str, str], float]:
    """Return the median added microseconds of each cell over its family's bare cell."""
    listed = list(cells)
    bare = {cell.family: cell.samples for cell in listed if cell.name == "bare"}
    return {
        cell.key: statistics.median(
            with_it - without for with_it, without in zip(cell.samples, bare[cell.family], strict=True)
        )
        for cell in listed
        if cell.name != "bare"
    }
