"""The site of shared signals: what a transmitter and a receiver must be reachable at.

    POST  /push/NAME                       a SET from the transmitter of that name (RFC 8935): 202, or 400 with `err`
    …                                      what receivers may ask of us: see `management`

`MetadataSite` answers with the metadata alone: mount it at /.well-known/ssf-configuration of the host, which is where
receivers look (SSF 1.0 §7.2), followed by the issuer's own path.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ...errors import StoreError
from ..exchange import NO_STORE, NOT_FOUND, Ask, Reply, json, wrong_method
from ..jws import MAX_CHARS
from .receiver import Accepted, Rejected
from .sets import Why
from .vocabulary import MEDIA

if TYPE_CHECKING:
    from .flow import SignalFlow

_RETRY: Final = ("retry-after", "5")
_log: Final = logging.getLogger("sessile.signals")


class SignalSite:
    """Answer at the addresses of shared signals."""

    def __init__(self, flow: SignalFlow) -> None:
        self._flow = flow

    @property
    def blocking(self) -> bool:
        """Tell for which door it was made."""
        return self._flow.ground.blocking

    async def answer(self, ask: Ask) -> Reply:
        """Return the reply to one request."""
        flow = self._flow
        if ask.path.startswith("/push/"):
            return await self._push(ask, ask.path.removeprefix("/push/"))
        if ask.path == "/jwks.json":
            return await flow.management.jwks() if ask.method in ("GET", "HEAD") else wrong_method("GET")
        if ask.path == "/.well-known/ssf-configuration":
            return flow.management.metadata() if ask.method in ("GET", "HEAD") else wrong_method("GET")
        return await flow.management.answer(ask)

    async def _push(self, ask: Ask, name: str) -> Reply:
        reception = self._flow.reception
        if ask.method != "POST":
            return wrong_method("POST")
        if not reception.is_authorized(name, ask.headers.get("authorization", "")):
            # No name is told from another one: who has no secret learns nothing.
            if name in reception.known:
                reception.refuse(name, Why.AUTHORIZATION)
            return _error(Rejected(Why.AUTHORIZATION), 401)
        if ask.kind != MEDIA or len(ask.body) > MAX_CHARS:
            return _error(reception.refuse(name, Why.REQUEST))
        try:
            outcome = await reception.take(name, ask.body.decode("ascii", "replace"))
        except StoreError as error:
            _log.warning("a signal of %s could not be carried out (%s)", name, error.code)
            reply = json({"err": "unavailable", "description": "send it again"}, 503)
            return reply._replace(headers=(*reply.headers, _RETRY))
        return Reply(202, (NO_STORE,)) if isinstance(outcome, Accepted) else _error(outcome)


class MetadataSite:
    """Answer with the metadata of one transmitter, at the address where receivers look for it."""

    def __init__(self, flow: SignalFlow) -> None:
        self._flow = flow

    @property
    def blocking(self) -> bool:
        """Tell for which door it was made."""
        return self._flow.ground.blocking

    async def answer(self, ask: Ask) -> Reply:
        """Return the reply to one request."""
        if ask.path.rstrip("/") != self._flow.issuer_path:
            return NOT_FOUND
        return self._flow.management.metadata() if ask.method in ("GET", "HEAD") else wrong_method("GET")


def _error(outcome: Rejected, status: int = 400) -> Reply:
    found = {"err": outcome.code, "description": outcome.why.value}
    reply = json(found, status)
    extra = (("www-authenticate", 'Bearer realm="signals"'),) if status == 401 else ()
    return reply._replace(headers=(*reply.headers, ("content-language", "en"), *extra))
