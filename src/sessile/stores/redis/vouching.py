"""Which server is the primary, and whether anybody still vouches for it. Pure: times are arguments.

Sentinels are asked again and again. The newest configuration among their answers names the primary: an epoch is handed
out by a majority, so the highest is the truth even if one Sentinel alone knows it so far. The primary may be used while
a majority of the Sentinels answers, or while it has all its replicas attached itself: one that was cut off has neither.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from .address import Address

LEASE: Final = 1.5  # seconds for which evidence holds


class Vote(NamedTuple):
    """Hold what one Sentinel answered, and when."""

    primary: Address
    epoch: int
    replicas: int
    sentinels: int
    at: float


def vote(address: Any, state: Any, at: float) -> Vote | None:
    """Read the answers to `SENTINEL GET-MASTER-ADDR-BY-NAME` and `SENTINEL MASTER`; None if they are none."""
    if not (isinstance(address, list) and isinstance(state, list)):
        return None
    words = cast("list[bytes]", state)
    fields: dict[bytes, bytes] = dict(zip(words[::2], words[1::2], strict=False))
    try:
        host, port = _words(cast("list[bytes]", address))
        return Vote(
            Address(host, int(port)),
            int(fields[b"config-epoch"]),
            int(fields[b"num-slaves"]),
            int(fields[b"num-other-sentinels"]) + 1,
            at,
        )
    except (KeyError, ValueError):
        return None


class Vouching:
    """Judge by the votes of `sentinels` Sentinels."""

    def __init__(self, sentinels: int) -> None:
        self._votes: Final[list[Vote | None]] = [None] * sentinels
        self._epoch: int = -1
        self._gate: Final = threading.Lock()
        self.primary: Address | None = None
        self.vouched_at = float("-inf")
        self.replicas = 0
        self.changes = 0  # of the primary

    @property
    def majority(self) -> int:
        """Return how many Sentinels must answer."""
        return len(self._votes) // 2 + 1

    def heard(self, place: int, answer: Vote | None) -> bool:
        """Take note of an answer; tell whether the primary is another one now."""
        if answer is None:
            return False
        with self._gate:
            return self._count(place, answer)

    def followed(self, replicas: int, expected: int, at: float) -> None:
        """Take note of how many replicas follow the primary: those that do would not let another one take over."""
        if expected and replicas >= expected:
            self.vouched_at = max(self.vouched_at, at)

    def holds(self, now: float) -> bool:
        """Tell whether the primary may be used."""
        return self.primary is not None and now - self.vouched_at <= LEASE

    def _count(self, place: int, answer: Vote) -> bool:
        self._votes[place] = answer
        changed = False
        if answer.epoch > self._epoch or (answer.epoch == self._epoch and self.primary is None):
            self._epoch = answer.epoch
            changed = answer.primary != self.primary
            self.changes += changed
            self.primary = answer.primary
        votes = sorted((each for each in self._votes if each is not None), key=lambda each: each.at, reverse=True)
        self.replicas = max(each.replicas for each in votes if answer.at - each.at <= LEASE)
        if len(votes) >= self.majority:
            self.vouched_at = max(self.vouched_at, votes[self.majority - 1].at)
        return changed


def _words(parts: Sequence[bytes]) -> list[str]:
    return [part.decode("ascii", "replace") for part in parts]
