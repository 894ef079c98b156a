"""The CAEP interoperability profile, line by line: what a transmitter and a receiver must do (R77)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import KeySet, RSAKey

from sessile.auth.signals import Granted, Receiver
from sessile.auth.signals.http import Answer
from sessile.auth.signals.vocabulary import CREDENTIAL_CHANGE, SESSION_REVOKED, SUPPORTED
from tests.auth.signals.signal_bench import DOORS, App, Network, done
from tests.auth.signals.signal_forge import ISSUER, claims, hearing, signed
from tests.support.requirements import requirement

pytestmark = requirement("R77")
doors = pytest.mark.parametrize("door", DOORS)

PUSH = "urn:ietf:rfc:8935"
POLL = "urn:ietf:rfc:8936"
TOKEN = "rx-token-0123456789"
OTHER = "other-token-0123456789"
HERE = "https://a.example/signals"
VERIFICATION = "https://schemas.openid.net/secevent/ssf/event-type/verification"


def telling(door: str, **more: Any) -> App:
    """Return a transmitter with two receivers that manage their own streams."""
    receivers = (_receiver("rx", TOKEN, streams=2), _receiver("other", OTHER))
    app = App("a", Network(), door=door, receivers=receivers, **more)
    app.network.faults["rx.example"] = lambda _url, _body: Answer(202, "", b"")
    return app


def _receiver(name: str, token: str, **more: Any) -> Receiver:
    host = f"https://{name}.example"
    return Receiver(name, host, token=token, origins=(host,), algorithm="RS256", **more)


async def asked(app: App, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
    """Ask as the receiver `rx`; return the status and what was said."""
    given: dict[str, Any] = {"token": TOKEN, **more}
    reply = await app.ask(method, path, body, **given)
    return reply.status, json.loads(reply.body) if reply.body else None


async def pushed_stream(app: App, **more: Any) -> dict[str, Any]:
    """Create a stream by push."""
    delivery = {"method": PUSH, "endpoint_url": "https://rx.example/events", "authorization_header": "Bearer to-rx-1"}
    status, made = await asked(app, "POST", "/stream", {"delivery": delivery, **more})
    assert status == 201
    return made  # type: ignore[no-any-return]


async def polled_stream(app: App, **more: Any) -> dict[str, Any]:
    """Create a stream by poll."""
    status, made = await asked(app, "POST", "/stream", {"delivery": {"method": POLL}, **more})
    assert status == 201
    return made  # type: ignore[no-any-return]


async def read(app: App, text: str | bytes) -> dict[str, Any]:
    """Return the claims of a SET after checking it as any receiver does: RS256, from the published keys."""
    keys = KeySet.import_key_set(json.loads((await app.ask("GET", "/jwks.json")).body))
    token = jws.deserialize_compact(text, keys, ["RS256"])
    assert token.headers()["typ"] == "secevent+jwt"
    key = keys.get_by_kid(token.headers()["kid"])
    assert isinstance(key, RSAKey)
    assert key.raw_value.key_size >= 2048
    return json.loads(token.payload)  # type: ignore[no-any-return, arg-type]


# -- transmitters ------------------------------------------------------------------------------------------------------


@doors
async def test_the_metadata_say_what_the_profile_asks_for(door: str) -> None:
    """§2.3.1-2.3.7: version, delivery methods, keys, configuration, status, verification, OAuth."""
    app = telling(door)
    reply = await app.ask("GET", "/.well-known/ssf-configuration")
    found = json.loads(reply.body)
    assert dict(reply.headers)["content-type"] == "application/json"
    assert found["spec_version"] == "1_0"
    assert found["issuer"] == HERE
    assert set(found["delivery_methods_supported"]) == {PUSH, POLL}
    assert {"spec_urn": "urn:ietf:rfc:6749"} in found["authorization_schemes"]
    for name in ("jwks_uri", "configuration_endpoint", "status_endpoint", "verification_endpoint"):
        assert found[name].startswith(HERE + "/")
    path = (await app.signals.metadata_site.answer(_at(app, "/signals"))).status
    assert (path, (await app.signals.metadata_site.answer(_at(app, "/x"))).status) == (200, 404)
    keys = json.loads((await app.ask("GET", "/jwks.json")).body)["keys"]
    assert {(key["kty"], key["use"], key["alg"]) for key in keys} == {("RSA", "sig", "RS256")}
    assert all({"n", "e"} < key.keys() and not {"d", "p", "q"} & key.keys() for key in keys)


@doors
@pytest.mark.parametrize("method", [PUSH, POLL, None])
async def test_a_stream_can_be_made_read_and_removed(door: str, method: str | None) -> None:
    """§2.3.8; without a delivery it is polled (SSF §8.1.1.1)."""
    app = telling(door)
    made = await (pushed_stream(app) if method == PUSH else polled_stream(app))
    if method is None:
        status, made = await asked(app, "POST", "/stream", {})
        assert status == 201
    assert made["delivery"]["method"] == (method or POLL)
    assert "authorization_header" not in made["delivery"]
    assert (made["iss"], made["aud"]) == (HERE, "https://rx.example")
    assert made["events_delivered"] == made["events_supported"] == list(SUPPORTED)
    if method != PUSH:
        assert made["delivery"]["endpoint_url"] == f"{HERE}/poll/{made['stream_id']}"
    query = {"stream_id": made["stream_id"]}
    assert await asked(app, "GET", "/stream", query=query) == (200, made)
    assert made in (await asked(app, "GET", "/stream"))[1]
    assert await asked(app, "DELETE", "/stream", query=query) == (204, None)
    assert (await asked(app, "GET", "/stream", query=query))[0] == 404


@doors
async def test_there_are_no_more_streams_than_agreed(door: str) -> None:
    """409 (SSF §8.1.1.1)."""
    app = telling(door)
    for _ in range(2):
        await polled_stream(app)
    assert (await asked(app, "POST", "/stream", {}))[0] == 409


@doors
async def test_a_stream_can_be_updated_and_replaced(door: str) -> None:
    """PATCH leaves what it does not name, PUT takes it away; what is ours to say must be right (SSF §8.1.1.3-4)."""
    app = telling(door)
    made = await pushed_stream(app, description="one", events_requested=[SESSION_REVOKED, "urn:unknown"])
    assert made["events_delivered"] == [SESSION_REVOKED]
    ident = {"stream_id": made["stream_id"]}
    status, changed = await asked(app, "PATCH", "/stream", {**ident, "description": "two"})
    assert (status, changed) == (200, {**made, "description": "two"})
    status, changed = await asked(app, "PUT", "/stream", {**ident, "delivery": {"method": POLL}})
    assert status == 200
    assert changed["delivery"]["method"] == POLL
    assert "description" not in changed
    assert changed["events_delivered"] == list(SUPPORTED)
    wrongs: tuple[Any, ...] = ({"aud": "x"}, {"iss": "x"}, {"events_requested": "x"}, {"delivery": {"method": "x"}})
    for wrong in wrongs:
        assert (await asked(app, "PATCH", "/stream", {**ident, **wrong}))[0] == 400
    assert (await asked(app, "PATCH", "/stream", {"stream_id": "nobody's"}))[0] == 404


@doors
async def test_a_stream_can_be_paused_and_disabled(door: str) -> None:
    """§2.3.5: paused holds what happens, disabled drops it."""
    app = telling(door)
    stream = await pushed_stream(app)
    ident = {"stream_id": stream["stream_id"]}
    assert await asked(app, "GET", "/status", query=ident) == (200, {**ident, "status": "enabled"})
    wanted = {**ident, "status": "paused", "reason": "maintenance"}
    assert await asked(app, "POST", "/status", wanted) == (200, wanted)
    assert await asked(app, "GET", "/status", query=ident) == (200, wanted)
    await app.logout(await app.login())
    assert (await app.deliver()).delivered == 0
    await asked(app, "POST", "/status", {**ident, "status": "enabled"})
    assert (await app.deliver()).delivered == 1
    await asked(app, "POST", "/status", {**ident, "status": "paused"})
    await app.logout(await app.login())
    await asked(app, "POST", "/status", {**ident, "status": "disabled"})
    await app.logout(await app.login())
    await asked(app, "POST", "/status", {**ident, "status": "enabled"})
    assert (await app.deliver()).delivered == 0
    assert (await asked(app, "POST", "/status", {**ident, "status": "sleeping"}))[0] == 400


@doors
@pytest.mark.parametrize("method", [PUSH, POLL])
async def test_a_stream_can_be_verified(door: str, method: str) -> None:
    """§2.3.6: an event about the stream itself, with the state; not more often than said."""
    app = telling(door)
    stream = await (pushed_stream(app) if method == PUSH else polled_stream(app))
    ident = {"stream_id": stream["stream_id"]}
    assert await asked(app, "POST", "/verify", {**ident, "state": "abc"}) == (204, None)
    assert (await asked(app, "POST", "/verify", ident))[0] == 429
    if method == PUSH:
        await app.deliver()
        _, url, header, text = app.network.log[-1]
        assert (url, header) == ("https://rx.example/events", "Bearer to-rx-1")
    else:
        _, found = await asked(app, "POST", f"/poll/{stream['stream_id']}", {"returnImmediately": True})
        [text] = found["sets"].values()
    said = await read(app, text)
    assert said["sub_id"] == {"format": "opaque", "id": stream["stream_id"]}
    assert said["events"] == {VERIFICATION: {"state": "abc"}}
    app.clock.advance(31)
    assert (await asked(app, "POST", "/verify", ident))[0] == 204


@doors
@pytest.mark.parametrize("kind", [SESSION_REVOKED, CREDENTIAL_CHANGE])
async def test_use_cases_of_a_transmitter(door: str, kind: str) -> None:
    """§3.1, §3.2: one event, RS256, reason_admin; neither sub nor exp."""
    app = telling(door)
    await pushed_stream(app)
    if kind == SESSION_REVOKED:
        await app.logout(await app.login())
    else:
        await done(app.signals.credential_changed("ada", credential="password", change="update"))
    await app.deliver()
    said = await read(app, app.network.log[-1][3])
    assert (said["iss"], said["aud"]) == (HERE, "https://rx.example")
    assert said["sub_id"]["format"] in ("iss_sub", "email")
    assert not {"sub", "exp"} & said.keys()
    assert list(said["events"]) == [kind]
    event = said["events"][kind]
    assert event["reason_admin"]["en"]
    if kind == CREDENTIAL_CHANGE:
        assert (event["credential_type"], event["change_type"]) == ("password", "update")


@doors
async def test_subjects_can_be_removed_and_added_again(door: str) -> None:
    """All are there to begin with (§2.4.2); of one that is removed nothing is told (SSF §8.1.3)."""
    app = telling(door)
    stream = await pushed_stream(app)
    ada = {"stream_id": stream["stream_id"], "subject": {"format": "iss_sub", "iss": HERE, "sub": "ada"}}
    assert await asked(app, "POST", "/subjects/remove", ada) == (204, None)
    for user in ("ada", "ben"):
        await app.logout(await app.login(user))
    await app.deliver()
    assert len([one for one in app.network.log if one[1].endswith("/events")]) == 1
    assert await asked(app, "POST", "/subjects/add", {**ada, "verified": True}) == (200, None)
    await app.logout(await app.login())
    assert (await app.deliver()).delivered == 1
    assert len([one for one in app.network.log if one[1].endswith("/events")]) == 2
    assert (await asked(app, "POST", "/subjects/add", {**ada, "subject": "ada"}))[0] == 400


@doors
async def test_polling_acknowledges_and_reports_errors(door: str) -> None:
    """RFC 8936 §2.2-2.4: unacknowledged SETs come again, acknowledged ones do not, errors are tried again later."""
    app = telling(door)
    stream = await polled_stream(app)
    path, at_once = f"/poll/{stream['stream_id']}", {"returnImmediately": True}
    assert await asked(app, "POST", path, at_once) == (200, {"sets": {}})
    for user in ("ada", "ben", "cyd"):
        await app.logout(await app.login(user))
    status, first = await asked(app, "POST", path, {**at_once, "maxEvents": 2})
    assert (status, len(first["sets"]), first["moreAvailable"]) == (200, 2, True)
    for jti, text in first["sets"].items():
        assert (await read(app, text))["jti"] == jti
    one, two = first["sets"]
    _, again = await asked(app, "POST", path, {**at_once, "maxEvents": 2})
    assert list(again["sets"]) == [one, two]
    errors = {two: {"err": "invalid_key", "description": "?"}}
    _, rest = await asked(app, "POST", path, {**at_once, "ack": [one, "nobody's"], "setErrs": errors})
    assert len(rest["sets"]) == 1
    assert not {one, two} & rest["sets"].keys()
    app.clock.advance(2)
    _, last = await asked(app, "POST", path, {**at_once, "ack": list(rest["sets"])})
    assert list(last["sets"]) == [two]
    assert await asked(app, "POST", path, {"maxEvents": 0, "ack": [two]}) == (200, {"sets": {}})
    assert app.waiting() == 0
    wrongs: tuple[dict[str, Any], ...] = ({"maxEvents": "x"}, {"maxEvents": -1}, {"ack": "x"}, {"setErrs": []})
    for wrong in wrongs:
        assert (await asked(app, "POST", path, wrong))[0] == 400


async def test_a_poll_waits_for_what_is_not_there_yet() -> None:
    """RFC 8936 §2.2: unless it asks for an answer at once."""
    app = telling("async", hold=120)
    stream = await polled_stream(app)
    poll = asyncio.create_task(asked(app, "POST", f"/poll/{stream['stream_id']}", {}))
    await asyncio.sleep(0.1)
    assert not poll.done()
    await app.logout(await app.login())
    status, found = await asyncio.wait_for(poll, 60)
    assert (status, len(found["sets"])) == (200, 1)


@doors
async def test_who_never_comes_to_poll_fills_no_vault(door: str) -> None:
    """What is three days old is given up, and said."""
    app = telling(door)
    await polled_stream(app)
    await app.logout(await app.login())
    app.clock.advance(2 * 86_400)
    assert ((await app.deliver()).given_up, app.waiting()) == (0, 1)
    app.clock.advance(86_400)
    assert ((await app.deliver()).given_up, app.waiting()) == (1, 0)
    assert len(app.told("signal-given-up")) == 1


@doors
async def test_who_asks_must_say_who_they_are(door: str) -> None:
    """§2.7.3, RFC 6750 §3.1: 401 without or with a wrong token, never by the query; another's stream does not exist."""
    app = telling(door)
    stream = await pushed_stream(app)
    ident = {"stream_id": stream["stream_id"]}
    places = [("GET", "/stream"), ("POST", "/stream"), ("GET", "/status"), ("POST", "/verify"), ("POST", "/poll/x")]
    for method, path in places:
        for token in (None, "", "wrong", TOKEN + "x", TOKEN[:-1], "ü"):
            reply = await app.ask(
                method, path, {} if method == "POST" else None, token=token, query={"access_token": TOKEN}
            )
            assert reply.status == 401
            assert dict(reply.headers)["www-authenticate"].startswith("Bearer")
    assert (await asked(app, "GET", "/stream", query=ident, token=OTHER))[0] == 404
    assert (await asked(app, "GET", "/stream", token=OTHER)) == (200, [])
    for method, path, body in (
        ("PATCH", "/stream", ident),
        ("PUT", "/stream", ident),
        ("POST", "/status", {**ident, "status": "disabled"}),
        ("POST", "/verify", ident),
        ("POST", "/subjects/remove", {**ident, "subject": {"format": "opaque", "id": "1"}}),
        ("POST", f"/poll/{stream['stream_id']}", {}),
    ):
        assert (await asked(app, method, path, body, token=OTHER))[0] == 404
    assert (await asked(app, "GET", "/stream", query=ident))[0] == 200


@pytest.mark.parametrize(
    ("scopes", "reads", "makes"),
    [
        ({"ssf.read"}, 200, 403),
        ({"ssf.manage"}, 200, 201),
        ({"ssf.manage.create"}, 403, 201),
        ({"ssf.manage.verify"}, 403, 403),
        ({"other"}, 403, 403),
    ],
    ids=["read", "manage", "create", "verify", "other"],
)
async def test_tokens_of_an_authorization_server_do_what_their_scopes_say(
    scopes: set[str], reads: int, makes: int
) -> None:
    """§2.7.2: ssf.read, ssf.manage and what narrows it; 403 insufficient_scope."""

    async def authorize(token: str) -> Granted | None:
        return Granted("rx", frozenset(scopes)) if token == "from-the-server" else None

    app = telling("async", authorize=authorize)
    assert (await asked(app, "GET", "/stream", token="from-the-server"))[0] == reads
    reply = await app.ask("POST", "/stream", {}, token="from-the-server")
    assert reply.status == makes
    if makes == 403:
        assert 'error="insufficient_scope"' in dict(reply.headers)["www-authenticate"]
    assert (await asked(app, "GET", "/stream", token="another"))[0] == 401


@doors
@pytest.mark.parametrize(
    "endpoint",
    [
        "http://rx.example/events",
        "https://169.254.169.254/latest/meta-data",
        "https://evil.example/events",
        "https://rx.example.evil.example/",
        "https://rx.example@evil.example/",
        "https://rx.example:8443/",
        "file:///etc/passwd",
        "https://rx.example/\nx",
        7,
    ],
)
async def test_a_stream_goes_nowhere_but_where_was_agreed(door: str, endpoint: Any) -> None:
    """A stolen token must not make us ask what is near us, or tell a stranger."""
    app = telling(door)
    delivery = {"method": PUSH, "endpoint_url": endpoint}
    assert (await asked(app, "POST", "/stream", {"delivery": delivery}))[0] == 400


@doors
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", b'"x"', b"[" * 10_000],
    ids=["empty", "list", "half", "bytes", "text", "deep"],
)
async def test_nonsense_is_answered_by_400(door: str, body: bytes) -> None:
    """Never by a crash."""
    app = telling(door)
    from tests.auth.signals.signal_bench import ask

    for path in ("/stream", "/status", "/verify", "/subjects/add"):
        reply = await app.signals.site.answer(ask("POST", path, None, {"authorization": f"Bearer {TOKEN}"}, body))
        assert reply.status in ((201, 404) if body == b"" else (400,)), path


# -- receivers ---------------------------------------------------------------------------------------------------------


@doors
@pytest.mark.parametrize("form", ["iss_sub", "email", "aliases", "complex", "complex-email"])
async def test_a_receiver_knows_these_names(door: str, form: str) -> None:
    """§2.5: email and iss_sub; aliases and complex subjects as well (RFC 9493, SSF §3)."""

    def users(name: Any) -> str | None:
        if name.format == "email":
            return {"ada@example.org": "ada"}.get(name.name)
        return str(name.name) if name.issuer == ISSUER else None

    own, address = {"format": "iss_sub", "iss": ISSUER, "sub": "ada"}, {"format": "email", "email": "ada@example.org"}
    sub_ids: dict[str, Any] = {
        "iss_sub": own,
        "email": address,
        "aliases": {"format": "aliases", "identifiers": [own, address]},
        "complex": {"format": "complex", "user": own, "tenant": {"format": "opaque", "id": "1"}},
        "complex-email": {"format": "complex", "user": address, "device": {"format": "opaque", "id": "1"}},
    }
    app, _ = hearing(door, users=users)
    mine, other = await app.login(), await app.login("ben")
    reply = await app.push("idp", signed(claims(app, sub_id=sub_ids[form])))
    assert (reply.status, reply.body) == (202, b"")
    assert (await app.user(mine), await app.user(other)) == (None, "ben")


@doors
@pytest.mark.parametrize("change", ["create", "revoke", "update", "delete"])
@pytest.mark.parametrize("credential", ["password", "pin", "x509", "fido2-platform", "phone-sms", "app", "retina"])
async def test_a_receiver_understands_every_change_of_every_credential(door: str, change: str, credential: str) -> None:
    """§3.2; a credential type of the transmitter's own is one, too."""
    app, _ = hearing(door)
    cookie = await app.login()
    event = {"credential_type": credential, "change_type": change, "reason_admin": {"en": "x"}}
    assert (await app.push("idp", signed(claims(app, events={CREDENTIAL_CHANGE: event})))).status == 202
    assert await app.user(cookie) is None


WRONG_CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no-change": {"credential_type": "password"},
    "no-credential": {"change_type": "update"},
    "a-number": {"credential_type": 7, "change_type": "update"},
    "another-change": {"credential_type": "password", "change_type": "eat"},
}


@doors
@pytest.mark.parametrize("wrong", list(WRONG_CHANGES))
async def test_a_change_that_says_not_what_changed_is_refused(door: str, wrong: str) -> None:
    """CAEP §3.3.1: both are required."""
    app, _ = hearing(door)
    cookie = await app.login()
    assert (await app.push("idp", signed(claims(app, events={CREDENTIAL_CHANGE: WRONG_CHANGES[wrong]})))).status == 400
    assert await app.user(cookie) == "ada"


@doors
async def test_a_receiver_takes_a_list_of_audiences_that_holds_it(door: str) -> None:
    """SSF §4.1.8."""
    app, _ = hearing(door)
    audiences = ["https://b.example/web", "https://b.example"]
    assert (await app.push("idp", signed(claims(app, aud=audiences)))).status == 202


@doors
async def test_a_receiver_acknowledges_a_verification_and_an_updated_stream(door: str) -> None:
    """§2.5: opaque names the stream; nobody asked for a state, so one that comes is wrong."""
    app, _ = hearing(door)
    stream = {"format": "opaque", "id": "s1"}
    updated = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated"
    cases: tuple[tuple[dict[str, Any], int], ...] = (
        ({VERIFICATION: {}}, 202),
        ({VERIFICATION: {"state": "x"}}, 400),
        ({updated: {"status": "paused", "reason": "maintenance"}}, 202),
        ({updated: {"status": "sleeping"}}, 400),
    )
    for events, status in cases:
        reply = await app.push("idp", signed(claims(app, sub_id=stream, events=events)))
        assert reply.status == status
        if status == 400 and VERIFICATION in events:
            assert json.loads(reply.body)["err"] == "invalid_state"
    assert [event.status for event in app.told("stream-changed")] == ["verified", "paused"]


def _at(app: App, path: str) -> Any:
    from tests.auth.signals.signal_bench import ask

    assert app.signals is not None
    return ask("GET", path)
