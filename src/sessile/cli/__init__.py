"""The command line: `sessile`, one file a command.

    exit code   when
    0           it was done; `doctor` found nothing unsafe
    1           `doctor` found something unsafe; an end found nothing to end
    2           it could not be done: wrong arguments, no such store or session, the store failed. One line says why

Results go to standard output: a table on a terminal, tab-separated lines in a pipe, JSON where `--json` asks for it.
All else goes to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import ExtraMissing, SessileError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that `arguments` (default: those of the process) name, and exit."""
    try:
        try:
            from .app import app
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("typer", "rich"):
                raise
            raise ExtraMissing("The command line", "cli") from error
        app(args=arguments, prog_name="sessile")
    except SessileError as error:
        print(f"sessile: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
