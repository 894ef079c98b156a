"""The keys that sign tokens: one set for all nodes, turned over in time, and never shown."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.auth.ground import sealed
from sessile.auth.tokens.jose import ALGORITHMS, base64url, private_key, public_key, thumbprint, unbase64url
from sessile.auth.tokens.keys import DAY, ITEM, REFRESH, Key, KeyRules, turned
from sessile.auth.vault import Write
from sessile.auth.vaults.memory import MemoryVault
from sessile.core.bridge import drive
from sessile.core.keys import KeyRing
from sessile.errors import ConfigurationError, StoreSchema
from tests.auth.token_bench import Bench, done
from tests.support.requirements import requirement

SECRET = bytes(range(32, 64))


def kids(bench: Bench) -> list[str]:
    """Return the published keys."""
    return [key["kid"] for key in json.loads(bench.tokens.jwks())["keys"]]


def draw(counter: list[int]) -> Any:
    """Return an entropy that gives other bytes each time."""

    def entropy(size: int) -> bytes:
        counter[0] += 1
        return counter[0].to_bytes(size, "big")

    return entropy


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_jwks_holds_public_keys_alone(algorithm: str) -> None:
    """Each with its kid, its one algorithm and its use."""
    bench = Bench(algorithm=algorithm)
    [key] = json.loads(bench.tokens.jwks())["keys"]
    members = {"ES256": {"crv", "x", "y"}, "EdDSA": {"crv", "x"}}.get(algorithm, {"pub"})
    assert key.keys() == {"kty", "kid", "alg", "use"} | members
    assert (key["alg"], key["use"]) == (algorithm, "sig")
    assert key["kid"] == thumbprint(key)


def test_thumbprints_are_those_of_the_rfcs() -> None:
    """RFC 8037 appendix A.3 for Ed25519; the private key of appendix A.1 gives that public key."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert private_key("EdDSA", secret).jwk == jwk


@requirement("R79")
@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
        {"kty": "EC", "crv": "P-256", "x": 7, "y": None},
        {"kty": "EC", "crv": "P-256"},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
        {"kty": "OKP", "crv": "Ed25519", "x": "A" * 42},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "alg": ["EdDSA"]},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "alg": "ES256"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "A" * 10},
        {"kty": "AKP", "alg": "ML-DSA-87", "pub": "A" * 10},
        {"kty": "AKP", "pub": "A" * 10},
        {"kty": ["AKP"], "alg": {}},
    ],
    ids=str,
)
def test_a_key_that_is_none_of_ours_is_none(jwk: dict[str, Any]) -> None:
    """Other types, other curves, points beside the curve, other spellings, other algorithms."""
    assert public_key(jwk) is None


def test_a_coordinate_has_one_length() -> None:
    """A zero before it would be another thumbprint of the same key."""
    jwk = dict(private_key("ES256", SECRET).jwk)
    assert public_key(jwk) is not None
    for name in ("x", "y"):
        assert public_key({**jwk, name: base64url(b"\0" + unbase64url(jwk[name]))}) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_private_key_is_not_taken_for_a_public_one(algorithm: str) -> None:
    """Who publishes it has lost it; who sends it as a proof's key does not know what it is doing."""
    jwk = private_key(algorithm, SECRET).jwk
    assert public_key(jwk) is not None
    for name in ("d", "priv", "k"):
        assert public_key({**jwk, name: "A" * 43}) is None
    for other in {*ALGORITHMS} - {algorithm}:
        assert public_key(jwk, algorithm=other) is None


def test_nothing_says_what_a_private_key_is() -> None:
    """No repr, no error's text, no cause: PyJWT's own error holds the whole key."""
    for algorithm in ALGORITHMS:
        key = private_key(algorithm, SECRET)
        shown = repr(key) + repr(Key(algorithm, SECRET, 0.0, 0.0)) + str(key) + repr((key,))
        assert "234567" not in shown.replace(key.public.thumbprint, "")
        assert repr(SECRET)[2:12] not in shown
    for algorithm, secret in (
        ("HS256", SECRET),
        ("ES256", SECRET[:-1]),
        ("ES256", b"\xff" * 32),
        ("ML-DSA-65", b"x"),
        ("EdDSA", b""),
    ):
        with pytest.raises(ConfigurationError) as caught:
            private_key(algorithm, secret)
        told = "".join(traceback.format_exception(caught.value))
        assert "234567" not in told
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_keys_stand_in_the_vault_sealed() -> None:
    """A copy of the vault signs nothing; nor does what somebody moved or changed there pass."""
    vault = MemoryVault()
    bench = Bench(vault=vault)
    bench.tokens.jwks()
    secret = drive(bench.signer()).secret
    item = vault._items[ITEM]
    assert secret not in item.value
    for value in (item.value[:-1] + bytes([item.value[-1] ^ 1]), b"", b"\x91\x01", secret):
        assert drive(vault.write(Write(ITEM, value, vault._items[ITEM].version)))
        with pytest.raises(StoreSchema) as caught:
            Bench(vault=vault).tokens.jwks()
        assert repr(secret) not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(StoreSchema):
        Bench(vault=vault, keys=KeyRing({1: b"\x05" * 32})).tokens.jwks()


def test_keys_of_an_unknown_version_are_not_guessed_at() -> None:
    """An older node stops rather than sign with what it misread."""
    bench = Bench()
    keys = bench.tokens.flow.keys
    wrong_keys = [
        ("HS256", SECRET, 0, 0),
        ("ES256", b"", 0, 0),
        ("ES256", b"\xff" * 32, 0, 0),
        ("EdDSA", SECRET, "", 0),
    ]
    nested: Any = ()
    for _ in range(100):
        nested = (nested,)
    for content in (
        (2, ()),
        (1,),
        "x",
        {"a": 1},
        b"",
        None,
        (1, None),
        (1, nested),
        *((1, (key,)) for key in wrong_keys),
    ):
        value = sealed(keys._sealer, msgspec.msgpack.encode(content), "", ITEM.encode())
        with pytest.raises(StoreSchema):
            keys._open(value)
    for raw in (b"", b"\xc1", b"\x92\x01", b"\x91" * 100_000):
        with pytest.raises(StoreSchema):
            keys._open(sealed(keys._sealer, raw, "", ITEM.encode()))


def test_the_vault_is_sealed_anew_when_the_ring_turns() -> None:
    """Or the keys would be lost with the ring's old key, a year later."""
    vault = MemoryVault()
    old, new = bytes(range(32)), b"\x05" * 32
    first = Bench(vault=vault, keys=KeyRing({0: old}))
    kid = kids(first)
    assert kids(Bench(vault=vault, keys=KeyRing({1: new, 0: old}))) == kid
    assert kids(Bench(vault=vault, keys=KeyRing({1: new}))) == kid


def test_a_key_is_published_before_it_signs_and_stays_after_it_did() -> None:
    """Through a whole turn, step by step."""
    rules = KeyRules(period=90 * DAY, lead=DAY, overlap=DAY)
    counter = [0]
    keys = turned((), rules, 0.0, draw(counter))
    [first] = keys
    assert turned(keys, rules, 89 * DAY - 1, draw(counter)) == keys
    keys = turned(keys, rules, 89 * DAY, draw(counter))
    [_, second] = keys
    assert second.signs_from == 90 * DAY
    assert turned(keys, rules, 91 * DAY - 1, draw(counter)) == (first, second)
    assert turned(keys, rules, 91 * DAY, draw(counter)) == (second,)


@given(
    st.lists(st.floats(min_value=-5 * DAY, max_value=40 * DAY), max_size=40),
    st.sampled_from(ALGORITHMS),
    st.integers(min_value=2, max_value=30),
)
def test_there_is_always_a_key_that_signs_and_it_was_published_before(
    steps: list[float], algorithm: Any, days: int
) -> None:
    """Whenever nodes look, with a clock that jumps."""
    rules, counter, now = KeyRules(algorithm, period=days * DAY), [0], 100 * DAY
    keys: tuple[Key, ...] = ()
    for step in steps:
        now += step
        before, keys = keys, turned(keys, rules, now, draw(counter))
        assert keys
        assert list(keys) == sorted(keys, key=lambda key: key.signs_from)
        added = set(keys) - set(before)
        assert len(added) <= 1
        assert not before or all(key.signs_from >= now + rules.lead for key in added)
        assert turned(keys, rules, now, draw(counter)) == keys
        signing = [key for key in before if key.signs_from <= now]
        assert not signing or signing[-1] in keys


async def test_a_token_passes_through_the_whole_turn() -> None:
    """Signed by the old key a moment before it is replaced, it lives until it expires, on a node that slept."""
    vault = MemoryVault()
    clock = Bench().clock
    store = Bench(clock=clock).sessions.engine.store
    one, two = (Bench(store, vault, clock=clock, period=10 * DAY) for _ in range(2))
    session = await one.sign_in()
    old = await one.signer()
    kid = one.tokens.rotate()
    assert kids(one) == [old.public.thumbprint, kid]
    assert (await one.signer()).public.thumbprint == old.public.thumbprint
    assert two.tokens.jwks() == one.tokens.jwks()
    one.clock.advance(DAY - 1)
    session = await one.sign_in()
    text = await one.issue(session)
    one.clock.advance(2)
    assert (await one.signer()).public.thumbprint == kid
    assert await two.verify(text)
    assert await two.verify(await one.issue(session))
    one.clock.advance(DAY)
    assert kids(two) == [kid]
    assert {event.what for event in one.told("signing-key-turned")} == {"added"}
    assert [event.what for event in two.told("signing-key-turned")] == ["removed"]


async def test_a_discarded_key_signs_and_verifies_nothing_more() -> None:
    """Here at once, elsewhere within a minute."""
    vault = MemoryVault()
    clock = Bench().clock
    store = Bench(clock=clock).sessions.engine.store
    one, two = (Bench(store, vault, clock=clock) for _ in range(2))
    session = await one.sign_in()
    text = await one.issue(session)
    assert await two.verify(text)
    kid = (await one.signer()).public.thumbprint
    assert one.tokens.discard(kid)
    assert not one.tokens.discard(kid)
    assert await one.verify(text) is None
    assert await one.verify(await one.issue(session))
    assert kid not in kids(one)
    clock.advance(REFRESH)
    assert await two.verify(text) is None


async def test_a_key_that_another_node_made_just_now_is_looked_up_once() -> None:
    """And a stranger's kid makes no read of every request."""
    vault = MemoryVault()
    clock = Bench().clock
    store = Bench(clock=clock).sessions.engine.store
    one, two = (Bench(store, vault, clock=clock) for _ in range(2))
    session = await one.sign_in()
    two.tokens.jwks()
    clock.advance(6)
    one.tokens.rotate(at_once=True)
    assert await two.verify(await one.issue(session))
    reads = 0
    get = vault.get

    async def counted(key: str) -> Any:
        nonlocal reads
        reads += 1
        return await get(key)

    vault.get = counted  # type: ignore[method-assign]
    other = Bench()
    strange = await other.issue(await other.sign_in())
    for _ in range(50):
        assert await two.verify(strange) is None
    assert reads == 0
    clock.advance(6)
    for _ in range(50):
        assert await two.verify(strange) is None
    assert reads == 1


def test_threads_that_start_at_once_get_one_key() -> None:
    """The insert that comes second reads what the first one wrote."""
    vault, found, gate = MemoryVault(), [], threading.Barrier(8)

    def start() -> None:
        bench = Bench(vault=vault)
        gate.wait()
        found.append(bench.tokens.jwks())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8


@pytest.mark.slow
def test_processes_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    """Four of them, on one vault in SQLite."""
    program = """
import sys, time
from tests.auth.token_bench import Bench
bench = Bench(vault=f"sqlite:///{sys.argv[1]}")
while time.time() < float(sys.argv[2]):
    pass
print(bench.tokens.jwks().decode())
"""
    at = time.time() + 2
    command = [sys.executable, "-c", program, str(tmp_path / "vault.db"), str(at)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = {process.communicate(timeout=60)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(found) == 1
    assert len(json.loads(found.pop())["keys"]) == 1


async def test_another_algorithm_comes_as_the_next_key() -> None:
    """Changing it breaks no token."""
    vault = MemoryVault()
    clock = Bench().clock
    store = Bench(clock=clock).sessions.engine.store
    one = Bench(store, vault, clock=clock)
    session = await one.sign_in()
    text = await one.issue(session)
    two = Bench(store, vault, clock=clock, algorithm="ML-DSA-44")
    assert await two.verify(text)
    assert [key["alg"] for key in json.loads(await done(two.tokens.jwks()))["keys"]] == ["ES256", "ML-DSA-44"]
    clock.advance(DAY)
    session = await two.sign_in()
    assert (await two.signer()).algorithm == "ML-DSA-44"
    assert await two.verify(await two.issue(session))
