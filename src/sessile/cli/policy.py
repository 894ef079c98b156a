"""`sessile policy`: print the limits of a preset, and how they stand to NIST and OWASP (R41)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ..core.policy import Policy
from .output import JsonOption, is_terminal, note, say_json, say_table


class Preset(StrEnum):
    """Name the policies that Sessile brings."""

    AAL1 = "aal1"
    AAL2 = "aal2"
    AAL3 = "aal3"
    HIGH_VALUE = "high-value"

    def policy(self) -> Policy:
        """Return the policy."""
        match self:
            case Preset.AAL1:
                return Policy.aal1()
            case Preset.AAL2:
                return Policy.aal2()
            case Preset.AAL3:
                return Policy.aal3()
            case Preset.HIGH_VALUE:
                return Policy.high_value()


def policy(
    preset: Annotated[Preset, typer.Option("--preset", help="Which policy.")] = Preset.AAL2,
    as_json: JsonOption = False,
) -> None:
    """Print a policy's limits beside what NIST and OWASP advise."""
    report = preset.policy().report()
    if as_json:
        say_json({"name": report.name, "lines": [line._asdict() for line in report.lines]})
        return
    if is_terminal():
        note(f"Session policy: {report.name}")
    rows = [("ok" if one.meets else "!!", one.what, one.value, one.advice, one.source) for one in report.lines]
    styles = ["green" if one.meets else "bold yellow" for one in report.lines]
    columns = ("AAL2", "limit", "value", "advice", "source")
    say_table(columns, rows, styles=styles, wrapped=("value", "advice", "source"))
