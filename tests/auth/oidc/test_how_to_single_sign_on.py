"""The application of the guide to single sign-on works as it stands there, with a real provider."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.auth.oidc.login_bench import through
from tests.support.mounting import ORIGIN
from tests.support.oidc_provider import client, provider

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "single-sign-on.md").read_text("utf-8")


@pytest.mark.tree
async def test_the_whole_application_signs_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that needs somebody leads to the provider and back; signing out leads there again."""
    monkeypatch.chdir(tmp_path)
    program = next(one for one in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "import os" in one)
    registered = client(
        "guide", ORIGIN + "/sso", callback="/callback/login", logged_out="/logged-out", backchannel=None
    )
    with provider([registered]) as op:
        for name, value in (
            ("ISSUER", op.issuer),
            ("CLIENT_ID", "guide"),
            ("CLIENT_SECRET", registered["client_secret"]),
            ("ADDRESS", ORIGIN),
        ):
            monkeypatch.setenv(name, value)
        names: dict[str, Any] = {}
        exec(program, names)
        page = {"accept": "text/html", "sec-fetch-site": "same-origin", "origin": ORIGIN}
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=page) as browser:
            assert "Sign in" in (await browser.get("/")).text
            asked = await browser.get("/orders")
            assert asked.headers["location"].startswith("/sso/login/login?next=/orders")
            there = (await browser.get(asked.headers["location"])).headers["location"]
            with httpx.Client() as at_provider:
                back = await browser.get(through(at_provider, there, "ada"))
            assert back.headers["location"] == "/orders"
            assert "ada" in (await browser.get("/orders")).text
            assert f"Hello, {op.issuer}#ada" in (await browser.get("/")).text
            out = await browser.post("/sso/logout")
            assert out.headers["location"].startswith(op.issuer)
            assert "Sign in" in (await browser.get("/")).text
        await names["sign_on"].close()
        await names["sign_on"].ground.close()
        await names["sessions"].close()
