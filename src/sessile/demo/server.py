"""Start the demo: find a port, say where it is, serve until Ctrl-C."""

from __future__ import annotations

import socket
import threading
import time
import webbrowser
from pathlib import Path
from typing import Final

import uvicorn

from .app import application
from .users import SEEDED

_HIGHEST_PORT: Final = 32_767
_TRIES: Final = 20


def run(
    *, host: str = "127.0.0.1", port: int = 8000, directory: Path | None = None, open_browser: bool = False
) -> None:
    """Serve the demo on `host`, on `port` or the next free one; its files live in `directory` (default: .demo).

    Raises:
        OSError: no port near `port` is free, or the directory cannot be made.
    """
    folder = Path(".demo") if directory is None else directory
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = listen(host, port)
    found: int = listener.getsockname()[1]
    name = "localhost" if host in ("127.0.0.1", "::1", "localhost") else host
    url = f"http://{name}:{found}"
    app = application(folder, attack_address=(host if host not in ("0.0.0.0", "::") else "127.0.0.1", found))  # noqa: S104
    if port not in (0, found):
        print(f"Port {port} is busy; using {found}.")
    print(f"\n  Sessile demo   {url}\n")
    for user, password in SEEDED:
        print(f"    sign in as   {user:<6} {password}")
    print("\n  Ctrl-C stops it.\n", flush=True)
    if open_browser:
        threading.Thread(target=_open, args=(url,), daemon=True).start()
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2, server_header=False)
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
        print("Stopped.")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `port`, or on the next free one (0: any).

    Raises:
        OSError: none near it is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The port that was asked for is always tried; those after it only below the ports that clients get.
    last = max(port + 1, min(port + _TRIES, _HIGHEST_PORT + 1))
    for candidate in range(port, last) if port else (0,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        return listener
    raise OSError(f"no free port from {port} on")


def _open(url: str) -> None:
    time.sleep(0.8)
    webbrowser.open(url)
