"""Other people's JOSE reads ours and we read theirs: joserfc, npm jose, npm dpop, and oidc-provider on our proofs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import joserfc.errors
import joserfc.jwk
import joserfc.jwt
import pytest

from sessile.auth.tokens import ProofMaker, Proved, Verifier
from sessile.auth.tokens.dpop import judged
from sessile.auth.tokens.jose import ALGORITHMS, base64url, private_key, thumbprint
from tests.auth.token_bench import API, ISSUER, Bench, done
from tests.support.node import node_folder, node_programs
from tests.support.requirements import requirement

NOW = 1_800_000_000
SID = "ab" * 20
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "ada",
    "aud": API,
    "exp": NOW + 300,
    "iat": NOW,
    "jti": "j",
    "sid": SID,
    "client_id": "web",
    "scope": "read",
}
CLASSICAL = ("ES256", "EdDSA")


class Peer:
    """Talk to a Node process, line by line."""

    def __init__(self, directory: Path) -> None:
        folder = node_folder(Path(__file__).parent / "node", "auth-node")
        self.log = (directory / "peer.log").open("w")
        self.process = subprocess.Popen(
            [node_programs()[0], "peer.mjs"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def ask(self, verb: str, **given: Any) -> dict[str, Any]:
        """Return the answer; an error is one of its members."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"verb": verb, **given}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        self.log.close()


@pytest.fixture(name="peer", scope="module")
def fixture_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """Run one Node process for all tests of this file."""
    peer = Peer(tmp_path_factory.mktemp("node"))
    yield peer
    peer.close()


async def ours(algorithm: str, **how: Any) -> tuple[str, dict[str, Any], Bench]:
    """Return a token of ours and the JWKS that we publish."""
    bench = Bench(algorithm=algorithm)
    text = await bench.issue(await bench.sign_in(), scope="read", **how)
    return text, json.loads(await done(bench.tokens.jwks())), bench


def verifier(jwks: Any) -> Verifier:
    """Return another service of ours that trusts these keys."""
    return Verifier(jwks=lambda: json.dumps(jwks).encode(), issuer=ISSUER, audience=API, clock=lambda: float(NOW))


# -- joserfc -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("algorithm", CLASSICAL)
async def test_joserfc_reads_our_tokens_and_keys(algorithm: str) -> None:
    """From the published JWKS; and our thumbprint is theirs."""
    text, jwks, _ = await ours(algorithm)
    keys = joserfc.jwk.KeySet.import_key_set(jwks)
    token = joserfc.jwt.decode(text, keys, algorithms=[algorithm])
    assert token.header["typ"] == "at+jwt"
    assert (token.claims["iss"], token.claims["aud"], token.claims["scope"]) == (ISSUER, API, "read")
    [key] = keys.keys
    assert key.thumbprint() == key.kid
    with pytest.raises(joserfc.errors.BadSignatureError):
        joserfc.jwt.decode(text[:-8] + "AAAAAAAA", keys, algorithms=[algorithm])


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("algorithm", CLASSICAL)
def test_we_read_tokens_and_keys_of_joserfc(algorithm: str) -> None:
    """And refuse what it signs wrongly."""
    kind = {"ES256": joserfc.jwk.ECKey, "EdDSA": joserfc.jwk.OKPKey}[algorithm]
    key: Any = kind.generate_key({"ES256": "P-256", "EdDSA": "Ed25519"}[algorithm])  # type: ignore[attr-defined]
    kid = key.thumbprint()
    jwks = {"keys": [{**key.as_dict(private=False), "kid": kid, "alg": algorithm, "use": "sig"}]}
    assert thumbprint(jwks["keys"][0]) == kid

    def encode(header: dict[str, Any], claims: dict[str, Any]) -> str:
        return joserfc.jwt.encode({"alg": algorithm, "kid": kid, **header}, claims, key, algorithms=[algorithm])

    service = verifier(jwks)
    token = service.verify(encode({"typ": "at+jwt"}, CLAIMS))
    assert token is not None
    assert (token.user, token.session_id) == ("ada", SID)
    assert service.verify(encode({"typ": "JWT"}, CLAIMS)) is None
    assert service.verify(encode({"typ": "at+jwt"}, {**CLAIMS, "exp": NOW - 60})) is None


# -- npm jose ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_jose_reads_our_tokens_and_keys(peer: Peer, algorithm: str) -> None:
    """ML-DSA too; and refuses them for somebody else, or with a byte changed."""
    text, jwks, bench = await ours(algorithm)
    asked: dict[str, Any] = {
        "token": text,
        "jwks": jwks,
        "issuer": ISSUER,
        "audience": API,
        "algorithms": [algorithm],
        "typ": "at+jwt",
        "now": bench.clock(),
    }
    answer = peer.ask("verify", **asked)
    assert answer["payload"]["sub"] == "ada"
    assert answer["header"]["kid"] == jwks["keys"][0]["kid"]
    assert peer.ask("thumbprint", jwk=jwks["keys"][0]) == {"thumbprint": jwks["keys"][0]["kid"]}
    head, body, signature = text.split(".")
    changed = f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    assert peer.ask("verify", **{**asked, "token": changed})["error"] == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
    assert peer.ask("verify", **{**asked, "audience": "x"})["error"] == "ERR_JWT_CLAIM_VALIDATION_FAILED"
    assert peer.ask("verify", **{**asked, "now": bench.clock() + 301})["error"] == "ERR_JWT_EXPIRED"
    ended = (await done(bench.tokens.ended())).text
    assert peer.ask("verify", **{**asked, "token": ended})["error"] == "ERR_JWT_CLAIM_VALIDATION_FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_we_read_tokens_and_keys_of_jose(peer: Peer, algorithm: str) -> None:
    """ML-DSA too; and refuse what is not for us."""
    made = peer.ask("sign", alg=algorithm, claims=CLAIMS, typ="at+jwt")
    assert thumbprint(made["jwks"]["keys"][0]) == made["kid"]
    service = verifier(made["jwks"])
    token = service.verify(made["token"])
    assert token is not None
    assert (token.user, token.scopes) == ("ada", {"read"})
    head, body, signature = made["token"].split(".")
    assert service.verify(f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}") is None
    other = peer.ask("sign", alg=algorithm, claims=CLAIMS, typ="at+jwt")
    assert service.verify(other["token"]) is None
    for claims, typ in (({**CLAIMS, "aud": [API, "x"]}, "at+jwt"), ({**CLAIMS, "iss": "x"}, "at+jwt"), (CLAIMS, "JWT")):
        wrong = peer.ask("sign", alg=algorithm, claims=claims, typ=typ)
        assert verifier(wrong["jwks"]).verify(wrong["token"]) is None


# -- proofs ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@requirement("R60")
@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
async def test_we_take_the_proofs_of_npm_dpop(peer: Peer, algorithm: str) -> None:
    """Each once, for its request, its token and our nonce."""
    bench = Bench()
    bench.clock.advance(time.time() - bench.clock())
    proofs = bench.proofs(nonce=True)
    given = {"alg": algorithm, "url": "https://api.example/things?x=1#y", "method": "POST", "nonce": proofs.nonce()}
    made = peer.ask("proof", **given, token="t.o.k")
    asked = {"method": "POST", "url": "https://api.example/things", "token": "t.o.k"}
    shown = proofs.prove(made["proof"], **asked)
    assert isinstance(shown, Proved)
    assert shown.jkt == made["jkt"]
    assert not isinstance(proofs.prove(made["proof"], **asked), Proved)
    for wrong in ({"token": "t.o.x"}, {"method": "GET"}, {"url": "https://api.example/other"}):
        fresh = peer.ask("proof", **given, token="t.o.k")
        assert not isinstance(proofs.prove(fresh["proof"], **{**asked, **wrong}), Proved)
    text = await bench.issue(await bench.sign_in(), jkt=shown.jkt)
    assert (await bench.verify(text, proved=shown)).user == "ada"


@pytest.mark.slow
@requirement("R60")
def test_rsa_keys_are_none_of_ours(peer: Peer) -> None:
    """npm dpop can; our list says no."""
    made = peer.ask("proof", alg="PS256", url="https://a.example/", method="GET")
    assert judged(made["proof"], method="GET", url="https://a.example/", now=time.time()) == "algorithm"


def ask_token(origin: str, proof: str | None) -> httpx.Response:
    """Ask the provider for a token."""
    form = {"grant_type": "client_credentials", "client_id": "ours", "client_secret": "secret"}
    headers = {} if proof is None else {"dpop": proof}
    return httpx.post(f"{origin}/token", data=form, headers=headers, timeout=10)


@pytest.mark.slow
@requirement("R60")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_oidc_provider_takes_our_proofs(peer: Peer, algorithm: Any) -> None:
    """At its token endpoint and at a resource, once each, for that request and key alone."""
    origin, maker, now = peer.ask("provider", nonce=False)["origin"], ProofMaker(algorithm), time.time()
    proof = maker.proof("POST", f"{origin}/token", now=now)
    answer = ask_token(origin, proof)
    assert answer.json()["token_type"] == "DPoP", answer.text
    assert ask_token(origin, proof).json()["error"] == "invalid_grant"  # it was used
    for wrong in (
        maker.proof("GET", f"{origin}/token", now=now),
        maker.proof("POST", f"{origin}/other", now=now),
        maker.proof("POST", f"{origin}/token", now=now - 3600),
        maker.proof("POST", f"{origin}/token", now=now, nonce="strange"),
        maker.proof("POST", f"{origin}/token", now=now)[:-8] + "AAAAAAAA",
    ):
        assert ask_token(origin, wrong).json()["error"] in ("invalid_dpop_proof", "use_dpop_nonce")
    token = peer.ask("mint", origin=origin, jkt=maker.jkt)["token"]

    def ask_me(by: ProofMaker, about: str) -> httpx.Response:
        proved = by.proof("GET", f"{origin}/me", now=time.time(), token=about)
        return httpx.get(f"{origin}/me", headers={"authorization": f"DPoP {token}", "dpop": proved}, timeout=10)

    assert ask_me(maker, token).json() == {"sub": "ada"}
    assert ask_me(maker, "another").status_code == 401
    assert ask_me(ProofMaker(algorithm), token).status_code == 401


@pytest.mark.slow
@requirement("R60")
def test_oidc_provider_asks_for_its_nonce_and_gets_it(peer: Peer) -> None:
    """The whole dance of RFC 9449 §8."""
    origin, maker = peer.ask("provider", nonce=True)["origin"], ProofMaker()
    first = ask_token(origin, maker.proof("POST", f"{origin}/token", now=time.time()))
    assert first.json()["error"] == "use_dpop_nonce"
    nonce = first.headers["dpop-nonce"]
    second = ask_token(origin, maker.proof("POST", f"{origin}/token", now=time.time(), nonce=nonce))
    assert second.json()["token_type"] == "DPoP"


def test_joserfc_finds_the_same_public_half_of_our_keys() -> None:
    """The private key that the vault keeps is the one whose public half joserfc computes."""
    for algorithm, kind in (("ES256", joserfc.jwk.ECKey), ("EdDSA", joserfc.jwk.OKPKey)):
        key = private_key(algorithm, bytes(range(1, 33)))
        theirs = kind.import_key({**key.jwk, "d": base64url(key.secret)})
        assert theirs.thumbprint() == key.public.thumbprint
