"""A real provider for tests of single sign-on: npm oidc-provider on an address of the loopback of its own.

    with provider(clients=[client("a", "http://127.0.0.2:20001", ...)]) as op:
        op.issuer

Addresses isolate cookies, ports do not: every application and the provider listen on an address of their own.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.node import node_folder, node_programs

SOURCE: Final = Path(__file__).resolve().parents[1] / "auth" / "node"
PATIENCE: Final = 60.0


class OidcProvider:
    """Hold a provider that runs: its issuer, and what it said of the back-channel requests that it made."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.issuer: str = self._lines.get(timeout=PATIENCE)["issuer"]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def heard(self, count: int) -> list[dict[str, Any]]:
        """Return what it said of its next so many back-channel requests, sorted by client."""
        deadline = time.monotonic() + PATIENCE
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found.append(self._lines.get(timeout=max(0.1, deadline - time.monotonic())))
        self.said += found
        return sorted(found, key=lambda one: str(one["client"]))

    def is_silent(self) -> bool:
        """Tell whether it made no request that nobody has looked at."""
        return self._lines.empty()


def client(
    client_id: str,
    origin: str,
    *,
    callback: str,
    logged_out: str,
    backchannel: str | None,
    by_session: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """Return the registration of an application; the paths are below its origin."""
    registered: dict[str, Any] = {
        "client_id": client_id,
        "client_secret": f"secret of {client_id} {'x' * 24}",
        "redirect_uris": [origin + callback],
        "post_logout_redirect_uris": [origin + logged_out],
        "grant_types": ["authorization_code", "refresh_token"],
        **more,
    }
    if backchannel is not None:
        registered |= {
            "backchannel_logout_uri": origin + backchannel,
            "backchannel_logout_session_required": by_session,
        }
    return registered


@contextmanager
def provider(clients: Sequence[dict[str, Any]], host: str = "127.0.0.1") -> Iterator[OidcProvider]:
    """Run a provider that knows these applications."""
    folder = node_folder(SOURCE, "auth-node")
    command = [node_programs()[0], "sign_on.mjs", json.dumps({"host": host, "clients": list(clients)})]
    process = subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield OidcProvider(process)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        if process.stdout is not None:
            process.stdout.close()
