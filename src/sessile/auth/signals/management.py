"""What a receiver may ask of a transmitter (SSF 1.0 §7, §8): metadata, streams, status, subjects, events.

    GET             /.well-known/ssf-configuration    what there is, for anybody
    GET             /jwks.json                        the keys, for anybody
    GET POST PATCH PUT DELETE  /stream                a receiver's streams
    GET POST        /status                           whether one is enabled, paused or disabled
    POST            /subjects/add  /subjects/remove   of whom it does not want to hear
    POST            /verify                           send an event that proves that the stream works
    POST            /poll/STREAM                      fetch and acknowledge (RFC 8936)

Who asks is known by a bearer token in the Authorization header, and by nothing else (RFC 6750 §2.3 is not taken). A
stream of another receiver is answered as one that does not exist.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from ...errors import ConfigurationError
from ..exchange import NO_STORE, NOT_FOUND, Ask, Reply, json, wrong_method
from ..ground import Ground, same
from .delivery import Delivery
from .http import check_url, origin_of
from .keys import SignalKeys
from .outbox import Outbox
from .peers import Receiver, check_header
from .streams import STATES, Stream, Streams
from .subjects import read as read_subject
from .vocabulary import POLL, PUSH, VERIFICATION

READ: Final = "ssf.read"
MANAGE: Final = "ssf.manage"
MIN_INTERVAL: Final = 30
MAX_TEXT: Final = 1024
MAX_EVENTS: Final = 100
POLL_EVERY: Final = 0.25

# What each method needs; who may manage may read, and a scope may be narrowed by a further word.
_STREAM: Final = {
    "GET": READ,
    "POST": f"{MANAGE}.create",
    "PATCH": f"{MANAGE}.update",
    "PUT": f"{MANAGE}.update",
    "DELETE": f"{MANAGE}.delete",
}
_OURS: Final = frozenset({"iss", "aud", "events_supported", "events_delivered", "min_verification_interval"})


class Granted(NamedTuple):
    """Say which receiver a token stands for, and what it may do: `ssf.read`, `ssf.manage`."""

    receiver: str
    scopes: frozenset[str] = frozenset({READ, MANAGE})


Authorize = Callable[[str], Awaitable[Granted | None]]


class Invalid(NamedTuple):
    """Say that a request cannot be carried out, and why."""

    why: str


class Wanted(NamedTuple):
    """Hold what a receiver asks a stream to be."""

    method: str
    endpoint: str
    authorization: str | None
    requested: tuple[str, ...] | None
    description: str


class Management:
    """Answer receivers. `url` is where the site stands; `authorize` judges tokens of an authorization server."""

    def __init__(
        self,
        ground: Ground,
        *,
        issuer: str,
        url: str,
        streams: Streams,
        outbox: Outbox,
        delivery: Delivery,
        keys: SignalKeys,
        authorize: Authorize | None,
        interval: int,
        hold: float,
    ) -> None:
        self._ground = ground
        self._issuer = issuer
        self._url = url
        self._streams = streams
        self._outbox = outbox
        self._delivery = delivery
        self._keys = keys
        self._authorize = authorize
        self._interval = interval
        self._hold = hold

    # -- for anybody ---------------------------------------------------------------------------------------------------

    def metadata(self) -> Reply:
        """Say what there is."""
        return json(
            {
                "spec_version": "1_0",
                "issuer": self._issuer,
                "jwks_uri": f"{self._url}/jwks.json",
                "delivery_methods_supported": [PUSH, POLL],
                "configuration_endpoint": f"{self._url}/stream",
                "status_endpoint": f"{self._url}/status",
                "add_subject_endpoint": f"{self._url}/subjects/add",
                "remove_subject_endpoint": f"{self._url}/subjects/remove",
                "verification_endpoint": f"{self._url}/verify",
                "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6749"}, {"spec_urn": "urn:ietf:rfc:6750"}],
                "default_subjects": "ALL",
            }
        )

    async def jwks(self) -> Reply:
        """Return the keys that sign."""
        used = frozenset(one.algorithm for one in self._streams.receivers.values())
        raw = await self._keys.jwks(used)
        return Reply(200, (("content-type", "application/json"), ("cache-control", "max-age=300")), raw)

    # -- for receivers -------------------------------------------------------------------------------------------------

    async def answer(self, ask: Ask) -> Reply:
        """Answer a request to one of the receivers' endpoints."""
        path = ask.path
        if path == "/stream":
            return await self._asked(ask, _STREAM)
        if path == "/status":
            return await self._asked(ask, {"GET": READ, "POST": f"{MANAGE}.status"})
        if path in ("/subjects/add", "/subjects/remove"):
            return await self._asked(ask, {"POST": f"{MANAGE}.subjects"})
        if path == "/verify":
            return await self._asked(ask, {"POST": f"{MANAGE}.verify"})
        if path.startswith("/poll/"):
            return await self._asked(ask, {"POST": f"{MANAGE}.poll"})
        return NOT_FOUND

    async def _asked(self, ask: Ask, methods: Mapping[str, str]) -> Reply:
        scope = methods.get(ask.method)
        if scope is None:
            return wrong_method(*methods)
        receiver = await self._who(ask, scope)
        if isinstance(receiver, Reply):
            return receiver
        if ask.method in ("GET", "DELETE"):
            wanted: Mapping[str, Any] = ask.query
        else:
            body = _object(ask.body)
            if body is None:
                return _problem(400, "the body is no JSON object")
            wanted = body
        if ask.path == "/stream":
            return await self._stream(ask.method, receiver, wanted)
        ident = ask.path.removeprefix("/poll/") if ask.path.startswith("/poll/") else wanted.get("stream_id")
        stream = await self._streams.find(receiver.name, ident)
        if stream is None:
            return _problem(404, "there is no such stream")
        if ask.path.startswith("/poll/"):
            return await self._poll(stream, wanted) if stream.method == POLL else _problem(404, "it is pushed")
        if ask.path == "/status":
            return await (self._read_status(stream) if ask.method == "GET" else self._set_status(stream, wanted))
        if ask.path == "/verify":
            return await self._verify(stream, wanted)
        return await self._subject(stream, wanted, add=ask.path == "/subjects/add")

    async def _who(self, ask: Ask, scope: str) -> Receiver | Reply:
        """Return who asks, or the refusal of RFC 6750 §3.1."""
        header = ask.headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return _refused(401, "")
        granted = None
        # All are compared, so that the time tells nothing of whose token is nearly right.
        for one in self._streams.receivers.values():
            if one.token is not None and same(one.token.encode(), token.encode("utf-8", "surrogatepass")):
                granted = Granted(one.name)
        if granted is None and self._authorize is not None:
            granted = await self._authorize(token)
        receiver = None if granted is None else self._streams.receivers.get(granted.receiver)
        if granted is None or receiver is None:
            return _refused(401, "invalid_token")
        if granted.scopes.isdisjoint({scope, MANAGE}):
            return _refused(403, "insufficient_scope", scope)
        return receiver

    # -- streams -------------------------------------------------------------------------------------------------------

    async def _stream(self, method: str, receiver: Receiver, wanted: Mapping[str, Any]) -> Reply:
        if method == "POST":
            return await self._make(receiver, wanted)
        ident = wanted.get("stream_id")
        if method == "GET" and ident is None:
            return json([self._shown(one) for one in await self._streams.of(receiver.name)])
        stream = await self._streams.find(receiver.name, ident)
        if stream is None:
            return _problem(404, "there is no such stream")
        if method == "GET":
            return json(self._shown(stream))
        if stream.configured:
            return _problem(403, "this stream is one of the configuration")
        if method == "DELETE":
            await self._streams.remove(stream)
            return Reply(204, (NO_STORE,))
        return await self._change(stream, wanted, whole=method == "PUT")

    async def _make(self, receiver: Receiver, wanted: Mapping[str, Any]) -> Reply:
        read = self._wanted(receiver, wanted, None)
        if isinstance(read, Invalid):
            return _problem(400, read.why)
        made = await self._streams.make(receiver, **read._asdict())
        return _problem(409, "there are as many streams as allowed") if made is None else json(self._shown(made), 201)

    async def _change(self, stream: Stream, wanted: Mapping[str, Any], *, whole: bool) -> Reply:
        shown = self._shown(stream)
        for name in _OURS & wanted.keys():
            if wanted[name] != shown[name]:
                return _problem(400, f"{name} is the transmitter's to say")
        read = self._wanted(stream.receiver, wanted, None if whole else stream)
        if isinstance(read, Invalid):
            return _problem(400, read.why)
        changed = await self._streams.change(stream, **read._asdict())
        return _problem(404, "there is no such stream") if changed is None else json(self._shown(changed))

    def _wanted(self, receiver: Receiver, wanted: Mapping[str, Any], before: Stream | None) -> Wanted | Invalid:
        """Read what a receiver asks for; what it leaves out stays as it was `before`."""
        requested: Any = wanted.get("events_requested")
        if requested is None:
            kinds = None if before is None else before.requested
        elif isinstance(requested, list) and all(isinstance(one, str) for one in cast("list[object]", requested)):
            named = cast("list[str]", requested)
            if len(named) > MAX_EVENTS or not named:
                return Invalid("events_requested is a list of event types")
            kinds = tuple(one[:MAX_TEXT] for one in named)
        else:
            return Invalid("events_requested is a list of event types")
        description = wanted.get("description", "" if before is None else before.description)
        if not isinstance(description, str):
            return Invalid("description is a text")
        delivery: Any = wanted.get("delivery")
        if delivery is None and before is not None:
            return Wanted(before.method, before.endpoint, before.authorization, kinds, description[:MAX_TEXT])
        way = self._way({"method": POLL} if delivery is None else delivery, receiver)
        return way if isinstance(way, Invalid) else Wanted(*way, kinds, description[:MAX_TEXT])

    def _way(self, delivery: Any, receiver: Receiver) -> tuple[str, str, str | None] | Invalid:
        if not isinstance(delivery, dict):
            return Invalid("delivery is an object")
        found = cast("dict[str, Any]", delivery)
        method = found.get("method")
        if method == POLL:
            return POLL, "", None
        if method != PUSH:
            return Invalid("the delivery method is none of those supported")
        header = found.get("authorization_header")
        try:
            endpoint = check_url(found.get("endpoint_url"), "endpoint_url")
            if header is not None:
                if not isinstance(header, str):
                    raise ConfigurationError("authorization_header is a text")
                check_header(header)
        except ConfigurationError as error:
            return Invalid(str(error))
        # Where its signals go was agreed: a stolen token must not make us ask whatever is near.
        if origin_of(endpoint) not in {one.rstrip("/").lower() for one in receiver.origins}:
            return Invalid("endpoint_url is at none of this receiver's origins")
        return PUSH, endpoint, header

    def _shown(self, stream: Stream) -> dict[str, Any]:
        delivery = {"method": stream.method, "endpoint_url": stream.endpoint or f"{self._url}/poll/{stream.id}"}
        shown: dict[str, Any] = {
            "stream_id": stream.id,
            "iss": self._issuer,
            "aud": stream.receiver.audience,
            "delivery": delivery,
            "events_supported": list(stream.receiver.events),
            "events_delivered": list(stream.delivered),
            "min_verification_interval": self._interval,
        }
        if stream.requested is not None:
            shown["events_requested"] = list(stream.requested)
        if stream.description:
            shown["description"] = stream.description
        return shown

    # -- status, subjects, verification --------------------------------------------------------------------------------

    async def _read_status(self, stream: Stream) -> Reply:
        now = await self._streams.status(stream.id)
        return _status(stream, now.status, now.reason)

    async def _set_status(self, stream: Stream, wanted: Mapping[str, Any]) -> Reply:
        status, reason = wanted.get("status"), wanted.get("reason", "")
        if status not in STATES or not isinstance(reason, str) or len(reason) > MAX_TEXT:
            return _problem(400, f"status is one of {', '.join(STATES)}, reason a short text")
        await self._streams.set_status(stream.id, status, reason)
        return _status(stream, status, reason)

    async def _verify(self, stream: Stream, wanted: Mapping[str, Any]) -> Reply:
        state = wanted.get("state")
        if state is not None and (not isinstance(state, str) or len(state) > MAX_TEXT):
            return _problem(400, "state is a short text")
        if not await self._streams.may_verify(stream.id, self._interval):
            reply = _problem(429, "that is too often")
            return reply._replace(headers=(*reply.headers, ("retry-after", str(self._interval))))
        await self._outbox.tell_stream(stream.id, VERIFICATION, {} if state is None else {"state": state})
        return Reply(204, (NO_STORE,))

    async def _subject(self, stream: Stream, wanted: Mapping[str, Any], *, add: bool) -> Reply:
        subject = wanted.get("subject")
        if not isinstance(subject, dict) or read_subject(cast("object", subject)) is None:
            return _problem(400, "subject is a subject identifier")
        named = cast("dict[str, Any]", subject)
        if add:
            await self._streams.add_subject(stream.id, named)
            return Reply(200, (NO_STORE,))
        if not await self._streams.remove_subject(stream.id, named):
            return _problem(403, "too many subjects were removed")
        return Reply(204, (NO_STORE,))

    # -- polling -------------------------------------------------------------------------------------------------------

    async def _poll(self, stream: Stream, wanted: Mapping[str, Any]) -> Reply:
        most, acks, errors = wanted.get("maxEvents", MAX_EVENTS), wanted.get("ack", []), wanted.get("setErrs", {})
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            return _problem(400, "maxEvents is a number")
        if not isinstance(acks, list) or not isinstance(errors, dict):
            return _problem(400, "ack is a list, setErrs an object")
        taken = frozenset(one for one in cast("list[object]", acks) if isinstance(one, str))
        await self._delivery.acknowledge(stream, taken, _errors(cast("dict[str, Any]", errors)))
        found: dict[str, str] = {}
        more = False
        if (await self._streams.status(stream.id)).status == "enabled" and most:
            waits = 0.0 if wanted.get("returnImmediately") is True else self._hold
            until = time.monotonic() + waits
            while True:
                found, more = await self._delivery.ready(stream, min(most, MAX_EVENTS))
                if found or time.monotonic() >= until:
                    break
                await (
                    self._ground.compute(time.sleep, POLL_EVERY) if self._ground.blocking else asyncio.sleep(POLL_EVERY)
                )
        return json({"sets": found, "moreAvailable": more} if more else {"sets": found})


def _errors(given: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for jti, one in given.items():
        err: Any = cast("dict[str, Any]", one).get("err") if isinstance(one, dict) else None
        found[jti] = err[:64] if isinstance(err, str) and err.isprintable() else "refused"
    return found


def _object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object, whatever the request calls it: receivers leave the content type out (SSF 1.0's examples)."""
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _status(stream: Stream, status: str, reason: str) -> Reply:
    found = {"stream_id": stream.id, "status": status}
    return json({**found, "reason": reason} if reason else found)


def _problem(status: int, why: str) -> Reply:
    return json({"error": "invalid_request", "error_description": why}, status)


def _refused(status: int, error: str, scope: str = "") -> Reply:
    words = [
        'Bearer realm="signals"',
        *([f'error="{error}"'] if error else []),
        *([f'scope="{scope}"'] if scope else []),
    ]
    reply = json({"error": error or "unauthorized"}, status)
    return reply._replace(headers=(*reply.headers, ("www-authenticate", ", ".join(words))))
