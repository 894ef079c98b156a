"""What a check returns."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["fail", "warn", "ok"]


class Finding(NamedTuple):
    """Hold one finding: what was found, what that means, and how to mend it ("" where nothing is amiss)."""

    severity: Severity
    code: str
    requirement: str
    found: str
    means: str = ""
    mend: str = ""
