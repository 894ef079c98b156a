"""Proofs of possession: made here and elsewhere, taken once, for one request (RFC 9449)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.auth.tokens import ProofMaker, Proofs, Proved, Unproved, jose
from sessile.auth.tokens.dpop import Nonces, WhyProof, judged, normal_url, token_hash
from sessile.auth.tokens.jose import ALGORITHMS, PrivateKey, base64url, private_key
from sessile.auth.vaults.memory import MemoryVault
from sessile.core.keys import KeyRing
from sessile.errors import ConfigurationError, StoreUnavailable
from tests.auth.token_bench import RING, Bench, done
from tests.support.requirements import requirement

pytestmark = requirement("R60")
NOW = 1_800_000_000
URL = "https://api.example/things"
KEY = private_key("ES256", b"\x07" * 32)
CLAIMS: dict[str, Any] = {"jti": "one", "htm": "POST", "htu": URL, "iat": NOW}


def made(
    header: dict[str, Any] | None = None, claims: dict[str, Any] | None = None, key: PrivateKey = KEY, **changed: Any
) -> str:
    """Sign any header and claims."""
    head = {"typ": "dpop+jwt", "alg": key.algorithm, "jwk": dict(key.jwk), **(header or {})}
    parts = [base64url(json.dumps(part).encode()) for part in (head, {**(claims or CLAIMS), **changed})]
    message = ".".join(parts).encode()
    return f"{message.decode()}.{base64url(jose._JWS.get_algorithm_by_name(key.algorithm).sign(message, key.key))}"


def judge(text: Any, **how: Any) -> Proved | WhyProof:
    """Judge a proof for the request that CLAIMS are of."""
    return judged(text, **{"method": "POST", "url": URL, "now": NOW, **how})


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Return a bench behind each door."""
    bench = Bench(blocking=request.param)
    yield bench
    await bench.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_proof_that_the_maker_makes_passes(algorithm: Any) -> None:
    """With each algorithm, and its key's thumbprint comes out."""
    maker = ProofMaker(algorithm)
    text = maker.proof("POST", URL + "?page=2#x", now=NOW, token="t.o.k", nonce="n", proof_id="p")
    assert judge(text, token="t.o.k", is_nonce=lambda nonce: nonce == "n") == Proved(maker.jkt, "p", NOW)
    assert judge(text, algorithms=("RS256",)) == WhyProof.ALGORITHM
    assert repr(maker).startswith("<ProofMaker <PrivateKey")


def test_the_new_name_of_eddsa_is_taken_too() -> None:
    """RFC 9864; npm jose writes it."""
    key = private_key("EdDSA", b"\x07" * 32)
    assert isinstance(judge(made({"alg": "Ed25519"}, key=key)), Proved)
    assert judge(made({"alg": "Ed25519"})) == WhyProof.KEY


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "malformed"),
        ("", "malformed"),
        ("a.b.c", "malformed"),
        ("a" * 100_000, "malformed"),
        (made() + ", " + made(), "malformed"),
        (made({"typ": "JWT"}), "malformed"),
        (made({"typ": "at+jwt"}), "malformed"),
        (made({"typ": None}), "malformed"),
        (made({"crit": ["exp"]}), "malformed"),
        (made({"b64": True}), "malformed"),
        (made({"jwk": "x"}), "malformed"),
        (made({"jwk": None}), "malformed"),
        (made({"alg": "none"}), "algorithm"),
        (made({"alg": "HS256"}), "algorithm"),
        (made({"alg": "RS256"}), "algorithm"),
        (made({"alg": "EdDSA"}), "key"),
        (made({"jwk": {}}), "key"),
        (made({"jwk": {**KEY.jwk, "d": base64url(KEY.secret)}}), "key"),
        (made({"jwk": {"kty": "oct", "k": "AAAA"}}), "key"),
        (made({"jwk": {**KEY.jwk, "alg": "ES384"}}), "key"),
        (made({"jwk": dict(private_key("ES256", b"\x08" * 32).jwk)}), "signature"),
        (made()[:-8] + "AAAAAAAA", "signature"),
        (made(jti=None), "claims"),
        (made(jti=""), "claims"),
        (made(jti="j" * 3000), "claims"),
        (made(iat="now"), "claims"),
        (made(iat=True), "claims"),
        (made(iat=None), "claims"),
        (made(htm=7), "claims"),
        (made(htm="GET"), "request"),
        (made(htm="post"), "request"),
        (made(htu="https://api.example/other"), "request"),
        (made(htu="http://api.example/things"), "request"),
        (made(htu="https://api.example:8443/things"), "request"),
        (made(htu="https://api.example.evil.example/things"), "request"),
        (made(htu="https://x@api.example/things"), "request"),
        (made(htu="/things"), "request"),
        (made(iat=NOW - 61), "time"),
        (made(iat=NOW + 6), "time"),
    ],
    ids=lambda given: given if given in {*WhyProof} else "",  # a signature is another one in each process
)
def test_a_proof_that_shows_nothing_is_refused(text: Any, why: str) -> None:
    """Whatever is missing, added or of another request."""
    assert isinstance(judge(made()), Proved)
    assert judge(text) == why


@pytest.mark.parametrize("url", ["", "things", "ftp://api.example/things", "https://", "https://[::1"])
def test_what_is_no_url_equals_nothing(url: str) -> None:
    """Not even itself."""
    assert judge(made(htu=url or "x"), url=url) == WhyProof.REQUEST
    assert normal_url(url) is None


def test_a_proof_is_for_the_token_that_comes_with_it() -> None:
    """A proof that was seen with one token does not carry another."""
    assert isinstance(judge(made(ath=token_hash("a.b.c")), token="a.b.c"), Proved)
    for claims in ({"ath": token_hash("a.b.d")}, {}, {"ath": ""}, {"ath": token_hash("a.b.c") + "="}):
        assert judge(made(**claims), token="a.b.c") == WhyProof.TOKEN


def test_the_hash_of_a_token_is_that_of_the_rfc() -> None:
    """RFC 9449 §7, figure 12."""
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    assert token_hash(token) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_the_proof_of_the_rfc_passes_in_its_time() -> None:
    """RFC 9449 §4.1, figure 2: somebody else's proof, with the thumbprint of figure 8."""
    text = (
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0"
        "RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAt"
        "MjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3"
        "Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nf"
        "bV37xRZT3Lg"
    )
    shown = judged(text, method="POST", url="https://server.example.com/token", now=1562262616)
    assert shown == Proved("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "-BwC3ESc6acc2lTc", 1562262616)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("https://a.example", "https://a.example/"),
        ("HTTPS://A.Example:443/x", "https://a.example/x"),
        ("http://a.example:80/x", "http://a.example/x"),
        ("https://a.example/x?y=1#z", "https://a.example/x"),
        ("https://a.example/%7Eada/%e2", "https://a.example/~ada/%E2"),
        ("https://a.example/a/./b/../c", "https://a.example/a/c"),
        ("https://[2001:DB8::1]/x", "https://[2001:db8::1]:443/x"),
        ("https://a.example:/x", "https://a.example/x"),
    ],
)
def test_urls_are_compared_in_one_form(left: str, right: str) -> None:
    """RFC 3986 §6.2.2 and §6.2.3."""
    assert normal_url(left) == normal_url(right) is not None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("https://a.example/x", "https://a.example/x/"),
        ("https://a.example/x", "https://a.example/X"),
        ("https://a.example/x%2Fy", "https://a.example/x/y"),
        ("https://a.example/x", "https://a.example:444/x"),
        ("https://a.example/x", "http://a.example/x"),
        ("https://a.example//x", "https://a.example/x"),
    ],
)
def test_urls_that_differ_stay_different(left: str, right: str) -> None:
    """An escaped slash is no slash."""
    assert normal_url(left) != normal_url(right)


@given(st.text(max_size=40) | st.text(max_size=30).map(lambda text: f"https://a.example/{text}"))
def test_a_normal_url_stays_as_it_is(url: str) -> None:
    """Any text at all."""
    once = normal_url(url)
    assert once is None or normal_url(once) == once


async def test_a_proof_works_once(bench: Bench) -> None:
    """On this node and on every other; the next one works."""
    maker, proofs = ProofMaker(), bench.proofs()
    other = Bench(vault=bench.ground.vault, blocking=bench.blocking, clock=bench.clock).proofs()
    text = maker.proof("POST", URL, now=bench.clock())
    assert isinstance(await done(proofs.prove(text, method="POST", url=URL)), Proved)
    for door in (proofs, other):
        assert await done(door.prove(text, method="POST", url=URL)) == Unproved()
    assert [event.why for event in bench.told("proof-refused")] == ["replay"]
    again = maker.proof("POST", URL, now=bench.clock())
    assert isinstance(await done(proofs.prove(again, method="POST", url=URL)), Proved)
    # Another client may draw the same id.
    same = ProofMaker().proof("POST", URL, now=bench.clock(), proof_id="x")
    mine = maker.proof("POST", URL, now=bench.clock(), proof_id="x")
    for text in (same, mine):
        assert isinstance(await done(proofs.prove(text, method="POST", url=URL)), Proved)


async def test_a_proof_is_remembered_for_as_long_as_it_could_pass(bench: Bench) -> None:
    """Also after what has expired was swept."""
    maker, proofs = ProofMaker(), bench.proofs()
    text = maker.proof("POST", URL, now=bench.clock() + 5)
    assert isinstance(await done(proofs.prove(text, method="POST", url=URL)), Proved)
    for step in (30.0, 34.9, 0.1, 60.0):
        bench.clock.advance(step)
        await bench.ground.vault.sweep(bench.clock(), 100)
        assert isinstance(await done(proofs.prove(text, method="POST", url=URL)), Unproved)


async def test_what_proofs_leave_behind_is_cleared_away_as_fast_as_it_comes(bench: Bench) -> None:
    """At ten requests a second, far more than one sweep a minute removes."""
    maker, proofs, vault = ProofMaker(), bench.proofs(), bench.ground.vault
    most = 0
    for _ in range(1500):
        bench.clock.advance(0.1)
        text = maker.proof("POST", URL, now=bench.clock())
        assert isinstance(await done(proofs.prove(text, method="POST", url=URL)), Proved)
        most = max(most, len(vault._items))
    assert most < 1400
    for _ in range(20):
        bench.clock.advance(10)
        text = maker.proof("POST", URL, now=bench.clock())
        assert isinstance(await done(proofs.prove(text, method="POST", url=URL)), Proved)
    assert len(vault._items) < 20


@pytest.mark.slow
def test_two_processes_do_not_both_take_one_proof(tmp_path: Path) -> None:
    """At the same moment, on one vault: exactly one does, for each of thirty proofs."""
    program = """
import sys, time
from sessile.auth.tokens import Proved
from tests.auth.token_bench import Bench
bench = Bench(vault=f"sqlite:///{sys.argv[1]}")
proofs = bench.proofs()
while time.time() < float(sys.argv[2]):
    pass
for text in sys.argv[3:]:
    print(int(isinstance(proofs.prove(text, method="POST", url="https://api.example/things"), Proved)), end="")
"""
    maker, now = ProofMaker(), Bench().clock()
    texts = [maker.proof("POST", URL, now=now) for _ in range(30)]
    command = [sys.executable, "-c", program, str(tmp_path / "vault.db"), str(time.time() + 2), *texts]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    one, two = (process.communicate(timeout=60)[0] for process in running)
    assert [int(left) + int(right) for left, right in zip(one, two, strict=True)] == [1] * 30


async def test_a_client_without_the_nonce_is_given_one(bench: Bench) -> None:
    """And nobody is told of an attack: that is how every client begins."""
    maker, proofs = ProofMaker(), bench.proofs(nonce=True)
    first = await done(proofs.prove(maker.proof("POST", URL, now=bench.clock()), method="POST", url=URL))
    assert first == Unproved(proofs.nonce())
    assert not bench.told("proof-refused")
    text = maker.proof("POST", URL, now=bench.clock(), nonce=first.nonce)
    assert isinstance(await done(proofs.prove(text, method="POST", url=URL)), Proved)
    wrong = await done(
        proofs.prove(maker.proof("GET", URL, now=bench.clock(), nonce=first.nonce), method="POST", url=URL)
    )
    assert wrong == Unproved()  # no nonce would help
    assert bench.proofs().nonce() is None


async def test_a_proof_that_was_made_in_store_is_refused(bench: Bench) -> None:
    """Who had the key for a moment cannot make proofs for tomorrow: tomorrow's nonce is not known."""
    maker, proofs = ProofMaker(), bench.proofs(nonce=True)
    today = proofs.nonce()
    bench.clock.advance(86400)
    text = maker.proof("POST", URL, now=bench.clock(), nonce=today)
    assert await done(proofs.prove(text, method="POST", url=URL)) == Unproved(proofs.nonce())


def test_a_nonce_passes_in_its_window_and_the_next() -> None:
    """On every node, with a ring that turned too; nobody else makes one."""
    nonces, other = Nonces(RING, window=60), Nonces(KeyRing({0: b"\x05" * 32}), window=60)
    turned = Nonces(KeyRing({1: b"\x05" * 32, 0: bytes(range(32))}), window=60)
    text = nonces.current(600)
    assert [nonces.is_valid(text, at) for at in (540, 600, 659, 719, 720, 539)] == [True] * 4 + [False] * 2
    assert turned.is_valid(text, 600)
    assert not nonces.is_valid(turned.current(600), 600)
    assert not other.is_valid(text, 600)
    for wrong in ("", "x", "AAAA", text + "A", text[:-1], text.swapcase(), "é", "\ud800", text[:-1] + "="):
        assert not nonces.is_valid(wrong, 600)


async def test_a_vault_that_fails_takes_no_proof(bench: Bench) -> None:
    """Otherwise an attacker who loads it could replay."""

    async def failing(*_: Any) -> Any:
        raise StoreUnavailable("down")

    bench.ground.vault.write = failing  # type: ignore[method-assign]
    text = ProofMaker().proof("POST", URL, now=bench.clock())
    with pytest.raises(StoreUnavailable):
        await done(bench.proofs().prove(text, method="POST", url=URL))


@given(st.text(max_size=80))
def test_garbage_is_no_proof_and_no_error(text: str) -> None:
    """Any text, alone and as a part."""
    head = base64url(json.dumps({"typ": "dpop+jwt", "alg": text, "jwk": {"kty": text, "x": text}}).encode())
    assert isinstance(judge(text), WhyProof)
    assert isinstance(judge(f"{head}.{base64url(text.encode())}.AAAA"), WhyProof)
    assert isinstance(judge(made(htu=text or "x", htm=text, jti=text or "x")), WhyProof)


def test_settings_out_of_reason_are_refused() -> None:
    """A proof of an hour would be one for a thief."""
    bench = Bench(vault=MemoryVault())
    for options in ({"max_age": 3600}, {"max_age": 0}, {"tolerance": 600}, {"max_age": float("nan")}):
        with pytest.raises(ConfigurationError):
            Proofs(bench.ground, **options)
