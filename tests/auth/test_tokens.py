"""Access tokens: what is issued, to whom, and that it ends with its session."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sessile import AsyncSessions, Sessions
from sessile.auth.ground import Ground
from sessile.auth.tokens import AsyncTokens, NotCommitted, ProofMaker, Proved, Tokens
from sessile.auth.tokens.jose import unbase64url
from sessile.errors import ConfigurationError, SessionGone, StepUpRequired, StoreError, StoreUnavailable
from tests.auth.token_bench import API, ISSUER, RING, Bench, done
from tests.core.rig import token_of
from tests.support.requirements import requirement

DOORS = [(kind, blocking) for kind in ("memory", "sqlite") for blocking in (True, False)]


@pytest.fixture(params=DOORS, ids=lambda given: f"{given[0]}-{'blocking' if given[1] else 'async'}")
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Return a bench on each embedded store, behind each door."""
    kind, blocking = request.param
    store = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    vault = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/vault.db"
    made = Bench(store, vault, blocking=blocking)
    yield made
    await made.close()


def parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token, unverified."""
    head, body, _ = text.split(".")
    return json.loads(unbase64url(head)), json.loads(unbase64url(body))


@requirement("R81")
async def test_a_token_says_what_rfc_9068_asks_for(bench: Bench) -> None:
    """Type, issuer, subject, one audience, times, id; and what the session proved."""
    session = await bench.sign_in()
    session = await bench.open(bench.cookie)
    session.add_factor("totp")
    await done(bench.sessions.commit(session))
    text = await bench.issue(session, scope="read write")
    header, claims = parts(text)
    assert header.keys() == {"alg", "kid", "typ"}
    assert (header["typ"], header["alg"]) == ("at+jwt", "ES256")
    now = int(bench.clock())
    token_id = claims.pop("jti")
    assert len(token_id) == 22
    assert claims == {
        "iss": ISSUER,
        "sub": "ada",
        "aud": API,
        "exp": now + 300,
        "iat": now,
        "nbf": now,
        "sid": session.id,
        "client_id": "web",
        "scope": "read write",
        "acr": "aal2",
        "amr": ["pwd", "otp", "mfa"],
        "auth_time": now,
    }
    token = await bench.verify(text)
    assert (token.user, token.session_id, token.scopes) == ("ada", session.id, {"read", "write"})
    assert (await bench.admit(text)).record.control.user == "ada"


@requirement("R83", "R61")
async def test_introspection_says_false_at_once_when_the_session_has_ended(bench: Bench) -> None:
    """However it ended."""
    ends: list[Any] = [
        lambda s: bench.sessions.end(s.id),
        lambda s: bench.sessions.end_all("ada"),
        lambda _: bench.sessions.end_everything(),
    ]
    for end in ends:
        session = await bench.sign_in()
        text = await bench.issue(session)
        assert await bench.is_active(text)
        await done(end(session))
        assert not await bench.is_active(text)
        assert await bench.admit(text) is None
        assert bench.reasons() == ["ended"]
        assert await bench.verify(text) is not None  # offline, nobody knows yet: that is what the list is for
        bench.clock.advance(1)


@requirement("R83", "R25")
async def test_a_sign_out_and_a_step_up_end_the_tokens_of_the_old_session(bench: Bench) -> None:
    """The one ends the session, the other its id: who held the old one loses what grew from it."""
    text = await bench.issue(await bench.sign_in())
    session = await bench.open(bench.cookie)
    session.add_factor("totp")
    cookie = token_of(await done(bench.sessions.commit(session)))
    assert not await bench.is_active(text)
    text = await bench.issue(session)
    assert await bench.is_active(text)
    await done(bench.sessions.sign_out(await bench.open(cookie)))
    assert not await bench.is_active(text)


@requirement("R83")
async def test_a_token_never_outlives_its_session(bench: Bench) -> None:
    """Neither its idle limit nor its absolute one."""
    policy = bench.sessions.engine.policy
    session = await bench.sign_in()
    bench.clock.advance(policy.idle + policy.tolerance - 100)
    token = await bench.verify(await bench.issue(session.id or "", user="ada"))
    assert token.expires_at == int(bench.clock() + 100)
    text = await bench.issue(session.id or "", user="ada")
    bench.clock.advance(100)
    assert not await bench.is_active(text)
    with pytest.raises(SessionGone):
        await bench.issue(session.id or "", user="ada")


@requirement("R88")
async def test_nobody_gets_a_token_before_the_sign_in_is_complete(bench: Bench) -> None:
    """Not a visitor, not a pending session, not a challenged one, and not by way of its id."""
    visitor = await bench.open()
    with pytest.raises(StepUpRequired, match="login"):
        await bench.issue(visitor)
    pending = await bench.sign_in(pending=True)
    with pytest.raises(StepUpRequired, match="pending"):
        await bench.issue(pending)
    with pytest.raises(SessionGone):
        await bench.issue(pending.id or "", user="ada")


async def test_a_token_waits_for_the_commit(bench: Bench) -> None:
    """Before it, the session has another id, or none."""
    session = await bench.open()
    session.login("ada")
    with pytest.raises(NotCommitted):
        await bench.issue(session)
    await done(bench.sessions.commit(session))
    await bench.issue(session)
    for change in ("rotate", "logout", "login"):
        session = await bench.sign_in()
        again = await bench.open(bench.cookie)
        getattr(again, change)(*(["ada"] if change == "login" else []))
        with pytest.raises((NotCommitted, StepUpRequired)):
            await bench.issue(again)


async def test_a_session_id_alone_does_not_say_whose_token_it_is(bench: Bench) -> None:
    """The caller does, and must be right."""
    session = await bench.sign_in()
    with pytest.raises(ConfigurationError, match="whose"):
        await bench.issue(session.id or "")
    with pytest.raises(SessionGone):
        await bench.issue(session.id or "", user="eve")
    with pytest.raises(StepUpRequired):
        await bench.issue(session, user="eve")
    with pytest.raises(SessionGone):
        await bench.issue("../" * 13 + "x", user="ada")


@pytest.mark.parametrize(
    "wrong",
    [
        {"audience": ""},
        {"client": ""},
        {"scope": 'read "all"'},
        {"scope": " read"},
        {"audience": "a" * 2049},
        {"jkt": ""},
        {"jkt": "a" * 43},
    ],
    ids=str,
)
async def test_an_application_that_asks_for_nonsense_is_told(wrong: dict[str, str]) -> None:
    """No token without an audience, and no scope that another parser reads otherwise."""
    bench = Bench()
    session = await bench.sign_in()
    with pytest.raises(ConfigurationError):
        await bench.issue(session, **wrong)


@requirement("R86")
async def test_a_revoked_token_is_over_and_its_session_is_not(bench: Bench) -> None:
    """Only its own client may give it back; of what is unknown there is nothing to say."""
    session = await bench.sign_in()
    text, other = await bench.issue(session), await bench.issue(session)
    assert not await done(bench.tokens.revoke(text, "another"))
    assert not await done(bench.tokens.revoke("what.is.this", "web"))
    assert await bench.is_active(text)
    assert await done(bench.tokens.revoke(text, "web"))
    assert await done(bench.tokens.revoke(text, "web"))
    assert not await bench.is_active(text)
    assert await bench.admit(text) is None
    assert bench.reasons() == ["revoked"]
    assert await bench.is_active(other)
    assert await done(bench.sessions.is_alive(session.id))


@requirement("R60")
async def test_a_token_that_is_bound_to_a_key_is_nothing_without_it(bench: Bench) -> None:
    """As a bearer token it was stolen; and a proof beside an unbound token shows nothing."""
    session, maker = await bench.sign_in(), ProofMaker()
    text = await bench.issue(session, jkt=maker.jkt)
    mine, other = Proved(maker.jkt, "x", 0), Proved(ProofMaker().jkt, "x", 0)
    assert (await bench.verify(text, proved=mine)).jkt == maker.jkt
    for verb in (bench.verify, bench.admit):
        assert await verb(text) is None
        assert await verb(text, proved=other) is None
        assert await verb(await bench.issue(session), proved=mine) is None
    assert bench.reasons() == ["proof"] * 6
    answer = await done(bench.tokens.introspect(text))
    assert (answer["token_type"], answer["cnf"]) == ("DPoP", {"jkt": maker.jkt})


@requirement("R45")
async def test_a_store_that_fails_is_no_answer(bench: Bench) -> None:
    """Neither active nor inactive: an error, on every verb that must ask."""
    session = await bench.sign_in()
    text = await bench.issue(session)

    async def failing(*_: Any) -> Any:
        raise StoreUnavailable("down")

    load, bench.sessions.engine.store.load = bench.sessions.engine.store.load, failing
    for verb in (bench.is_active, bench.admit):
        with pytest.raises(StoreError):
            await verb(text)
    with pytest.raises(StoreError):
        await bench.issue(session)
    assert bench.told("store-failed")
    bench.sessions.engine.store.load = load
    bench.ground.vault.get = failing  # type: ignore[method-assign]
    for verb in (bench.is_active, bench.admit):
        with pytest.raises(StoreError):
            await verb(text)


async def test_each_verb_asks_the_stores_as_often_as_the_page_says(bench: Bench) -> None:
    """`docs/explanation/tokens.md`, "What it costs"."""
    asked: list[str] = []

    def counted(name: str, verb: Any) -> Any:
        async def count(*given: Any) -> Any:
            asked.append(name)
            return await verb(*given)

        return count

    session, maker, proofs = await bench.sign_in(), ProofMaker(), bench.proofs(nonce=True)
    await bench.issue(session)
    await done(bench.tokens.ended())
    store, vault = bench.sessions.engine.store, bench.ground.vault
    store.load = counted("load", store.load)
    for name in ("get", "write", "of_user", "sweep"):
        setattr(vault, name, counted(name, getattr(vault, name)))
    text = await bench.issue(session)
    assert asked == ["load", "get"]
    proof = maker.proof("POST", "https://id.example/", now=bench.clock(), nonce=proofs.nonce())
    for verb, expected in (
        (lambda: bench.verify(text), []),
        (lambda: bench.admit(text), ["load", "get"]),
        (lambda: bench.is_active(text), ["load", "get"]),
        (lambda: done(bench.tokens.revoke(text, "web")), ["write"]),
        (lambda: done(proofs.prove(proof, method="POST", url="https://id.example/")), ["write"]),
        (lambda: done(bench.tokens.ended()), ["get"]),
    ):
        asked.clear()
        await verb()
        assert asked == expected
    bench.clock.advance(31)
    asked.clear()
    await done(bench.tokens.ended())
    assert asked == ["get", "of_user", "load", "of_user", "write"]


@requirement("R95", "R96")
async def test_events_hold_no_token_and_no_secret(bench: Bench) -> None:
    """What is told is told without what grants something."""
    session = await bench.sign_in()
    text = await bench.issue(session)
    await bench.verify(text, "https://other.example")
    await done(bench.tokens.revoke(text, "web"))
    secret = (await bench.signer()).secret
    told = repr(bench.events)
    assert text.split(".")[2] not in told
    assert text.split(".")[1] not in told
    assert secret.hex() not in told
    assert repr(secret) not in told
    codes = {event.code for event in bench.events}
    assert {"access-token-issued", "access-token-refused", "access-token-revoked", "signing-key-turned"} <= codes
    assert all(event.sentence().endswith(".") for event in bench.events)


def test_settings_that_no_verifier_could_rely_on_are_refused() -> None:
    """At start, with a sentence."""
    ground = Ground(Sessions(keys=RING), "memory://")
    wrong: list[dict[str, Any]] = [
        {"issuer": ""},
        {"issuer": "http://id.example"},
        {"issuer": "http://localhost.evil.example"},
        {"issuer": "https://id.example?x"},
        {"issuer": "https://id.example#x"},
        {"issuer": "https:///nowhere"},
        {"issuer": "https://[::1"},
        {"lifetime": 86400},
        {"lifetime": float("nan")},
        {"tolerance": -1},
        {"interval": 0},
        {"algorithm": "HS256"},
        {"algorithm": "none"},
        {"lead": 1},
        {"overlap": 1},
        {"period": 3600},
        {"colour": "red"},
    ]
    for options in wrong:
        with pytest.raises(ConfigurationError):
            Tokens(ground, **{"issuer": ISSUER, **options})
    Tokens(ground, issuer="http://localhost:8000")
    with pytest.raises(ConfigurationError, match="other door"):
        AsyncTokens(ground, issuer=ISSUER)
    with pytest.raises(ConfigurationError, match="store"):
        Tokens(Ground(Sessions("cookie://", keys=RING), "memory://"), issuer=ISSUER)
    with pytest.raises(ConfigurationError, match="other door"):
        Tokens(Ground(AsyncSessions(keys=RING), "memory://"), issuer=ISSUER)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["jwt", "cryptography.hazmat.primitives.asymmetric.mldsa"])
def test_without_the_extra_one_sentence_says_what_to_install(missing: str) -> None:
    """And `import sessile` needs none of it."""
    program = f"""
import sys
import sessile, sessile.auth
assert "jwt" not in sys.modules
sys.modules[{missing!r}] = None
try:
    import sessile.auth.tokens
except sessile.errors.ExtraMissing as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'sessile[tokens]'" in ran.stdout
