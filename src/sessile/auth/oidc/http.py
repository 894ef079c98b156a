"""How providers are asked: one request at a time, over https, within seconds, and never more than is read.

Whatever a provider does (hangs, redirects, sends without end or a byte a second, sends nonsense or cookies), the caller
gets a small answer or one typed error. No address of it comes from a user: all are the settings' or the provider's own
metadata. So a provider can name hosts inside your network, if they speak https with a certificate that this machine
trusts; what they answer is shown to nobody. Where providers are not trusted that far, let a proxy or firewall judge.
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

import msgspec

from ...errors import ConfigurationError, ExtraMissing, StoreUnavailable

try:
    import httpcore
    import httpx
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("OpenID Connect", "oidc") from error

TIMEOUT: Final = 5.0
MAX_TIMEOUT: Final = 15.0
MAX_BYTES: Final = 512 * 1024
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
            found = msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        return found


class Http(Protocol):
    """Ask over HTTP (port). Every failure on the way is `StoreUnavailable`: the request cannot be answered now."""

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch a document."""
        ...

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form."""
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


def open_http(*, blocking: bool, timeout: float = TIMEOUT) -> Http:
    """Return the HTTP client of a door. `timeout` (seconds) is for a whole request, however slowly it is answered.

    Raises:
        ConfigurationError: that is no time, or too long.
    """
    if not 0 < timeout <= MAX_TIMEOUT:
        raise ConfigurationError(f"timeout is a number of seconds, at most {MAX_TIMEOUT:.0f}")
    return BlockingHttp(timeout) if blocking else LoopHttp(timeout)


def _options(timeout: float) -> dict[str, Any]:
    # No redirects: where the answer is, the metadata says. No proxies or keys from the environment of the process.
    return {"timeout": timeout, "follow_redirects": False, "trust_env": False}


def _without_cookies(client: httpx.Client | httpx.AsyncClient) -> None:
    """Keep no cookies: requests for all users go through one client, and a provider would fill it without end."""
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))


# An address may look like one, and its host be none to IDNA (a UnicodeError, as for a header that is not ASCII).
_FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError)


class LoopHttp:
    """Ask from an event loop."""

    def __init__(self, timeout: float) -> None:
        self._client = httpx.AsyncClient(**_options(timeout))
        self._timeout = timeout
        _without_cookies(self._client)

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch a document."""
        return await self._ask("GET", url, None, headers)

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form."""
        return await self._ask("POST", url, form, headers)

    async def _ask(
        self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str] | None
    ) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                request = self._client.build_request(method, url, data=form, headers=_headers(headers))
                response = await self._client.send(request, stream=True)
                try:
                    body = _empty(response)
                    async for chunk in response.aiter_raw():
                        body += chunk
                        if len(body) > MAX_BYTES:
                            raise StoreUnavailable("the provider's answer is too long")
                finally:
                    await response.aclose()
        except _FAILURES as error:
            raise _failed(error) from None
        return _answer(response, bytes(body))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class BlockingHttp:
    """Ask from code that blocks."""

    def __init__(self, timeout: float) -> None:
        self._deadline = _Deadline()
        self._client = httpx.Client(**_options(timeout), transport=_Transport(self._deadline))
        self._timeout = timeout
        _without_cookies(self._client)

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch a document."""
        return self._ask("GET", url, None, headers)

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form."""
        return self._ask("POST", url, form, headers)

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str] | None) -> Answer:
        self._deadline.at = time.monotonic() + self._timeout
        try:
            request = self._client.build_request(method, url, data=form, headers=_headers(headers))
            response = self._client.send(request, stream=True)
            try:
                body = _empty(response)
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise StoreUnavailable("the provider's answer is too long")
            finally:
                response.close()
        except _FAILURES as error:
            raise _failed(error) from None
        return _answer(response, bytes(body))

    async def close(self) -> None:
        """Close the connections."""
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


def _empty(response: httpx.Response) -> bytearray:
    """Return where an answer goes; what is packed is not opened, as what comes out of a few bytes may have no end."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise StoreUnavailable("the provider's answer is packed, which nobody asked for")
    return bytearray()


def _headers(more: Mapping[str, str] | None) -> dict[str, str]:
    return {"accept": "application/json", "accept-encoding": "identity", **(more or {})}


def _answer(response: httpx.Response, body: bytes) -> Answer:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Answer(response.status_code, kind, body)


def _failed(error: Exception) -> StoreUnavailable:
    # httpx quotes addresses and what the other side said.
    return StoreUnavailable(f"the provider could not be asked ({type(error).__name__})")
