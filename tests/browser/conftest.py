"""A real Chromium, and a real server for it to talk to.

Playwright keeps an event loop running in this thread while it is started, so it is started for a module, not for the
whole run: other tests want loops of their own.
"""

from __future__ import annotations

import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

# The environment that tests the built wheel has no Playwright, and leaves these tests out by their mark anyway.
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]

Serve = Callable[[Any], str]
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 15.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder: it needs a Chromium."""
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker("browser")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start the Chromium of the system, headless."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.fail("there is no Chromium: make chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """Return a browser profile of its own, in which two pages are two tabs."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """Return a tab."""
    return context.new_page()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return what serves an ASGI application on localhost and returns its address; it ends with the test."""
    with ExitStack() as stack:
        yield lambda application: stack.enter_context(serving(application))


@contextmanager
def serving(application: Any, address: str = "") -> Iterator[str]:
    """Serve an ASGI application on localhost, or on an address of the loopback that stands for a site of its own."""
    listening = _listen(address or "127.0.0.1")
    port = listening.getsockname()[1]
    config = uvicorn.Config(application, log_level="error", ws="websockets-sansio", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    limit = time.monotonic() + PATIENCE
    while not server.started:
        if time.monotonic() > limit or not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    try:
        yield f"http://{address or 'localhost'}:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()


def _listen(address: str) -> socket.socket:
    """Take a port below the range from which the system gives ports to clients."""
    for _ in range(100):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address, random.randrange(20_000, 32_000)))
        except OSError:
            listening.close()
            continue
        listening.listen(128)
        return listening
    raise RuntimeError("no port is free")
