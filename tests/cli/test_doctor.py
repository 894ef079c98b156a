"""`sessile doctor` on applications and stores as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sessile.core.keys import generate
from tests.cli.conftest import Call, Said, Shop
from tests.support.requirements import requirement

APPLICATIONS = {
    "door": "from sessile import Sessions\nthing = Sessions('memory://', sinks=[])\n",
    "async_door": "from sessile import AsyncSessions\nthing = AsyncSessions('memory://', sinks=[])\n",
    "flask_app": (
        "from flask import Flask\nfrom sessile.adapters.flask import Sessile\n"
        "thing = Flask(__name__)\nthing.debug = True\n"
        "thing.config['SESSION_COOKIE_NAME'] = 'sid'\nSessile(thing, 'memory://', sinks=[])\n"
    ),
    "flask_factory": (
        "from flask import Flask\nfrom sessile.adapters.flask import Sessile\n"
        "def thing():\n    app = Flask(__name__)\n    Sessile(app, 'memory://', sinks=[])\n    return app\n"
    ),
    "starlette_app": (
        "from starlette.applications import Starlette\nfrom sessile import AsyncSessions\n"
        "from sessile.adapters.starlette import SessionMiddleware\n"
        "thing = Starlette()\n"
        "thing.add_middleware(SessionMiddleware, sessions=AsyncSessions('memory://', sinks=[]))\n"
    ),
    "fastapi_app": (
        "from fastapi import FastAPI\nfrom sessile import AsyncSessions\n"
        "from sessile.adapters.starlette import SessionMiddleware\n"
        "thing = FastAPI()\n"
        "thing.add_middleware(SessionMiddleware, sessions=AsyncSessions('memory://', sinks=[]))\n"
    ),
    "asgi_app": (
        "from sessile import AsyncSessions\nfrom sessile.adapters.asgi import SessionMiddleware\n"
        "async def app(scope, receive, send): ...\n"
        "thing = SessionMiddleware(app, sessions=AsyncSessions('memory://', sinks=[]))\n"
    ),
    "mounted_app": (
        "from starlette.applications import Starlette\nfrom starlette.routing import Mount\n"
        "from sessile import AsyncSessions\nfrom sessile.adapters.starlette import SessionMiddleware\n"
        "inner = Starlette()\n"
        "inner.add_middleware(SessionMiddleware, sessions=AsyncSessions('memory://', sinks=[]))\n"
        "thing = Starlette(routes=[Mount('/in', inner)])\n"
    ),
    "wsgi_app": (
        "from sessile import Sessions\nfrom sessile.adapters.wsgi import SessionMiddleware\n"
        "def app(environ, start_response): ...\n"
        "thing = SessionMiddleware(app, Sessions('memory://', sinks=[]))\n"
    ),
}


def doctor(folder: Path, *arguments: str, **env: str) -> Said:
    """Run the doctor in a folder, as its owner would."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SESSILE_", "DJANGO_"))}
    command = [sys.executable, "-m", "sessile", "doctor", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**clean, **env}, timeout=60
    )
    return Said(done.returncode, done.stdout, done.stderr)


def codes(said: Said) -> set[str]:
    """Return the codes of what is not in order."""
    return {one["code"] for one in json.loads(said.out)["findings"] if one["severity"] != "ok"}


@pytest.mark.parametrize("kind", APPLICATIONS)
def test_the_sessions_are_found_in_every_kind_of_application(tmp_path: Path, kind: str) -> None:
    """What is examined is the very configuration that serves: here its empty sinks are the mark."""
    for framework in ("flask", "starlette", "fastapi"):
        if f"import {framework}" in APPLICATIONS[kind] or f"from {framework}" in APPLICATIONS[kind]:
            pytest.importorskip(framework)
    (tmp_path / "main.py").write_text("print('noise of the application')\n" + APPLICATIONS[kind])
    said = doctor(tmp_path, "main:thing()" if kind == "flask_factory" else "main:thing", "--json")
    assert "Traceback" not in said.err
    assert said.code == 0
    assert {"sinks", "production", "development-key"} <= codes(said)


@requirement("R20", "R22", "R34", "R95")
def test_unsafe_choices_are_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    """One configuration with many mistakes: each is found, with its requirement."""
    (tmp_path / "main.py").write_text(
        "from sessile import *\n"
        "thing = Sessions('sqlite:///shop.db', proxies=Proxies(['0.0.0.0/0']), policy=Policy(absolute=90000),\n"
        "    guard=CrossSiteGuard(trusted_origins=['http://a.example']), clear_site_data=(), clock=lambda: 0.0)\n"
    )
    said = doctor(tmp_path, "main:thing")
    found = {row[2]: row[:2] for row in said.rows}
    assert said.code == 1
    assert found["proxies"] == ["fail", "R20"]
    assert found["limits-claimed"] == ["fail", "R34"]
    assert found["trusted-origin"] == ["fail", "R22"]
    assert found["clear-site-data"] == ["warn", "R68"]
    assert found["clock"] == ["warn", "R33"]
    assert {len(row) for row in said.rows} == {6}


@requirement("R10")
def test_a_start_that_is_refused_is_a_finding_not_a_traceback(tmp_path: Path) -> None:
    """Production without a key does not start, and the doctor says why."""
    (tmp_path / "main.py").write_text(APPLICATIONS["door"])
    said = doctor(tmp_path, "main:thing", "--production", "--json")
    assert said.code == 1
    [finding] = json.loads(said.out)["findings"]
    assert (finding["severity"], finding["code"], finding["requirement"]) == ("fail", "key-missing", "R10")


def test_production_may_be_judged_where_the_code_says_development(tmp_path: Path) -> None:
    """`--production` asks: what would be unsafe if people used this?"""
    (tmp_path / "main.py").write_text("from sessile import Sessions\nthing = Sessions(production=False)\n")
    judged = doctor(tmp_path, "main:thing", "--production", "--json")
    assert {"memory-store", "development-key"} <= codes(judged)
    assert judged.code == 1
    assert doctor(tmp_path, "main:thing").code == 0


def test_settings_without_effect_and_debug_mode_are_named(tmp_path: Path) -> None:
    """What Flask's own session was told, and Sessile does not hear, is said."""
    pytest.importorskip("flask")
    (tmp_path / "main.py").write_text(APPLICATIONS["flask_app"])
    key = generate()
    said = doctor(tmp_path, "main:thing", "--production", "--json", SESSILE_KEYS=key)
    assert {"debug", "start-warning", "memory-store", "sinks"} <= codes(said)
    assert "SESSION_COOKIE_NAME" in said.out
    assert key not in said.out + said.err


DJANGO = """
SECRET_KEY = "unused"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
SESSION_ENGINE = "sessile.adapters.django"
MIDDLEWARE = ["sessile.adapters.django.SessionMiddleware"]
SESSILE = {"store": "memory://", "sinks": []}
"""


def test_a_django_project_is_examined_by_its_settings(tmp_path: Path) -> None:
    """Its sessions, its debug mode and what Django's own checks say of Sessile's settings."""
    pytest.importorskip("django")
    (tmp_path / "shop.py").write_text(DJANGO)
    said = doctor(tmp_path, "--django", "shop", "--json")
    assert said.code == 0
    assert codes(said) == {"production", "development-key", "sinks"}
    (tmp_path / "shop.py").write_text(
        DJANGO + "DEBUG = True\nSESSION_SAVE_EVERY_REQUEST = True\n"
        "MIDDLEWARE += ['django.contrib.sessions.middleware.SessionMiddleware']\n"
    )
    said = doctor(tmp_path, "--django", "shop", "--production", "--json", SESSILE_KEYS=generate())
    assert said.code == 1
    assert codes(said) == {"memory-store", "sinks", "debug", "start-error", "start-warning"}
    said = doctor(tmp_path, "--django", "shop", "--production", "--json")
    assert (said.code, codes(said)) == (1, {"key-missing"})


def test_a_django_project_with_other_sessions_is_said_and_left_alone(tmp_path: Path) -> None:
    """The doctor does not open a store that the project would never use."""
    pytest.importorskip("django")
    (tmp_path / "shop.py").write_text("SECRET_KEY = 'unused'\n")
    said = doctor(tmp_path, "--django", "shop")
    assert said.code == 2
    assert "SESSION_ENGINE" in said.err
    assert {path.name for path in tmp_path.iterdir()} <= {"shop.py", "__pycache__"}


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("nothing", "module:attribute"),
        ("main:absent", "no attribute"),
        ("missing:app", "ModuleNotFoundError"),
        ("main:raises()", "RuntimeError"),
        ("main:leaves()", "SystemExit"),
        ("main:plain", "uses no sessions"),
        ("main:factory", "write it with ()"),
        ("broken:app", "SyntaxError"),
    ],
)
def test_a_target_that_cannot_be_examined_is_one_line(tmp_path: Path, target: str, hint: str) -> None:
    """Whatever a stranger's module does, the answer is a sentence and exit code 2."""
    (tmp_path / "main.py").write_text(
        "plain = 1\ndef raises(): raise RuntimeError('no\\ndatabase')\ndef leaves(): raise SystemExit(0)\n"
        "def factory(): return plain\n"
    )
    (tmp_path / "broken.py").write_text("def (:\n")
    said = doctor(tmp_path, target)
    assert (said.code, said.out) == (2, "")
    assert hint in said.err
    assert said.err.count("\n") == 1


def test_a_store_is_examined_without_touching_anything(tmp_path: Path) -> None:
    """`--url` looks at what is there and makes neither database nor key."""
    said = doctor(tmp_path, "--url", "sqlite:///shop.db", "--json")
    assert said.code == 0
    assert list(tmp_path.iterdir()) == []
    said = doctor(tmp_path, "--url", "sqlite:///shop.db", "--production", "--json")
    assert (said.code, codes(said)) == (1, {"key-missing"})
    said = doctor(tmp_path, "--url", "sqlite:///shop.db", "--json", SESSILE_PRODUCTION="1", SESSILE_KEYS=generate())
    assert (said.code, codes(said)) == (0, set())


@requirement("R99")
def test_files_that_others_can_read_are_found(sessile: Call, shop: Shop) -> None:
    """A database or key with the wrong mode is unsafe, whatever the code says."""
    assert sessile("doctor", "--url", shop.url).code == 0
    (shop.folder / "shop.db").chmod(0o644)
    (shop.folder / "shop.db.key").chmod(0o640)
    said = sessile("doctor", "--url", shop.url, "--json")
    assert said.code == 1
    assert {"database-mode", "key-file-mode"} <= codes(said)


@pytest.mark.parametrize("value", ["k0.short", "hunter2"])
def test_a_malformed_ring_is_refused_without_repeating_it(sessile: Call, shop: Shop, value: str) -> None:
    """The doctor's own errors hold no secret either."""
    said = sessile("doctor", "--url", shop.url, env={"SESSILE_KEYS": value})
    assert said.code == 2
    assert value not in said.err


def test_nothing_to_examine_is_said(sessile: Call) -> None:
    """Without a target there is a hint, not a success."""
    assert sessile("doctor").code == 2
    assert sessile("doctor", "a:b", "--django", "settings").code == 2


_ASKED = (
    "import asyncio\n"
    "from sessile import {door}\nfrom sessile.core.ports import Diagnosis\n"
    "from sessile.errors import StoreUnavailable\n"
    "from sessile.stores.memory import MemoryStore\n"
    "class Server(MemoryStore):\n"
    "    async def diagnose(self):\n"
    "        {body}\n"
    "thing = {door}(Server(), sinks=[])\n"
)


@pytest.mark.parametrize("door", ["Sessions", "AsyncSessions"])
def test_the_store_is_asked_about_its_server(tmp_path: Path, door: str) -> None:
    """Behind either door; a server that does not answer is a finding."""
    waits = "await asyncio.sleep(0.001); " if door == "AsyncSessions" else ""
    said_by_store = (
        "return (Diagnosis('warn', 'eviction', 'R45', 'it may evict', 'People are logged out.', 'Set it.'),)"
    )
    (tmp_path / "main.py").write_text(_ASKED.format(door=door, body=waits + said_by_store))
    assert "eviction" in codes(doctor(tmp_path, "main:thing", "--json"))

    (tmp_path / "down.py").write_text(_ASKED.format(door=door, body=waits + "raise StoreUnavailable('it is down')"))
    said = doctor(tmp_path, "down:thing", "--json")
    assert "store-unreachable" in codes(said)
    assert said.code == 1
