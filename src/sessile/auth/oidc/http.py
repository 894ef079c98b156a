"""How providers are asked: one request at a time, over https, within seconds, and never more than is read.

Whatever a provider does (hangs, redirects, sends without end, sends nonsense), the caller gets a small answer or one
typed error. No address of it comes from a user: all are the settings' or the provider's own metadata.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from ...errors import ConfigurationError, ExtraMissing, StoreUnavailable

try:
    import httpx
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("OpenID Connect", "oidc") from error

TIMEOUT: Final = 5.0
MAX_BYTES: Final = 512 * 1024
_LOCAL: Final = frozenset({"localhost"})


class Answer(NamedTuple):
    """Hold what came back."""

    status: int
    kind: str
    body: bytes

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
    """Return the HTTP client of a door. `timeout` (seconds) is for each step of a request."""
    return BlockingHttp(timeout) if blocking else LoopHttp(timeout)


def _options(timeout: float) -> dict[str, Any]:
    # No redirects: where the answer is, the metadata says. No proxies or keys from the environment of the process.
    return {"timeout": timeout, "follow_redirects": False, "trust_env": False}


class LoopHttp:
    """Ask from an event loop."""

    def __init__(self, timeout: float) -> None:
        self._client = httpx.AsyncClient(**_options(timeout))

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch a document."""
        return await self._ask(self._client.build_request("GET", url, headers=_headers(headers)))

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form."""
        return await self._ask(self._client.build_request("POST", url, data=dict(form), headers=_headers(headers)))

    async def _ask(self, request: httpx.Request) -> Answer:
        try:
            response = await self._client.send(request, stream=True)
            try:
                body = _empty(response)
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise StoreUnavailable("the provider's answer is too long")
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _failed(error) from None
        return _answer(response, bytes(body))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class BlockingHttp:
    """Ask from code that blocks."""

    def __init__(self, timeout: float) -> None:
        self._client = httpx.Client(**_options(timeout))

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch a document."""
        return self._ask(self._client.build_request("GET", url, headers=_headers(headers)))

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form."""
        return self._ask(self._client.build_request("POST", url, data=dict(form), headers=_headers(headers)))

    def _ask(self, request: httpx.Request) -> Answer:
        try:
            response = self._client.send(request, stream=True)
            try:
                body = _empty(response)
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise StoreUnavailable("the provider's answer is too long")
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _failed(error) from None
        return _answer(response, bytes(body))

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()


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
