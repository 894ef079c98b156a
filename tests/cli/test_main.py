"""The front door of the command line, as people start it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import sessile as package
from tests.cli.conftest import Call

WITHOUT_TYPER = """
import sys
sys.modules["typer"] = None
from sessile.cli import main
main(["--version"])
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter as a user would."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_the_module_runs_as_the_command_does() -> None:
    """`python -m sessile` is the command line."""
    done = run("-m", "sessile", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sessile {package.__version__}\n", "")


def test_a_missing_extra_is_one_sentence_with_the_line_that_installs_it() -> None:
    """Whoever installed Sessile without the extra is told what to type, and sees no traceback."""
    done = run("-c", WITHOUT_TYPER)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "sessile: The command line needs a package that is not installed: pip install 'sessile[cli]'\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("keygen",),
        ("policy",),
        ("doctor",),
        ("demo",),
        ("sessions",),
        *(("sessions", name) for name in ("list", "show", "end", "end-user", "end-all", "sweep", "stats")),
    ],
)
def test_every_command_has_a_short_help(sessile: Call, arguments: tuple[str, ...]) -> None:
    """`--help` fits on a screen and says what the command does."""
    said = sessile(*arguments, "--help")
    assert said.code == 0
    assert said.out.startswith("Usage: sessile")
    assert len(said.out.splitlines()) < 30


@pytest.mark.parametrize("arguments", [("nonsense",), ("keygen", "--id", "32"), ("policy", "--preset", "aal9")])
def test_wrong_arguments_exit_with_2_and_no_traceback(sessile: Call, arguments: tuple[str, ...]) -> None:
    """A typing error is the user's, and is told so."""
    said = sessile(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert "Traceback" not in said.err


def test_the_command_line_starts_without_rich_or_a_framework() -> None:
    """What is only needed for a terminal's tables is imported for them."""
    program = (
        "import sys; from sessile.cli.app import app\n"
        "heavy = {'django', 'flask', 'starlette', 'fastapi', 'pytest', 'rich.table', 'rich.progress'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout == "[]\n"
