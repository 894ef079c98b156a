"""What the nodes say about themselves, for `sessile doctor`. Nodes are numbered as in the URL, never named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Final, cast

from ...core.ports import Diagnosis
from . import protocol
from .nodes import Address, Node

_OLDEST: Final = (1, 5)


async def diagnose(nodes: Sequence[Node], addresses: Sequence[Address], *, sealed: bool) -> tuple[Diagnosis, ...]:
    """Return what was found, node by node.

    Raises:
        StoreUnavailable: a node could not be reached.
    """
    found: list[Diagnosis] = []
    for place, (node, address) in enumerate(zip(nodes, addresses, strict=True), 1):
        replies = await node.exchange(protocol.version(), protocol.stats(), protocol.stats(b"settings"))
        version, figures, settings = replies
        name = f"memcached node {place} of {len(nodes)}"
        found += _judged(name, cast("str", version), cast("dict[str, str]", figures), cast("dict[str, str]", settings))
        if not sealed and not _is_loopback(address.host):
            found.append(
                Diagnosis(
                    "warn",
                    "memcached-transport",
                    "R45",
                    f"{name} is reached over the network without TLS",
                    "Who can read that network reads sessions, and who can reach the port can end or change them.",
                    "Give ?tls=yes (memcached -Z), or a private network and a user with a password (memcached -Y).",
                )
            )
    return tuple(found)


def _judged(name: str, version: str, figures: dict[str, str], settings: dict[str, str]) -> Iterator[Diagnosis]:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    old = numbers < _OLDEST
    yield Diagnosis(
        "warn" if old else "ok",
        "memcached-version",
        "R45",
        f"{name} is memcached {version[:32]!r}",
        "Versions before 1.5 are not tested with." if old else "",
        "Use a newer one." if old else "",
    )
    if settings.get("cas_enabled") == "no":
        yield Diagnosis(
            "fail",
            "memcached-cas",
            "R42",
            f"{name} runs with -C, without cas",
            "Every write is refused or, worse, unconditional: an ended session could be written back.",
            "Remove -C.",
        )
    evictions = figures.get("evictions", "0")
    if evictions != "0":
        yield Diagnosis(
            "warn",
            "memcached-evictions",
            "R50",
            f"{name} has evicted {evictions} items since it started",
            "Each was a session that ended before its time, a tombstone, or a list of a user's sessions.",
            "Give it more memory (-m), or a node of its own.",
        )
    memory = "evicts when full" if settings.get("evictions") == "on" else "refuses when full (-M)"
    limit = settings.get("item_size_max", "unknown")
    yield Diagnosis("ok", "memcached-limits", "R50", f"{name} {memory} and takes sessions of up to {limit} bytes")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
