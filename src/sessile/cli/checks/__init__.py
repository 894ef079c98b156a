"""What `doctor` decides: facts in, findings out, one function a check; no I/O.

severity   means
fail       unsafe as it is: the requirement is not met
warn       safe only if it is meant: look at it
ok         examined, and as it should be
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..deployment import Deployment, StoreFacts
from .bridges import bridges
from .channel import cookie, guard, proxies, sign_out
from .finding import Finding
from .limits import clock, limits
from .start import framework, mode, refused, sinks, start
from .storage import keys, store, vault

__all__ = ["Finding", "examine", "examine_vault", "refused", "sorted_by_weight"]

Check = Callable[[Deployment], Iterator[Finding]]

CHECKS: Final[tuple[Check, ...]] = (
    mode,
    keys,
    store,
    cookie,
    limits,
    clock,
    proxies,
    guard,
    sign_out,
    bridges,
    sinks,
    framework,
    start,
)


def examine(deployment: Deployment) -> tuple[Finding, ...]:
    """Return what all checks find, the worst first."""
    return sorted_by_weight(finding for check in CHECKS for finding in check(deployment))


def examine_vault(facts: StoreFacts) -> tuple[Finding, ...]:
    """Return what is found of a vault, the worst first."""
    return sorted_by_weight(vault(facts))


def sorted_by_weight(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, the worst first."""
    return tuple(sorted(found, key=lambda one: ("fail", "warn", "ok").index(one.severity)))
