"""Run the failure lab: `python -m tests.failure [--quick] [--only WORDS] [--store naive] [--json FILE] [--write]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.failure import scenarios
from tests.failure.scenarios import SCENARIOS, Outcome

PAGE = Path(__file__).parents[2] / "docs/explanation/failure-lab.md"
BEGIN, END = "<!-- table: make lab -->", "<!-- end of table -->"
COLUMNS = (
    "runs",
    "acknowledged",
    "confirmed",
    "at stake",
    "unconfirmed",
    "failed",
    "resurrected",
    "late",
    "made up within",
    "confirms again after",
    "stale after 2 s",
    "sessions lost",
    "errors",
    "longest stall",
)


def main() -> int:
    """Run, print the table, write it into the docs if asked; the exit status is 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each scenario")
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--store", choices=("sessile", "naive"), default="sessile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what each run showed")
    parser.add_argument("--write", action="store_true", help="write the table into the documentation")
    chosen = parser.parse_args()
    if chosen.write and (chosen.only or chosen.quick or chosen.store != "sessile"):
        parser.error("the documentation shows all scenarios, more than once, with Sessile's store")
    picked = [scenario for scenario in SCENARIOS if chosen.only in scenario.name]
    if not picked:
        parser.error("no scenario has a name with these words")
    is_sessile = chosen.store == "sessile"
    opened = scenarios.sessile if is_sessile else scenarios.naive
    console = Console()
    rows: list[tuple[str, list[str]]] = []
    outcomes: list[Outcome] = []
    for scenario in picked:
        runs: list[Outcome] = []
        count = 1 if chosen.quick else chosen.runs
        for number in range(count):
            console.print(f"{scenario.name} ({number + 1} of {count}) …", style="dim")
            # Without slow requests, all that the naive store brings back is the failure's doing.
            runs.append(scenarios.run(scenario, opened, slow=is_sessile))
        outcomes += runs
        rows.append((scenario.name, summed(runs)))
        console.print("  " + ", ".join(f"{name} {value}" for name, value in zip(COLUMNS, rows[-1][1], strict=True)))
    kept = all(outcome.is_kept for outcome in outcomes)
    table = Table(title=f"Failure lab: {chosen.store}")
    table.add_column("what happens")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, values in rows:
        table.add_row(name, *values)
    Console(width=max(console.width, 210)).print(table)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    if chosen.write:
        write(rows)
    console.print("Everything promised was kept." if kept else "[bold red]A promise was not kept.[/]")
    return 0 if kept else 1


def summed(runs: list[Outcome]) -> list[str]:
    """Return the cells of one row."""

    def total(name: str) -> str:
        return f"{sum(getattr(run, name) for run in runs):,}"

    names = ("acknowledged", "confirmed", "at_stake", "unconfirmed", "failed", "revived", "late")
    return [
        str(len(runs)),
        *(total(name) for name in names),
        f"{max(run.made_up for run in runs):.1f} s",
        f"{max(run.again for run in runs):.1f} s",
        total("stale"),
        total("lost"),
        total("errors"),
        f"{max(run.longest for run in runs):.1f} s",
    ]


def write(rows: list[tuple[str, list[str]]]) -> None:
    """Put the table between its marks in the documentation."""
    lines = [f"| what happens | {' | '.join(COLUMNS)} |", f"|---|{'--:|' * len(COLUMNS)}"]
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in rows]
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
