"""The token endpoints in every framework: what clients get there, what attackers get, and who may read it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest

from sessile import AsyncSessions, Sessions
from sessile.adapters import sites
from sessile.auth.exchange import MAX_BODY_BYTES, Ask
from sessile.auth.ground import Ground
from sessile.auth.tokens import (
    AsyncProofs,
    AsyncRefreshTokens,
    AsyncTokens,
    Client,
    Clients,
    ProofMaker,
    Proofs,
    RefreshTokens,
    Tokens,
    TokenSite,
    Verifier,
    new_secret,
)
from sessile.auth.tokens.site import WELL_KNOWN
from sessile.core.bridge import drive
from sessile.errors import ConfigurationError, StoreUnavailable
from tests.auth.token_bench import API, asked, done
from tests.support import mounting
from tests.support.mounting import FRAMEWORKS, ORIGIN, PREFIX, Browser, served
from tests.support.requirements import requirement

SECRET, HASH = new_secret()
ISSUER: Final = ORIGIN + PREFIX
BASIC: Final = {"authorization": "Basic " + base64.b64encode(f"api:{SECRET}".encode()).decode()}
CLIENTS: Final = Clients(Client("app", None), Client("api", HASH, frozenset({API})))
NEEDS_NO_STORE: Final = ("token", "revoke", "introspect")

every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


class Served:
    """Hold token endpoints behind a framework, and what hands out the first tokens."""

    def __init__(self, browser: Browser, made: dict[str, Any]) -> None:
        self.browser, self.made = browser, made

    async def begin(self, **how: Any) -> str:
        """Return the refresh token of a native client."""
        given = {"facts": asked("POST"), "audience": API, "client": "app", **how}
        pair = await done(self.made["refreshing"].sign_in("ada", "passkey", **given))
        return str(pair.refresh)

    async def send(self, path: str, fields: Any, *, method: str = "POST", **headers: str) -> httpx.Response:
        """Send a form as a program does; whatever it is, it hands out no cookie and no cache keeps it."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        body: dict[str, Any] = {"content": fields} if isinstance(fields, bytes) else {"data": fields}
        reply = await self.browser.request(method, f"{PREFIX}/{path}", headers=sent, **body)
        assert "set-cookie" not in reply.headers
        if path in NEEDS_NO_STORE and reply.status_code not in (403, 405):
            assert reply.headers["cache-control"] == "no-store"
        return reply

    async def refresh(self, text: str, **headers: str) -> httpx.Response:
        """Use a refresh token."""
        fields = {"grant_type": "refresh_token", "refresh_token": text, "client_id": "app"}
        return await self.send("token", fields, **headers)

    async def is_active(self, text: str) -> bool:
        """Ask about a token as the API does."""
        answer = (await self.send("introspect", {"token": text}, **BASIC)).json()
        return bool(answer["active"])

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Fetch a document."""
        return await self.browser.request("GET", f"{PREFIX}/{path}", headers=headers)


@asynccontextmanager
async def serving(framework: str, *, nonce: bool = False, **options: Any) -> AsyncIterator[Served]:
    """Serve token endpoints below a prefix."""
    made: dict[str, Any] = {}

    def make(door: Any) -> TokenSite:
        ground = Ground(door, "memory://")
        blocking = isinstance(door, Sessions)
        tokens: Any = (Tokens if blocking else AsyncTokens)(ground, issuer=ISSUER)
        made["refreshing"] = (RefreshTokens if blocking else AsyncRefreshTokens)(tokens)
        proofs: Any = (Proofs if blocking else AsyncProofs)(ground, nonce=nonce)
        made["ground"] = ground
        made["site"] = TokenSite(tokens, CLIENTS, refreshing=made["refreshing"], proofs=proofs, **options)
        return made["site"]  # type: ignore[no-any-return]

    async with served(framework, make) as browser:
        yield Served(browser, made)


@requirement("R84")
@requirement("R86")
@every_framework
async def test_a_client_refreshes_and_an_api_asks_until_it_is_over(framework: str) -> None:
    """With nothing but the addresses: token, introspection, keys, the list, and the end."""
    async with serving(framework) as at:
        kept = await at.begin(scope="read")
        reply = await at.refresh(kept)
        given = reply.json()
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
        assert (given["token_type"], given["scope"]) == ("Bearer", "read")
        access = given["access_token"]
        assert await at.is_active(access)
        jwks, ended = (await at.get("jwks")), (await at.get("ended"))
        assert jwks.headers["content-type"] == "application/jwk-set+json"
        assert "public" in jwks.headers["cache-control"]
        elsewhere = Verifier(jwks=lambda: jwks.content, ended=lambda: ended.content, issuer=ISSUER, audience=API)
        token = elsewhere.verify(access)
        assert token is not None
        assert token.user == "ada"
        assert (await at.send("revoke", {"token": kept, "client_id": "app"})).status_code == 200
        refused = await at.refresh(kept)
        assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})
        assert not await at.is_active(access)


@requirement("R60")
@every_framework
async def test_a_proof_is_for_the_address_that_the_client_used(framework: str) -> None:
    """Prefix and all; the nonce is told with the refusal, and the next one with the answer."""
    async with serving(framework, nonce=True) as at:
        maker = ProofMaker()
        kept = await at.begin(jkt=maker.jkt)

        def proof(nonce: str | None, path: str = f"{PREFIX}/token") -> str:
            return maker.proof("POST", ORIGIN + path, now=at.made["ground"].now, nonce=nonce)

        first = await at.refresh(kept, dpop=proof(None))
        assert (first.status_code, first.json()) == (400, {"error": "use_dpop_nonce"})
        nonce = first.headers["dpop-nonce"]
        other = await at.refresh(kept, dpop=proof(nonce, "/token"))
        assert (other.status_code, other.json()) == (400, {"error": "invalid_dpop_proof"})
        shown = proof(nonce)
        right = await at.refresh(kept, dpop=shown)
        assert (right.status_code, right.json()["token_type"]) == (200, "DPoP")
        assert right.headers["dpop-nonce"]
        assert (await at.refresh(kept, dpop=shown)).json() == {"error": "invalid_dpop_proof"}
        assert (await at.refresh(kept)).json() == {"error": "invalid_grant"}


@every_framework
async def test_what_is_no_request_gets_the_standards_words(framework: str) -> None:
    async with serving(framework) as at:
        kept = await at.begin()
        for path, method, allowed in (("token", "GET", "POST"), ("introspect", "GET", "POST"), ("jwks", "POST", "GET")):
            reply = await at.send(path, {}, method=method)
            assert reply.status_code == 405
            assert allowed in reply.headers["allow"]
        form = {"content_type": "application/x-www-form-urlencoded"}
        for path, body, headers in (
            ("token", b"{}", {"content_type": "application/json"}),
            ("token", b"", form),
            ("token", b"\xff\xff", form),
            ("token", b"grant_type=refresh_token&client_id=app", form),
            ("token", f"grant_type=refresh_token&client_id=app&refresh_token={kept}&client_id=app".encode(), form),
            ("revoke", b"client_id=app", form),
            ("introspect", b"token=x&token=y", {**form, **BASIC}),
        ):
            reply = await at.send(path, body, **headers)
            assert (reply.status_code, reply.json()) == (400, {"error": "invalid_request"})
        reply = await at.send("token", b"x" * (MAX_BODY_BYTES + 1), **form)
        assert reply.status_code == 413
        assert (await at.get("nothing")).status_code == 404
        assert (await at.get("")).status_code == 404
        assert (await at.refresh(kept)).status_code == 200


@every_framework
async def test_who_proves_nothing_is_asked_for_its_secret(framework: str) -> None:
    """And learns nothing of any token: neither an API that is none, nor one that asks about another's tokens."""
    async with serving(framework) as at:
        access = (await at.refresh(await at.begin())).json()["access_token"]
        other = (await at.refresh(await at.begin(audience="https://other.example"))).json()["access_token"]
        wrong = base64.b64encode(b"api:guess").decode()
        for headers in ({}, {"authorization": f"Basic {wrong}"}, {"authorization": "Basic !"}):
            reply = await at.send("introspect", {"token": access}, **headers)
            assert (reply.status_code, reply.json()) == (401, {"error": "invalid_client"})
            assert reply.headers["www-authenticate"].startswith("Basic ")
        assert (await at.send("introspect", {"token": other}, **BASIC)).json() == {"active": False}
        assert (await at.send("introspect", {"token": access}, **BASIC)).json()["active"] is True


@requirement("R22")
@every_framework
async def test_another_sites_page_can_post_nothing_here(framework: str) -> None:
    """The guard stands before the endpoints: the refresh token is not even looked at."""
    async with serving(framework) as at:
        kept = await at.begin()
        foreign = {"sec_fetch_site": "cross-site", "origin": "https://evil.example"}
        assert (await at.refresh(kept, **foreign)).status_code == 403
        assert (await at.refresh(kept)).status_code == 200


@requirement("R45")
@every_framework
async def test_a_store_that_fails_is_a_503_and_no_verdict(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(framework) as at:
        kept = await at.begin()
        access = (await at.refresh(kept)).json()["access_token"]

        async def fails(_sid: str) -> None:
            raise StoreUnavailable("down")

        store = at.made["ground"].engine.store
        with monkeypatch.context() as broken:
            broken.setattr(store, "load", fails)
            for reply in (await at.refresh(kept), await at.send("introspect", {"token": access}, **BASIC)):
                assert (reply.status_code, reply.json()) == (503, {"error": "temporarily_unavailable"})
                assert reply.headers["retry-after"]
        assert (await at.refresh(kept)).status_code == 200


@every_framework
async def test_the_metadata_name_addresses_that_answer(framework: str) -> None:
    """Each of them; and every algorithm and method is one that is taken."""
    async with serving(framework) as at:
        document = (await at.get("metadata")).json()
        assert document["issuer"] == ISSUER
        assert document["response_types_supported"] == []
        assert document["grant_types_supported"] == ["refresh_token"]
        assert "ES256" in document["dpop_signing_alg_values_supported"]
        addresses = {name: url for name, url in document.items() if name.endswith(("_endpoint", "_uri"))}
        assert len(addresses) == 5
        for name, url in addresses.items():
            method = "GET" if name.endswith("_uri") else "POST"
            headers = BASIC if name == "introspection_endpoint" else {}
            reply = await at.browser.request(method, url.removeprefix(ORIGIN), headers=headers)
            assert reply.status_code == (200 if method == "GET" else 400)


@every_framework
@pytest.mark.parametrize(
    ("prefix", "issuer"),
    [("/.well-known", ORIGIN), ("/.well-known", ISSUER), (WELL_KNOWN, ISSUER)],
    ids=["no-path", "path", "below"],
)
async def test_the_metadata_stand_where_the_rfc_wants_them(
    framework: str, prefix: str, issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the host's `.well-known`, with the issuer's path behind it, and nowhere else there."""

    def make(door: Any) -> Any:
        tokens = (Tokens if isinstance(door, Sessions) else AsyncTokens)(Ground(door, "memory://"), issuer=issuer)
        return TokenSite(tokens, CLIENTS, base=ISSUER).metadata

    monkeypatch.setattr(mounting, "PREFIX", prefix)
    async with served(framework, make) as browser:
        wanted = WELL_KNOWN + issuer.removeprefix(ORIGIN)
        reply = await browser.request("GET", wanted, headers={})
        assert reply.json()["issuer"] == issuer
        assert reply.json()["jwks_uri"] == f"{ISSUER}/jwks"
        assert "token_endpoint" not in reply.json()
        for other in (f"{wanted}/x", f"{prefix}/jwks", f"{prefix}/openid-configuration"):
            assert (await browser.request("GET", other, headers={})).status_code == 404


@every_framework
async def test_pages_of_other_origins_read_what_is_public_and_only_if_they_are_named(framework: str) -> None:
    named, stranger = "https://app.example", "https://evil.example"
    async with serving(framework, cors=(named,)) as at:
        for path in ("jwks", "metadata"):
            reply = await at.get(path, origin=named)
            assert reply.headers["access-control-allow-origin"] == named
            assert "origin" in reply.headers["vary"].lower()
            reply = await at.get(path, origin=stranger)
            assert (reply.status_code, "access-control-allow-origin" in reply.headers) == (200, False)
            assert "origin" in reply.headers["vary"].lower()
            asking = {"origin": named, "access-control-request-method": "GET"}
            reply = await at.browser.request("OPTIONS", f"{PREFIX}/{path}", headers=asking)
            assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (204, named)
        for path in ("ended", "token", "introspect", "revoke"):
            for method in ("GET", "POST", "OPTIONS"):
                reply = await at.browser.request(method, f"{PREFIX}/{path}", headers={"origin": named})
                assert not [name for name in reply.headers if name.startswith("access-control-")]


async def test_nobody_is_named_unless_somebody_names_them() -> None:
    async with serving("asgi") as at:
        reply = await at.get("jwks", origin="https://app.example")
        assert not [name for name in reply.headers if name.startswith("access-control-")]
        assert (await at.browser.request("OPTIONS", f"{PREFIX}/jwks", headers={})).status_code == 405
    async with serving("asgi", cors=("*",)) as at:
        assert (await at.get("jwks")).headers["access-control-allow-origin"] == "*"


def test_a_site_at_the_root_of_its_host_has_its_metadata_where_they_belong() -> None:
    sessions = Sessions()
    for issuer in ("https://id.example", "https://id.example/a/"):
        site = TokenSite(Tokens(Ground(sessions, "memory://"), issuer=issuer), Clients(), base="https://id.example")
        session = drive(sessions.engine.load(asked()))
        assert drive(site.answer(Ask("GET", "", site.well_known, session))).status == 200
        assert drive(site.metadata.answer(Ask("GET", "", site.well_known + "x", session))).status == 404
        assert drive(site.answer(Ask("POST", "", "/token", session))).status == 404


def test_what_does_not_belong_together_is_refused_at_once() -> None:
    tokens = Tokens(Ground(Sessions(), "memory://"), issuer=ISSUER)
    others = Tokens(Ground(Sessions(), "memory://"), issuer=ISSUER)
    with pytest.raises(ConfigurationError):
        TokenSite(tokens, CLIENTS, refreshing=RefreshTokens(others))
    with pytest.raises(ConfigurationError):
        TokenSite(tokens, CLIENTS, refreshing=RefreshTokens(tokens), proofs=Proofs(others.flow.ground))
    with pytest.raises(ConfigurationError):
        TokenSite(tokens, CLIENTS, proofs=Proofs(tokens.flow.ground))
    for wrong in ("id.example", "/auth", "https://id.example/?a", "javascript:1", ""):
        with pytest.raises(ConfigurationError):
            TokenSite(tokens, CLIENTS, base=wrong)
    for wrong in ("app.example", "https://app.example/", "https://app.example/a", "null", ""):
        with pytest.raises(ConfigurationError):
            TokenSite(tokens, CLIENTS, cors=(wrong,))
    with pytest.raises(ConfigurationError):
        sites.asgi(TokenSite(tokens, CLIENTS))
    asynchronous = AsyncTokens(Ground(AsyncSessions(), "memory://"), issuer=ISSUER)
    with pytest.raises(ConfigurationError):
        sites.wsgi(TokenSite(asynchronous, CLIENTS).metadata)
