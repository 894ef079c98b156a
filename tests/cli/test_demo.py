"""`sessile demo` starts the demo, and says why where it cannot."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.cli.conftest import Call

for module in ("argon2", "jinja2", "starlette", "uvicorn"):
    pytest.importorskip(module)


def test_the_demo_serves_its_page_until_it_is_interrupted(tmp_path: Path) -> None:
    """It prints where it is, serves there, keeps its files in the folder, and stops on Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sessile", "demo", "--port", str(port), "--no-browser"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        try:
            page = ""
            deadline = time.monotonic() + 30
            while not page and time.monotonic() < deadline:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                        page = answer.read().decode()
                except OSError:
                    time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=30)
    assert "<html" in page
    assert f"http://localhost:{port}" in said
    assert process.returncode == 0
    assert (tmp_path / ".demo").stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_is_one_line(sessile: Call, tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "taken").touch()
    said = sessile("demo", "--no-browser", "--directory", str(tmp_path / "taken" / "below"))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("sessile: the demo cannot be served: ")
    assert said.err.count("\n") == 1


def test_the_demo_without_its_extra_is_one_sentence(sessile: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the command line but not the demo is told what to install."""
    for name in [name for name in sys.modules if name.startswith("sessile.demo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "argon2", None)
    said = sessile("demo", "--no-browser")
    assert said.code == 2
    assert said.err == "sessile: The demo needs a package that is not installed: pip install 'sessile[demo]'\n"
