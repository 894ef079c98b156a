"""`docs/requirements.md` says what the tests say."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.requirements import HIGHEST, requirement

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.tree
@pytest.mark.slow
def test_the_requirements_page_is_up_to_date() -> None:
    """Whoever adds or renames a test runs `make requirements`."""
    command = [sys.executable, ROOT / "tools" / "requirements_page.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tree
def test_every_requirement_has_a_text() -> None:
    """The texts are numbered without a gap, and each says something."""
    texts = tomllib.loads((ROOT / "docs" / "requirements.toml").read_text(encoding="utf-8"))
    del texts["sources"]
    assert list(texts) == [f"R{number}" for number in range(1, HIGHEST + 1)]
    assert all(entry["text"] and entry["group"] for entry in texts.values())


def test_marking_keeps_the_numbers() -> None:
    """The mark carries what the page reads."""
    assert requirement("R1", "R101").args == ("R1", "R101")


@pytest.mark.parametrize("numbers", [(), ("R0",), ("R102",), ("25",), ("r25",), ("R025",), ("R25 ",)])
def test_a_mistyped_requirement_is_refused(numbers: tuple[str, ...]) -> None:
    """A typing error would hide a requirement's test."""
    with pytest.raises(ValueError, match=r"R25|is not one of"):
        requirement(*numbers)
