"""Through which door a contract is rehearsed, and how several things are done at once there."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from ..core.bridge import drive

T = TypeVar("T")


class Rehearsal:
    """Run tests through one door. `blocking` says which; override `run` and `together` for another event loop."""

    blocking: ClassVar[bool] = False
    rounds: ClassVar[int] = 100  # of each race

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a test to its end."""
        return drive(coroutine) if self.blocking else asyncio.run(coroutine)

    async def together(self, *starts: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run several things at once: in threads for the blocking door, in tasks for the other."""
        if not self.blocking:
            return list(await asyncio.gather(*(start() for start in starts)))
        results: list[Any] = [None] * len(starts)
        failures: list[BaseException] = []
        gate = threading.Barrier(len(starts))

        def work(place: int, start: Callable[[], Coroutine[Any, Any, Any]]) -> None:
            try:
                gate.wait(timeout=30)
                results[place] = drive(start())
            except BaseException as error:  # raised below, in the test's thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=pair) for pair in enumerate(starts)]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)  # change places as often as possible: races are rare otherwise
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)
        if failures:
            raise failures[0]
        return results

    async def pause(self) -> None:
        """Let the others run for a moment."""
        if self.blocking:
            time.sleep(0)
        else:
            await asyncio.sleep(0)
