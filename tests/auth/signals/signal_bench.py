"""Applications that share signals, on a bench: each with its own stores, behind either door, on a network of its own.

The network calls the other application's site directly, and can be down, slow or wrong as a test wants it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sessile import AsyncSessions, Sessions
from sessile.auth.exchange import Ask, Reply
from sessile.auth.ground import Ground
from sessile.auth.signals import AsyncSignals, Receiver, Signals, Transmitter, same_ids
from sessile.auth.signals.http import Answer
from sessile.core.bridge import drive
from sessile.core.keys import KeyRing
from sessile.core.session import Rules, Session
from sessile.errors import StoreUnavailable
from sessile.testing import RecordingSink
from sessile.testing.clock import FrozenClock
from tests.core.rig import facts, token_of

RING: Final = KeyRing({0: bytes(range(32))})
SECRET: Final = "Bearer {}-tells-{}-0123456789"
DOORS: Final = ("async", "blocking")


async def done(result: Any) -> Any:
    """Return what either door answered."""
    return await result if inspect.isawaitable(result) else result


class Network:
    """Bring requests to the sites of applications by host; `faults` by host answer instead."""

    def __init__(self) -> None:
        self.sites: dict[str, Any] = {}
        self.faults: dict[str, Callable[[str, bytes], Answer]] = {}
        self.log: list[tuple[str, str, str, bytes]] = []

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Ask the application of a URL."""
        parts = urlsplit(url)
        self.log.append((method, url, headers.get("authorization", ""), body or b""))
        if parts.hostname in self.faults:
            return self.faults[parts.hostname](url, body or b"")
        site = self.sites.get(parts.hostname or "")
        if site is None:
            raise StoreUnavailable("nobody is there")
        path = parts.path
        root = "/signals" if path.startswith("/signals") else ""
        path = path[len(root) :]
        if path == "/.well-known/ssf-configuration/signals":
            path = "/.well-known/ssf-configuration"
        reply = await site.answer(ask(method, path, dict(parse_qsl(parts.query)), headers, body or b""))
        return Answer(reply.status, "", reply.body)

    async def close(self) -> None:
        """Do nothing."""


def ask(
    method: str,
    path: str,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Ask:
    """Return a request to a site."""
    rules: Rules = AsyncSessions("memory://").engine.rules
    return Ask(method, "/signals", path, Session(rules), query or {}, headers or {}, body)


class App:
    """Be one application: `name` is its host, too."""

    def __init__(
        self,
        name: str,
        network: Network,
        *,
        door: str = "async",
        clock: Any = None,
        store: str = "memory://",
        vault: Any = "memory://",
        receivers: tuple[Receiver, ...] = (),
        transmitters: tuple[Transmitter, ...] = (),
        **options: Any,
    ) -> None:
        self.name = name
        self.clock: Any = clock or FrozenClock()
        self.sink = RecordingSink()
        self.network = network
        kind: Any = AsyncSessions if door == "async" else Sessions
        self.sessions = kind(store, keys=RING, clock=self.clock, sinks=(self.sink,))
        self.ground = Ground(self.sessions, vault)
        made: Any = AsyncSignals if door == "async" else Signals
        self.signals = made(
            self.ground,
            url=f"https://{name}.example/signals",
            receivers=receivers,
            transmitters=transmitters,
            **options,
        )
        http: Any = network
        flow = self.signals.flow
        flow.http = flow.delivery._http = flow.reception._http = http
        for known in flow.reception.known.values():
            known._http = http
        network.sites[f"{name}.example"] = self.signals.site

    async def login(self, user: str = "ada", cookie: str | None = None, **how: Any) -> str:
        """Sign in, in a browser of its own; return its cookie."""
        session = await done(self.sessions.open(facts(cookie)))
        session.login(user, **(how or {"factor": "password"}))
        token = token_of(await done(self.sessions.commit(session)))
        assert token is not None
        return token

    async def logout(self, cookie: str, *, everywhere: bool = False) -> None:
        """Sign out."""
        session = await done(self.sessions.open(facts(cookie)))
        session.logout(everywhere=everywhere)
        await done(self.sessions.commit(session))

    async def user(self, cookie: str) -> str | None:
        """Return who is signed in."""
        return (await done(self.sessions.open(facts(cookie)))).user_id  # type: ignore[no-any-return]

    async def id(self, cookie: str) -> str:
        """Return a session's id."""
        return (await done(self.sessions.open(facts(cookie)))).id  # type: ignore[no-any-return]

    async def deliver(self) -> Any:
        """Do one round."""
        return await done(self.signals.deliver())

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask this application's site as a receiver does."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        raw = b"" if body is None else msgspec.json.encode(body)
        return await self.signals.site.answer(ask(method, path, query, headers, raw))  # type: ignore[no-any-return]

    async def push(self, name: str, text: str, *, header: str | None = None, kind: str | None = None) -> Reply:
        """Push a SET to this application as a transmitter does."""
        headers = {
            "authorization": SECRET.format(name, self.name) if header is None else header,
            "content-type": "application/secevent+jwt" if kind is None else kind,
        }
        return await self.signals.site.answer(ask("POST", f"/push/{name}", None, headers, text.encode()))  # type: ignore[no-any-return]

    def told(self, code: str) -> list[Any]:
        """Return the events of a code."""
        return [event for event in self.sink.events if event.code == code]

    def waiting(self) -> int:
        """Return how many items wait for all streams."""
        vault = self.ground.vault
        return len(drive(vault.of_user("", "signals:out:"))) + len(drive(vault.of_user("", "signals:intent:")))


def receiver(name: str, teller: str, **more: Any) -> Receiver:
    """Return `name` as `teller` knows it: told by push."""
    given: dict[str, Any] = {
        "push": f"https://{name}.example/signals/push/{teller}",
        "push_authorization": SECRET.format(teller, name),
        **more,
    }
    return Receiver(name, f"https://{name}.example", **given)


def transmitter(name: str, hearer: str, **more: Any) -> Transmitter:
    """Return `name` as `hearer` knows it."""
    given: dict[str, Any] = {"users": same_ids, "push_authorization": SECRET.format(name, hearer), **more}
    return Transmitter(name, f"https://{name}.example/signals", f"https://{hearer}.example", **given)


def group(*names: str, door: str = "async", **options: Any) -> tuple[App, ...]:
    """Return applications that all tell each other, on one clock."""
    network, clock = Network(), FrozenClock()
    return tuple(
        App(
            name,
            network,
            door=door,
            clock=clock,
            receivers=tuple(receiver(other, name) for other in names if other != name),
            transmitters=tuple(transmitter(other, name) for other in names if other != name),
            **options,
        )
        for name in names
    )
