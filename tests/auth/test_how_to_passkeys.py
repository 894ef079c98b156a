"""The application of the guide to passkeys works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.authenticator import Authenticator

GUIDE = (Path(__file__).resolve().parent.parent.parent / "docs" / "how-to" / "passkeys.md").read_text("utf-8")
ORIGIN = "http://localhost:8000"


@pytest.mark.tree
def test_the_whole_application_signs_up_and_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is added after signing up; another browser signs in with it, naming nobody; a wrong one is told so."""
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    key = Authenticator()

    with TestClient(names["app"], base_url="https://localhost:8000") as browser:
        browser.post("/sign-up", data={"user": "ada"})
        options = browser.post("/passkeys/new/begin", data={"label": "my key"}).json()
        made = browser.post("/passkeys/new", data={"label": "my key", "credential": key.create(options, origin=ORIGIN)})
        assert (made.status_code, made.json()) == (200, {})
        assert "Hello, ada" in browser.get("/").text
        assert "<li>my key" in browser.get("/").text

    with TestClient(names["app"], base_url="https://localhost:8000") as browser:
        assert "Welcome" in browser.get("/").text
        stranger = Authenticator()
        options = browser.post("/passkeys/sign-in/begin").json()
        stranger.create(options | {"user": {"id": "AA"}, "rp": {"id": "localhost"}}, origin=ORIGIN)
        refused = browser.post("/passkeys/sign-in", data={"credential": stranger.get(options, origin=ORIGIN)})
        assert (refused.status_code, refused.json()) == (400, {"error": "refused"})
        options = browser.post("/passkeys/sign-in/begin").json()
        signed = browser.post("/passkeys/sign-in", data={"credential": key.get(options, origin=ORIGIN)})
        assert (signed.status_code, signed.json()) == (200, {})
        assert "Hello, ada" in browser.get("/").text
