"""Attacks on signing in at a provider: answers that are not what was asked for, and whoever else brings them."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sessile.auth.ground import Ground
from sessile.auth.jws import read_keys
from sessile.auth.oidc import AsyncSignOn, Provider
from sessile.auth.oidc.providers import FLOOR
from sessile.auth.vault import Write
from sessile.core.keys import KeyRing
from sessile.core.sessions import AsyncSessions
from sessile.errors import ConfigurationError, StoreUnavailable
from tests.auth.oidc.login_bench import (
    CLIENT,
    FROM_ELSEWHERE,
    ISSUER,
    OTHER,
    Bench,
    default_providers,
    go,
    who,
)
from tests.auth.oidc.logout_forge import ABSENT, Forge, base64url
from tests.support.mounting import PREFIX, served
from tests.support.requirements import requirement


def _short_key() -> RSAKey:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RSAKey.generate_key(1024)


# Keys that sign nothing that a provider takes.
_PRIVATE: dict[str, dict[str, Any]] = {
    "coins": dict(ECKey.generate_key("secp256k1").as_dict(private=True)),
    "agreement": dict(OKPKey.generate_key("X25519").as_dict(private=True)),
    "short": dict(_short_key().as_dict(private=True)),
}


def _named(value: Any) -> str:
    """Return the same name in every process: keys are random."""
    return next((name for name, key in _PRIVATE.items() if key is value), str(value))


both_doors = pytest.mark.parametrize("framework", ["asgi", "wsgi"])

# What a hostile or broken provider puts into an ID token, and the part that gives it away.
CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"iss": OTHER}, "issuer"),
    "issuer with a slash": ({"iss": ISSUER + "/"}, "issuer"),
    "no issuer": ({"iss": ABSENT}, "issuer"),
    "another client": ({"aud": "other"}, "audience"),
    "two clients": ({"aud": [CLIENT, "other"]}, "audience"),
    "no client": ({"aud": []}, "audience"),
    "issued to another": ({"azp": "other"}, "audience"),
    "no subject": ({"sub": ABSENT}, "subject"),
    "empty subject": ({"sub": ""}, "subject"),
    "subject is a number": ({"sub": 7}, "subject"),
    "subject too long": ({"sub": "a" * 256}, "subject"),
    "subject with a line break": ({"sub": "ada\nadmin"}, "subject"),
    "expired": ({"exp": 1_000_000_000}, "time"),
    "no expiry": ({"exp": ABSENT}, "time"),
    "expiry is text": ({"exp": "9999999999"}, "time"),
    "expiry is true": ({"exp": True}, "time"),
    "expiry is endless": ({"exp": 1e300}, "time"),
    "from the future": ({"iat": 9_000_000_000}, "time"),
    "no time of issue": ({"iat": ABSENT}, "time"),
    "not yet": ({"nbf": 9_000_000_000}, "time"),
    "another nonce": ({"nonce": "another"}, "nonce"),
    "no nonce": ({"nonce": ABSENT}, "nonce"),
    "nonce is a list": ({"nonce": ["x"]}, "nonce"),
    "another access token's hash": ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "hash"),
    "hash is a number": ({"at_hash": 1}, "hash"),
    "a security event": ({"events": {}}, "type"),
    "signed in tomorrow": ({"auth_time": 9_000_000_000}, "time"),
    "session id is a list": ({"sid": ["x"]}, "claims"),
}
HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "alg none": ({"alg": "none"}, "algorithm"),
    "alg NONE": ({"alg": "NoNe"}, "algorithm"),
    "alg HS256": ({"alg": "HS256"}, "algorithm"),
    "alg missing": ({"alg": ABSENT}, "algorithm"),
    "alg that is off": ({"alg": "RS512"}, "algorithm"),
    "a logout token": ({"typ": "logout+jwt"}, "type"),
    "an access token": ({"typ": "at+jwt"}, "type"),
    "unknown key": ({"kid": "nobody's"}, "key"),
    "key of another algorithm": ({"kid": "ec"}, "key"),
    "crit": ({"crit": ["exp"]}, "malformed"),
}


async def refused(browser: Any, bench: Bench, why: str, more: str | None = None) -> None:
    """Sign in, and see that it fails, says so to the sinks, and leaves nobody signed in."""
    answer = await go(browser, bench.op)
    assert answer.status_code == 400, (why, answer.text)
    assert "eyJ" not in answer.text
    assert await who(browser) is None
    event = bench.told("sign-on-refused")[-1]
    assert event.why == why
    if more is not None:
        assert event.more == more


@requirement("R76")
@both_doors
@pytest.mark.parametrize("case", CLAIMS)
async def test_an_id_token_with_a_wrong_claim_signs_nobody_in(framework: str, case: str) -> None:
    changes, part = CLAIMS[case]
    bench = Bench()
    bench.op.changes = changes
    async with served(framework, bench.site) as browser:
        await refused(browser, bench, "token", part)


@requirement("R76", "R79")
@both_doors
@pytest.mark.parametrize("case", HEADERS)
async def test_an_id_token_with_a_wrong_header_signs_nobody_in(framework: str, case: str) -> None:
    changes, part = HEADERS[case]
    bench = Bench()
    bench.op.header = changes
    async with served(framework, bench.site) as browser:
        await refused(browser, bench, "token", part)


def _swap_signature(token: str) -> str:
    head, body, _ = token.split(".")
    return f"{head}.{body}.{base64url(b'x' * 256)}"


def _other_body(token: str) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    return f"{head}.{base64url(json.dumps({**claims, 'sub': 'root'}).encode())}.{signature}"


TEXTS: dict[str, Any] = {
    "signature of nobody": _swap_signature,
    "another body": _other_body,
    "padded": lambda token: token + "=",
    "two parts": lambda token: token.rpartition(".")[0],
    "five parts": lambda token: token + ".x.y",
    "long": lambda token: token + "A" * 20_000,
    "empty": lambda _: "",
    "a number": lambda _: 7,
    "missing": lambda _: None,
    "not ascii": lambda token: token + "é",
}


@both_doors
@pytest.mark.parametrize("case", TEXTS)
async def test_what_is_no_id_token_signs_nobody_in(framework: str, case: str) -> None:
    bench = Bench()
    bench.op.alter = lambda told: {**told, "id_token": TEXTS[case](told["id_token"])}
    async with served(framework, bench.site) as browser:
        answer = await go(browser, bench.op)
        assert answer.status_code == 400
        assert await who(browser) is None


@requirement("R76")
@both_doors
async def test_an_id_token_of_another_sign_in_is_refused(framework: str) -> None:
    """Swapped: genuine, for this client, of this provider, with the nonce of another browser's transaction."""
    bench = Bench()
    async with served(framework, bench.site) as browser:
        stolen: list[dict[str, Any]] = []

        def steal(told: dict[str, Any]) -> dict[str, Any]:
            stolen.append(told)
            return told

        bench.op.alter = steal
        await go(browser, bench.op)
        mallory = browser.another()
        bench.op.alter = lambda told: {**told, "id_token": stolen[0]["id_token"], "access_token": "access-x"}
        await refused(mallory, bench, "token", "nonce")


@requirement("R76")
@both_doors
async def test_the_answer_of_one_browser_is_nothing_in_another(framework: str) -> None:
    """Login CSRF and code injection: the attacker's own answer, state and all, in the victim's browser."""
    bench = Bench()
    async with served(framework, bench.site) as attacker:
        there = await attacker.get(f"{PREFIX}/login/one")
        answer = bench.op.authorize(there.headers["location"])
        victim = attacker.another()
        assert (await victim.get(answer, headers=FROM_ELSEWHERE)).status_code == 400
        assert await who(victim) is None
        # With a transaction of its own, too: the state must be that one's.
        mine = await victim.get(f"{PREFIX}/login/one")
        state = parse_qs(urlsplit(mine.headers["location"]).query)["state"][0]
        code = parse_qs(urlsplit(answer).query)["code"][0]
        injected = await victim.get(f"{PREFIX}/callback/one?code={code}&state={state}", headers=FROM_ELSEWHERE)
        assert injected.status_code == 400, "PKCE: the code is for another verifier"
        assert await who(victim) is None


@requirement("R76")
@both_doors
async def test_an_answer_is_good_once(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = await browser.get(f"{PREFIX}/login/one")
        answer = bench.op.authorize(there.headers["location"])
        before = browser.jar["__Host-id"]
        assert (await browser.get(answer)).status_code == 303
        count = len(bench.op.posted)
        again = await browser.get(answer)
        assert again.headers["location"] == "/", "the browser is signed in, and asked the provider nothing"
        thief = browser.another()
        thief.jar.set("__Host-id", before, domain="shop.example", path="/")
        assert (await thief.get(answer)).status_code == 400
        assert await who(thief) is None
        assert len(bench.op.posted) == count


@requirement("R76")
@both_doors
async def test_a_provider_cannot_answer_for_another(framework: str) -> None:
    """Mix-up: one is asked, the other answers; by its path, by its name, by its code."""
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        wrong_path = bench.op.authorize(there).replace("/callback/one", "/callback/two")
        assert (await browser.get(wrong_path)).status_code == 400
        assert bench.told("sign-on-refused")[-1].why == "provider"
        there = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        assert (await browser.get(bench.op.authorize(there, iss=OTHER))).status_code == 400
        assert bench.told("sign-on-refused")[-1].why == "provider"
        assert not bench.op.posted, "no code went to the wrong place"
        assert await who(browser) is None


@requirement("R76")
@both_doors
async def test_a_provider_that_names_itself_must(framework: str) -> None:
    """RFC 9207: its metadata say so, and an answer without the name is another's."""
    bench = Bench()
    bench.op.metadata = {"authorization_response_iss_parameter_supported": True}
    async with served(framework, bench.site) as browser:
        there = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        assert (await browser.get(bench.op.authorize(there))).status_code == 400
        there = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        assert (await browser.get(bench.op.authorize(there, iss=ISSUER))).status_code == 303


@both_doors
async def test_a_no_of_the_provider_is_told_and_quotes_nothing(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        answer = await browser.get(
            bench.op.authorize(there, code="", error="access_denied", error_description="<script>alert(1)</script>")
        )
        assert answer.status_code == 400
        assert "script" not in answer.text
        event = bench.told("sign-on-refused")[-1]
        assert (event.why, event.more) == ("denied", "access_denied")


@both_doors
@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\n/evil.example"]
)
async def test_nobody_is_sent_elsewhere_afterwards(framework: str, target: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = await browser.get(f"{PREFIX}/login/one", params={"next": target})
        answer = await browser.get(bench.op.authorize(there.headers["location"]))
        assert answer.headers["location"] == "/"


@both_doors
async def test_a_sign_in_that_takes_too_long_is_over(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site, clock=bench.clock) as browser:
        there = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        bench.clock.now += 901
        assert (await browser.get(bench.op.authorize(there))).status_code == 400
        assert bench.told("sign-on-refused")[-1].why == "expired"


@requirement("R75")
@both_doors
@pytest.mark.parametrize(
    ("settings", "changes", "fine"),
    [
        ({"max_age": 60}, {}, True),
        ({"max_age": 60}, {"auth_time": ABSENT}, False),
        ({"max_age": 60}, {"auth_time": 1_000_000_000}, False),
        ({"max_age": 60}, {"auth_time": "now"}, False),
        ({"acr_values": ("high", "higher")}, {"acr": "higher"}, True),
        ({"acr_values": ("high",)}, {"acr": "low"}, False),
        ({"acr_values": ("high",)}, {}, False),
    ],
    ids=["age", "no age", "old", "age is text", "level", "low", "no level"],
)
async def test_what_was_asked_of_the_sign_in_there_is_enforced(
    framework: str, settings: dict[str, Any], changes: dict[str, Any], *, fine: bool
) -> None:
    bench = Bench(providers=[Provider("one", ISSUER, CLIENT, "secret", **settings)])
    bench.op.changes = changes
    async with served(framework, bench.site) as browser:
        answer = await go(browser, bench.op)
        assert (answer.status_code == 303) == fine
        query = parse_qs(urlsplit((await browser.get(f"{PREFIX}/login/one")).headers["location"]).query)
        assert query.get("max_age", ["60"]) == ["60"]
        assert ("acr_values" in query) == ("acr_values" in settings)


@requirement("R75")
@both_doors
async def test_a_sign_in_that_was_asked_for_anew_is_new_however_long_its_pages_take(framework: str) -> None:
    """A step-up (`reason=age`) asks for `max_age=0`: what counts is that the user proved it after being sent there."""
    bench = Bench()
    async with served(framework, bench.site, clock=bench.clock) as browser:
        for proved, fine in ((bench.clock.now + 1, True), (bench.clock.now - 60, False)):
            there = await browser.get(f"{PREFIX}/login/one?next=/vault&reason=age")
            assert parse_qs(urlsplit(there.headers["location"]).query)["max_age"] == ["0"]
            bench.op.changes = {"auth_time": int(proved)}
            bench.clock.now += 120
            answer = await browser.get(bench.op.authorize(there.headers["location"]))
            assert (answer.status_code == 303) == fine
            bench.clock.now -= 120


@both_doors
async def test_what_the_token_endpoint_says_is_told_to_the_sinks_and_to_nobody_else(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = (await browser.get(f"{PREFIX}/login/one")).headers["location"]
        path = bench.op.authorize(there)
        bench.op.codes.clear()
        answer = await browser.get(path)
        assert answer.status_code == 400
        assert "invalid_grant" not in answer.text
        assert bench.told("sign-on-refused")[-1].more == "invalid_grant"


@both_doors
async def test_user_info_of_somebody_else_signs_nobody_in(framework: str) -> None:
    bench = Bench(userinfo=True)
    bench.op.userinfo = {"sub": "root"}
    async with served(framework, bench.site) as browser:
        await refused(browser, bench, "token", "userinfo")


@both_doors
async def test_a_key_that_the_provider_published_just_now_is_taken_and_strangers_fetch_it_once(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site, clock=bench.clock) as browser:
        await go(browser, bench.op)
        fresh = Forge(ISSUER, CLIENT)
        for key in fresh.keys.values():
            key._dict_value["kid"] = f"new-{key.kid}"
        bench.op.forges[ISSUER] = fresh
        bench.op.header = {"kid": "new-rsa"}
        another = browser.another()
        assert (await go(another, bench.op)).status_code == 303
        asked = bench.op.asked.count(ISSUER + "/jwks")
        bench.op.header = {"kid": "never-seen"}
        for _ in range(5):
            assert (await go(browser.another(), bench.op)).status_code == 400
        assert bench.op.asked.count(ISSUER + "/jwks") == asked
        bench.clock.now += FLOOR + 1
        assert (await go(browser.another(), bench.op)).status_code == 400
        assert bench.op.asked.count(ISSUER + "/jwks") == asked + 1


def _published(key: Any, **more: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), **more}


_EC = ECKey.generate_key("P-256", {"kid": "x"})
# What may stand in a published set beside the good keys, and must neither crash nor verify anything.
KEYS: dict[str, Any] = {
    "kind is a list": {"kty": ["RSA"]},
    "kind is an object": {"kty": {}},
    "no kind": {},
    "no object": ["RSA"],
    "agreement": _published(OKPKey.generate_key("X25519"), kid="rsa"),
    "agreement 448": _published(OKPKey.generate_key("X448"), kid="rsa"),
    "short": _published(_short_key(), kid="rsa"),
    "coins": _published(ECKey.generate_key("secp256k1"), kid="rsa"),
    "for encryption": _published(_EC, use="enc", kid="rsa"),
    "private": {**_EC.as_dict(private=True), "kid": "rsa"},
    "symmetric": {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"},
    "off the curve": _published(_EC, x="AQAB"),
    "huge number": {"kty": "RSA", "n": "_" * 100_000, "e": "AQAB", "kid": "big"},
}


@pytest.mark.filterwarnings("ignore:Key size")
@requirement("R79", "R80")
@pytest.mark.parametrize("case", KEYS)
async def test_whatever_a_provider_publishes_beside_its_keys_is_passed_over(case: str) -> None:
    bench = Bench(providers=[Provider("one", ISSUER, CLIENT, "secret")])
    bench.op.more_keys = [KEYS[case]]
    async with served("asgi", bench.site) as browser:
        assert (await go(browser, bench.op)).status_code == 303


@pytest.mark.filterwarnings("ignore:Key size")
@requirement("R79")
async def test_a_set_of_such_keys_alone_is_an_outage() -> None:
    for case in ("kind is a list", "agreement", "short", "for encryption", "private", "symmetric"):
        with pytest.raises(StoreUnavailable):
            read_keys({"keys": [KEYS[case]]})


@pytest.mark.parametrize("access", ["access-é", "access-\n", "access-\x7f", "access- x"])
async def test_tokens_that_no_header_can_hold_are_none(access: str) -> None:
    """What the provider sends as a token goes into a header: it must not crash there, nor begin another one."""
    bench = Bench(userinfo=True)
    bench.op.alter = lambda told: {**told, "access_token": access}
    bench.op.changes = {"at_hash": ABSENT}
    async with served("asgi", bench.site) as browser:
        assert (await go(browser, bench.op)).status_code == 303
        assert not [url for url in bench.op.asked if url.endswith("/me")], "user info was asked for with it"


@requirement("R69")
@pytest.mark.parametrize("second_factor", [False, True])
@pytest.mark.parametrize("channel", ["back", "front"])
async def test_a_session_that_is_renewed_while_it_is_signed_out_there_does_not_live_on(
    channel: str, *, second_factor: bool
) -> None:
    """The sign-out has found the session by its id; a factor gives it another one before it is ended."""
    bench = Bench(second_factor=second_factor)
    async with served("asgi", bench.site, clock=bench.clock) as browser:
        if second_factor:
            totp = Write("totp:" + "a" * 40, b"an authenticator", 0, f"{ISSUER}#ada")
            await bench.sign_on.ground.vault.write(totp)
        await go(browser, bench.op)
        links = bench.sign_on.flow.links
        find, looks = links.find, 0

        async def overtaken(*asked: Any, **more: Any) -> Any:
            nonlocal looks
            looks += 1
            found = await find(*asked, **more)
            if looks == (1 if channel == "back" else 2):
                assert found
                assert (await browser.get(f"{PREFIX}/stepped")).json()["user"] is not None
            return found

        links.find = overtaken
        provider = browser.another()
        if channel == "back":
            forge = bench.op.forges[ISSUER]
            token = forge.token(forge.claims(bench.clock.now), key="RS256", typ="logout+jwt")
            answer = await provider.post(f"{PREFIX}/backchannel/one", data={"logout_token": token}, headers={})
        else:
            answer = await provider.get(f"{PREFIX}/frontchannel/one", params={"iss": ISSUER, "sid": "sid-1"})
        assert answer.status_code == 200
        assert await who(browser) is None


@both_doors
@pytest.mark.parametrize("part", ["all", "/.well-known/openid-configuration", "/jwks", "/token"])
async def test_a_provider_that_is_down_is_an_outage_and_nobodys_sign_in(framework: str, part: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = (await browser.get(f"{PREFIX}/login/two")).headers["location"]
        bench.op.down.add(part)
        answer = await browser.get(bench.op.authorize(there))
        expected = 303 if part.startswith("/.well") else 503  # its metadata are known by now
        assert answer.status_code == expected
        assert (await who(browser) is None) == (expected == 503)
        if part in ("all", "/.well-known/openid-configuration"):
            assert (await browser.get(f"{PREFIX}/login/one")).status_code == 503


@both_doors
@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": OTHER},
        {"issuer": ISSUER + "/"},
        {"issuer": None},
        {"token_endpoint": None},
        {"token_endpoint": "http://login.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": ["https://login.example/jwks"]},
        {"token_endpoint": "https://user:password@login.example/token"},
        {"end_session_endpoint": "http://169.254.169.254/"},
    ],
    ids=["other", "slash", "none", "missing", "http", "script", "file", "list", "user", "inside"],
)
async def test_metadata_that_cannot_be_right_are_not_used(framework: str, metadata: dict[str, Any]) -> None:
    bench = Bench(providers=[Provider("one", ISSUER, CLIENT, "secret")])
    bench.op.metadata = metadata
    async with served(framework, bench.site) as browser:
        assert (await browser.get(f"{PREFIX}/login/one")).status_code == 503


@pytest.mark.filterwarnings("ignore:Key size")
@pytest.mark.parametrize(
    "changes",
    [
        {"name": "One"},
        {"name": ""},
        {"name": "a/b"},
        {"issuer": "http://login.example"},
        {"issuer": "https://login.example?x=1"},
        {"issuer": "login.example"},
        {"issuer": "https://u:p@login.example"},
        {"client_id": ""},
        {"scopes": ("profile",)},
        {"scopes": ("openid profile",)},
        {"algorithms": ("none",)},
        {"algorithms": ("HS256",)},
        {"algorithms": ()},
        {"client_secret": "x", "private_key": "y"},
        {"authentication": "private_key_jwt"},
        {"authentication": "client_secret_basic", "client_secret": None},
        {"private_key": "-----BEGIN nonsense", "client_secret": None},
        {"private_key": _PRIVATE["coins"], "client_secret": None},
        {"private_key": _PRIVATE["agreement"], "client_secret": None},
        {"private_key": _PRIVATE["short"], "client_secret": None},
        {"max_age": -1},
        {"tolerance": 9999},
        {"front_origins": ("http://evil.example",)},
    ],
    ids=lambda changes: "-".join(f"{name}={_named(value)}" for name, value in changes.items())[:60],
)
def test_settings_that_make_no_sense_are_refused_at_once(changes: dict[str, Any]) -> None:
    settings = {"name": "one", "issuer": ISSUER, "client_id": CLIENT, "client_secret": "secret", **changes}
    with pytest.raises(ConfigurationError) as caught:
        Provider(**settings)
    assert "secret" not in str(caught.value).replace("client_secret", "")


def test_a_provider_shows_no_secret() -> None:
    assert "hunter2" not in repr(Provider("one", ISSUER, CLIENT, "hunter2"))


async def test_sessions_that_no_provider_could_end_are_refused_at_once() -> None:
    sessions = AsyncSessions("cookie://", keys=KeyRing({0: bytes(32)}))
    with pytest.raises(ConfigurationError):
        AsyncSignOn(Ground(sessions, "memory://"), default_providers(), address="https://shop.example/sso")
