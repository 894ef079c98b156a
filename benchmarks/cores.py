"""Say on which cores this process and a server run while they are measured; where that cannot be said, do nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_one_core(pid: int) -> Iterator[None]:
    """Let this thread, the threads that it starts, and the server run on the same core."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    with _placed(pid, min(os.sched_getaffinity(0)), min(os.sched_getaffinity(0))):
        yield


@contextmanager
def on_two_cores(pid: int) -> Iterator[bool]:
    """Let this thread and the server each have a core; yields whether there are two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2:
        yield False
        return
    with _placed(pid, cores[0], cores[1]):
        yield True


@contextmanager
def _placed(pid: int, ours: int, theirs: int) -> Iterator[None]:
    before = os.sched_getaffinity(0), os.sched_getaffinity(pid)
    os.sched_setaffinity(0, {ours})
    os.sched_setaffinity(pid, {theirs})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before[0])
        os.sched_setaffinity(pid, before[1])
