"""The layers of the package hold, and a module that nobody placed fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tree
ROOT = Path(__file__).resolve().parent.parent


def lint_imports(source: Path) -> tuple[int, str]:
    """Run import-linter over the package in `source`; return its exit status and what it printed."""
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / ".importlinter", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_module_imports_only_what_lies_below_it() -> None:
    """All contracts of `.importlinter` are kept."""
    status, printed = lint_imports(ROOT / "src")
    assert status == 0, printed


@pytest.mark.parametrize("stray", ["stray.py", "core/stray.py"])
def test_a_module_that_nobody_placed_fails(stray: str, tmp_path: Path) -> None:
    """The contracts are exhaustive: a new file has to be given a layer."""
    shutil.copytree(ROOT / "src" / "sessile", tmp_path / "sessile", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sessile" / stray).write_text('"""Nobody placed this."""\n')
    status, printed = lint_imports(tmp_path)
    assert status != 0
    assert "stray" in printed


def test_an_import_from_above_fails(tmp_path: Path) -> None:
    """A store that reaches for the doors breaks a contract."""
    shutil.copytree(ROOT / "src" / "sessile", tmp_path / "sessile", ignore=shutil.ignore_patterns("__pycache__"))
    url = tmp_path / "sessile" / "stores" / "url.py"
    url.write_text(url.read_text(encoding="utf-8") + "\nfrom ..core.sessions import Sessions\n", encoding="utf-8")
    status, printed = lint_imports(tmp_path)
    assert status != 0
    assert "sessile.stores.url -> sessile.core.sessions" in printed
