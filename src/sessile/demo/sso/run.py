"""Start the demo of single sign-on: the provider, two applications, the page; serve until Ctrl-C.

Every one listens on an address of the loopback of its own: addresses part cookies, ports do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any, Final

import uvicorn

from ...auth.oidc import Provider as Settings
from ...errors import ConfigurationError
from ..server import listen
from .apps import Application, registration
from .hub import Hub
from .provider import Provider, install
from .story import Place, Story
from .views import Views

HOSTS: Final[dict[Place, str]] = {"a": "127.0.0.2", "b": "127.0.0.3", "provider": "127.0.0.4"}


def run(*, port: int = 8000, directory: Path | None = None, open_browser: bool = False) -> None:
    """Serve until Ctrl-C; what is installed lies in `directory` (default: .demo).

    Raises:
        ConfigurationError: Node is missing, the provider cannot be installed or started, or the system has only one
            loopback address (macOS: `sudo ifconfig lo0 alias 127.0.0.2`, and so on to .4).
        OSError: no port is free.
    """
    folder = (Path(".demo") if directory is None else directory) / "provider"
    install(folder)
    story, views = Story(), Views()
    hub_socket = listen("127.0.0.1", port)
    hub_url = f"http://localhost:{hub_socket.getsockname()[1]}"
    places: tuple[Place, Place] = ("a", "b")
    try:
        sockets: dict[Place, socket.socket] = {place: listen(HOSTS[place], port) for place in places}
    except OSError as error:
        raise ConfigurationError(f"no application can listen on {HOSTS['a']}: {error}") from error
    urls = {place: f"http://{HOSTS[place]}:{one.getsockname()[1]}" for place, one in sockets.items()}
    known = {place: secrets.token_urlsafe(24) for place in places}
    provider = Provider(
        folder,
        host=HOSTS["provider"],
        port=0,
        clients=[registration(place, urls[place], known[place]) for place in places],
        heard=story.heard,
    )
    try:
        apps: dict[str, Application] = {}
        for place in places:
            op = Settings("op", provider.issuer, place, known[place], title="The provider")
            apps[place] = Application(place, urls[place], op, hub=hub_url, story=story, views=views)
        hub = Hub(apps, provider.issuer, story, views)
        print(f"\n  Single sign-on   {hub_url}\n")
        for app in apps.values():
            print(f"    {app.name:<14} {app.url}")
        print(f"    {'the provider':<14} {provider.issuer}   (any name, any password)")
        print("\n  Ctrl-C stops it.\n", flush=True)
        if open_browser:
            threading.Timer(0.8, webbrowser.open, (hub_url,)).start()
        served = [(hub.app, hub_socket), *((apps[place].app, sockets[place]) for place in places)]
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(served, apps))
    finally:
        provider.close()
        for one in (hub_socket, *sockets.values()):
            one.close()
        print("Stopped.")


async def _serve(served: list[tuple[Any, Any]], apps: dict[str, Application]) -> None:
    servers = [
        _Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", server_header=False, timeout_graceful_shutdown=2)
        )
        for app, _ in served
    ]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    if sys.platform != "win32":  # there, Ctrl-C interrupts the loop itself
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    try:
        await asyncio.gather(*(server.serve([listener]) for server, (_, listener) in zip(servers, served, strict=True)))
    finally:
        for app in apps.values():
            await app.close()


class _Server(uvicorn.Server):
    """Leave signals to who runs several servers in one loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Capture none."""
        yield
