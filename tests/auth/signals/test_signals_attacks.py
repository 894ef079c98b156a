"""Whatever a stranger pushes, no session is touched; what the transmitter itself sends twice does nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from sessile.auth.signals.vocabulary import SESSION_REVOKED
from tests.auth.signals.signal_bench import DOORS, App
from tests.auth.signals.signal_forge import (
    EC,
    ED,
    ISSUER,
    RSA,
    STRANGER,
    bare,
    claims,
    hearing,
    maced,
    signed,
)
from tests.support.requirements import requirement

pytestmark = requirement("R77", "R79", "R80")
doors = pytest.mark.parametrize("door", DOORS)

Forge = Callable[[App], str]
_HEAD = {"alg": "RS256", "typ": "secevent+jwt", "kid": "rsa"}
_EVENT = {"reason_admin": {"en": "x"}}


def _twice(app: App) -> str:
    """Return a SET in which `sub_id` stands twice, the second one Ada's."""
    raw = json.dumps(claims(app))
    return signed(f'{{"sub_id": {{"format": "opaque", "id": "1"}}, {raw[1:]}'.encode())


def _nested(app: App) -> str:
    """Return a SET within a SET."""
    return signed(claims(app, events={SESSION_REVOKED: {"jwt": signed(claims(app))}, "urn:x": {}}))


def _deep(app: App) -> str:
    return signed(('{"iss": "x", "a": ' + "[" * 4000 + "]" * 4000 + "}").encode())


ATTACKS: dict[str, tuple[str, Forge]] = {
    "junk": ("invalid_request", lambda _: "junk"),
    "empty": ("invalid_request", lambda _: ""),
    "four-parts": ("invalid_request", lambda app: signed(claims(app)) + ".AA"),
    "not-base64url": ("invalid_request", lambda app: signed(claims(app))[:-3] + "+/="),
    "second-spelling": ("invalid_request", lambda app: signed(claims(app))[:-1] + "B"),
    "oversize": ("invalid_request", lambda app: signed(claims(app, junk="x" * 20_000))),
    "deeply-nested": ("invalid_request", _deep),
    "alg-none": ("invalid_key", lambda app: bare({**_HEAD, "alg": "none"}, claims(app))),
    "alg-None": ("invalid_key", lambda app: bare({**_HEAD, "alg": "None"}, claims(app))),
    "alg-hs256-with-public-key": ("invalid_key", lambda app: maced(claims(app))),
    "alg-rs512": ("invalid_key", lambda app: bare({**_HEAD, "alg": "RS512"}, claims(app))),
    "alg-of-another-key": ("invalid_key", lambda app: bare({**_HEAD, "alg": "ES256"}, claims(app), b"x" * 64)),
    "not-signed": ("invalid_key", lambda app: bare(_HEAD, claims(app), b"x" * 256)),
    "stranger's-key": ("invalid_key", lambda app: signed(claims(app), STRANGER)),
    "unknown-kid": ("invalid_key", lambda app: signed(claims(app), kid="nobody")),
    "no-kid-of-several": ("invalid_key", lambda app: bare({**_HEAD, "kid": "ed"}, claims(app), b"x" * 256)),
    "kid-a-number": ("invalid_request", lambda app: bare({**_HEAD, "kid": 7}, claims(app), b"x" * 256)),
    "key-in-header": (
        "invalid_key",
        lambda app: bare({**_HEAD, "kid": "mine", "jwk": STRANGER.as_dict(private=False)}, claims(app), b"x" * 256),
    ),
    "jku": (
        "invalid_key",
        lambda app: bare({**_HEAD, "kid": "mine", "jku": "https://evil.example/"}, claims(app), b"x" * 256),
    ),
    "crit": ("invalid_request", lambda app: bare({**_HEAD, "crit": ["x"], "x": 1}, claims(app), b"x" * 256)),
    "typ-jwt": ("invalid_request", lambda app: signed(claims(app), typ="JWT")),
    "typ-missing": ("invalid_request", lambda app: signed(claims(app), typ=None)),
    "id-token": ("invalid_request", lambda app: signed(claims(app, sub="ada", exp=int(app.clock()) + 60), typ="JWT")),
    "logout-token": ("invalid_request", lambda app: signed(claims(app), typ="logout+jwt")),
    "with-sub": ("invalid_request", lambda app: signed(claims(app, sub="ada"))),
    "with-exp": ("invalid_request", lambda app: signed(claims(app, exp=int(app.clock()) + 60))),
    "no-iss": ("invalid_issuer", lambda app: signed(claims(app, iss=None))),
    "foreign-iss": ("invalid_issuer", lambda app: signed(claims(app, iss="https://evil.example"))),
    "iss-with-slash": ("invalid_issuer", lambda app: signed(claims(app, iss=ISSUER + "/"))),
    "no-aud": ("invalid_audience", lambda app: signed(claims(app, aud=None))),
    "foreign-aud": ("invalid_audience", lambda app: signed(claims(app, aud="https://c.example"))),
    "foreign-auds": ("invalid_audience", lambda app: signed(claims(app, aud=["https://c.example", 7]))),
    "no-iat": ("invalid_request", lambda app: signed(claims(app, iat=None))),
    "future": ("invalid_request", lambda app: signed(claims(app, iat=int(app.clock()) + 120))),
    "too-old": ("invalid_request", lambda app: signed(claims(app, iat=int(app.clock()) - 8 * 86_400))),
    "iat-a-text": ("invalid_request", lambda app: signed(claims(app, iat="now"))),
    "iat-true": ("invalid_request", lambda app: signed(claims(app, iat=True))),
    "no-jti": ("invalid_request", lambda app: signed(claims(app, jti=None))),
    "jti-a-list": ("invalid_request", lambda app: signed(claims(app, jti=["x"]))),
    "no-events": ("invalid_request", lambda app: signed(claims(app, events=None))),
    "empty-events": ("invalid_request", lambda app: signed(claims(app, events={}))),
    "two-events": ("invalid_request", lambda app: signed(claims(app, events={SESSION_REVOKED: _EVENT, "urn:x": {}}))),
    "events-a-list": ("invalid_request", lambda app: signed(claims(app, events=[SESSION_REVOKED]))),
    "event-a-text": ("invalid_request", lambda app: signed(claims(app, events={SESSION_REVOKED: "x"}))),
    "timestamp-a-text": (
        "invalid_request",
        lambda app: signed(claims(app, events={SESSION_REVOKED: {"event_timestamp": "now"}})),
    ),
    "nested": ("invalid_request", _nested),
    "name-twice": ("invalid_request", _twice),
    "no-sub_id": ("invalid_request", lambda app: signed(claims(app, sub_id=None))),
    "sub_id-a-text": ("invalid_request", lambda app: signed(claims(app, sub_id="ada"))),
    "sub_id-without-format": ("invalid_request", lambda app: signed(claims(app, sub_id={"iss": ISSUER, "sub": "ada"}))),
    "sub_id-without-sub": (
        "invalid_request",
        lambda app: signed(claims(app, sub_id={"format": "iss_sub", "iss": "x"})),
    ),
    "sub_id-nested-aliases": (
        "invalid_request",
        lambda app: signed(
            claims(app, sub_id={"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": []}]})
        ),
    ),
    "sub_id-empty-complex": ("invalid_request", lambda app: signed(claims(app, sub_id={"format": "complex"}))),
    "body-no-json": ("invalid_request", lambda _: signed(b"not json")),
    "body-a-list": ("invalid_request", lambda _: signed(b"[]")),
    "body-with-nan": ("invalid_request", lambda app: signed(json.dumps({**claims(app), "iat": float("nan")}).encode())),
}


@doors
@pytest.mark.parametrize("attack", list(ATTACKS))
async def test_an_attack_is_refused_and_nothing_is_touched(door: str, attack: str) -> None:
    """400, with RFC 8935's code and no more; the session lives, nothing is noted, the sinks are told."""
    app, _ = hearing(door)
    cookie = await app.login()
    code, forge = ATTACKS[attack]
    reply = await app.push("idp", forge(app))
    assert reply.status == 400, reply.body
    said = json.loads(reply.body)
    assert said["err"] == code
    assert said.keys() == {"err", "description"}
    assert dict(reply.headers)["content-type"] == "application/json"
    assert await app.user(cookie) == "ada"
    assert [event.session for event in app.told("signal-refused")] == [None]
    assert app.told("signal-received") == []
    assert app.told("session-ended") == []


@doors
async def test_a_good_one_is_taken_among_all_those(door: str) -> None:
    """Else the attacks would show nothing: 202, an empty body, and the session is over."""
    app, _ = hearing(door)
    for key, algorithm in ((RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA"), (ED, "Ed25519")):
        cookie = await app.login()
        reply = await app.push("idp", signed(claims(app), key, algorithm))
        assert (reply.status, reply.body) == (202, b"")
        assert await app.user(cookie) is None


@doors
async def test_a_replay_is_acknowledged_and_does_nothing(door: str) -> None:
    """In this process, in another one with the same vault, and after a restart; who signed in since stays."""
    app, _ = hearing(door)
    text = signed(claims(app))
    assert (await app.push("idp", text)).status == 202
    cookie = await app.login()
    other = hearing(door)[0]
    other.ground.vault = app.ground.vault
    for one in (app, other):
        assert (await one.push("idp", text)).status == 202
    assert await app.user(cookie) == "ada"
    assert [event.why for event in app.told("signal-ignored")] == ["replay"]
    assert [event.why for event in other.told("signal-ignored")] == ["replay"]


@doors
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic aWRwOmI=", "bearer idp-tells-b-0123456789x", "ü"])
async def test_who_has_not_the_secret_is_not_even_read(door: str, header: str) -> None:
    """401, and the same for a name that does not exist."""
    app, idp = hearing(door)
    cookie = await app.login()
    reply = await app.push("idp", signed(claims(app)), header=header)
    other = await app.push("nobody", signed(claims(app)), header=header)
    assert (reply.status, reply.body) == (other.status, other.body) == (401, reply.body)
    assert json.loads(reply.body)["err"] == "authentication_failed"
    assert await app.user(cookie) == "ada"
    assert idp.asked == 0


async def test_a_transmitter_that_was_given_no_secret_cannot_push() -> None:
    """Not with an empty one, nor with what stands in its place."""
    app, _ = hearing("async", push_authorization=None, poll="https://idp.example/poll", token="x" * 20)
    for header in ("", "-", "-" * 32):
        assert (await app.push("idp", signed(claims(app)), header=header)).status == 401


@doors
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "application/x-www-form-urlencoded"])
async def test_another_content_type_is_refused(door: str, kind: str) -> None:
    """RFC 8935 §2.1."""
    app, _ = hearing(door)
    assert (await app.push("idp", signed(claims(app)), kind=kind)).status == 400


@doors
async def test_a_key_that_was_rotated_just_now_is_fetched(door: str) -> None:
    """Once: a stranger's kids do not make us hammer the transmitter; the old key is refused from then on."""
    app, idp = hearing(door)
    assert (await app.push("idp", signed(claims(app)))).status == 202
    fresh = RSAKey.generate_key(2048, {"kid": "fresh", "use": "sig", "alg": "RS256"})
    idp.keys = [fresh]
    app.clock.advance(11)
    cookie = await app.login()
    assert (await app.push("idp", signed(claims(app), fresh))).status == 202
    assert await app.user(cookie) is None
    cookie = await app.login()
    for _ in range(5):
        assert (await app.push("idp", signed(claims(app)))).status == 400
    assert await app.user(cookie) == "ada"
    assert idp.asked == 2


@doors
async def test_while_keys_cannot_be_had_nothing_is_refused_for_good(door: str) -> None:
    """503 with Retry-After: the transmitter sends it again."""
    app, idp = hearing(door)
    del app.network.sites["idp.example"]
    text = signed(claims(app))
    reply = await app.push("idp", text)
    assert (reply.status, dict(reply.headers)["retry-after"]) == (503, "5")
    app.network.sites["idp.example"] = idp
    app.clock.advance(2)
    assert (await app.push("idp", text)).status == 202


@doors
async def test_names_that_mean_different_users_mean_nobody(door: str) -> None:
    """An alias must not end a second user's sessions, nor a stranger's `sub` a user's of that name."""

    def users(name: Any) -> str | None:
        if name.format == "iss_sub":
            return str(name.name) if name.issuer == ISSUER else None
        return {"ben@example.org": "ben"}.get(name.name)

    app, _ = hearing(door, users=users)
    ada, ben = await app.login("ada"), await app.login("ben")
    own = {"format": "iss_sub", "iss": ISSUER, "sub": "ada"}
    both = {"format": "aliases", "identifiers": [own, {"format": "email", "email": "ben@example.org"}]}
    foreign = {**own, "iss": "https://other.example"}
    for sub_id in (
        both,
        foreign,
        {"format": "complex", "user": foreign},
        {"format": "phone_number", "phone_number": "1"},
    ):
        assert (await app.push("idp", signed(claims(app, sub_id=sub_id)))).status == 202
    assert (await app.user(ada), await app.user(ben)) == ("ada", "ben")
    assert {event.why for event in app.told("signal-ignored")} == {"nobody"}
    alias = {"format": "aliases", "identifiers": [own, {"format": "email", "email": "ada@nowhere.example"}]}
    assert (await app.push("idp", signed(claims(app, sub_id=alias)))).status == 202
    assert (await app.user(ada), await app.user(ben)) == (None, "ben")


@doors
async def test_a_transmitter_with_one_transaction_for_everything_is_heard_each_time(door: str) -> None:
    """A constant `txn` is a mistake, and must not make later signals look like echoes."""
    app, _ = hearing(door)
    for _ in range(3):
        cookie = await app.login()
        app.clock.advance(10)
        assert (await app.push("idp", signed(claims(app, txn="8675309")))).status == 202
        assert await app.user(cookie) is None


@doors
async def test_unknown_events_are_acknowledged_and_change_nothing(door: str) -> None:
    """RFC 8417: who does not understand an event ignores it."""
    app, _ = hearing(door)
    cookie = await app.login()
    text = signed(claims(app, events={"https://schemas.openid.net/secevent/risc/event-type/account-disabled": {}}))
    assert (await app.push("idp", text)).status == 202
    assert await app.user(cookie) == "ada"
    assert [(event.why, event.kind) for event in app.told("signal-ignored")] == [("type", "account-disabled")]
