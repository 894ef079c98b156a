"""How providers are asked: with documents and forms, over https, within seconds, and never more than is read.

No address of it comes from a user: all are the settings' or the provider's own metadata. So a provider can name hosts
inside your network, if they speak https with a certificate that this machine trusts; what they answer is shown to
nobody. Where providers are not trusted that far, let a proxy or firewall judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlencode

from ...errors import ExtraMissing

try:
    from ..asking import MAX_TIMEOUT, Answer, Asker, Terms, check_url, is_loopback, open_asker
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("OpenID Connect", "oidc") from error

__all__ = ["MAX_BYTES", "MAX_TIMEOUT", "TIMEOUT", "Answer", "Http", "check_url", "is_loopback", "open_http"]

TIMEOUT: Final = 5.0
MAX_BYTES: Final = 512 * 1024
_FORM: Final = {"content-type": "application/x-www-form-urlencoded"}


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


def open_http(*, blocking: bool, timeout: float = TIMEOUT) -> Http:
    """Return the HTTP client of a door. `timeout` (seconds) is for a whole request, however slowly it is answered.

    Raises:
        ConfigurationError: that is no time, or too long.
    """
    return _Forms(open_asker(Terms("the provider", timeout, MAX_BYTES), blocking=blocking))


class _Forms:
    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._asker.send("GET", url, headers or {})

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        return await self._asker.send("POST", url, {**_FORM, **(headers or {})}, urlencode(form).encode())

    async def close(self) -> None:
        await self._asker.close()
