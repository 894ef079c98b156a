"""Ports for servers that tests start: free, and below the range that the system hands out by itself."""

from __future__ import annotations

import random
import socket
import time


def free_port() -> int:
    """Return a port between 20000 and 32000 on which nobody listens."""
    for candidate in random.Random().sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    raise AssertionError("no free port")


def await_port(port: int, host: str = "127.0.0.1", *, seconds: float = 60.0) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), 0.5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nobody listens on {port}")
