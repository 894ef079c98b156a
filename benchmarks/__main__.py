"""Run the benchmarks: `python -m benchmarks [--quick]`; writes RESULTS.md, results.json and results.svg here."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import asgi_cells, django_cells, growth, imports, network_cells, token_cells, wsgi_cells
from benchmarks.cores import on_one_core, on_two_cores
from benchmarks.harness import Cell, added, measure
from benchmarks.targets import TARGETS
from tests.support.servers import postgres, redis_server

HERE = Path(__file__).parent
IMPORT_LIMIT = 1.6
MEMORY_LIMIT = 1.2
KINDS = ("read", "write", "anonymous", "forged", "large", "verify")
Medians = dict[tuple[str, str, str], float]


def main() -> int:
    """Measure, print, write; the exit status is 1 if a promise was not kept in this run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller growth, no files written")
    quick: bool = parser.parse_args().quick
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, redis_server() as server, postgres() as database:
        directory = Path(name)
        print("Building applications and filling stores …", flush=True)
        memory = network_cells.memory_per_session(server.port)
        with on_one_core(server.pid):
            networked = network_cells.cells(server.port)
            cells: list[Cell] = [
                *asgi_cells.cells(directory),
                *wsgi_cells.cells(directory),
                *django_cells.cells(directory),
                *networked,
                *token_cells.cells(),
            ]
            print(f"{len(cells)} cells, interleaved", flush=True)
            measure(cells, rounds=7 if quick else 25, batch=0.01 if quick else 0.03)
            medians = added(cells)
        apart: Medians = {}
        with on_two_cores(server.pid) as there_are_two:
            if there_are_two:
                print("The cells of Redis again, with Redis on a core of its own", flush=True)
                networked = [cell.anew() for cell in networked if cell.kind == "read"]
                networked += [cell.anew() for cell in cells if cell.name == "bare" and cell.family in ("asgi", "flask")]
                measure(networked, rounds=5 if quick else 15, batch=0.01 if quick else 0.03)
                apart = added(networked)
        servers = {"redis": f"{server.url}?timeout=600", "postgresql": f"{database.url}?timeout=600&migrate=auto"}
        grown = growth.measure(directory, (1_000, 10_000) if quick else (1_000, 100_000, 1_000_000), servers)
    text, kept = report(medians, apart, grown, imports.ratio(5 if quick else 15), memory)
    print(text)
    if not quick:
        (HERE / "RESULTS.md").write_text(text)
        listed = [
            {"family": f, "name": n, "kind": k, "added_us": round(v, 2)} for (f, n, k), v in sorted(medians.items())
        ]
        (HERE / "results.json").write_text(json.dumps({"cells": listed, "growth": grown}, indent=1) + "\n")
        plot(medians)
    print(f"{time.perf_counter() - started:.0f} s")
    return 0 if kept else 1


def report(
    medians: Medians, apart: Medians, grown: list[dict[str, Any]], import_ratio: float, memory: dict[str, float]
) -> tuple[str, bool]:
    """Return the page, and whether every promise was kept."""
    lines = [
        "# Benchmarks",
        "",
        "What a session adds to a request, in microseconds over the same application without sessions: medians of",
        f"interleaved rounds in one process, no server, CPython {platform.python_version()}. The machine is shared and",
        "noisy: trust the ratios, which compare within one run. `make bench` measures again; `benchmarks/` says what.",
        "The process and Redis share one core, so that a wait is a switch between the two, and not a core that sleeps",
        "and must wake: how long that takes depends on the machine's power saving and not on anybody's code.",
        "",
        "![Added microseconds for a read](results.svg)",
        "",
        "## Promises",
        "",
        "| promise | at most | measured | |",
        "|---|--:|--:|---|",
    ]
    kept = True
    for target in TARGETS:
        ratio = medians[target.ours] / max(medians[target.other], 1e-9)
        kept = kept and ratio <= target.limit
        lines.append(f"| {target.promise} | {target.limit:g} × | {ratio:.2f} × | {_kept(ratio <= target.limit)} |")
    imported = _kept(import_ratio <= IMPORT_LIMIT)
    lines.append(f"| `import sessile` / `{imports.NEEDED}` | 1.6 × | {import_ratio:.2f} × | {imported} |")
    kept = kept and import_ratio <= IMPORT_LIMIT
    ours, theirs = memory["sessile redis"], memory["flask-session redis"]
    kept = kept and ours <= MEMORY_LIMIT * theirs
    lines.append(
        f"| bytes a session takes in Redis ({ours:.0f}) / Flask-Session's for the same data ({theirs:.0f}) "
        f"| {MEMORY_LIMIT:g} × | {ours / theirs:.2f} × | {_kept(ours <= MEMORY_LIMIT * theirs)} |"
    )
    if apart:
        lines += ["", *_apart(apart)]
    lines += ["", "## Every cell (µs added)", "", f"| | {' | '.join(KINDS)} |", f"|---|{'--:|' * len(KINDS)}"]
    for family, name in dict.fromkeys((family, name) for family, name, _ in medians):
        row = [f"{medians[family, name, kind]:.1f}" if (family, name, kind) in medians else "" for kind in KINDS]
        lines.append(f"| {family}: {name} | {' | '.join(row)} |")
    columns = [column for column in grown[0] if column not in ("store", "sessions")]
    lines += [
        "",
        "## Growth (µs an operation, at the store)",
        "",
        f"| store | live sessions | {' | '.join(columns)} |",
        f"|---|--:|{'--:|' * len(columns)}",
        *(
            f"| {row['store']} | {row['sessions']:,} | {' | '.join(f'{row[column]:.1f}' for column in columns)} |"
            for row in grown
        ),
        "",
    ]
    return "\n".join(lines), kept


def _apart(medians: Medians) -> list[str]:
    """Return the lines that say what Redis costs from a core of its own."""
    lines = [
        "## With Redis on a core of its own",
        "",
        "Nothing else runs here, so each core sleeps while it waits for the other. A GET then is mostly the time to",
        "wake up, and whatever runs after it runs with cold caches: peers' code and ours alike. These are no promises.",
        "",
        "| the same ratio | µs | of | measured |",
        "|---|--:|--:|--:|",
    ]
    for target in TARGETS:
        if target.ours in medians and target.other in medians:
            ours, other = medians[target.ours], medians[target.other]
            lines.append(f"| {target.promise} | {ours:.1f} | {other:.1f} | {ours / max(other, 1e-9):.2f} × |")
    return lines


def _kept(kept: bool) -> str:
    return "kept" if kept else "**not kept**"


def plot(medians: Medians) -> None:
    """Draw the added cost of a read, per family."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    families = ("asgi", "wsgi", "flask", "django")
    rows = {f: sorted((v, n) for (g, n, k), v in medians.items() if g == f and k == "read") for f in families}
    ratios = [len(rows[family]) for family in families]
    figure, axes = pyplot.subplots(4, 1, figsize=(8, 9), height_ratios=ratios, layout="constrained")
    for family, axis in zip(families, axes, strict=True):
        values, names = [value for value, _ in rows[family]], [name for _, name in rows[family]]
        colours = [
            "#0f766e" if n.startswith("sessile") else "#cbd5e1" if n.startswith("floor") else "#64748b" for n in names
        ]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axis.set_title(family, loc="left", fontsize=10, fontweight="bold")
        axis.spines[["top", "right"]].set_visible(False)
        axis.invert_yaxis()
    axes[-1].set_xlabel("µs added to a request that reads one key (less is better)")
    figure.savefig(HERE / "results.svg", metadata={"Date": None})


if __name__ == "__main__":
    raise SystemExit(main())
