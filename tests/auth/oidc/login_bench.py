"""A provider that does what a test says, and a browser that goes there and back; and the way through a real one."""

from __future__ import annotations

import asyncio
import functools
import html
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
import msgspec

from sessile.auth.ground import Ground
from sessile.auth.oidc import AsyncSignOn, Provider, SignOn
from sessile.auth.oidc.http import Answer
from sessile.auth.oidc.id_tokens import half_hash
from sessile.core.events import Event
from sessile.core.sessions import Sessions
from sessile.errors import StoreUnavailable
from tests.auth.oidc.logout_forge import ABSENT, Forge
from tests.support.mounting import ORIGIN, PREFIX, Browser

ISSUER: Final = "https://login.example"
OTHER: Final = "https://other.example"
CLIENT: Final = "shop"
NOW: Final = 1_800_000_000.0


@functools.cache
def _forge(issuer: str) -> Forge:
    return Forge(issuer, CLIENT)  # its keys take a while to make


class Clock:
    """Stand still until told."""

    now = NOW

    def __call__(self) -> float:
        return self.now


class Scripted:
    """Be the HTTP client of a sign-on, and every provider that it knows.

    `changes` are the claims that the next ID token has otherwise; `alter` may change the whole answer of a token
    endpoint. A code is good once, for the verifier of its challenge.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.forges = {issuer: _forge(issuer) for issuer in (ISSUER, OTHER)}
        self.codes: dict[str, dict[str, str]] = {}
        self.changes: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.key = "RS256"
        self.metadata: dict[str, Any] = {}
        self.alter: Callable[[dict[str, Any]], dict[str, Any]] = dict
        self.asked: list[str] = []
        self.posted: list[dict[str, str]] = []
        self.down: set[str] = set()
        self.userinfo: dict[str, Any] | None = None
        self.more_keys: list[Any] = []
        self.slow = False
        self.refreshes = 0
        self.grants: dict[str, str] = {}

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Answer for metadata, keys and user info."""
        self.asked.append(url)
        if self.slow:
            await asyncio.sleep(0.05)
        parts = urlsplit(url)
        issuer = f"{parts.scheme}://{parts.netloc}"
        if parts.path in self.down or "all" in self.down:
            raise StoreUnavailable("down")
        if parts.path == "/.well-known/openid-configuration":
            return _json(
                {
                    "issuer": issuer,
                    "authorization_endpoint": issuer + "/authorize",
                    "token_endpoint": issuer + "/token",
                    "jwks_uri": issuer + "/jwks",
                    "end_session_endpoint": issuer + "/logout",
                    "userinfo_endpoint": issuer + "/me",
                    **self.metadata,
                }
            )
        if parts.path == "/jwks":
            return Answer(200, "application/json", json.dumps(self._keys(issuer)).encode())
        if parts.path == "/me":
            assert (headers or {})["authorization"].startswith("Bearer access-")
            return _json(self.userinfo or {"sub": "ada"})
        return Answer(404, "text/plain", b"")

    def _keys(self, issuer: str) -> dict[str, Any]:
        return {"keys": [*self.more_keys, *self.forges[issuer].public.as_dict()["keys"]]}

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Answer a token request."""
        self.asked.append(url)
        self.posted.append({**form, **({"authorization": headers["authorization"]} if headers else {})})
        parts = urlsplit(url)
        issuer = f"{parts.scheme}://{parts.netloc}"
        if parts.path in self.down or "all" in self.down:
            raise StoreUnavailable("down")
        if parts.path == "/par":
            return _json({"request_uri": "urn:example:1", "expires_in": 60}, 201)
        if form["grant_type"] == "refresh_token":
            self.refreshes += 1
            if self.grants.pop(form["refresh_token"], None) is None:
                return _json({"error": "invalid_grant"}, 400)
            return self._granted(issuer, {}, "refresh")
        given = self.codes.pop(form["code"], None)
        if given is None or given["redirect_uri"] != form["redirect_uri"]:
            return _json({"error": "invalid_grant"}, 400)
        from sessile.auth.oidc.rules import challenge_of

        if challenge_of(form["code_verifier"]) != given["code_challenge"]:
            return _json({"error": "invalid_grant"}, 400)
        return self._granted(issuer, given, form["code"])

    def _granted(self, issuer: str, given: dict[str, str], name: str) -> Answer:
        access = f"access-{name}"
        refresh = f"refresh-{name}-{len(self.posted)}"
        self.grants[refresh] = "ada"
        algorithm = self.header.get("alg", {"RS256": "RS256", "ES256": "ES256", "Ed25519": "EdDSA"}[self.key])
        claims = {
            "iss": issuer,
            "aud": CLIENT,
            "sub": "ada",
            "sid": "sid-1",
            "iat": int(self.clock()),
            "exp": int(self.clock()) + 300,
            "auth_time": int(self.clock()),
            "nonce": given.get("nonce", ABSENT),
            "at_hash": half_hash(access, algorithm) if isinstance(algorithm, str) else ABSENT,
        }
        claims = {key: value for key, value in {**claims, **self.changes}.items() if value is not ABSENT}
        header = {"typ": "JWT", **self.header}
        token = self.forges[issuer].token(claims, key=self.key, **header)
        told = {"id_token": token, "access_token": access, "refresh_token": refresh, "token_type": "Bearer"}
        return _json(self.alter(told))

    async def close(self) -> None:
        """Be closed."""

    def authorize(self, location: str, **changes: str) -> str:
        """Be the user at the provider: return the path that the browser is sent back to."""
        parts = urlsplit(location)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        code = f"code-{len(self.codes)}-{len(self.posted)}"
        self.codes[code] = query
        answer = {"code": code, "state": query["state"], **changes}
        return path_of(query["redirect_uri"] + "?" + urlencode({k: v for k, v in answer.items() if v}))


class Bench:
    """Make the site of a sign-on whose provider is scripted."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.op = Scripted(self.clock)
        self.options = options
        self.events: list[Event] = []
        self.sign_on: Any = None

    def site(self, door: Any) -> Any:
        """Return the site for a door."""
        self.op.clock = door.engine.clock
        door.engine.sinks += (self.events.append,)
        kind: Any = SignOn if isinstance(door, Sessions) else AsyncSignOn
        providers = self.options.pop("providers", None) or default_providers()
        self.sign_on = kind(Ground(door, "memory://"), providers, address=ORIGIN + PREFIX, http=self.op, **self.options)
        return Showing(self.sign_on.site)

    def told(self, code: str) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if event.code == code]


class Showing:
    """Put two pages beside a site: who is signed in, and a recheck at the provider."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.blocking: bool = inner.blocking

    async def answer(self, ask: Any) -> Any:
        """Answer one request."""
        from sessile.auth import exchange

        if ask.path == "/me":
            session = ask.session
            return exchange.json({"user": session.user_id, "aal": session.aal, "kind": session.kind})
        if ask.path == "/stepped":
            ask.session.add_factor("totp")
            return exchange.json({"user": ask.session.user_id})
        if ask.path == "/checked":
            await self.inner._flow.check(ask.session)
            return exchange.json({"user": ask.session.user_id})
        return await self.inner.answer(ask)


def default_providers() -> list[Provider]:
    """Return two providers, so that they can be mixed up."""
    return [
        Provider("one", ISSUER, CLIENT, "secret", title="One"),
        Provider("two", OTHER, CLIENT, "secret", title="Two"),
    ]


async def go(browser: Browser, op: Scripted, name: str = "one", **changes: str) -> httpx.Response:
    """Sign in: to the provider and back; return the last answer."""
    there = await browser.get(f"{PREFIX}/login/{name}?next=/vault")
    assert there.status_code == 303, there.text
    return await browser.get(op.authorize(there.headers["location"], **changes), headers=FROM_ELSEWHERE)


FROM_ELSEWHERE: Final = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "accept": "text/html"}


async def who(browser: Browser) -> str | None:
    """Return who is signed in."""
    found: str | None = (await browser.get(f"{PREFIX}/me")).json()["user"]
    return found


def path_of(url: str) -> str:
    """Return path and query of an address of the application."""
    assert url.startswith(ORIGIN + "/"), url
    return url.removeprefix(ORIGIN)


def through(client: httpx.Client, location: str, login: str) -> str:
    """Walk through a real provider's pages as `login`; return the path that the browser is sent back to."""
    for _ in range(12):
        answer = client.get(location)
        while answer.status_code in (302, 303):
            location = urljoin(str(answer.url), answer.headers["location"])
            if location.startswith(ORIGIN):
                return path_of(location)
            answer = client.get(location)
        assert answer.status_code == 200, answer.text
        form = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
        assert form is not None, answer.text
        fields = {
            name: html.unescape(value) for name, value in re.findall(r'name="([^"]+)" value="([^"]*)"', answer.text)
        }
        fields |= {"login": login, "password": "any"}
        answer = client.post(urljoin(str(answer.url), html.unescape(form[1])), data=fields)
        assert answer.status_code in (302, 303), answer.text
        location = urljoin(str(answer.url), answer.headers["location"])
        if location.startswith(ORIGIN):
            return path_of(location)
    raise AssertionError("the provider did not let go")


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, "application/json", msgspec.json.encode(value))
