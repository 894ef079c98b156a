"""What a person sees: the command line under a pseudo-terminal."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time

import pytest

from sessile.testing import mint_session
from tests.cli.conftest import HOSTILE, Shop

pty = pytest.importorskip("pty")
pytest.importorskip("rich")

STYLE = re.compile(r"\x1b\[[0-9;]*m")


def screen(*arguments: str, typed: str = "", **env: str) -> tuple[str, int]:
    """Run a command on a terminal 120 columns wide; return what is written on it, and the exit code."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "sessile", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", **env},
    )
    os.close(theirs)
    if typed:
        os.write(ours, typed.encode())
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            part = os.read(ours, 65_536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return shown.decode(), process.wait(30)


def test_a_list_is_a_table_with_headings_and_short_times(shop: Shop) -> None:
    """People get columns, short ids and "now", in colour."""
    raw, code = screen("sessions", "list", "--store", shop.url)
    shown = STYLE.sub("", raw)
    assert code == 0
    assert all(heading in shown for heading in ("id", "user", "kind", "device", "last used", "ends"))
    assert shop.ann.id[:12] in shown
    assert shop.ann.id not in shown
    assert "\t" not in shown
    assert STYLE.search(raw)


def test_a_longer_list_is_cut_and_says_so(shop: Shop) -> None:
    """A terminal is not flooded."""
    shown, _ = screen("sessions", "list", "--limit", "2", "--store", shop.url)
    assert "There are more than these 2" in shown


def test_a_hostile_name_does_not_reach_the_terminal(shop: Shop) -> None:
    """No escape sequence but our own styles arrives."""
    minted = mint_session(shop.sessions, HOSTILE)
    for arguments in (("list",), ("show", minted.id)):
        shown, _ = screen("sessions", *arguments, "--store", shop.url)
        assert "\x1b" not in STYLE.sub("", shown)
        assert "\\x1b[2J" in shown
        assert "\u202e" not in shown


def test_keygen_explains_itself_beside_the_key() -> None:
    """On a terminal the key comes with what to do with it."""
    shown, _ = screen("keygen")
    assert "SESSILE_KEYS" in shown


def test_a_policy_and_a_diagnosis_are_readable(shop: Shop) -> None:
    """Marks, requirements and advice stand on the screen."""
    shown, _ = screen("policy", "--preset", "aal1")
    assert "absolute timeout" in shown
    assert "R34, NIST" in shown
    shown, code = screen("doctor", "--url", shop.url, "--production")
    assert "✗" in shown
    assert "Run `sessile keygen`" in shown
    assert "1 unsafe, 0 to look at" in shown
    assert code == 1


def test_ending_everything_asks_first(shop: Shop) -> None:
    """No is no, and it is the default."""
    shown, code = screen("sessions", "end-all", "--store", shop.url, typed="n\n")
    assert "End all 4 sessions?" in shown
    assert code != 0
    assert shop.sessions.stats().live == 4
    shown, code = screen("sessions", "end-all", "--store", shop.url, typed="y\n")
    assert code == 0
    assert shop.sessions.stats().live == 0


def test_long_work_shows_how_far_it_is_and_short_work_does_not(shop: Shop) -> None:
    """The bar is drawn on standard error once half a second has passed."""
    program = (
        "import sys, time\nfrom sessile.cli import output\noutput.PATIENCE = float(sys.argv[1])\n"
        "with output.Progress('Sweeping', lambda: 10) as advance:\n"
        "    for _ in range(10): advance(1); time.sleep(0.03)\n"
    )
    assert "10/10" in _run(program, "0.05")
    assert _run(program, "60") == ""


def _run(program: str, argument: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program, argument],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:
            pass
        process.wait(30)
    os.close(ours)
    return STYLE.sub("", shown.decode())
