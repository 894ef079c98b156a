"""Write `docs/requirements.md`: every requirement with its tests, or "not yet".

    python tools/requirements_page.py            write the page
    python tools/requirements_page.py --check    exit with 1 if the committed page says something else

The texts are in `docs/requirements.toml`; which test shows what is asked of pytest itself, so the page cannot
name a test that does not exist.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ROOT / "docs" / "requirements.toml"
PAGE = ROOT / "docs" / "requirements.md"

Texts = dict[str, dict[str, str]]
Tests = dict[str, dict[str, Counter[str]]]
"""Requirement → module → test function → how many variants of it run (parameters, subclasses)."""


class Collector:
    """A pytest plugin that notes which test shows which requirement."""

    def __init__(self) -> None:
        self.tests: Tests = defaultdict(lambda: defaultdict(Counter))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the marks of all tests, those of their classes and modules included."""
        for item in session.items:
            module = item.path.relative_to(ROOT / "tests").as_posix()
            function = getattr(item, "originalname", None) or item.name
            for number in {number for mark in item.iter_markers("requirement") for number in mark.args}:
                self.tests[number][module][function] += 1


def collect() -> Tests:
    """Ask pytest for all tests, running none."""
    collector, output = Collector(), io.StringIO()
    arguments = ["--collect-only", "-qq", "-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={ROOT}"]
    with contextlib.redirect_stdout(output):
        status = pytest.main([*arguments, str(ROOT / "tests")], plugins=[collector])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"{output.getvalue()}\nThe tests cannot be collected, so the page cannot be written.")
    return collector.tests


def write(texts: Texts, sources: dict[str, str], tests: Tests) -> str:
    """Return the page."""
    shown = sum(1 for number in texts if number in tests)
    lines = [
        "# Requirements and their tests",
        "",
        "<!-- Written by `make requirements`; edit docs/requirements.toml or the tests instead. -->",
        "",
        f"What must hold, and which tests show it: {shown} of {len(texts)} requirements have a test.",
        "A test that runs in several variants (stores, adapters, parameters) is counted: ×10.",
        "",
    ]
    group = None
    for number, text in texts.items():
        if text["group"] != group:
            group = text["group"]
            lines += ["", f"## {group}", "", "| | Must hold | Source | Tests |", "|---|---|---|---|"]
        cells = [f"**{number}**", text["text"], text["source"], _cell(tests.get(number, {}))]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Sources", "", *(f"- **{key}**: {name}" for key, name in sources.items())]
    return "\n".join(_without_doubled_blanks(lines)) + "\n"


def _cell(modules: dict[str, Counter[str]]) -> str:
    if not modules:
        return "not yet"
    return "<br>".join(
        f"`{module}`: " + ", ".join(_named(name, count) for name, count in sorted(functions.items()))
        for module, functions in sorted(modules.items())
    )


def _named(function: str, count: int) -> str:
    sentence = function.removeprefix("test_").replace("_", " ")
    return sentence if count == 1 else f"{sentence} ×{count}"


def _without_doubled_blanks(lines: Iterable[str]) -> Iterable[str]:
    previous = None
    for line in lines:
        if line or previous:
            yield line
        previous = line


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description="Write docs/requirements.md from the tests.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the page is out of date")
    arguments = parser.parse_args()
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    sources = texts.pop("sources")
    page = write(texts, sources, collect())
    if arguments.check:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
            return 0
        print("docs/requirements.md does not say what the tests say: run `make requirements` and commit it.")
        return 1
    PAGE.write_text(page, encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
