"""The token endpoint: what clients send and get, and what attackers get."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from sessile.auth.tokens import AsyncTokenEndpoint, Client, Clients, ProofMaker, TokenEndpoint, new_secret
from sessile.errors import ConfigurationError, StoreUnavailable
from tests.auth.refresh_bench import SETTLED, RefreshBench
from tests.auth.token_bench import asked, done
from tests.support.requirements import requirement

SECRET, HASH = new_secret()
FORM = "application/x-www-form-urlencoded"
URL = "https://app.example/"


class Endpoint:
    """Hold a token endpoint with a public client, `app`, and one with a secret, `bff`."""

    def __init__(self, *, blocking: bool, **proofs: Any) -> None:
        self.bench = RefreshBench(blocking=blocking)
        kind: Any = TokenEndpoint if blocking else AsyncTokenEndpoint
        clients = Clients(Client("app", None), Client("bff", HASH))
        self.endpoint = kind(self.bench.refreshing, clients, proofs=self.bench.proofs(**proofs))

    async def send(self, fields: Any, *, method: str = "POST", **headers: str) -> tuple[int, dict[str, Any], Any]:
        """Post a form; return status, body and headers."""
        headers.setdefault("content_type", FORM)
        body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
        reply = await done(self.endpoint.token(asked(method, **headers), body))
        found = dict(reply.headers)
        if reply.status != 405:
            assert found["cache-control"] == "no-store"
        return reply.status, json.loads(reply.body or b"{}"), found

    async def refresh(self, text: Any, **more: Any) -> tuple[int, dict[str, Any], Any]:
        """Use a refresh token as the public client."""
        headers = more.pop("headers", {})
        fields = {"grant_type": "refresh_token", "refresh_token": text, "client_id": "app", **more}
        return await self.send({name: value for name, value in fields.items() if value is not None}, **headers)


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """Return an endpoint behind each door."""
    return Endpoint(blocking=request.param)


@requirement("R84")
async def test_a_client_gets_new_tokens(endpoint: Endpoint) -> None:
    """A refresh token comes along only when there is a new one to keep."""
    bench = endpoint.bench
    pair = await bench.begin_alone(scope="read write")
    bench.clock.advance(SETTLED)
    status, body, _ = await endpoint.refresh(pair.refresh)
    assert status == 200
    assert body.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "scope"}
    assert await bench.is_active(body["access_token"])
    newer = body["refresh_token"]
    status, body, _ = await endpoint.refresh(newer, scope="read")
    assert body == {"access_token": body["access_token"], "token_type": "Bearer", "expires_in": 300, "scope": "read"}
    assert (await endpoint.refresh(newer, scope="admin"))[:2] == (400, {"error": "invalid_scope"})


@requirement("R84")
async def test_a_confidential_client_proves_itself(endpoint: Endpoint) -> None:
    """With its secret, and for its own tokens only; a public one cannot use them."""
    pair = await endpoint.bench.begin_alone(client="bff")
    fields = {"grant_type": "refresh_token", "refresh_token": pair.refresh}

    def basic(secret: str) -> dict[str, str]:
        return {"authorization": "Basic " + base64.b64encode(f"bff:{secret}".encode()).decode()}

    assert (await endpoint.send(fields, **basic(SECRET)))[0] == 200
    for wrong in (basic("x"), {"authorization": "Bearer x"}, {}):
        assert (await endpoint.send(fields, **wrong))[:2] == (401, {"error": "invalid_client"})
    assert (await endpoint.send({**fields, "client_id": "bff"}))[0] == 401
    assert (await endpoint.refresh(pair.refresh))[:2] == (400, {"error": "invalid_grant"})
    own = await endpoint.bench.begin_alone()
    for more in ({}, {"client_id": "app"}):
        sent = {**fields, "refresh_token": own.refresh, **more}
        assert (await endpoint.send(sent, **basic(SECRET)))[:2] == (400, {"error": "invalid_grant"})


async def test_what_is_no_request_is_refused(endpoint: Endpoint) -> None:
    """In the standard's words, without a look at any store."""
    pair = await endpoint.bench.begin_alone()
    assert (await endpoint.send({}, method="GET"))[0] == 405
    assert (await endpoint.refresh(pair.refresh, grant_type="password"))[:2] == (
        400,
        {"error": "unsupported_grant_type"},
    )
    for broken in ({"grant_type": None}, {"refresh_token": None}, {"refresh_token": ""}):
        assert (await endpoint.refresh(pair.refresh, **broken))[:2] == (400, {"error": "invalid_request"})
    twice = urlencode([("grant_type", "refresh_token"), ("client_id", "app"), *[("refresh_token", "x")] * 2]).encode()
    assert (await endpoint.send(twice))[:2] == (400, {"error": "invalid_request"})
    assert (await endpoint.send(b"{}", content_type="application/json"))[0] == 400
    assert (await endpoint.refresh(pair.refresh, client_id="nobody"))[0] == 401
    for text in ("x", endpoint.bench.tokens, pair.access):
        assert (await endpoint.refresh(text))[:2] == (400, {"error": "invalid_grant"})


@requirement("R60")
async def test_a_bound_token_needs_its_keys_proof(endpoint: Endpoint) -> None:
    """Made for this request, once; another key's ends nothing."""
    bench, maker, thief = endpoint.bench, ProofMaker(), ProofMaker()
    pair = await bench.begin_alone(jkt=maker.jkt)

    def proof(of: ProofMaker, url: str = URL) -> dict[str, str]:
        return {"dpop": of.proof("POST", url, now=bench.clock())}

    shown = proof(maker)
    status, body, _ = await endpoint.refresh(pair.refresh, headers=shown)
    assert (status, body["token_type"]) == (200, "DPoP")
    assert (await endpoint.refresh(pair.refresh, headers=shown))[:2] == (400, {"error": "invalid_dpop_proof"})
    assert (await endpoint.refresh(pair.refresh, headers=proof(maker, URL + "x")))[0] == 400
    for stolen in ({}, proof(thief)):
        assert (await endpoint.refresh(pair.refresh, headers=stolen))[:2] == (400, {"error": "invalid_grant"})
    assert (await endpoint.refresh(pair.refresh, headers=proof(maker)))[0] == 200


@requirement("R60")
@pytest.mark.parametrize("blocking", [True, False])
async def test_a_proof_without_our_nonce_is_told_it(blocking: bool) -> None:
    """And passes with it (RFC 9449 §8)."""
    endpoint, maker = Endpoint(blocking=blocking, nonce=True), ProofMaker()
    bench = endpoint.bench
    pair = await bench.begin_alone(jkt=maker.jkt)
    status, body, headers = await endpoint.refresh(
        pair.refresh, headers={"dpop": maker.proof("POST", URL, now=bench.clock())}
    )
    assert (status, body) == (400, {"error": "use_dpop_nonce"})
    shown = maker.proof("POST", URL, now=bench.clock(), nonce=headers["dpop-nonce"])
    assert (await endpoint.refresh(pair.refresh, headers={"dpop": shown}))[0] == 200


@requirement("R45")
async def test_a_store_that_fails_is_a_503(endpoint: Endpoint) -> None:
    """The client keeps its token; it was not refused."""
    pair = await endpoint.bench.begin_alone()
    store = endpoint.bench.sessions.engine.store
    load = store.load

    async def fail(_: str) -> Any:
        raise StoreUnavailable("down")

    store.load = fail
    assert (await endpoint.refresh(pair.refresh))[:2] == (503, {"error": "temporarily_unavailable"})
    store.load = load
    assert (await endpoint.refresh(pair.refresh))[0] == 200


async def test_without_proofs_none_is_taken_and_with_others_none_is_mixed() -> None:
    """A proof that nobody checks must not pass for none."""
    bench = RefreshBench()
    plain = TokenEndpoint(bench.refreshing, Clients(Client("app", None)))
    pair = await bench.begin_alone()
    body = urlencode({"grant_type": "refresh_token", "refresh_token": pair.refresh, "client_id": "app"}).encode()
    reply = plain.token(asked("POST", content_type=FORM, dpop="x"), body)
    assert json.loads(reply.body) == {"error": "invalid_dpop_proof"}
    with pytest.raises(ConfigurationError, match="different"):
        TokenEndpoint(bench.refreshing, Clients(), proofs=RefreshBench().proofs())
