"""The guide's two applications, as they stand there: uvicorn and gunicorn, in processes of their own (R77, R78)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.ports import await_port, free_port
from tests.support.requirements import requirement

pytestmark = [pytest.mark.slow, pytest.mark.tree, requirement("R77", "R78")]

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "two-applications.md").read_text("utf-8")
PATIENCE = 60.0


class Browser:
    """Be one browser before one application."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False)
        self._cookie = ""

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """Send a request; a cookie that is Secure goes over http to this machine alone."""
        headers = {"cookie": self._cookie} if self._cookie else {}
        try:
            response = self._client.request(method, path, headers=headers, **more)
        except httpx.RemoteProtocolError:  # the server was killed since, and is back
            response = self._client.request(method, path, headers=headers, **more)
        assert response.status_code == 200, response.text
        for line in response.headers.get_list("set-cookie"):
            self._cookie = line.partition(";")[0]
        return response.json()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def sign_in(self, user: str) -> None:
        """Sign in."""
        self.ask("POST", "/sign-in", data={"user": user})
        assert self.user() == user

    def sign_out(self) -> None:
        """Sign out."""
        self.ask("POST", "/sign-out")

    def user(self) -> str | None:
        """Return who is signed in."""
        return self.ask("GET", "/")["user"]  # type: ignore[no-any-return]

    def await_end(self) -> float:
        """Wait until nobody is signed in; return how long that took, in seconds."""
        began = time.monotonic()
        while self.user() is not None:
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.005)
        return time.monotonic() - began


class Pair:
    """Hold the two applications' folder, addresses and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        a, b = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
        (folder / "a.py").write_text(a)
        (folder / "b.py").write_text(b)
        self.ports = {"a": free_port(), "b": free_port()}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        self.environment = {
            **os.environ,
            "A_URL": self.urls["a"],
            "B_URL": self.urls["b"],
            "A_TO_B": "Bearer a-tells-b-0123456789",
            "B_TO_A": "Bearer b-tells-a-0123456789",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._browsers: list[Browser] = []

    def browser(self, name: str) -> Browser:
        """Open a browser before one of them."""
        self._browsers.append(Browser(self.urls[name]))
        return self._browsers[-1]

    def start(self, name: str) -> None:
        """Start one of them."""
        port = str(self.ports[name])
        command = (
            [sys.executable, "-m", "uvicorn", "a:app", "--port", port, "--log-level", "warning"]
            if name == "a"
            else [
                *(sys.executable, "-m", "gunicorn", "b:app", "--bind", f"127.0.0.1:{port}", "--workers", "2"),
                *("--log-level", "error", "--worker-tmp-dir", str(self.folder)),
            ]
        )
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        await_port(int(port), seconds=PATIENCE)

    def kill(self, name: str) -> None:
        """Kill one of them, with its workers, as the system does."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def stop(self) -> None:
        """End both, and close the browsers."""
        for browser in self._browsers:
            browser.close()
        for name in tuple(self._running):
            self.kill(name)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `sessile signals`."""
        return subprocess.run(
            [sys.executable, "-m", "sessile", "signals", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@contextmanager
def running(folder: Path) -> Generator[Pair]:
    """Run both."""
    pair = Pair(folder)
    try:
        pair.start("a")
        pair.start("b")
        yield pair
    except BaseException:
        for log in folder.glob("*.log"):
            print(log.name, log.read_text(errors="replace")[-4000:])
        raise
    finally:
        pair.stop()


def test_they_sign_each_others_users_out(tmp_path: Path) -> None:
    """In both directions, of that user alone; one that was killed is told when it is back; the commands say so."""
    with running(tmp_path) as pair:
        at_a, at_b, other = (pair.browser(name) for name in ("a", "b", "b"))
        other.sign_in("ben")
        took: dict[str, list[float]] = {"a": [], "b": []}
        for source, target in [(at_a, at_b), (at_b, at_a)] * 3:
            source.sign_in("ada")
            target.sign_in("ada")
            source.sign_out()
            assert source.user() is None
            took["a" if source is at_a else "b"].append(target.await_end())
        assert other.user() == "ben"
        print("seconds from the answer to the sign-out until the other one is over:", json.dumps(took))

        at_a.sign_in("cyd")
        at_b.sign_in("cyd")
        pair.kill("b")
        at_a.sign_out()
        assert at_a.user() is None
        pair.kill("a")  # before it could be told
        waits = pair.command("status", "a:signals")
        assert waits.returncode == 0, waits.stderr
        assert waits.stdout.split("\t")[:5] == ["b", "b", "push", "enabled", "1"]
        pair.start("b")
        pair.start("a")
        at_b.await_end()
        assert other.user() == "ben"

        at_a.sign_in("ben")
        ended = pair.command("end-user", "a:signals", "ben", "--json")
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["ended"] == 1
        other.await_end()
        deadline = time.monotonic() + PATIENCE
        while (done := pair.command("deliver", "b:signals", "--json")).returncode == 1 and time.monotonic() < deadline:
            time.sleep(0.5)  # the application itself is at it, or waits until it tries again
        assert (done.returncode, json.loads(done.stdout)["waiting"]) == (0, 0), done.stderr
        wrong = pair.command("status", "a:app")
        assert (wrong.returncode, wrong.stdout) == (2, "")
