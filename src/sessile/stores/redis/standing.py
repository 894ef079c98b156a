"""What a server says of itself and its copies, and when an end is certain. Pure but for what it remembers.

An end is certain when every replica that could take the primary's place has it (WAIT), or, where there is no replica,
when the server itself keeps what it acknowledged: it appends to a file, or keeps nothing at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

_REMEMBERED: Final = 900.0  # seconds for which a replica that went away is still expected back
_PERSISTENCE: Final = 30.0  # seconds for which an answer about persistence holds


class Standing(NamedTuple):
    """Hold what INFO replication says. `identity` changes when another server took over or data came from elsewhere."""

    primary: bool
    identity: str
    replicas: int
    lags: tuple[int, ...]

    @classmethod
    def of(cls, raw: bytes) -> Standing:
        """Read it; what is missing counts against the server."""
        fields = info(raw)
        attached = [value for name, value in fields.items() if name.startswith("slave") and name[5:].isdigit()]
        lags = tuple(
            int(found["lag"]) if found.get("lag", "").isdigit() else 10**6
            for found in (dict(part.split("=", 1) for part in one.split(",") if "=" in part) for one in attached)
            if found.get("state") == "online"
        )
        return cls(fields.get("role") == "master", fields.get("master_replid", ""), len(lags), lags)


def info(raw: bytes) -> Mapping[str, str]:
    """Return the fields of an INFO reply."""
    lines = (line.partition(":") for line in raw.decode("utf-8", "replace").split("\r\n") if not line.startswith("#"))
    return {name: value for name, _, value in lines if name}


def keeps(persistence: bytes, saves: bytes | None) -> tuple[bool, bool]:
    """Tell whether a server alone keeps all that it acknowledged, and whether it does at this moment.

    `saves` is its configuration of snapshots; None: it would not say. A snapshot that is older than an end may bring
    the session back at the next start.
    """
    fields = info(persistence)
    if fields.get("aof_enabled") == "1":
        written = fields.get("aof_last_write_status", "ok") == "ok"
        return written, written
    if saves == b"":
        return True, True
    return False, fields.get("rdb_changes_since_last_save") == "0" and fields.get("rdb_last_bgsave_status") == "ok"


class Assurance:
    """Remember what is known of one server and its replicas. `least` is how many replicas there are in any case."""

    def __init__(self, least: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._least: Final = least
        self._clock: Final = clock
        self._most = 0
        self._most_at = 0.0
        self._kept: tuple[float, bool] | None = None
        self.standing: Standing | None = None
        self.seen_at = 0.0

    @property
    def identity(self) -> str:
        """Return the identity of the server that was last talked to; empty: none is known."""
        return "" if self.standing is None else self.standing.identity

    @property
    def expected(self) -> int:
        """Return how many replicas must have an end before it is certain."""
        if self._clock() - self._most_at > _REMEMBERED:
            self._most = 0
        return max(self._least(), self._most)

    @property
    def worth_waiting_for(self) -> int:
        """Return how many replicas to wait for: those that are attached, no more than are expected."""
        return min(self.expected, self.standing.replicas) if self.standing is not None else self.expected

    def saw(self, raw: object) -> Standing:
        """Take note of an INFO reply."""
        standing = Standing.of(raw) if isinstance(raw, bytes) else Standing(True, "", 0, ())
        self.seen_at = self._clock()
        if standing.replicas >= self._most or self.seen_at - self._most_at > _REMEMBERED:
            self._most, self._most_at = standing.replicas, self.seen_at
        if self.identity != standing.identity:
            self._kept = None
        self.standing = standing
        return standing

    def is_kept(self) -> bool | None:
        """Tell whether the server alone keeps what it acknowledges; None: it must be asked again."""
        if self._kept is None or self._clock() - self._kept[0] > _PERSISTENCE:
            return None
        return self._kept[1]

    def kept(self, answer: bool) -> None:  # noqa: FBT001
        """Take note of the answer."""
        self._kept = (self._clock(), answer)
