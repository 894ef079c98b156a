"""Which server of a cluster holds which slot, by the newest of what its primaries say. Pure: times are arguments."""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

from .address import Address
from .vouching import LEASE


class Member(NamedTuple):
    """Hold one line of CLUSTER NODES."""

    name: str
    address: Address
    primary: bool
    follows: str
    epoch: int
    slots: tuple[tuple[int, int], ...]


def members(raw: bytes, asked: Address) -> tuple[Member, ...]:
    """Read a reply to CLUSTER NODES. A node that does not know its own address has that at which it was asked."""
    found: list[Member] = []
    for line in raw.decode("utf-8", "replace").splitlines():
        parts = line.split()
        if len(parts) < 8 or not parts[6].isdigit():
            continue
        flags = parts[2].split(",")
        host, _, port = parts[1].partition("@")[0].rpartition(":")
        if not port.isdigit() or "noaddr" in flags or "handshake" in flags:
            continue
        address = asked if "myself" in flags and not host else Address(host.strip("[]"), int(port))
        slots = tuple(_range(part) for part in parts[8:] if not part.startswith("["))
        found.append(Member(parts[0], address, "master" in flags, parts[3], int(parts[6]), slots))
    return tuple(found)


def _range(part: str) -> tuple[int, int]:
    first, _, last = part.partition("-")
    return int(first), int(last or first)


class Topology:
    """Merge what the primaries say, and judge whether enough of them still say it."""

    def __init__(self) -> None:
        self._views: dict[Address, tuple[float, tuple[Member, ...]]] = {}
        self._owners: dict[int, Address | None] = {}
        self._gate: Final = threading.Lock()
        self.primaries: tuple[Address, ...] = ()
        self.replicas: dict[Address, int] = {}
        self.changes = 0
        self.vouched_at = float("-inf")

    def heard(self, asked: Address, view: tuple[Member, ...], at: float) -> frozenset[Address]:
        """Take note of what one primary says; return the addresses that no longer hold what they held."""
        with self._gate:
            before = self._views.get(asked)
            self._views[asked] = at, view
            gone: frozenset[Address] = frozenset()
            if before is None or before[1] != view:
                gone = self._merge()
            times = sorted(
                (said_at for address, (said_at, _) in self._views.items() if address in self.primaries), reverse=True
            )
            majority = len(self.primaries) // 2 + 1
            if self.primaries and len(times) >= majority:
                self.vouched_at = max(self.vouched_at, times[majority - 1])
            return gone

    def owner(self, slot: int) -> Address | None:
        """Return which primary holds a slot."""
        try:
            return self._owners[slot]
        except KeyError:
            with self._gate:
                owner = self._owners[slot] = self._find(slot)
                return owner

    def holds(self, now: float) -> bool:
        """Tell whether a majority of the primaries has said so lately."""
        return now - self.vouched_at <= LEASE

    def forget(self, address: Address) -> None:
        """Drop the view of a node that is no primary any more."""
        with self._gate:
            if self._views.pop(address, None) is not None:
                self._merge()

    def _newest(self) -> dict[str, Member]:
        newest: dict[str, Member] = {}
        for _, view in sorted(self._views.values(), key=lambda each: each[0]):
            for member in view:
                known = newest.get(member.name)
                if known is None or member.epoch >= known.epoch:
                    newest[member.name] = member
        return newest

    def _find(self, slot: int) -> Address | None:
        claims = [
            (member.epoch, member.address)
            for _, view in self._views.values()
            for member in view
            if member.primary and any(first <= slot <= last for first, last in member.slots)
        ]
        return max(claims, key=lambda claim: claim[0])[1] if claims else None

    def _merge(self) -> frozenset[Address]:
        known = self._newest()
        before = self._owners
        self._owners = {slot: self._find(slot) for slot in before}
        gone = {old for slot, old in before.items() if old is not None and self._owners[slot] != old}
        # Of two who claim the same slots, the later epoch is right: the other was replaced and does not know it.
        claimed = {self._find(first) for member in known.values() if member.primary for first, _ in member.slots}
        self.primaries = tuple(sorted((each for each in claimed if each is not None), key=str))
        self.replicas = {
            member.address: sum(other.follows == member.name for other in known.values())
            for member in known.values()
            if member.address in self.primaries
        }
        self.changes += bool(gone)
        return frozenset(gone)
