"""The applications of the guide to signing in work as they stand there."""

from __future__ import annotations

import asyncio
import importlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessile import Sessions
from sessile.auth.pages import AccountPages, Theme
from sessile.testing.clock import FrozenClock
from tests.auth.pages.visiting import GOOD, Visitor
from tests.support.mounting import ORIGIN, Browser, module

pytestmark = pytest.mark.tree
GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "sign-in.md").read_text("utf-8")


def program(heading: str) -> str:
    """Return the program below a heading of the guide."""
    section = GUIDE.split(f"## {heading}\n")[1].split("\n## ")[0]
    (found,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(found)


def run(heading: str) -> dict[str, Any]:
    """Run the program, and return its names."""
    names: dict[str, Any] = {"__name__": "app"}
    exec(compile(program(heading), heading, "exec"), names)
    return names


async def try_out(client: Any, names: dict[str, Any]) -> None:
    """Be sent to sign in, sign up, land on the page that was wanted, go, and come back."""
    site = AccountPages(names["accounts"])
    visitor = Visitor(Browser(client, names.get("sessions"), site), names["accounts"], site, Path(), FrozenClock())
    home = await visitor.browser.get("/")
    assert home.headers["location"] == "/account/sign-in?next=/&reason=login"
    await visitor.sign_up(password=GOOD)
    assert visitor.reply.headers["location"] == "/"
    assert "Hello, " in (await visitor.browser.get("/")).text
    await visitor.sign_out()
    assert (await visitor.browser.get("/")).status_code == 303
    await visitor.sign_in()
    assert "Hello, " in (await visitor.browser.get("/")).text
    assert "This device" in (await visitor.get("/devices")).text


@pytest.mark.parametrize("heading", ["Starlette and FastAPI", "Any ASGI application"])
async def test_an_application_with_an_event_loop(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(heading)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(names["app"]), base_url=ORIGIN) as client:
        await try_out(client, names)
    await names["accounts"].close()
    await names["sessions"].close()
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["accounts.db", "sessions.db"]  # noqa: ASYNC240


@pytest.mark.parametrize("heading", ["Flask", "Any WSGI application"])
async def test_an_application_that_blocks(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(heading)
    with httpx.Client(transport=httpx.WSGITransport(names["app"]), base_url=ORIGIN) as client:
        await try_out(client, names)
    names["accounts"].close()
    names["sessions"].close()


async def test_a_django_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings and the addresses of the guide."""
    monkeypatch.chdir(tmp_path)
    await asyncio.to_thread(importlib.import_module, "tests.support.mounting_django")
    from django.core.handlers.wsgi import WSGIHandler
    from django.test.utils import override_settings
    from django.urls import clear_url_caches

    from sessile.adapters.django.doors import reopen

    (given,) = re.findall(r"`SESSILE = (\{.*?\})`", GUIDE)
    with override_settings(SESSILE=eval(given)):
        reopen()
        names = run("Django")
        module("tests.support.how_to_sign_in", urlpatterns=names["urlpatterns"])
        with override_settings(ROOT_URLCONF="tests.support.how_to_sign_in"):
            clear_url_caches()
            with httpx.Client(transport=httpx.WSGITransport(WSGIHandler()), base_url=ORIGIN) as client:
                await try_out(client, names)
        names["accounts"].close()
    reopen()


def test_the_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And every setting in the table is one."""
    from sessile.auth.accounts import AccountOptions, Accounts

    monkeypatch.chdir(tmp_path)
    (tmp_path / "templates" / "account").mkdir(parents=True)
    (tmp_path / "logo.svg").write_text("<svg/>", "utf-8")
    accounts = Accounts(Sessions(), "memory://", name="My shop", origin="http://localhost:8000")
    names: dict[str, Any] = {"accounts": accounts}
    exec(program("Looks"), names)
    assert isinstance(names["theme"], Theme)
    assert isinstance(names["pages"], AccountPages)
    named = set(re.findall(r"^\| `(\w+)(?:=\w+)?`", GUIDE, re.MULTILINE)) - {"name"}
    assert named == set(AccountOptions.__annotations__)
