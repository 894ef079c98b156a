"""How others are asked over HTTP: one request at a time, within seconds in all, and never more than is read.

Whatever they do (hang, redirect, send without end or a byte a second, send nonsense, cookies or what is packed), the
caller gets a small answer or one typed error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections.abc import Iterable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import httpcore
import httpx
import msgspec

from ..errors import ConfigurationError, StoreUnavailable

MAX_TIMEOUT: Final = 15.0
_LOCAL: Final = frozenset({"localhost"})


class Answer(NamedTuple):
    """Hold what came back."""

    status: int
    kind: str
    body: bytes

    def __repr__(self) -> str:
        return f"<Answer {self.status}, {len(self.body)} bytes>"  # there may be tokens in it

    def json(self) -> dict[str, Any] | None:
        """Return the body as a JSON object, None if it is none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None


class Asker(Protocol):
    """Ask over HTTP (port). Every failure on the way is `StoreUnavailable`: the request cannot be answered now."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send a request; return the answer, whatever its status."""
        ...

    async def close(self) -> None:
        """Close the connections. It may be called twice."""
        ...


class Terms(NamedTuple):
    """Hold who is asked, how long a request may take in all (seconds), and how much of an answer is read (bytes)."""

    who: str
    timeout: float
    largest: int


def check_url(url: object, what: str) -> str:
    """Return an address that may be asked: https, or http on this machine; no user, no fragment.

    Raises:
        ConfigurationError: it may not.
    """
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url or len(url) > 2048:
        raise ConfigurationError(f"{what} is no address")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{what} is no address") from None
    if not host or parts.username is not None or parts.fragment or "\\" in url:
        raise ConfigurationError(f"{what} must be a plain https address")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ConfigurationError(f"{what} must be an https address; http is for this machine alone")
    return url


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host in _LOCAL:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def open_asker(terms: Terms, *, blocking: bool) -> Asker:
    """Return the HTTP client of a door.

    Raises:
        ConfigurationError: the time is none, or too long.
    """
    if not 0 < terms.timeout <= MAX_TIMEOUT:
        raise ConfigurationError(f"timeout is a number of seconds, at most {MAX_TIMEOUT:.0f}")
    return _BlockingAsker(terms) if blocking else _LoopAsker(terms)


# An address may look like one, and its host be none to IDNA (a UnicodeError, as for a header that is not ASCII).
_FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError)


class _Reading:
    """Read one answer, no further than the terms allow."""

    def __init__(self, terms: Terms, response: httpx.Response) -> None:
        # What is packed is not opened: what comes out of a few bytes may have no end.
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise StoreUnavailable(f"the answer of {terms.who} is packed, which nobody asked for")
        self._terms = terms
        self._response = response
        self._body = bytearray()

    def take(self, chunk: bytes) -> None:
        self._body += chunk
        if len(self._body) > self._terms.largest:
            raise StoreUnavailable(f"the answer of {self._terms.who} is too long")

    def answer(self) -> Answer:
        kind = self._response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(self._response.status_code, kind, bytes(self._body))


class _LoopAsker:
    """Ask from an event loop; it has a client for each loop that asks."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._clients: dict[int, tuple[asyncio.AbstractEventLoop, httpx.AsyncClient]] = {}

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        client = self._client()
        try:
            async with asyncio.timeout(self._terms.timeout):
                request = client.build_request(method, url, headers=_headers(headers), content=body)
                response = await client.send(request, stream=True)
                try:
                    reading = _Reading(self._terms, response)
                    async for chunk in response.aiter_raw():
                        reading.take(chunk)
                finally:
                    await response.aclose()
        except _FAILURES as error:
            raise _failed(self._terms, error) from None
        return reading.answer()

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for owner, client in self._clients.values():
            if owner is loop:
                await client.aclose()
        self._clients.clear()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        found = self._clients.get(id(loop))
        if found is None or found[0] is not loop:
            client = httpx.AsyncClient(**_options(self._terms))
            _without_cookies(client)
            found = self._clients[id(loop)] = (loop, client)
        return found[1]


class _BlockingAsker:
    """Ask from code that blocks."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._deadline = _Deadline()
        self._client = httpx.Client(**_options(terms), transport=_Transport(self._deadline))
        _without_cookies(self._client)

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        self._deadline.at = time.monotonic() + self._terms.timeout
        try:
            request = self._client.build_request(method, url, headers=_headers(headers), content=body)
            response = self._client.send(request, stream=True)
            try:
                reading = _Reading(self._terms, response)
                for chunk in response.iter_raw():
                    reading.take(chunk)
            finally:
                response.close()
        except _FAILURES as error:
            raise _failed(self._terms, error) from None
        return reading.answer()

    async def close(self) -> None:
        self._client.close()


class _Deadline(threading.local):
    """Hold until when the request of this thread may take (seconds by the monotonic clock)."""

    at: float = float("inf")

    def left(self, timeout: float | None) -> float:
        """Return how long the next step may take.

        Raises:
            ReadTimeout: there is no time left.
        """
        rest = self.at - time.monotonic()
        if rest <= 0:
            raise httpcore.ReadTimeout
        return rest if timeout is None else min(rest, timeout)


class _Transport(httpx.HTTPTransport):
    """Be httpx's own transport over connections that keep a deadline: its timeouts are for each read alone."""

    def __init__(self, deadline: _Deadline) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_Backend(deadline),
        )


class _Backend(httpcore.NetworkBackend):
    def __init__(self, deadline: _Deadline) -> None:
        self._inner = httpcore.SyncBackend()
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect."""
        left = self._deadline.left(timeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options), self._deadline)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what is there, or comes in time."""
        return self._inner.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all."""
        self._inner.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Begin to encrypt."""
        left = self._deadline.left(timeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Tell about the socket."""
        return self._inner.get_extra_info(info)


def _options(terms: Terms) -> dict[str, Any]:
    # No redirects: a secret goes to the address that was meant. No proxies or keys from the environment.
    return {"timeout": terms.timeout, "follow_redirects": False, "trust_env": False}


def _without_cookies(client: httpx.Client | httpx.AsyncClient) -> None:
    """Keep no cookies: requests for all users go through one client, and who is asked would fill it without end."""
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))


def _headers(more: Mapping[str, str]) -> dict[str, str]:
    return {"accept": "application/json", "accept-encoding": "identity", **more}


def _failed(terms: Terms, error: Exception) -> StoreUnavailable:
    # httpx quotes addresses and what the other side said.
    return StoreUnavailable(f"{terms.who} could not be asked ({type(error).__name__})")
