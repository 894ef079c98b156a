"""The pytest plugin, as a user's own test run meets it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SUITE = """
import pytest
from sessile import Sessions, Facts
from sessile.core.requests import no_headers
from sessile.testing import mint_session

def test_the_clock_has_two_names(clock, sessile_clock):
    assert clock is sessile_clock
    before = clock()
    clock.advance(60)
    assert sessile_clock() == before + 60

def test_events_are_recorded(clock, sessile_events):
    sessions = Sessions("memory://", clock=clock, sinks=[sessile_events])
    mint_session(sessions, "ann")
    assert sessile_events.codes == ["signed-in"]

def test_login_as_signs_in(login_as):
    from http.cookiejar import CookieJar
    from types import SimpleNamespace
    client = SimpleNamespace(cookies=SimpleNamespace(jar=CookieJar()), base_url="https://shop.example")
    sessions = Sessions("memory://", sinks=())
    sid = login_as(client, "ann", sessions=sessions)
    assert [info.id for info in sessions.of_user("ann")] == [sid]
    assert [cookie.name for cookie in client.cookies.jar] == ["__Host-id"]

def test_assertions_are_there(assert_rotated, assert_not_cacheable):
    from types import SimpleNamespace
    assert_not_cacheable(SimpleNamespace(status_code=200, headers={"cache-control": "no-store"}))
    with pytest.raises(AssertionError):
        assert_rotated("a", "b")
"""
OVERRIDDEN = """
import pytest

@pytest.fixture
def clock():
    return "mine"

def test_my_own_fixture_wins(clock):
    assert clock == "mine"
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder of its own, with our plugin and no other."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-p", "sessile.testing.plugin", "-W", "error", "-q", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_the_fixtures_work_in_a_users_suite(tmp_path: Path) -> None:
    """Each fixture does what its name says."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    done = run(tmp_path)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_a_users_own_fixture_takes_the_place_of_ours(tmp_path: Path) -> None:
    """A project that has a `clock` keeps it."""
    (tmp_path / "test_suite.py").write_text(OVERRIDDEN)
    done = run(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_loads_no_framework_and_nothing_of_ours_beyond_the_core(tmp_path: Path) -> None:
    """A suite that uses no fixture of ours pays next to nothing."""
    (tmp_path / "test_suite.py").write_text(
        "import sys\n"
        "def test_what_is_loaded():\n"
        "    names = {'django', 'flask', 'starlette', 'fastapi', 'httpx', 'typer', 'rich', 'sqlite3', 'asyncio'}\n"
        "    assert not names & set(sys.modules)\n"
        "    assert 'sessile.testing.client' not in sys.modules\n"
    )
    done = run(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_failing_assertion_is_readable_and_hides_our_own_frames(tmp_path: Path) -> None:
    """The report points at the user's line."""
    (tmp_path / "test_suite.py").write_text(
        "from types import SimpleNamespace\n"
        "def test_it(assert_not_cacheable):\n"
        "    assert_not_cacheable(SimpleNamespace(status_code=200, headers={'cache-control': 'public'}))\n"
    )
    done = run(tmp_path)
    assert "Cache-Control is 'public', so a cache may keep this response" in done.stdout
    assert "test_suite.py:3" in done.stdout
    assert "assertions.py" not in done.stdout


@pytest.mark.tree
def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    """The package declares it, under its own name."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"sessile": "sessile.testing.plugin"}


def test_the_kit_works_without_pytest_and_the_contract_says_what_it_needs() -> None:
    """The clock and the sink serve unittest as well; what needs pytest says so in one sentence."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "from sessile.testing import FrozenClock, login\n"
        "from sessile import SessileError\n"
        "try:\n    from sessile.testing import StoreContract\n"
        "except SessileError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ("StoreContract needs a package that is not installed: pip install 'sessile[testing]'\n")
