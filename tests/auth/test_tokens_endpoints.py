"""The forms and documents of tokens: who may ask, what is answered, and what is not."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest

from sessile.auth.tokens import AsyncEndpoints, Client, Clients, Endpoints, Response, new_secret
from sessile.auth.tokens.clients import hash_of
from sessile.errors import ConfigurationError, StoreUnavailable
from tests.auth.token_bench import API, Bench, asked, done
from tests.support.requirements import requirement

SECRET = "a secret that new_secret did not draw, so t"
HASH = hash_of(SECRET)
CLIENTS = Clients(
    Client("api", HASH, frozenset({API})),
    Client("nosy", hash_of("nosy:secret é"), frozenset({"https://other.example"})),
    Client("web", hash_of("web-secret"), frozenset()),
    Client("spa", None, frozenset({API})),
)
FORM = "application/x-www-form-urlencoded"


class Also:
    """Stand for what knows refresh tokens."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def revoke(self, text: str, client: str) -> bool:
        """Keep what was asked."""
        self.asked.append((text, client))
        return True


class Desk:
    """Ask the endpoints."""

    def __init__(self, *, blocking: bool) -> None:
        self.bench, self.also = Bench(blocking=blocking), Also()
        kind = Endpoints if blocking else AsyncEndpoints
        self.endpoints: Any = kind(self.bench.tokens, CLIENTS, also=self.also)

    async def post(
        self, name: str, who: str | None = None, kind: str = FORM, body: Any = None, **form: str
    ) -> Response:
        """Post a form."""
        headers = {"content_type": kind} | ({} if who is None else {"authorization": who})
        sent = urlencode(form).encode() if body is None else body
        return await done(getattr(self.endpoints, name)(asked("POST", **headers), sent))  # type: ignore[no-any-return]

    async def get(self, name: str, method: str = "GET") -> Response:
        """Get a document."""
        return await done(getattr(self.endpoints, name)(asked(method)))  # type: ignore[no-any-return]


def basic(name: str, secret: str) -> str:
    """Return a Basic header as RFC 6749 §2.3.1 has it."""
    return "Basic " + b64encode(f"{quote_plus(name)}:{quote_plus(secret)}".encode()).decode()


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    """Return a desk behind each door."""
    made = Desk(blocking=request.param)
    yield made
    await made.bench.close()


@requirement("R86")
async def test_introspection_answers_a_client_that_proves_itself(desk: Desk) -> None:
    """And is never kept by a cache."""
    session = await desk.bench.sign_in()
    text = await desk.bench.issue(session, scope="write read")
    answer = await desk.post("introspect", basic("api", SECRET), token=text)
    told = json.loads(answer.body)
    assert (answer.status, told["active"], told["sub"], told["scope"]) == (200, True, "ada", "read write")
    assert dict(answer.headers)["cache-control"] == "no-store"
    await done(desk.bench.sessions.end(session.id))
    answer = await desk.post("introspect", basic("api", SECRET), token=text, token_type_hint="access_token")
    assert json.loads(answer.body) == {"active": False}


@requirement("R86")
@pytest.mark.parametrize(
    "who",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic " + b64encode(b"api").decode(),
        "Bearer " + SECRET,
        basic("api", ""),
        basic("api", SECRET[:-1]),
        basic("api", HASH),
        basic("nobody", SECRET),
        basic("nobody", ""),
        basic("", ""),
        basic("spa", ""),
        basic("API", SECRET),
        "Basic " + "A" * 100_000,
    ],
    ids=lambda who: repr(who)[:30],
)
async def test_who_does_not_prove_itself_learns_nothing(desk: Desk, who: str | None) -> None:
    """No header, no secret, another's, a hash for the secret, a public client."""
    text = await desk.bench.issue(await desk.bench.sign_in())
    for name in ("introspect", "revoke"):
        answer = await desk.post(name, who, token=text)
        assert (answer.status, json.loads(answer.body)) == (401, {"error": "invalid_client"})
        assert dict(answer.headers)["www-authenticate"].startswith("Basic ")
    assert await desk.bench.is_active(text)


@requirement("R86")
async def test_a_client_learns_nothing_of_tokens_for_others(desk: Desk) -> None:
    """For it they are as unknown ones."""
    text = await desk.bench.issue(await desk.bench.sign_in())
    for who in (basic("nosy", "nosy:secret é"), basic("web", "web-secret")):
        for token in (text, "no.such.token", "x"):
            answer = await desk.post("introspect", who, token=token)
            assert (answer.status, json.loads(answer.body)) == (200, {"active": False})


@requirement("R86")
async def test_revocation_answers_200_whatever_the_token_is(desk: Desk) -> None:
    """Known, unknown, another client's; only its own client ends it."""
    text = await desk.bench.issue(await desk.bench.sign_in())
    for who in (basic("api", SECRET), basic("nosy", "nosy:secret é")):
        answer = await desk.post("revoke", who, token=text)
        assert (answer.status, answer.body) == (200, b"")
    assert await desk.bench.is_active(text)
    for token in ("x", text, text):
        answer = await desk.post("revoke", basic("web", "web-secret"), token=token)
        assert (answer.status, answer.body) == (200, b"")
    assert not await desk.bench.is_active(text)
    assert desk.also.asked == [(text, "api"), (text, "nosy"), ("x", "web")]


@requirement("R86")
async def test_a_public_client_revokes_by_its_name_alone(desk: Desk) -> None:
    """Its own tokens; one that has a secret must show it."""
    session = await desk.bench.sign_in()
    own, other = await desk.bench.issue(session, client="spa"), await desk.bench.issue(session)
    assert (await desk.post("revoke", token=own, client_id="web")).status == 401
    assert (await desk.post("revoke", token=own, client_id="nobody")).status == 401
    for text in (own, other):
        assert (await desk.post("revoke", token=text, client_id="spa")).status == 200
    assert not await desk.bench.is_active(own)
    assert await desk.bench.is_active(other)


async def test_a_request_that_is_none_is_refused(desk: Desk) -> None:
    """Another method, another type, no token, a parameter twice, too long, no text."""
    who = basic("api", SECRET)
    for name in ("introspect", "revoke"):
        for method in ("GET", "HEAD", "PUT", "post"):
            answer = await done(getattr(desk.endpoints, name)(asked(method, authorization=who), b"token=x"))
            assert (answer.status, dict(answer.headers)["allow"]) == (405, "POST")
        for kind, body in (
            ("application/json", b'{"token":"x"}'),
            ("", b"token=x"),
            (FORM, b""),
            (FORM, b"token="),
            (FORM, b"tok=x"),
            (FORM, b"token=x&token=y"),
            (FORM, b"token=x&client_id=a&client_id=b"),
            (FORM, b"&".join(b"a%d=1" % number for number in range(30))),
            (FORM, b"token=\xff"),
        ):
            answer = await desk.post(name, who, kind, body)
            assert (answer.status, json.loads(answer.body)) == (400, {"error": "invalid_request"})
        assert (await desk.post(name, who, FORM, b"token=" + b"a" * 70_000)).status == 413
        assert (await desk.post(name, who, FORM + "; charset=UTF-8", b"token=x")).status == 200


async def test_the_documents_say_how_long_they_may_be_kept(desk: Desk) -> None:
    """The keys for five minutes, the list until the next one is made."""
    keys = await desk.get("jwks")
    assert keys.body == await done(desk.bench.tokens.jwks())
    assert dict(keys.headers)["cache-control"] == "public, max-age=300"
    assert dict(keys.headers)["content-type"] == "application/jwk-set+json"
    ended = await desk.get("ended")
    assert ended.body.decode() == (await done(desk.bench.tokens.ended())).text
    assert dict(ended.headers)["cache-control"] == "public, max-age=30"
    desk.bench.clock.advance(12.5)
    assert dict((await desk.get("ended")).headers)["cache-control"] == "public, max-age=17"
    for name in ("jwks", "ended"):
        assert (await desk.get(name, "HEAD")).body == b""
        assert (await desk.get(name, "POST")).status == 405
        assert dict((await desk.get(name)).headers)["x-content-type-options"] == "nosniff"


@requirement("R45")
async def test_a_failing_store_is_503_and_no_verdict(desk: Desk) -> None:
    """A resource server must not take it for "not active", nor for active."""
    text = await desk.bench.issue(await desk.bench.sign_in())
    fresh = Desk(blocking=desk.bench.blocking)

    async def failing(*_: Any) -> Any:
        raise StoreUnavailable("down")

    for vault in (desk.bench.ground.vault, fresh.bench.ground.vault):
        vault.get = vault.write = failing  # type: ignore[method-assign]
    for name, who in (("introspect", basic("api", SECRET)), ("revoke", basic("web", "web-secret"))):
        answer = await desk.post(name, who, token=text)
        assert (answer.status, dict(answer.headers)["retry-after"]) == (503, "5")
    for name in ("jwks", "ended"):
        assert (await fresh.get(name)).status == 503


def test_clients_that_cannot_be_told_apart_are_refused() -> None:
    """At start; and a secret is never where its hash belongs."""
    for clients in ((Client("a", HASH), Client("a", None)), (Client("a", "secret"),), (Client("a", HASH.upper()),)):
        with pytest.raises(ConfigurationError) as caught:
            Clients(*clients)
        assert "secret'" not in str(caught.value).replace("the secret", "")
    assert HASH not in repr(CLIENTS) + repr(Client("a", HASH))
    secret, kept = new_secret()
    assert (len(secret), kept) == (43, hash_of(secret))
    assert new_secret()[0] != secret
