"""Signing in at a provider, in every framework: a scripted one, and the real npm oidc-provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sessile.auth.ground import Ground
from sessile.auth.oidc import AsyncSignOn, Coupling, Provider, SignOn
from sessile.core.sessions import Sessions
from tests.auth.oidc.login_bench import CLIENT, ISSUER, OTHER, Bench, Showing, go, through, who
from tests.support.mounting import FRAMEWORKS, ORIGIN, PREFIX, served
from tests.support.oidc_provider import OidcProvider, client, provider
from tests.support.requirements import requirement

every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)
both_doors = pytest.mark.parametrize("framework", ["asgi", "wsgi"])


@requirement("R76")
@every_framework
async def test_a_sign_in_goes_there_and_back_and_lands_where_it_was_meant_to(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        answer = await go(browser, bench.op)
        assert (answer.status_code, answer.headers["location"]) == (303, "/vault")
        told = (await browser.get(f"{PREFIX}/me")).json()
        assert told == {"user": f"{ISSUER}#ada", "aal": 1, "kind": "authenticated"}


@both_doors
async def test_what_is_asked_for_is_what_the_standards_want(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        location = (await browser.get(f"{PREFIX}/login/one?login_hint=ada%40example.org")).headers["location"]
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"] == f"{ORIGIN}{PREFIX}/callback/one"
        assert query["scope"] == "openid"
        assert query["login_hint"] == "ada@example.org"
        assert len(query["state"]) >= 32
        assert len(query["nonce"]) >= 32
        await browser.get(bench.op.authorize(location))
        posted = bench.op.posted[-1]
        assert posted["authorization"].startswith("Basic ")
        assert len(posted["code_verifier"]) >= 43
        assert "client_secret" not in posted


@requirement("R25")
@both_doors
async def test_signing_in_gives_a_new_token_and_keeps_the_cart(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = await browser.get(f"{PREFIX}/login/one")
        before = browser.jar["__Host-id"]
        await browser.get(bench.op.authorize(there.headers["location"]))
        after = browser.jar["__Host-id"]
        assert before != after
        thief = browser.another()
        thief.jar.set("__Host-id", before, domain="shop.example", path="/")
        assert await who(thief) is None


@both_doors
async def test_two_tabs_sign_in_at_once_and_both_end_well(framework: str) -> None:
    """Whichever comes back first, the other one is not refused, and there is one user."""
    bench = Bench()
    async with served(framework, bench.site) as browser:
        first = (await browser.get(f"{PREFIX}/login/one?next=/a")).headers["location"]
        second = (await browser.get(f"{PREFIX}/login/one?next=/b")).headers["location"]
        back = await browser.get(bench.op.authorize(second))
        assert (back.status_code, back.headers["location"]) == (303, "/b")
        back = await browser.get(bench.op.authorize(first))
        assert (back.status_code, back.headers["location"]) == (303, "/a")
        assert await who(browser) == f"{ISSUER}#ada"


@both_doors
async def test_a_browser_remembers_a_few_sign_ins_and_no_more(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        locations = [(await browser.get(f"{PREFIX}/login/one")).headers["location"] for _ in range(12)]
        assert (await browser.get(bench.op.authorize(locations[0]))).status_code == 400
        assert (await browser.get(bench.op.authorize(locations[-1]))).status_code == 303


@both_doors
async def test_the_application_says_who_somebody_is_here(framework: str) -> None:
    bench = Bench(users=lambda identity: {"ada": "user-7"}.get(identity.subject))
    async with served(framework, bench.site) as browser:
        await go(browser, bench.op)
        assert await who(browser) == "user-7"
        bench.op.changes = {"sub": "mallory"}
        stranger = browser.another()
        answer = await go(stranger, bench.op)
        assert answer.status_code == 400
        assert "no account" in answer.text
        assert await who(stranger) is None


@requirement("R75")
@both_doors
async def test_levels_are_what_the_application_reads_and_nothing_by_itself(framework: str) -> None:
    def levels(token: Any) -> list[str]:
        return ["passkey"] if "hwk" in token.amr else ["sso"]

    bench = Bench(levels=levels)
    bench.op.changes = {"amr": ["hwk", "user"]}
    async with served(framework, bench.site) as browser:
        await go(browser, bench.op)
        assert (await browser.get(f"{PREFIX}/me")).json()["aal"] == 2


@both_doors
async def test_a_provider_that_wants_it_gets_the_request_by_the_back_channel(framework: str) -> None:
    bench = Bench()
    bench.op.metadata = {
        "require_pushed_authorization_requests": True,
        "pushed_authorization_request_endpoint": ISSUER + "/par",
    }
    async with served(framework, bench.site) as browser:
        location = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        query = parse_qs(urlsplit(location).query)
        assert query == {"client_id": [CLIENT], "request_uri": ["urn:example:1"]}
        assert bench.op.posted[-1]["code_challenge_method"] == "S256"


@requirement("R75")
@both_doors
async def test_the_provider_is_asked_again_and_its_no_ends_the_session(framework: str) -> None:
    bench = Bench(coupling=Coupling(recheck=300, patience=600))
    async with served(framework, bench.site, clock=bench.clock) as browser:
        await go(browser, bench.op)
        assert (await browser.get(f"{PREFIX}/checked")).json()["user"] == f"{ISSUER}#ada"
        assert bench.op.refreshes == 0, "it is not due"
        bench.clock.now += 301
        for _ in range(3):
            assert (await browser.get(f"{PREFIX}/checked")).json()["user"] == f"{ISSUER}#ada"
        assert bench.op.refreshes == 1, "once for all requests of the next while"
        bench.clock.now += 301
        bench.op.down.add("/token")
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 200, "the provider may be down for a while"
        bench.clock.now += 700
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 503, "but not for ever"
        bench.op.down.clear()
        bench.op.grants.clear()
        bench.clock.now += 60
        ended = await browser.get(f"{PREFIX}/checked", headers={"accept": "application/json"})
        assert ended.status_code == 401
        assert await who(browser) is None
        assert [event.stands for event in bench.told("sign-on-checked")] == [True, False]


@requirement("R75")
@both_doors
async def test_without_a_refresh_token_the_user_is_sent_there_again(framework: str) -> None:
    bench = Bench(coupling=Coupling(recheck=300))
    bench.op.alter = lambda told: {**told, "refresh_token": None}
    async with served(framework, bench.site, clock=bench.clock) as browser:
        await go(browser, bench.op)
        bench.clock.now += 301
        asked = await browser.get(f"{PREFIX}/checked", headers={"accept": "application/json"})
        assert (asked.status_code, asked.json()["reason"]) == (401, "login")
        await go(browser, bench.op)
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 200


async def _kept(bench: Bench, user: str = f"{ISSUER}#ada") -> list[str]:
    """Return the kinds of what the vault keeps for a user's sessions."""
    found = [
        item.key.partition(":")[0]
        for prefix in ("oidc-hint:", "oidc-refresh:")
        for item in await bench.sign_on.ground.vault.of_user(user, prefix)
    ]
    return sorted(found)


async def test_signing_in_again_keeps_one_link_and_a_sign_out_there_still_ends_it() -> None:
    """A step-up, and a second provider: what the first sign-in left is gone, what the last one brought is there."""
    bench = Bench(users=lambda _: "ada")
    async with served("asgi", bench.site) as browser:
        for name in ("one", "one", "two"):
            assert (await go(browser, bench.op, name)).status_code == 303
            assert await who(browser) == "ada"
            assert await _kept(bench, "ada") == ["oidc-hint", "oidc-refresh"]
        links = bench.sign_on.flow.links
        found = await links.find(OTHER, subject=None, sid="sid-1")
        assert [link.provider for _, link in found] == ["two"]
        assert not await links.find(ISSUER, subject=None, sid="sid-1")


async def test_a_no_of_the_provider_leaves_nothing_of_it_here() -> None:
    bench = Bench(coupling=Coupling(recheck=300))
    async with served("asgi", bench.site, clock=bench.clock) as browser:
        await go(browser, bench.op)
        assert await _kept(bench) == ["oidc-hint", "oidc-refresh"]
        bench.clock.now += 301
        bench.op.grants.clear()
        await browser.get(f"{PREFIX}/checked", headers={"accept": "application/json"})
        assert await who(browser) is None
        assert await _kept(bench) == []


async def test_the_next_refresh_token_is_kept_even_if_its_answer_cannot_be_judged_now() -> None:
    """A node that has just begun knows no keys yet: their outage must not cost the one refresh token that is good."""
    bench = Bench(coupling=Coupling(recheck=300))
    async with served("asgi", bench.site, clock=bench.clock) as browser:
        await go(browser, bench.op)
        bench.clock.now += 301
        bench.sign_on.known["one"]._keys = None
        bench.op.down.add("/jwks")
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 200
        assert bench.op.refreshes == 1
        bench.op.down.clear()
        bench.clock.now += 301
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 200, "a used token would have ended the session"
        assert bench.op.refreshes == 2
        assert await who(browser) is not None


@pytest.mark.parametrize("ahead", [2, 20])
async def test_a_node_whose_clock_is_behind_uses_no_refresh_token_that_is_in_use(ahead: float) -> None:
    bench = Bench(coupling=Coupling(recheck=300))
    async with served("asgi", bench.site, clock=bench.clock) as browser:
        await go(browser, bench.op)
        bench.clock.now += 301 + ahead
        bench.op.down.add("/token")  # it has claimed the token, and hears nothing
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 200
        bench.op.down.clear()
        bench.clock.now -= ahead
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 200
        assert bench.op.refreshes == 0
        bench.clock.now += ahead + 61
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 200
        assert bench.op.refreshes == 1
        bench.clock.now -= ahead
        assert (await browser.get(f"{PREFIX}/checked")).status_code == 200
        assert bench.op.refreshes == 1, "it was asked a moment ago, by the other's clock"


async def test_people_who_come_while_the_provider_is_asked_for_the_first_time_are_not_turned_away() -> None:
    bench = Bench()
    bench.op.slow = True
    async with served("asgi", bench.site) as browser:
        crowd = [browser.another() for _ in range(6)]
        there = await asyncio.gather(*(one.get(f"{PREFIX}/login/one") for one in crowd))
        assert [answer.status_code for answer in there] == [303] * 6
        back = await asyncio.gather(
            *(one.get(bench.op.authorize(answer.headers["location"])) for one, answer in zip(crowd, there, strict=True))
        )
        assert [answer.status_code for answer in back] == [303] * 6


async def test_an_endpoint_that_is_null_is_an_endpoint_that_is_not_there() -> None:
    bench = Bench(userinfo=True)
    bench.op.metadata = {"userinfo_endpoint": None, "revocation_endpoint": None}
    async with served("asgi", bench.site) as browser:
        assert (await go(browser, bench.op)).status_code == 303


@requirement("R26")
async def test_what_one_user_had_begun_is_not_carried_into_anothers_session() -> None:
    """Three tabs of one browser: ada's step-up must not end in eve's session."""
    bench = Bench()
    async with served("asgi", bench.site) as browser:
        early = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        await go(browser, bench.op)
        step_up = (await browser.get(f"{PREFIX}/login/one?next=/a")).headers["location"]
        bench.op.changes = {"sub": "eve"}
        assert (await browser.get(bench.op.authorize(early))).status_code == 303
        assert await who(browser) == f"{ISSUER}#eve"
        bench.op.changes = {}
        late = await browser.get(bench.op.authorize(step_up))
        assert late.headers["location"] == "/"
        assert bench.told("sign-on-refused")[-1].why == "unknown"
        assert await who(browser) == f"{ISSUER}#eve"


# How an application proves who it is: what it is given, and what the provider knows of it (RFC 7591 §2).
_KEYS: dict[str, RSAKey | ECKey | OKPKey] = {
    "rsa": RSAKey.generate_key(2048, {"kid": "ours"}),
    "p256": ECKey.generate_key("P-256"),
    "ed25519": OKPKey.generate_key("Ed25519"),
}
_SIGNS: dict[str, str] = {"rsa": "RS256", "p256": "ES256", "ed25519": "EdDSA"}


def _registered(name: str, **more: Any) -> dict[str, Any]:
    return client(name, ORIGIN + PREFIX, callback="/callback/op", logged_out="/logged-out", backchannel=None, **more)


@pytest.fixture(scope="module", name="op")
def fixture_op() -> Iterator[OidcProvider]:
    """Run npm oidc-provider."""
    registered = [
        _registered(CLIENT),
        _registered("post", token_endpoint_auth_method="client_secret_post"),
        _registered("public", token_endpoint_auth_method="none", client_secret=None),
    ]
    for name, key in _KEYS.items():
        registered.append(
            _registered(
                name,
                token_endpoint_auth_method="private_key_jwt",
                token_endpoint_auth_signing_alg=_SIGNS[name],
                client_secret=None,
                jwks={"keys": [key.as_dict(private=False)]},
            )
        )
    with provider([{key: value for key, value in one.items() if value is not None} for one in registered]) as made:
        yield made


def _proving(op: OidcProvider, name: str, **proof: Any) -> Provider:
    scopes = ("openid", "offline_access")
    return Provider("op", op.issuer, name, scopes=scopes, algorithms=("RS256",), **proof)


PROOFS: dict[str, tuple[str, Any]] = {
    "post": ("post", {"client_secret": f"secret of post {'x' * 24}", "authentication": "client_secret_post"}),
    "public": ("public", {}),
    "rsa pem": ("rsa", {"private_key": _KEYS["rsa"].as_pem(private=True).decode()}),
    "rsa jwk": ("rsa", {"private_key": dict(_KEYS["rsa"].as_dict(private=True))}),
    "p256 jwk": ("p256", {"private_key": dict(_KEYS["p256"].as_dict(private=True))}),
    "p256 pem": ("p256", {"private_key": _KEYS["p256"].as_pem(private=True).decode()}),
    "ed25519": ("ed25519", {"private_key": dict(_KEYS["ed25519"].as_dict(private=True))}),
}
WRONG: dict[str, tuple[str, Any]] = {
    "another secret": ("post", {"client_secret": "guessed", "authentication": "client_secret_post"}),
    "another key": ("p256", {"private_key": dict(ECKey.generate_key("P-256").as_dict(private=True))}),
    "no proof": ("rsa", {}),
}


@requirement("R76")
@both_doors
@pytest.mark.parametrize("case", [*PROOFS, *WRONG])
async def test_a_real_provider_is_shown_who_we_are(framework: str, case: str, op: OidcProvider) -> None:
    name, proof = {**PROOFS, **WRONG}[case]
    made: list[Any] = []

    def site(door: Any) -> Any:
        kind: Any = SignOn if isinstance(door, Sessions) else AsyncSignOn
        made.append(kind(Ground(door, "memory://"), [_proving(op, name, **proof)], address=ORIGIN + PREFIX))
        return Showing(made[0].site)

    async with served(framework, site) as browser:
        with httpx.Client() as there:
            location = (await browser.get(f"{PREFIX}/login/op?next=/vault")).headers["location"]
            answer = await browser.get(through(there, location, "ada"))
        assert answer.status_code == (303 if case in PROOFS else 400), answer.text
        assert await who(browser) == (f"{op.issuer}#ada" if case in PROOFS else None)
        await made[0].http.close()


@requirement("R76")
@every_framework
async def test_a_real_provider_signs_people_in(framework: str, op: OidcProvider) -> None:
    """Discovery, code, PKCE, client secret, keys and ID token are oidc-provider's own."""

    def site(door: Any) -> Any:
        kind: Any = SignOn if isinstance(door, Sessions) else AsyncSignOn
        secret = f"secret of {CLIENT} {'x' * 24}"
        known = Provider("op", op.issuer, CLIENT, secret, scopes=("openid", "offline_access"))
        made = kind(Ground(door, "memory://"), [known], address=ORIGIN + PREFIX, userinfo=True)
        return Showing(made.site)

    async with served(framework, site) as browser:
        with httpx.Client() as there:
            location = (await browser.get(f"{PREFIX}/login/op?next=/vault")).headers["location"]
            answer = await browser.get(through(there, location, "ada"))
            assert (answer.status_code, answer.headers["location"]) == (303, "/vault")
            assert await who(browser) == f"{op.issuer}#ada"
            # The provider knows the browser by now: a second application, or tab, needs no password.
            again = (await browser.get(f"{PREFIX}/login/op")).headers["location"]
            assert (await browser.get(through(there, again, "nobody"))).status_code == 303
            assert await who(browser) == f"{op.issuer}#ada"
        sign_on: Any = browser.site
        await sign_on.inner._flow.known["op"].http.close()
