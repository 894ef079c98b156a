"""What is thrown at passkeys: every answer that is not the right one, at the right time, in the right session, once."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from sessile.auth.passkeys import Proved, Refused, wire
from sessile.auth.passkeys.rules import Rules
from tests.auth.passkey_bench import ORIGIN, RP, Browser, PasskeyBench
from tests.core.rig import facts
from tests.support.authenticator import (
    AT,
    BE,
    BS,
    EDDSA,
    ES256,
    ML_DSA_44,
    RS256,
    UP,
    UV,
    Authenticator,
    bytes_of,
    text_of,
)
from tests.support.requirements import requirement

SITE = Rules(RP, "Example", (ORIGIN,))


async def enrolled(
    bench: PasskeyBench | None = None, key: Authenticator | None = None, user: str = "ada"
) -> tuple[PasskeyBench, Authenticator, Browser]:
    """Return a bench, a key of a user's on it, and the browser in which it was registered."""
    bench, key = bench or PasskeyBench(), key or Authenticator()
    browser = bench.browser()
    await browser.login(user)
    assert not isinstance(await browser.register(key), Refused)
    bench.events.clear()
    return bench, key, browser


# -- challenges --------------------------------------------------------------------------------------------------------


@requirement("R93")
async def test_a_swapped_challenge_is_refused() -> None:
    """One that nobody asked for."""
    bench, key, _ = await enrolled()
    for challenge in (text_of(bytes(32)), "", "x", "=" * 40, "é"):
        assert await bench.browser().sign_in(key, challenge=challenge) is Refused.STALE
        assert bench.why() == "challenge"


@requirement("R93")
async def test_another_sessions_challenge_is_refused() -> None:
    """A phisher shows the victim a challenge of the phisher's own session, or brings one of the victim's."""
    bench, key, _ = await enrolled()
    phisher, victim = bench.browser(), bench.browser()
    options = await phisher.run("begin_sign_in")
    await victim.run("begin_sign_in")
    assert await victim.run("finish_sign_in", key.get(options, origin=ORIGIN)) is Refused.STALE
    assert bench.why() == "challenge"
    assert await victim.user() is None


@requirement("R93")
async def test_a_challenge_is_over_after_five_minutes() -> None:
    """To the second."""
    bench, key, _ = await enrolled()
    for late, expected in ((299, Proved), (300, Refused)):
        browser = bench.browser()
        options = await browser.run("begin_sign_in")
        bench.clock.advance(late)
        assert isinstance(await browser.run("finish_sign_in", key.get(options, origin=ORIGIN)), expected)
    assert bench.why() == "challenge"


@requirement("R93")
async def test_a_challenge_is_for_one_purpose() -> None:
    """One of a registration signs nobody in, one of a sign-in steps nobody up, and so on."""
    bench, key, browser = await enrolled()
    begin = {"register": "begin_registration", "sign-in": "begin_sign_in", "step-up": "begin_step_up"}
    more: dict[str, dict[str, Any]] = {"register": {"name": "ada"}}
    for asked, verb in begin.items():
        for other in begin.keys() - {asked}:
            challenge = await browser.challenge(verb, **more.get(asked, {}))
            if other == "register":
                options = await browser.run("begin_registration", name="ada")
                answer = Authenticator().create(options, origin=ORIGIN, challenge=challenge)
                outcome = await browser.run("finish_registration", answer)
            else:
                answer = key.get({"challenge": challenge, "rpId": RP}, origin=ORIGIN)
                outcome = await browser.run("finish_" + other.replace("-", "_"), answer)
            assert outcome is Refused.STALE, (asked, other)
            assert bench.why() == "challenge"


@requirement("R93")
async def test_a_ceremony_is_of_its_type() -> None:
    """A signature over `webauthn.create`, or of a payment, is no sign-in."""
    bench, key, browser = await enrolled()
    for kind in ("webauthn.create", "payment.get", "webauthn.Get", ""):
        assert await bench.browser().sign_in(key, type=kind) is Refused.REFUSED
        assert bench.why() == "response"
    assert await browser.register(Authenticator(), type="webauthn.get") is Refused.REFUSED


@requirement("R93")
async def test_an_answer_works_once() -> None:
    """Also for who copied the cookie before, and when the session did not get to forget the challenge."""
    bench, key, _ = await enrolled()
    browser = bench.browser()
    answer = key.get(await browser.run("begin_sign_in"), origin=ORIGIN)
    first, second = await browser.open(), await browser.open()
    assert isinstance(bench.door.finish_sign_in(first, answer), Proved)
    assert bench.door.finish_sign_in(second, answer) is Refused.STALE
    assert bench.told("clone-suspected") == []
    assert bench.why() == "replay"
    assert second.user_id is None
    bench.clock.advance(250)
    assert bench.door.finish_sign_in(await browser.open(), answer) is Refused.STALE


@requirement("R93")
async def test_a_refused_answer_uses_its_challenge_up() -> None:
    """So that nobody tries on with one: not in this session, not in a copy of it."""
    bench, key, _ = await enrolled()
    browser = bench.browser()
    options = await browser.run("begin_sign_in")
    copy = await browser.open()
    assert await browser.run("finish_sign_in", key.get(options, origin=ORIGIN, handle=bytes(32))) is Refused.REFUSED
    bench.events.clear()
    assert bench.door.finish_sign_in(copy, key.get(options, origin=ORIGIN)) is Refused.STALE
    assert bench.why() == "replay"


@requirement("R93")
@pytest.mark.parametrize("step", [0, 1], ids=["no counter", "counter"])
async def test_who_comes_between_wins_and_the_other_is_refused(step: int) -> None:
    """Another process finishes with the same answer between our reading and our writing."""
    bench, key, _ = await enrolled(key=Authenticator(step=step))
    browser = bench.browser()
    answer = key.get(await browser.run("begin_sign_in"), origin=ORIGIN)
    ours, theirs = await browser.open(), await browser.open()
    write, outcomes = bench.ground.vault.write, []

    async def overtaken(*writes: Any) -> bool:
        bench.ground.vault.write = write  # type: ignore[method-assign]
        outcomes.append(bench.door.finish_sign_in(theirs, answer))
        return await write(*writes)

    bench.ground.vault.write = overtaken  # type: ignore[method-assign]
    assert bench.door.finish_sign_in(ours, answer) is Refused.STALE
    assert isinstance(outcomes[0], Proved)
    assert (ours.user_id, theirs.user_id) == (None, "ada")
    assert bench.why() == "replay"


@requirement("R93")
async def test_who_is_overtaken_by_another_use_is_judged_again() -> None:
    """Two right answers at the same time: the later counter wins; a key that was removed meanwhile does not."""
    bench, key, owner = await enrolled()
    [kept] = await bench.keys()
    write = bench.ground.vault.write

    def between(act: Any) -> None:
        async def overtaken(*writes: Any) -> bool:
            bench.ground.vault.write = write  # type: ignore[method-assign]
            await act()
            return await write(*writes)

        bench.ground.vault.write = overtaken  # type: ignore[method-assign]

    mine, other = bench.browser(), bench.browser()
    first = key.get(await other.run("begin_sign_in"), origin=ORIGIN)
    second = key.get(await mine.run("begin_sign_in"), origin=ORIGIN)
    between(lambda: other.run("finish_sign_in", first))
    assert isinstance(await mine.run("finish_sign_in", second), Proved)
    assert bench.told("clone-suspected") == []
    third = key.get(await mine.run("begin_sign_in"), origin=ORIGIN)
    between(lambda: owner.run("remove", kept.id))
    assert await mine.run("finish_sign_in", third) is Refused.REFUSED
    assert bench.why() == "unknown"
    assert await bench.keys() == ()


def _finish(folder: str, cookie: str, answers: list[str], barrier: Any, results: Any) -> None:
    bench = PasskeyBench(f"sqlite:///{folder}/s.db", f"sqlite:///{folder}/v.db")
    browser = bench.browser()
    browser.cookie = cookie
    for answer in answers:
        session = asyncio.run(browser.open())
        barrier.wait(30)
        results.put(isinstance(bench.door.finish_sign_in(session, answer), Proved))
        barrier.wait(30)


@pytest.mark.slow
@requirement("R93")
async def test_of_two_processes_with_one_answer_one_wins(tmp_path: Path) -> None:
    """Every time; neither commits its session, so that the vault alone decides."""
    bench = PasskeyBench(f"sqlite:///{tmp_path}/s.db", f"sqlite:///{tmp_path}/v.db")
    _, key, _ = await enrolled(bench, Authenticator(ML_DSA_44, step=0))
    browser = bench.browser()
    answers = [key.get(await browser.run("begin_sign_in"), origin=ORIGIN) for _ in range(4)]
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(2), spawn.Queue()
    arguments = (str(tmp_path), browser.cookie, answers, barrier, results)
    racers = [spawn.Process(target=_finish, args=arguments) for _ in range(2)]
    for racer in racers:
        racer.start()
    wins = sorted(results.get(timeout=60) for _ in range(8))
    for racer in racers:
        racer.join(60)
    assert wins == [False] * 4 + [True] * 4
    await bench.close()


# -- answers -----------------------------------------------------------------------------------------------------------


def _flipped(signature: bytes) -> bytes:
    return signature[:-1] + bytes([signature[-1] ^ 1])


@requirement("R93")
@pytest.mark.parametrize("algorithm", [ES256, EDDSA, ML_DSA_44, RS256])
@pytest.mark.parametrize(
    ("forged", "why"),
    [
        ({"rp_id": "evil.example"}, "signature"),
        ({"flags": UP}, "verification"),
        ({"flags": UV}, "signature"),
        ({"flags": UP | UV | BE}, "backup"),
        ({"flags": UP | UV | BE | BS}, "backup"),
        ({"flags": UP | UV | BS}, "signature"),
        ({"flags": UP | UV | AT}, "signature"),
        ({"signature": _flipped}, "signature"),
        ({"signature": lambda _: b"\0"}, "signature"),
        ({"signature": lambda right: right + b"\0"}, "signature"),
        ({"credential": bytes(32)}, "unknown"),
        ({"handle": bytes(32)}, "user"),
        ({"handle": None}, "user"),
        ({"client": {"crossOrigin": True}}, "response"),
        ({"client": {"topOrigin": "https://evil.example"}}, "response"),
        ({"origin": "https://evil.example"}, "response"),
        ({"origin": "null"}, "response"),
    ],
    ids=lambda one: str(one) if isinstance(one, str) else str({key: str(value)[:12] for key, value in one.items()}),
)
async def test_a_forged_answer_is_refused(algorithm: int, forged: dict[str, Any], why: str) -> None:
    """Whatever part of it is wrong, the page is told the same, and the right one works afterwards."""
    bench, key, _ = await enrolled(key=Authenticator(algorithm))
    browser = bench.browser()
    assert await browser.sign_in(key, **forged) is Refused.REFUSED
    assert bench.why() == why
    assert await browser.user() is None
    assert isinstance(await browser.sign_in(key), Proved)


@requirement("R93")
async def test_another_users_key_is_refused() -> None:
    """Where a user was named, and as a further factor of somebody's session."""
    bench, mine, _ = await enrolled()
    _, hers, _ = await enrolled(bench, user="eve")
    assert await bench.browser().sign_in(hers, user="ada") is Refused.REFUSED
    assert bench.why() == "user"
    browser = bench.browser()
    await browser.login("ada", pending=True)
    assert await browser.step_up(hers) is Refused.REFUSED
    assert await browser.user() is None
    bench.events.clear()
    assert await bench.browser().sign_in(hers, handle=mine.handle) is Refused.REFUSED
    assert bench.why() == "user"
    forged = hers.clone()
    forged.credential = mine.credential
    assert await bench.browser().sign_in(forged, handle=mine.handle) is Refused.REFUSED
    assert bench.why() == "signature"


async def test_a_challenge_of_who_was_signed_in_before_steps_nobody_else_up() -> None:
    """Ada's challenge stays in the browser when Eve signs in there."""
    bench, key, browser = await enrolled()
    options = await browser.run("begin_step_up")
    new = await browser.run("begin_registration", name="ada")
    stored = (await browser.open())["_sessile_passkeys"]
    session = await browser.open()
    session.login("eve")
    session.add_factor("passkey")
    session["_sessile_passkeys"] = stored
    await browser.commit(session)
    assert await browser.run("finish_step_up", key.get(options, origin=ORIGIN)) is Refused.STALE
    assert await browser.run("finish_registration", Authenticator().create(new, origin=ORIGIN)) is Refused.STALE
    assert [one.why for one in bench.told("passkey-refused")] == ["challenge", "challenge"]


@requirement("R93")
async def test_a_copy_of_a_key_is_found_by_its_counter() -> None:
    """Both count on from the same number: the second one to sign in is refused, and told to operators."""
    bench, key, _ = await enrolled()
    copy = key.clone()
    assert isinstance(await bench.browser().sign_in(key), Proved)
    assert isinstance(await bench.browser().sign_in(key), Proved)
    for counter in (key.counter, key.counter - 1, 0):
        assert await bench.browser().sign_in(copy, counter=counter) is Refused.REFUSED
        [suspected] = bench.told("clone-suspected")
        assert (suspected.user, suspected.stored, suspected.came) == ("ada", key.counter, counter)
        assert suspected.severity == "alert"
        assert bench.why() == "clone"
    assert isinstance(await bench.browser().sign_in(key), Proved)


@requirement("R93")
async def test_nobody_cries_wolf_without_the_key() -> None:
    """A counter says nothing before the signature over it is right."""
    bench, key, _ = await enrolled()
    assert isinstance(await bench.browser().sign_in(key), Proved)
    assert await bench.browser().sign_in(key, counter=0, signature=_flipped) is Refused.REFUSED
    assert bench.told("clone-suspected") == []
    assert bench.why() == "signature"


@requirement("R93")
async def test_a_synchronised_key_stays_one_and_its_backup_may_come_and_go() -> None:
    """Eligibility never changes; the state does (WebAuthn L3 §6.1.3)."""
    bench, key, _ = await enrolled(key=Authenticator(flags=UP | UV | BE, step=0))
    for flags, backed_up in ((UP | UV | BE | BS, True), (UP | UV | BE, False)):
        assert isinstance(await bench.browser().sign_in(key, flags=flags), Proved)
        [kept] = await bench.keys()
        assert (kept.synced, kept.backed_up) == (True, backed_up)
    assert await bench.browser().sign_in(key, flags=UP | UV) is Refused.REFUSED
    assert bench.why() == "backup"


# -- new keys ----------------------------------------------------------------------------------------------------------


def _es256(curve: ec.EllipticCurve) -> dict[int, Any]:
    key = Authenticator()
    key.secret = ec.generate_private_key(curve)
    return key.cose()


def _rs256(exponent: int, bits: int) -> dict[int, Any]:
    key = Authenticator(RS256)
    key.secret = rsa.generate_private_key(65537, bits)
    return {**key.cose(), -2: exponent.to_bytes(3, "big")}


@requirement("R93")
@pytest.mark.parametrize(
    "cose",
    [
        {**Authenticator(ES256).cose(), 3: -65535},
        {**Authenticator(ES256).cose(), 3: EDDSA},
        {**Authenticator(ES256).cose(), 3: ML_DSA_44},
        {**Authenticator(ES256).cose(), 3: 0},
        {**Authenticator(ES256).cose(), -1: 2},
        {**Authenticator(ES256).cose(), -2: b"\1" * 32},
        {**Authenticator(EDDSA).cose(), 3: ES256},
        {**Authenticator(EDDSA).cose(), -2: b"\1" * 31},
        {**Authenticator(ML_DSA_44).cose(), -1: b"\1" * 31},
        {**Authenticator(ML_DSA_44).cose(), 3: -49},
        {**_es256(ec.SECP384R1()), -1: 2},
        _rs256(65537, 1024),
        _rs256(1, 2048),
        {**Authenticator(RS256).cose(), -1: b"\xff" * 1025},
        {1: 2},
        {"x": "y"},
        [1, 2],
        b"\4" + bytes(64),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_key_that_is_not_fit_for_its_algorithm_is_refused(cose: Any) -> None:
    """Nor one of an algorithm that was not asked for."""
    bench = PasskeyBench()
    browser = bench.browser()
    await browser.login()
    bench.events.clear()
    assert await browser.register(Authenticator(), cose=cose) is Refused.REFUSED
    assert bench.why() in ("algorithm", "response", "malformed")
    assert await bench.keys() == ()


@requirement("R93")
@pytest.mark.parametrize(
    ("forged", "why"),
    [
        ({"rp_id": "evil.example"}, "response"),
        ({"origin": "https://evil.example"}, "response"),
        ({"flags": UP}, "verification"),
        ({"flags": UV}, "response"),
        ({"flags": UP | UV | BS}, "response"),
        ({"client": {"crossOrigin": True}}, "response"),
        ({"credential": bytes(1024)}, "malformed"),
        ({"attestation": {"fmt": "none", "attStmt": {"sig": b"x"}}}, "response"),
        ({"attestation": {"fmt": "packed", "attStmt": {"alg": -7, "sig": b"x"}}}, "response"),
        ({"attestation": {"fmt": "packed", "attStmt": {"alg": -7, "sig": b"x", "x5c": [b"x"]}}}, "response"),
        ({"attestation": {"fmt": "android-safetynet", "attStmt": {"ver": "1", "response": b"x"}}}, "response"),
        ({"attestation": {"fmt": "tpm", "attStmt": {"certInfo": b"x"}}}, "response"),
        ({"attestation": {"fmt": ["none"]}}, "response"),
        ({"attestation": {"authData": b""}}, "response"),
        ({"attestation": {"authData": 1}}, "response"),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_forged_registration_is_refused(forged: dict[str, Any], why: str) -> None:
    """And leaves no key."""
    bench = PasskeyBench()
    browser = bench.browser()
    await browser.login()
    bench.events.clear()
    assert await browser.register(Authenticator(), **forged) is Refused.REFUSED
    assert bench.why() == why
    assert await bench.keys() == ()


async def test_formats_with_certificates_are_not_judged_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are most of the code that an attacker could reach, and none was asked for."""

    def judged(**_: Any) -> None:
        raise AssertionError("it was judged")

    monkeypatch.setattr(wire.webauthn, "verify_registration_response", judged)
    monkeypatch.setattr(wire, "Exception", KeyError, raising=False)
    bench = PasskeyBench()
    browser = bench.browser()
    await browser.login()
    for form in ("tpm", "android-key", "android-safetynet", "apple", "fido-u2f", "compound"):
        attestation = {"fmt": form, "attStmt": {"sig": b"x"}}
        assert await browser.register(Authenticator(), attestation=attestation) is Refused.REFUSED
    with pytest.raises(AssertionError):
        await browser.register(Authenticator())


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
async def test_a_key_may_sign_its_own_registration(algorithm: int) -> None:
    """Some browsers leave that in place of the attestation that nobody asked for."""
    bench, key = PasskeyBench(), Authenticator(algorithm)
    browser = bench.browser()
    await browser.login()
    assert not isinstance(await browser.register(key, signs_itself=True), Refused)
    assert isinstance(await bench.browser().sign_in(key), Proved)


@requirement("R93")
async def test_nobody_registers_a_key_of_somebody_elses() -> None:
    """Nor their own again: a credential has one user (§7.1 step 27)."""
    bench, key, mine = await enrolled()
    eve = bench.browser()
    await eve.login("eve")
    for browser in (eve, mine):
        bench.events.clear()
        assert await browser.register(Authenticator(), credential=key.credential) is Refused.REFUSED
        assert bench.told("passkey-refused")[0].why in ("response", "known")
        twin = key.clone()
        assert await browser.register(twin) is Refused.REFUSED
        assert bench.told("passkey-refused")[-1].why == "known"
    assert [len(await bench.keys(user)) for user in ("ada", "eve")] == [1, 0]


async def test_two_new_keys_at_once_do_not_pass_the_limit() -> None:
    """The account is the lock under which keys are counted."""
    bench = PasskeyBench()
    browser = bench.browser()
    await browser.login()
    for _ in range(19):
        await browser.register(Authenticator())
    answers = [
        Authenticator().create(await browser.run("begin_registration", name="ada"), origin=ORIGIN) for _ in range(2)
    ]
    ours, theirs = await browser.open(), await browser.open()
    write = bench.ground.vault.write

    async def overtaken(*writes: Any) -> bool:
        bench.ground.vault.write = write  # type: ignore[method-assign]
        assert not isinstance(bench.door.finish_registration(theirs, answers[1]), Refused)
        return await write(*writes)

    bench.ground.vault.write = overtaken  # type: ignore[method-assign]
    assert bench.door.finish_registration(ours, answers[0]) is Refused.FULL
    assert len(await bench.keys()) == 20


async def test_two_sessions_that_begin_at_once_share_the_handle() -> None:
    """The second to write reads what the first one wrote."""
    bench = PasskeyBench()
    ours, theirs = bench.browser(), bench.browser()
    await ours.login()
    await theirs.login()
    write, handles = bench.ground.vault.write, []

    async def overtaken(*writes: Any) -> bool:
        bench.ground.vault.write = write  # type: ignore[method-assign]
        handles.append(json.loads(await theirs.run("begin_registration", name="x"))["user"]["id"])
        return await write(*writes)

    bench.ground.vault.write = overtaken  # type: ignore[method-assign]
    handles.append(json.loads(await ours.run("begin_registration", name="x"))["user"]["id"])
    assert handles[0] == handles[1]


# -- bytes -------------------------------------------------------------------------------------------------------------

RIGHT = Authenticator().get({"challenge": text_of(bytes(32)), "rpId": RP}, origin=ORIGIN)
NEW = Authenticator().create(
    {"challenge": text_of(bytes(32)), "rp": {"id": RP}, "user": {"id": text_of(bytes(32))}}, origin=ORIGIN
)


def _with(text: str, **response: Any) -> str:
    came = json.loads(text)
    came["response"].update(response)
    return json.dumps(came)


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "null",
        "[]",
        "{}",
        b"\xff\xfe",
        "\ud800",
        7,
        None,
        {"id": "x"},
        "[" * 60_000,
        '{"a":' * 10_000,
        " " * 70_000,
        RIGHT + " " * 70_000,
        RIGHT.replace("public-key", "password"),
        RIGHT.replace('"rawId": "', '"rawId": "A'),
        _with(RIGHT, signature=""),
        _with(RIGHT, signature="AAA="),
        _with(RIGHT, signature="AB"),
        _with(RIGHT, signature="A"),
        _with(RIGHT, signature="A A"),
        _with(RIGHT, signature="é"),
        _with(RIGHT, signature="\ud800"),
        _with(RIGHT, signature="A" * 60_000),
        _with(RIGHT, signature=None),
        _with(RIGHT, clientDataJSON=text_of(b"[" * 3000)),
        _with(RIGHT, clientDataJSON=text_of(b"\xff")),
        _with(RIGHT, clientDataJSON=text_of(b" " * 5000)),
        _with(RIGHT, userHandle=text_of(bytes(65))),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_garbage_is_refused_quietly(garbage: Any) -> None:
    """Before anything is written to the vault."""
    bench = PasskeyBench()
    browser = bench.browser()
    await browser.login()
    await browser.run("begin_sign_in")
    await browser.run("begin_registration", name="ada")
    bench.ground.vault.write = None  # type: ignore[assignment, method-assign]
    for verb in ("finish_sign_in", "finish_registration"):
        bench.events.clear()
        assert await browser.run(verb, garbage) is Refused.REFUSED
        assert bench.why() == "malformed"


def _spoiled(data: bytes, at: int, by: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ by]) + data[at + 1 :]


def _attested(authenticator_data: bytes) -> bytes:
    return cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": authenticator_data})


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x9b" + b"\xff" * 8,
        b"\x5b\x7f" + b"\xff" * 7,
        b"\xbb\x7f" + b"\xff" * 7,
        b"\x81" * 16_000,
        b"\x9f" * 16_000,
        b"\xd8\x1c\x81\xd8\x1d\x00",
        b"\xc4\x82\x1b\x7f" + b"\xff" * 7 + b"\x01",
        b"\xc5\x82\x1b\x7f" + b"\xff" * 7 + b"\x01",
        b"\xd8\x1e\x82\x01\x00",
        b"\xd8\x23\x79\x3e\x80" + b"(?:" * 5333 + b"x",
    ],
    ids=["array", "bytes", "map", "nested", "endless", "cycle", "decimal", "bigfloat", "fraction", "expression"],
)
def test_a_bomb_in_cbor_is_refused(bomb: bytes) -> None:
    """Sizes that are only said, depth, cycles, numbers with huge exponents: by themselves and inside."""
    for data in (bomb, b"\xa3cfmtdnonegattStmt\xa0hauthData" + bomb):
        came = wire.Attestation(text_of(bytes(32)), b"x", b"{}", data, (), "")
        with pytest.raises(wire.Unfit):
            wire.verify_attestation(came, SITE, wire.algorithms())


@requirement("R93")
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.builds(_attested, st.binary(min_size=37, max_size=200)))
def test_any_attestation_is_judged_or_refused(data: bytes) -> None:
    """Nothing that an attacker encodes is an error of ours."""
    came = wire.Attestation(text_of(bytes(32)), b"x", b"{}", data, (), "")
    with pytest.raises(wire.Unfit):
        wire.verify_attestation(came, SITE, wire.algorithms())


@requirement("R93")
@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.integers(1, 255))
def test_one_bit_of_a_registration_changes_nothing_but_its_key(at: int, by: int) -> None:
    """Without attestation nothing is signed; but no spoiled answer is an error, and none is of another site."""
    response = json.loads(NEW)["response"]
    spoiled = _with(NEW, attestationObject=text_of(_spoiled(bytes_of(response["attestationObject"]), at, by)))
    try:
        came = wire.read_attestation(spoiled, SITE)
        found = wire.verify_attestation(came, SITE, wire.algorithms())
    except wire.Unfit:
        return
    assert found.algorithm in wire.algorithms()
    assert found.verified
    assert found.credential == came.credential


@requirement("R93")
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["authenticatorData", "clientDataJSON", "signature"]), st.integers(0, 400), st.integers(1, 255))
def test_one_bit_of_an_answer_makes_it_worthless(part: str, at: int, by: int) -> None:
    """Everything that counts is signed."""
    bench = PasskeyBench()
    key, session = Authenticator(EDDSA), bench.sessions.open(facts())
    session.login("ada")
    made = bench.door.begin_registration(session, name="ada")
    assert not isinstance(
        bench.door.finish_registration(session, key.create(made, origin=ORIGIN)),
        Refused,
    )
    answer = key.get(bench.door.begin_sign_in(session), origin=ORIGIN)
    spoiled = _spoiled(bytes_of(json.loads(answer)["response"][part]), at, by)
    outcome = bench.door.finish_sign_in(session, _with(answer, **{part: text_of(spoiled)}))
    assert isinstance(outcome, Refused)


async def test_nothing_secret_stands_in_events_or_reprs() -> None:
    """No challenge, no credential, no handle, no key, no name that its user gave."""
    bench = PasskeyBench()
    browser, key = bench.browser(), Authenticator()
    await browser.login()
    await browser.register(key, label="label of mine")
    await bench.browser().sign_in(key)
    await bench.browser().sign_in(key, signature=_flipped)
    await bench.browser().sign_in(key, counter=0)
    told = " ".join(repr(event) + event.sentence() for event in bench.events)
    for secret in (text_of(key.credential), key.credential.hex(), text_of(key.handle or b""), "label of mine", ORIGIN):
        assert secret not in told
    assert {"passkey-added", "passkey-refused", "clone-suspected"} <= {event.code for event in bench.events}
