"""How other applications are asked: one request at a time, within seconds in all, and never more than is read.

Whatever they do (hang, drip, redirect, send without end, send nonsense), the caller gets a small answer or one typed
error. Addresses are the configuration's, or lie below an origin that it names.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from ...errors import ConfigurationError, ExtraMissing, StoreUnavailable

try:
    import httpx
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("shared signals", "signals") from error

TIMEOUT: Final = 5.0
MAX_BYTES: Final = 2 * 2**20  # a poll's answer holds many SETs


class Answer(NamedTuple):
    """Hold what came back."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any] | None:
        """Return the body as a JSON object, None if it is none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None


class Http(Protocol):
    """Ask over HTTP (port). Every failure on the way is `StoreUnavailable`."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send a request; return the answer, whatever its status."""
        ...

    async def close(self) -> None:
        """Close the connections. It may be called twice."""
        ...


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
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ConfigurationError(f"{what} must be an https address; http is for this machine alone")
    return url


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_http(*, blocking: bool, timeout: float = TIMEOUT) -> Http:
    """Return the HTTP client of a door; a request takes `timeout` seconds at most, in all."""
    return BlockingHttp(timeout) if blocking else LoopHttp(timeout)


def _options(timeout: float) -> dict[str, Any]:
    # No redirects: a secret goes to the address that was configured. No proxies or keys from the environment.
    return {"timeout": timeout, "follow_redirects": False, "trust_env": False}


def _headers(more: Mapping[str, str]) -> dict[str, str]:
    # Nothing packed: what comes out of a few bytes may have no end.
    return {"accept": "application/json", "accept-encoding": "identity", **more}


def _failed(error: Exception) -> StoreUnavailable:
    # httpx quotes addresses and what the other side said.
    return StoreUnavailable(f"the other application could not be asked ({type(error).__name__})")


class LoopHttp:
    """Ask from an event loop; it has a client for each loop that asks."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._clients: dict[int, tuple[asyncio.AbstractEventLoop, httpx.AsyncClient]] = {}

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        found = self._clients.get(id(loop))
        if found is None or found[0] is not loop:
            found = self._clients[id(loop)] = (loop, httpx.AsyncClient(**_options(self._timeout)))
        return found[1]

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send a request."""
        client = self._client()
        try:
            async with asyncio.timeout(self._timeout):
                request = client.build_request(method, url, headers=_headers(headers), content=body)
                response = await client.send(request, stream=True)
                try:
                    read = bytearray()
                    async for chunk in response.aiter_bytes():
                        read += chunk
                        if len(read) > MAX_BYTES:
                            raise StoreUnavailable("the other application's answer is too long")
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise _failed(error) from None
        return Answer(response.status_code, bytes(read))

    async def close(self) -> None:
        """Close the connections."""
        loop = asyncio.get_running_loop()
        for owner, client in self._clients.values():
            if owner is loop:
                await client.aclose()
        self._clients.clear()


class BlockingHttp:
    """Ask from code that blocks."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._client = httpx.Client(**_options(timeout))

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send a request."""
        deadline = time.monotonic() + self._timeout
        try:
            request = self._client.build_request(method, url, headers=_headers(headers), content=body)
            response = self._client.send(request, stream=True)
            try:
                read = bytearray()
                for chunk in response.iter_bytes():
                    read += chunk
                    if len(read) > MAX_BYTES or time.monotonic() > deadline:
                        raise StoreUnavailable("the other application's answer is too long, or takes too long")
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _failed(error) from None
        return Answer(response.status_code, bytes(read))

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()
