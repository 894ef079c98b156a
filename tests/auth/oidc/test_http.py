"""How providers are asked, against real servers that misbehave: small answers, in time, from where was asked."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sessile.auth.oidc.http import MAX_BYTES, Http, check_url, open_http
from sessile.auth.signals import http as signals
from sessile.core.bridge import drive
from sessile.errors import ConfigurationError, StoreUnavailable
from tests.support.ports import free_port

PATIENCE = 30.0


class Server(BaseHTTPRequestHandler):
    """Misbehave as the path says."""

    released = threading.Event()

    def do_GET(self) -> None:
        """Answer."""
        match self.path:
            case "/endless":
                self.send_response(200)
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(b"x" * 65536)
                except OSError:
                    return
            case "/away":
                self.send_response(302)
                self.send_header("location", "/json")
                self.end_headers()
            case "/silent":
                self.released.wait(PATIENCE)
            case "/drip":
                self.send_response(200)
                self.end_headers()
                self._drip(b"x")
            case "/drip-headers":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
                self._drip(b"x")
                self._finish()
            case "/cookies":
                self._send(self.headers.get("cookie", "none").encode(), ("set-cookie", "a=b; Path=/"))
            case "/packed":
                body = gzip.compress(b"x" * (8 * MAX_BYTES))
                self._send(body, ("content-encoding", "gzip"))
            case "/json":
                self._send(b'{"a": 1}', ("content-type", "Application/JSON; charset=utf-8"))
            case _:
                self._send(b"[" * 100_000, ("content-type", "application/json"))

    def _drip(self, byte: bytes) -> None:
        for _ in range(50):  # 5 s; every step is well in time
            if self.released.wait(0.1):
                return
            try:
                self.wfile.write(byte)
                self.wfile.flush()
            except OSError:
                return

    def _finish(self) -> None:
        try:
            self.wfile.write(b"\r\ncontent-length: 0\r\n\r\n")
        except OSError:
            return

    def do_POST(self) -> None:
        """Give back what was sent."""
        self._send(self.rfile.read(int(self.headers["content-length"])), ("content-type", "text/plain"))

    def _send(self, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            return

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module", name="url")
def fixture_url() -> Iterator[str]:
    """Serve."""
    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["loop", "blocking"], name="http")
def fixture_http(request: pytest.FixtureRequest) -> Http:
    """Return the client of a door."""
    return open_http(blocking=request.param == "blocking", timeout=1.0)


async def test_an_answer_comes_whole(http: Http, url: str) -> None:
    answer = await http.get(url + "/json")
    assert (answer.status, answer.kind, answer.json()) == (200, "application/json", {"a": 1})
    answer = await http.post(url + "/echo", {"a": "ü&="})
    assert answer.body == b"a=%C3%BC%26%3D"
    await http.close()
    await http.close()


@pytest.mark.parametrize(("path", "why"), [("/endless", "too long"), ("/packed", "packed"), ("/deep", "")])
async def test_what_has_no_end_is_cut_off(http: Http, url: str, path: str, why: str) -> None:
    if why:
        with pytest.raises(StoreUnavailable, match=why):
            await http.get(url + path)
    else:
        assert (await http.get(url + path)).json() is None, "brackets without end are no document"
    await http.close()


async def test_who_says_nothing_is_not_waited_for(http: Http, url: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await http.get(url + "/silent")
    assert "127.0.0.1" not in str(caught.value)
    await http.close()


@pytest.mark.parametrize("path", ["/drip", "/drip-headers"])
async def test_who_says_one_byte_after_another_is_not_waited_for_either(http: Http, url: str, path: str) -> None:
    """Every step is in time, and the whole is not."""
    with pytest.raises(StoreUnavailable):
        await http.get(url + path)
    assert (await http.get(url + "/json")).status == 200, "the next request has its own time"
    await http.close()


async def test_cookies_of_one_users_request_are_not_sent_with_anothers(http: Http, url: str) -> None:
    for _ in range(2):
        assert (await http.get(url + "/cookies")).body == b"none"
    await http.close()


@pytest.mark.parametrize("blocking", [False, True], ids=["loop", "blocking"])
@pytest.mark.parametrize("path", ["/endless", "/packed", "/silent", "/drip", "/drip-headers"])
async def test_other_applications_hold_nobody_up_either(url: str, path: str, blocking: bool) -> None:
    """Who is told of ends is asked by the same code, with bounds of its own."""
    http = signals.open_http(blocking=blocking, timeout=1.0)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await http.send("GET", url + path, {})
    assert time.monotonic() - began < 4
    assert (await http.send("GET", url + "/cookies", {})).body == b"none"
    assert (await http.send("GET", url + "/cookies", {})).body == b"none"
    await http.close()


@pytest.mark.parametrize("host", ["999.999.999.999", "xn--a", "xn--", "[v1.x]"])
async def test_a_host_that_is_none_is_an_outage_and_no_crash(http: Http, host: str) -> None:
    """Such an address looks like one, and comes out of the provider's metadata."""
    with pytest.raises(StoreUnavailable):
        await http.get(f"https://{host}/")
    await http.close()


async def test_a_token_that_no_header_can_hold_is_no_crash(http: Http, url: str) -> None:
    with pytest.raises(StoreUnavailable):
        await http.get(url + "/json", {"authorization": "Bearer \u00e9\n"})
    await http.close()


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), 60])
def test_times_that_bound_nothing_are_refused(timeout: float) -> None:
    with pytest.raises(ConfigurationError):
        open_http(blocking=True, timeout=timeout)


async def test_nobody_is_followed_elsewhere(http: Http, url: str) -> None:
    assert (await http.get(url + "/away")).status == 302
    await http.close()


async def test_nobody_there_is_an_outage(http: Http) -> None:
    with pytest.raises(StoreUnavailable):
        await http.get(f"http://127.0.0.1:{free_port()}/")
    await http.close()


def test_the_blocking_client_waits_for_nothing_that_it_cannot(url: str) -> None:
    """It never suspends: the coroutine can be driven by hand."""
    http = open_http(blocking=True)
    assert drive(http.get(url + "/json")).status == 200
    drive(http.close())


@pytest.mark.parametrize(
    "address",
    [
        "http://login.example/",
        "https://",
        "https://login.example/#x",
        "https://login.example:99999/",
        "https://a b/",
        "https://user@login.example/",
        "https://login.example\\@evil.example/",
        "ftp://login.example/",
        "//login.example",
        "",
        None,
        7,
        "https://[::1",
        "https://" + "a" * 3000,
        "https://löwe.example/",
        "http://127.0.0.1.evil.example/",
        "http://localhost.evil.example/",
    ],
)
def test_addresses_that_may_not_be_asked(address: object) -> None:
    with pytest.raises(ConfigurationError):
        check_url(address, "it")


@pytest.mark.parametrize(
    "address", ["https://login.example/x?y=1", "http://localhost:8000/", "http://127.0.0.9:1/", "http://[::1]:1/"]
)
def test_addresses_that_may_be_asked(address: str) -> None:
    assert check_url(address, "it") == address
