"""How commands speak: tables for people, tab-separated lines for pipes, JSON for machines.

What a session holds was written by others: a user's name may carry escape sequences that drive the operator's
terminal, or a line break that forges a row. `clean` makes them visible, and all that is not JSON passes through it.
"""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated, Final, Self

import typer

from ..core.policy import duration

JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")]

PATIENCE: Final = 0.5  # seconds of work before its progress is shown

# Control, format (they turn the direction of text), surrogate, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_terminal() -> bool:
    """Tell whether a person reads the results."""
    return sys.stdout.isatty()


def clean(text: str) -> str:
    """Return the text with every character that is not seen written as its code."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode() if unicodedata.category(one) in _UNSEEN else one for one in text
    )


def say(text: str) -> None:
    """Write one line of results."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Write one line beside the results."""
    print(text, file=sys.stderr)


def say_json(value: object) -> None:
    """Write one value as one line of JSON, in ASCII."""
    say(json.dumps(value))


def say_row(cells: Iterable[str]) -> None:
    """Write one tab-separated line."""
    say("\t".join(map(clean, cells)))


def say_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, styles: Sequence[str] = (), wrapped: Sequence[str] = ()
) -> None:
    """Write rows: a table with `columns` on a terminal, lines without them in a pipe.

    `styles` holds one a row, as far as there are any; the columns `wrapped` may break lines, others are cut.
    """
    if not is_terminal():
        for row in rows:
            say_row(row)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in wrapped, overflow="fold" if column in wrapped else "ellipsis")
    for index, row in enumerate(rows):
        style = styles[index] if index < len(styles) else ""
        table.add_row(*(Text(clean(cell), style=style if place == 0 else "") for place, cell in enumerate(row)))
    Console(highlight=False).print(table)


def say_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Write names and their values: in columns on a terminal, as tab-separated lines in a pipe."""
    if not is_terminal():
        for pair in pairs:
            say_row(pair)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in pairs:
        grid.add_row(Text(clean(name), style="dim"), Text(clean(value)))
    Console(highlight=False).print(grid)


class Progress:
    """Show on a terminal's standard error how far long work is; short work shows nothing.

    `total` is asked for when there is something to show. Use it in a `with`; call it with how much more was done.
    """

    def __init__(self, what: str, total: Callable[[], int | None] = lambda: None) -> None:
        self._what = what
        self._total = total
        self._since = time.monotonic()
        self._done = 0
        self._shown: Callable[[int], None] | None = None
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closing.close()

    def __call__(self, count: int) -> None:
        """Take how much more was done."""
        self._done += count
        if self._shown is None and time.monotonic() - self._since > PATIENCE and sys.stderr.isatty():
            self._shown = self._show()
        if self._shown is not None:
            self._shown(self._done)

    def _show(self) -> Callable[[int], None]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bar = self._closing.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        task = bar.add_task(self._what, total=self._total())
        return lambda done: bar.update(task, completed=done)


def instant(at: float) -> str:
    """Write a time (seconds since 1970) as ISO 8601 in UTC, to the second."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return "?"


def relative(at: float, now: float) -> str:
    """Write a time as people say it: "3 min ago", "in 2 h"."""
    apart = abs(at - now)
    if not apart < 1e12:
        return "?"
    for size in (86_400, 3_600, 60):
        if apart >= size:
            apart -= apart % size
            break
    else:
        apart = float(int(apart))
    if apart < 1:
        return "now"
    return f"in {duration(apart)}" if at > now else f"{duration(apart)} ago"
