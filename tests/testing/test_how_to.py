"""What the how-to pages show works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tree
PAGES = Path(__file__).parents[2] / "docs" / "how-to"
SHOP = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from sessile import AsyncSessions
from sessile.adapters.starlette import SessionMiddleware

sessions = AsyncSessions("memory://")

async def account(request):
    return JSONResponse({"user": request.session.require()})

async def sign_in(request):
    request.session.login("ann")
    return JSONResponse({})

app = Starlette(routes=[Route("/account", account), Route("/sign-in", sign_in, methods=["POST"])])
app.add_middleware(SessionMiddleware, sessions=sessions)
"""


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def test_the_tests_on_the_page_about_testing_pass(tmp_path: Path) -> None:
    """They are copied into a project with a shop, as a reader would."""
    pytest.importorskip("starlette")
    pytest.importorskip("httpx2")
    shown = blocks("testing.md", "python")
    tests = [one for one in shown if "def test_" in one]
    assert len(tests) == 4
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "main.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text("\n\n".join(tests))
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "sessile.testing.plugin"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_every_command_and_option_on_the_page_exists() -> None:
    """A page that is older than the program sends its readers into errors."""
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from sessile.cli.app import app

    lines = [line for block in blocks("command-line.md", "console") for line in block.splitlines()]
    commands = [found for line in lines for found in re.findall(r"(?:^|\(|\| xargs -r )sessile ([^|#)>]+)", line)]
    assert len(commands) > 15
    for command in commands:
        words = command.split()
        names = words[:2] if words[0] == "sessions" else [one for one in words[:1] if not one.startswith("-")]
        told = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
        assert told.exit_code == 0, command
        assert all(option in told.output for option in words if option.startswith("--")), command
