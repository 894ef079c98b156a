"""No file names a registry's host or somebody's machine, and the package leaves nothing undone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.tree
ROOT = Path(__file__).resolve().parent.parent

# Put together from pieces, or this file would be the first to fail.
HOSTS = [
    ".".join(pieces)
    for pieces in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("proxy", "golang", "org"),
    ]
]
MACHINE_PATH = re.compile(r"(?<![\w.~*-])/(?:" + "|".join(("work/", "root/", r"home/\w", "Users/")) + ")")
UNDONE = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")) + r")\b")
LOCKFILES = {"uv.lock", "pylock.toml", "poetry.lock", "pdm.lock", "Pipfile.lock", "yarn.lock", "pnpm-lock.yaml"}


def tracked() -> list[Path]:
    """List what is committed or would be: the files that git does not ignore."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def lines() -> list[tuple[str, str]]:
    """Read every line of every text file, with its place."""
    found: list[tuple[str, str]] = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT)
        found += [(f"{name}:{number}", line) for number, line in enumerate(text.splitlines(), 1)]
    return found


def test_no_file_names_the_host_of_a_registry() -> None:
    """Which registry is asked is the business of the machine that asks."""
    found = [place for place, line in lines() if any(host in line for host in HOSTS)]
    assert not found, "\n".join(found)


def test_no_file_holds_a_path_of_the_machine_it_was_written_on() -> None:
    """What works for one person's directory works for nobody else."""
    found = [f"{place} {line.strip()[:80]}" for place, line in lines() if MACHINE_PATH.search(line)]
    assert not found, "\n".join(found)


def test_the_package_leaves_nothing_undone() -> None:
    """What is not done is an issue, not a remark in the source."""
    found = [place for place, line in lines() if place.startswith("src/") and UNDONE.search(line)]
    assert not found, "\n".join(found)


def test_no_lockfile_holds_addresses() -> None:
    """Requirements are locked by hash, in `requirements/`, and a lock that records where it downloaded is not kept."""
    files = tracked()
    named = [path for path in files if path.name in LOCKFILES]
    resolved = [p for p in files if p.name == "package-lock.json" and '"resolved"' in p.read_text(encoding="utf-8")]
    addressed = [p for p in files if p.parent.name == "requirements" and "://" in p.read_text(encoding="utf-8")]
    assert not [*named, *resolved, *addressed]


def test_every_locked_requirement_has_a_hash() -> None:
    """Each pinned line of `requirements/*.txt` continues with its hashes."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        pinned = [line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"[a-z0-9]", line)]
        assert pinned
        assert all("==" in line and line.endswith("\\") for line in pinned), path.name
