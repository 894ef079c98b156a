"""Two and three applications sign each other's users out, with no provider in between (R77, R78)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sessile.auth.signals import ReceiverPolicy
from sessile.auth.signals.http import Answer
from sessile.core.record import EndReason
from sessile.errors import StoreUnavailable
from tests.auth.signals.signal_bench import DOORS, App, Network, done, group, receiver, transmitter
from tests.support.requirements import requirement

pytestmark = requirement("R77", "R78")
doors = pytest.mark.parametrize("door", DOORS)


@doors
async def test_a_sign_out_here_is_one_there(door: str) -> None:
    """Of that user, and of nobody else."""
    a, b = group("a", "b", door=door)
    mine, there, other = await a.login(), await b.login(), await b.login("ben")
    await a.logout(mine)
    assert await b.user(there) == "ada"
    assert (await a.deliver()).delivered == 1
    assert (await b.user(there), await b.user(other)) == (None, "ben")
    [ended] = b.told("session-ended")
    assert (ended.reason, ended.user) == (EndReason.SIGNAL, "ada")
    [came] = b.told("signal-received")
    assert (came.transmitter, came.kind, came.sessions) == ("a", "session-revoked", 1)
    assert [sent.receiver for sent in a.told("signal-sent")] == ["b"]
    assert a.waiting() == 0


@doors
async def test_what_came_is_not_sent_back(door: str) -> None:
    """No echo: neither to its sender, nor round a circle of three."""
    a, b = group("a", "b", door=door)
    mine = await a.login()
    await b.login()
    await a.logout(mine)
    await a.deliver()
    assert b.waiting() == 0
    assert (await b.deliver()).delivered == 0
    x, y, z = group("x", "y", "z", door=door)
    cookie = await x.login()
    await y.login()
    await z.login()
    await x.logout(cookie)
    for _ in range(4):
        for app in (x, y, z):
            await app.deliver()
    assert all(app.waiting() == 0 for app in (x, y, z))
    assert len(z.told("signal-received")) == 1
    sent = sum(len(app.told("signal-sent")) for app in (x, y, z))
    assert sent <= 4  # x to both, and each of them to the other one at most


@doors
async def test_an_echo_that_comes_round_ends_no_newer_session(door: str) -> None:
    """Y knows X only through Z; who signs in at X meanwhile stays signed in there."""
    network = Network()
    x = App("x", network, door=door, receivers=(receiver("y", "x"),), transmitters=(transmitter("z", "x"),))
    options: dict[str, Any] = {"door": door, "clock": x.clock, "policy": ReceiverPolicy(keep_newer=False)}
    y = App("y", network, receivers=(receiver("z", "y"),), transmitters=(transmitter("x", "y"),), **options)
    z = App("z", network, receivers=(receiver("x", "z"),), transmitters=(transmitter("y", "z"),), **options)
    cookie = await x.login()
    await y.login()
    await z.login()
    await x.logout(cookie)
    await x.deliver()
    await y.deliver()
    x.clock.advance(60)
    again = await x.login()
    await z.deliver()
    assert [ignored.why for ignored in x.told("signal-ignored")] == ["loop"]
    assert await x.user(again) == "ada"


@doors
async def test_who_signed_in_after_it_happened_stays(door: str) -> None:
    """A signal that was delayed ends what lived then, not what began since."""
    a, b = group("a", "b", door=door)
    mine, there = await a.login(), await b.login()
    b.network.faults["b.example"] = _down
    await a.logout(mine)
    await a.deliver()
    a.clock.advance(120)
    again = await b.login()
    del b.network.faults["b.example"]
    assert (await a.deliver()).delivered == 1
    assert (await b.user(there), await b.user(again)) == (None, "ada")


@doors
@pytest.mark.parametrize("way", ["end", "end-all", "everywhere", "replay", "another-user"])
async def test_every_end_of_somebody_is_told(door: str, way: str) -> None:
    """An operator's, a user's on other devices, sign-out everywhere, a theft, somebody else in the same browser."""
    a, b = group("a", "b", door=door)
    cookie, there = await a.login(), await b.login()
    if way == "end":
        await done(a.sessions.end(await a.id(cookie)))
    elif way == "end-all":
        await done(a.sessions.end_all("ada"))
    elif way == "everywhere":
        await a.logout(cookie, everywhere=True)
    elif way == "another-user":
        await a.login("ben", cookie)
    else:
        await _steal(a, cookie)
    assert (await a.deliver()).delivered == 1
    assert await b.user(there) is None


@doors
@pytest.mark.parametrize("way", ["visitor", "renewal", "pending", "idle", "over-already", "nobody-there"])
async def test_what_is_no_end_of_somebody_is_not_told(door: str, way: str) -> None:
    """A visitor's session, a renewal, a sign-in that never finished, a limit, a user without sessions."""
    a, b = group("a", "b", door=door)
    there = await b.login()
    if way == "renewal":
        await a.login("ada", await a.login())
    elif way == "pending":
        await a.logout(await a.login("ada", factor="password", pending=True))
    elif way == "idle":
        cookie = await a.login()
        a.clock.advance(3700)
        assert await a.user(cookie) is None
        there = await b.login()
    elif way == "over-already":
        await a.login()
        a.clock.advance(3700)
        there = await b.login()
        await done(a.sessions.end_all("ada"))
    elif way == "visitor":
        session = await done(a.sessions.open(_facts(None)))
        session["cart"] = 1
        cookie = _token(await done(a.sessions.commit(session)))
        await a.logout(cookie)
    elif way == "nobody-there":
        await done(a.sessions.end_all("ada"))
    assert a.waiting() == 0
    assert (await a.deliver()).delivered == 0
    assert await b.user(there) == "ada"


@doors
async def test_a_receiver_that_is_told_of_sessions_ends_no_other_one(door: str) -> None:
    """It gets our id of the session; what it knows nothing of, it does not touch."""
    network = Network()
    a = App("a", network, door=door, receivers=(receiver("b", "a", about="session"),))

    class Linked:
        """Know of one session where it came from."""

        def __init__(self) -> None:
            self.ids: dict[str, tuple[str, ...]] = {}

        async def find(self, issuer: str, *, subject: str | None, sid: str | None) -> tuple[str, ...]:
            """Return the sessions."""
            assert issuer == "https://a.example/signals"
            return self.ids.get(sid or "", ()) if subject is None else ()

    links = Linked()
    b = App("b", network, door=door, clock=a.clock, transmitters=(transmitter("a", "b", links=links),))
    one, two = await a.login(), await a.login()
    there, other = await b.login(), await b.login()
    links.ids[await a.id(one)] = (await b.id(there),)
    await a.logout(one)
    await a.logout(two)
    await a.deliver()
    await a.deliver()
    assert (await b.user(there), await b.user(other)) == (None, "ada")
    assert [ignored.why for ignored in b.told("signal-ignored")] == ["nobody"]


@doors
async def test_a_session_that_is_renewed_while_a_signal_ends_it_does_not_live_on(door: str) -> None:
    """The signal has found the session by its id; a renewal gives it another one before it is ended."""
    network = Network()
    a = App("a", network, door=door, receivers=(receiver("b", "a", about="session"),))
    held: list[str] = []
    renewed: list[str] = []

    class Overtaken:
        """Know where the session came from, and renew it the first time that it is found."""

        async def find(self, issuer: str, *, subject: str | None, sid: str | None) -> tuple[str, ...]:
            """Return the sessions."""
            found = tuple([await b.id(token) for token in (renewed or held) if await b.user(token) is not None])
            if subject is not None:
                return ()
            if not renewed:
                session = await done(b.sessions.open(_facts(held[0])))
                session.rotate()
                renewed.append(_token(await done(b.sessions.commit(session))))
            return found

    b = App("b", network, door=door, clock=a.clock, transmitters=(transmitter("a", "b", links=Overtaken()),))
    one = await a.login()
    held.append(await b.login())
    await a.logout(one)
    await a.deliver()
    assert renewed
    assert await b.user(renewed[0]) is None


@doors
async def test_a_changed_credential_is_told_and_passed_on(door: str) -> None:
    """It ends the user's sessions there, and names what changed in CAEP's words."""
    a, b = group("a", "b", door=door)
    there = await b.login()
    await done(a.signals.credential_changed("ada", credential="passkey", change="create"))
    await a.deliver()
    assert await b.user(there) is None
    assert b.told("signal-received")[0].kind == "credential-change"


@doors
async def test_a_factor_that_changes_here_is_told_of(door: str) -> None:
    """Whoever changes one through Sessile need not say so: other sessions end here, and all of them there."""
    from sessile.auth.changes import factor_changed

    a, b = group("a", "b", door=door)
    mine, there = await a.login(), await b.login()
    session = await done(a.sessions.open(_facts(mine)))
    await factor_changed(a.ground, session, "totp", "removed")
    assert (await a.deliver()).delivered == 1
    assert await b.user(there) is None
    assert b.told("signal-received")[0].kind == "credential-change"
    a.ground.vault.write = _failing
    await factor_changed(a.ground, session, "totp", "removed")
    assert [event.kind for event in a.told("signal-not-kept")] == ["credential-change"]


@doors
async def test_a_lowered_level_takes_away_what_counts_above_it(door: str) -> None:
    """The session lives on with what is left; an increase raises nothing."""
    a, b = group("a", "b", door=door)
    cookie = await b.login(factor="password")
    session = await done(b.sessions.open(_facts(cookie)))
    session.add_factor("totp")
    cookie = _token(await done(b.sessions.commit(session)))
    assert (await done(b.sessions.open(_facts(cookie)))).aal == 2
    await done(a.signals.level_changed("ada", level=1, before=2))
    await a.deliver()
    lowered = await done(b.sessions.open(_facts(cookie)))
    assert (lowered.user_id, lowered.aal) == ("ada", 1)
    await done(a.signals.level_changed("ada", level=2, before=1))
    await a.deliver()
    assert (await done(b.sessions.open(_facts(cookie)))).aal == 1
    await done(a.signals.level_changed("ada", level=0, before=1))
    await a.deliver()
    assert (await done(b.sessions.open(_facts(cookie)))).user_id is None
    assert await b.user(cookie) is None


@doors
async def test_a_policy_says_what_signals_do(door: str) -> None:
    """Some changes may do nothing, and a decrease may end everything."""
    a, b = group("a", "b", door=door, policy=ReceiverPolicy(frozenset({"revoke"}), on_decrease="end"))
    cookie = await b.login()
    await done(a.signals.credential_changed("ada", credential="password", change="create"))
    await a.deliver()
    assert await b.user(cookie) == "ada"
    await done(a.signals.level_changed("ada", level=1, before=2))
    await a.deliver()
    assert await b.user(cookie) is None


@doors
async def test_users_are_named_by_address_if_that_is_what_both_know(door: str) -> None:
    """`email`: ours is mapped there, and who has no address is not told of."""
    network = Network()

    def address(user: str) -> str | None:
        return "ada@example.org" if user == "7" else None

    a = App("a", network, door=door, receivers=(receiver("b", "a", naming="email"),), addresses=address)

    def users(name: Any) -> str | None:
        return "ada" if (name.format, name.name) == ("email", "ada@example.org") else None

    b = App("b", network, door=door, clock=a.clock, transmitters=(transmitter("a", "b", users=users),))
    there = await b.login("ada")
    for user in ("8", "7"):
        await a.logout(await a.login(user))
    await a.deliver()
    assert await b.user(there) is None
    assert len(b.told("signal-received")) == 1
    assert a.waiting() == 0


@doors
async def test_by_poll_it_comes_as_well(door: str) -> None:
    """Fetched, carried out, acknowledged; both doors."""
    network = Network()
    token = "b-polls-a-0123456789"
    a = App(
        "a",
        network,
        door=door,
        receivers=(receiver("b", "a", push=None, push_authorization=None, poll=True, token=token),),
    )
    source = transmitter("a", "b", push_authorization=None, poll="https://a.example/signals/poll/b", token=token)
    b = App("b", network, door=door, clock=a.clock, transmitters=(source,))
    users = ["ada", "ben", "cyd"]
    there = [await b.login(user) for user in users]
    for user in users:
        await a.logout(await a.login(user))
    polled = await done(b.signals.flow.reception.poll("a", most=2)) if door == "async" else None
    if polled is None:
        polled = await b.signals.flow.reception.poll("a", most=2)
    assert polled == (3, 0)
    assert [await b.user(cookie) for cookie in there] == [None, None, None]
    assert a.waiting() == 0
    assert await done(b.signals.poll()) == (0, 0)


@doors
async def test_a_store_that_fails_at_a_polled_signal_leaves_it_for_later(door: str) -> None:
    """What was not done is not acknowledged."""
    network = Network()
    token = "b-polls-a-0123456789"
    a = App(
        "a",
        network,
        door=door,
        receivers=(receiver("b", "a", push=None, push_authorization=None, poll=True, token=token),),
    )
    source = transmitter("a", "b", push_authorization=None, poll="https://a.example/signals/poll/b", token=token)
    b = App("b", network, door=door, clock=a.clock, transmitters=(source,))
    there = await b.login()
    await a.logout(await a.login())
    works, b.sessions.engine.store.end_user = b.sessions.engine.store.end_user, _failing
    with pytest.raises(StoreUnavailable):
        await b.signals.flow.reception.poll("a")
    assert await done(b.signals.poll()) == (0, 0)
    assert a.waiting() == 1
    b.sessions.engine.store.end_user = works
    assert await done(b.signals.poll()) == (1, 0)
    assert await b.user(there) is None


@doors
async def test_verification_goes_there_and_back(door: str) -> None:
    """Asked for with a state, which comes back; another state is refused."""
    network = Network()
    token = "b-manages-a-0123456789"
    a = App("a", network, door=door, receivers=(receiver("b", "a", token=token),))
    b = App("b", network, door=door, clock=a.clock, transmitters=(transmitter("a", "b", token=token, stream="b"),))
    assert await done(b.signals.verify("a", "state-1"))
    assert (await a.deliver()).delivered == 1
    assert [changed.status for changed in b.told("stream-changed")] == ["verified"]
    assert not await done(b.signals.verify("a", "state-2"))  # too soon
    a.clock.advance(31)
    assert await done(b.signals.verify("a", "state-2"))
    await b.ground.vault.write(*[_other_state(b)])
    assert (await a.deliver()).delivered == 0
    assert [refused.why for refused in b.told("signal-refused")] == ["state"]
    assert b"invalid_state" not in network.log[-1][3]


def _other_state(app: App) -> Any:
    from sessile.auth.signals.receiver import STATE, State
    from sessile.auth.stored import written
    from sessile.auth.vault import Write
    from sessile.core.bridge import drive

    item = drive(app.ground.vault.get(STATE + "a"))
    assert item is not None
    return Write(item.key, written(State(state="another")), item.version, "")


async def _steal(app: App, cookie: str) -> None:
    """Use a token, and much later the one before."""
    old = cookie
    for _ in range(4):
        app.clock.advance(1000)
        session = await done(app.sessions.open(_facts(cookie)))
        answer = await done(app.sessions.commit(session))
        cookie = _token(answer) or cookie
    assert await app.user(old) is None


def _facts(cookie: str | None) -> Any:
    from tests.core.rig import facts

    return facts(cookie)


def _token(answer: Any) -> Any:
    from tests.core.rig import token_of

    return token_of(answer)


def _down(_url: str, _body: bytes) -> Answer:
    raise StoreUnavailable("nobody is there")


async def _failing(*_: Any) -> Any:
    raise StoreUnavailable("the store is down")


async def test_signals_say_what_they_are() -> None:
    """The claims of SSF and CAEP, in the SET that was sent; neither `sub` nor `exp`."""
    from joserfc import jws
    from joserfc.jwk import KeySet

    a, b = group("a", "b")
    await b.login()
    await a.logout(await a.login())
    await a.deliver()
    sent = next(body for _, url, _, body in a.network.log if url.endswith("/push/a"))
    keys = KeySet.import_key_set(msgspec.json.decode((await a.ask("GET", "/jwks.json")).body))
    token = jws.deserialize_compact(sent, keys, ["ES256"])
    assert token.headers()["typ"] == "secevent+jwt"
    claims = msgspec.json.decode(token.payload)
    assert claims.keys() == {"iss", "jti", "iat", "aud", "txn", "sub_id", "events"}
    assert claims["sub_id"] == {"format": "iss_sub", "iss": "https://a.example/signals", "sub": "ada"}
    ((kind, event),) = claims["events"].items()
    assert kind == "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
    assert event == {
        "event_timestamp": int(a.clock()),
        "initiating_entity": "user",
        "reason_admin": {"en": "The user signed out."},
        "reason_user": {"en": "You signed out."},
    }


async def test_another_implementation_reads_ours_and_is_read() -> None:
    """PyJWT, which shares no code with what signs and verifies here."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa
    from jwt.algorithms import RSAAlgorithm

    network = Network()
    a = App("a", network, receivers=(receiver("b", "a", algorithm="RS256"),))
    b = App("b", network, clock=a.clock, transmitters=(transmitter("a", "b"),))
    there = await b.login()
    await a.logout(await a.login())
    await a.deliver()
    assert await b.user(there) is None
    sent = next(body for _, url, _, body in network.log if url.endswith("/push/a"))
    keys = jwt.PyJWKSet.from_json((await a.ask("GET", "/jwks.json")).body.decode())
    key = keys[jwt.get_unverified_header(sent)["kid"]]
    options: Any = {"require": ["iss", "aud", "iat", "jti"], "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(sent, key, ["RS256"], audience="https://b.example", options=options)
    assert claims["sub_id"]["sub"] == "ada"

    theirs = rsa.generate_private_key(65537, 2048)
    public: dict[str, Any] = RSAAlgorithm.to_jwk(theirs.public_key(), as_dict=True)
    jwk = {**public, "kid": "k", "use": "sig"}

    class Peer:
        """Publish the key."""

        async def answer(self, _ask: Any) -> Any:
            """Answer."""
            from sessile.auth.exchange import json

            return json({"keys": [jwk]})

    network.sites["keys.example"] = Peer()
    source = transmitter("c", "d", jwks="https://keys.example/jwks")
    d = App("d", network, clock=a.clock, transmitters=(source,))
    there = await d.login()
    issuer = "https://c.example/signals"
    subject = {"format": "iss_sub", "iss": issuer, "sub": "ada"}
    body = {**claims, "iss": issuer, "aud": ["https://d.example"], "jti": "1", "txn": "1", "sub_id": subject}
    text = jwt.encode(body, theirs, "RS256", headers={"typ": "secevent+jwt", "kid": "k"})
    assert (await d.push("c", text)).status == 202
    assert await d.user(there) is None
