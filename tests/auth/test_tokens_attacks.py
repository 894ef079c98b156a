"""Everything that is thrown at a verifier of tokens, and is refused (RFC 8725bis)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.auth.tokens import Tokens, jose
from sessile.auth.tokens.access import Why, judged
from sessile.auth.tokens.jose import ALGORITHMS, MAX_CHARS, PrivateKey, base64url, private_key, segments, unbase64url
from sessile.core.bridge import drive
from tests.auth.token_bench import API, ISSUER, Bench
from tests.support.requirements import requirement

NOW = 1_800_000_000
SID = "ab" * 20
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "ada",
    "aud": API,
    "exp": NOW + 300,
    "iat": NOW,
    "nbf": NOW,
    "jti": "j",
    "sid": SID,
    "client_id": "web",
}
ABSENT = object()


class Forger:
    """Make tokens that no issuer makes; `key` is the real one, for what only it could sign."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.bench = Bench(algorithm=algorithm)
        self.key: PrivateKey = drive(self.bench.signer())
        self.tokens: Tokens = self.bench.tokens
        self.header: dict[str, Any] = {"alg": algorithm, "kid": self.key.public.thumbprint, "typ": "at+jwt"}

    def signed(self, header: dict[str, Any] | None = None, claims: Any = None, key: PrivateKey | None = None) -> str:
        """Sign whatever header and claims with the real key, or another."""
        head = json.dumps({**self.header, **(header or {})})
        return self.raw(head, json.dumps(CLAIMS if claims is None else claims), key)

    def raw(self, head: str | bytes, body: str | bytes, key: PrivateKey | None = None) -> str:
        """Sign any two texts."""
        parts = [base64url(part.encode() if isinstance(part, str) else part) for part in (head, body)]
        message = ".".join(parts).encode()
        signer = key or self.key
        algorithm = jose._JWS.get_algorithm_by_name(signer.algorithm)
        return f"{message.decode()}.{base64url(algorithm.sign(message, signer.key))}"

    def why(self, text: Any) -> str:
        """Return why a token is refused; the verifier has answered None and nothing else."""
        self.bench.events.clear()
        assert self.tokens.verify(text, API) is None
        assert self.tokens.introspect(text) == {"active": False}
        [why] = [event.why for event in self.bench.told("access-token-refused")]
        return str(why)

    def passes(self, text: str) -> bool:
        """Tell whether a token passes offline."""
        return self.tokens.verify(text, API) is not None


@pytest.fixture(scope="module")
def forger() -> Forger:
    """Return one forger for all."""
    return Forger()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_the_forger_signs_rightly_passes(algorithm: str) -> None:
    """So the other tests can fail."""
    assert Forger(algorithm).passes(Forger(algorithm).signed()) is False
    forger = Forger(algorithm)
    assert forger.passes(forger.signed())


@requirement("R79")
@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "none ", "", "null"])
def test_an_unsigned_token_is_refused_in_any_casing(forger: Forger, name: str) -> None:
    """With no signature, with an old one, with none and its dot."""
    head, body = (base64url(json.dumps(part).encode()) for part in ({**forger.header, "alg": name}, CLAIMS))
    old = forger.signed().split(".")[2]
    assert forger.why(f"{head}.{body}.") == "malformed"
    assert forger.why(f"{head}.{body}") == "malformed"
    assert forger.why(f"{head}.{body}.{old}") == "key"


@requirement("R79")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("mac", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_mac_key(algorithm: str, mac: str) -> None:
    """RS/HS confusion: MACs made with every spelling of the public key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    forger = Forger(algorithm)
    public = forger.key.public.key
    spellings = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(forger.key.jwk).encode(),
        b"",
    ]
    head, body = (base64url(json.dumps(part).encode()) for part in ({**forger.header, "alg": mac}, CLAIMS))
    for spelling in spellings:
        tag = hmac.digest(spelling, f"{head}.{body}".encode(), getattr(hashlib, f"sha{mac[2:]}"))
        assert forger.why(f"{head}.{body}.{base64url(tag)}") == "key"


@requirement("R79")
@pytest.mark.parametrize("own", ALGORITHMS)
def test_the_header_does_not_choose_the_algorithm(own: str) -> None:
    """Every other name beside the right kid, with a signature of that algorithm by somebody else's key."""
    forger = Forger(own)
    for other in {*ALGORITHMS, "ES384", "RS256", "PS256", "ML-DSA-87", "Ed25519", "es256", "EDDSA"} - {own}:
        key = private_key(other, b"\x07" * 32) if other in ALGORITHMS else forger.key
        assert forger.why(forger.signed({"alg": other}, key=key)) == "key"


@requirement("R80")
def test_a_key_that_the_token_brings_along_is_not_used(forger: Forger) -> None:
    """jwk, jku, x5u, x5c, a foreign kid, kids that are paths or queries; signed rightly by the attacker's key."""
    own = private_key("ES256", b"\x09" * 32)
    assert forger.why(forger.signed(key=own)) == "signature"
    brought: list[dict[str, Any]] = [
        {"jwk": dict(own.jwk)},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/x5u"},
        {"x5c": ["MIIB"]},
        {"x5t": "x"},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"p2c": 2**31, "p2s": "AAAA", "alg": "PBES2-HS256+A128KW"},
        {"enc": "A256GCM", "alg": "dir"},
        {"epk": {}, "alg": "ECDH-ES"},
    ]
    for header in brought:
        assert forger.why(forger.signed(header, key=own)) == "malformed"
        assert forger.why(forger.signed(header)) == "malformed"  # by the real key too: nothing of ours has them
    for kid in (own.public.thumbprint, "", "../../dev/null", "' OR 1=1 --", "a" * 1000, "\u0000"):
        assert forger.why(forger.signed({"kid": kid}, key=own)) == "key"
    for kid in (None, 1, ["x"], {}, True):
        assert forger.why(forger.signed({"kid": kid}, key=own)) == "malformed"


@requirement("R81")
@pytest.mark.parametrize(
    ("claim", "values", "why"),
    [
        ("exp", [ABSENT, None, "1800000300", True, [NOW], {}, "", -1, 1e300], "claims"),
        ("exp", [NOW - 5, NOW - 6.5, 0], "time"),
        ("iat", [ABSENT, "now", True], "claims"),
        ("iat", [NOW + 6, NOW + 1e6], "time"),
        ("nbf", ["0", False, None], "claims"),
        ("nbf", [NOW + 6, NOW + 1e6], "time"),
        ("iss", [ABSENT, None, "", 7, [ISSUER]], "claims"),
        ("iss", [ISSUER + "/", ISSUER.upper(), "https://evil.example", ISSUER + "\u200b"], "issuer"),
        ("aud", [ABSENT, None, "", [API], [API, "https://other.example"], [], {"a": API}], "claims"),
        ("aud", [API + "/", API.upper(), "https://other.example", API[:-1], "*"], "audience"),
        ("sub", [ABSENT, None, "", 7, ["ada"], "a" * 2049], "claims"),
        ("sid", [ABSENT, None, "", "x", SID.upper(), SID + "0", 7], "claims"),
        ("jti", [ABSENT, None, "", 7], "claims"),
        ("client_id", [ABSENT, None, ""], "claims"),
        ("scope", [["read"], 7], "claims"),
        ("cnf", [{}, {"jkt": ""}, {"jkt": 7}, {"x5t#S256": "x"}, {"jkt": "x", "jwk": {}}, "x", []], "claims"),
    ],
)
def test_a_claim_that_is_missing_wrong_or_of_another_type_is_refused(
    forger: Forger, claim: str, values: list[Any], why: str
) -> None:
    """Signed by the real key: it is the content that is judged."""
    for value in values:
        claims = {name: given for name, given in {**CLAIMS, claim: value}.items() if given is not ABSENT}
        assert forger.why(forger.signed(claims=claims)) == why, value


@requirement("R81")
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "0x7fffffff", "1_8"])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_a_time_that_is_no_number_is_refused(forger: Forger, claim: str, number: str) -> None:
    """A NaN expiry would never expire; one without end would make an error of every sum."""
    body = json.dumps({**CLAIMS, claim: "HERE"}).replace('"HERE"', number)
    assert forger.why(forger.raw(json.dumps(forger.header), body)) == "claims"


@requirement("R81")
@pytest.mark.parametrize(
    "typ", ["JWT", "id_token+jwt", "AT+JWT", "application/at+jwt", "at+jwt ", "", "sessile-ended+jwt"]
)
def test_an_id_token_is_no_access_token(forger: Forger, typ: str) -> None:
    """Nor is anything else that the same key signed."""
    assert forger.why(forger.signed({"typ": typ})) == "claims"


@requirement("R81")
def test_a_token_without_a_type_is_refused(forger: Forger) -> None:
    """As every ID token of most providers is."""
    header = {name: value for name, value in forger.header.items() if name != "typ"}
    assert forger.why(forger.raw(json.dumps(header), json.dumps(CLAIMS))) == "malformed"


@requirement("R81")
def test_the_clock_tolerance_is_five_seconds_and_no_more(forger: Forger) -> None:
    """At the limit itself the token is over."""
    assert forger.passes(forger.signed(claims={**CLAIMS, "exp": NOW - 4.9}))
    assert not forger.passes(forger.signed(claims={**CLAIMS, "exp": NOW - 5}))
    assert forger.passes(forger.signed(claims={**CLAIMS, "nbf": NOW + 5, "iat": NOW + 5}))


@requirement("R82")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_spelling_of_the_same_token_is_another_text(algorithm: str) -> None:
    """Padding, the other alphabet, white space, unused bits, more or fewer dots: all refused."""
    forger = Forger(algorithm)
    text = forger.signed(claims={**CLAIMS, "pad": "?>?>~~~"})
    assert forger.passes(text)
    head, body, signature = text.split(".")
    spellings = {
        f"{text}=",
        f"{text}==",
        f"{head}=.{body}.{signature}",
        f" {text}",
        f"{text}\n",
        f"{head}.{body}\t.{signature}",
    }
    spellings |= {text.replace("-", "+").replace("_", "/"), f".{text}", f"{text}.", f"{head}..{body}.{signature}"}
    spellings |= {
        f"{head}.{body}",
        f"{head}.{body}.{signature}.x",
        "Bearer " + text,
        f"{head}.{body}.{signature}\u0000",
    }
    spellings |= {text.replace("e", "\u0435", 1), f"{head}.{body}.{signature}A", f"{head}.{body}.{signature[:-1]}"}
    for spelling in spellings - {text}:
        assert not forger.passes(spelling), spelling
    for at, part in enumerate((head, body, signature)):
        last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for char in set(last) - {part[-1]}:
            twin = [head, body, signature]
            twin[at] = part[:-1] + char
            assert not forger.passes(".".join(twin)), (at, char)


@requirement("R82")
@pytest.mark.parametrize(
    "text", [None, b"a.b.c", 7, [], {}, "", ".", "..", "...", "a.b.c", "💥.b.c", "\ud800.b.c"], ids=repr
)
def test_what_is_no_text_of_three_parts_is_refused(forger: Forger, text: Any) -> None:
    """Quietly, whatever it is."""
    assert forger.why(text) == "malformed"


@requirement("R82")
def test_json_serialization_and_doubled_members_are_refused(forger: Forger) -> None:
    """Only the compact form, and no member that two parsers could read differently passes with a wrong value."""
    head, body, signature = forger.signed().split(".")
    flattened = json.dumps({"protected": head, "payload": body, "signature": signature})
    general = json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]})
    for text in (flattened, general, base64.urlsafe_b64encode(flattened.encode()).decode()):
        assert forger.why(text) == "malformed"
    kid = forger.header["kid"]
    for first, last in (("none", "ES256"), ("ES256", "none")):
        doubled = f'{{"alg":"{first}","alg":"{last}","kid":"{kid}","typ":"at+jwt"}}'
        unsigned = f"{base64url(doubled.encode())}.{base64url(json.dumps(CLAIMS).encode())}.{signature}"
        assert not forger.passes(unsigned)


@requirement("R82")
def test_a_bomb_is_refused_by_its_size_before_anything_is_parsed(
    forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 KiB is enough for ML-DSA-65 with long claims."""

    def parsed(*_: Any) -> Any:
        raise AssertionError("it was looked at")

    big = forger.signed(claims={**CLAIMS, "x": "a" * MAX_CHARS})
    bomb = base64url(zlib.compress(b"a" * 50_000_000))
    with monkeypatch.context() as patched:
        patched.setattr(jose, "is_canonical", parsed)
        for text in (big, "." * 50_000_000, "a" * 50_000_000, f"{bomb}.{bomb}.{bomb}"):
            assert forger.why(text) == "malformed"
    largest = Forger("ML-DSA-65").signed()
    assert len(largest) < MAX_CHARS / 2


@requirement("R82")
def test_json_that_is_nested_or_long_breaks_nothing(forger: Forger) -> None:
    """Neither in the header, unsigned, nor in what the key signed."""
    for deep in ("[" * 6000, '{"a":' * 1200, "[" * 3000 + "]" * 3000, '"', "{", "null", "[]", '"x"', "1"):
        assert forger.why(forger.raw(deep, json.dumps(CLAIMS))) == "malformed"
        assert forger.why(forger.raw(json.dumps(forger.header), deep)) == "claims"
    assert forger.why(forger.raw(b"\xff\xfe", b"{}")) == "malformed"
    assert forger.why(forger.raw(json.dumps(forger.header), b"\xff")) == "claims"


@requirement("R79")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_single_bit_of_a_signature_or_of_the_claims_may_change(algorithm: str) -> None:
    """A sample of all bits."""
    forger = Forger(algorithm)
    head, body, signature = forger.signed().split(".")
    for at, part in ((1, body), (2, signature)):
        raw = bytearray(unbase64url(part))
        for bit in range(0, len(raw) * 8, max(1, len(raw) * 8 // 40)):
            flipped = bytes(raw[: bit // 8]) + bytes([raw[bit // 8] ^ 1 << bit % 8]) + bytes(raw[bit // 8 + 1 :])
            twin = [head, body, signature]
            twin[at] = base64url(flipped)
            assert forger.why(".".join(twin)) in ("signature",)


@requirement("R79")
@pytest.mark.parametrize("signature", [b"\0" * 64, b"", b"\0", b"\xff" * 64, b"\0" * 63 + b"\1", b"\0" * 2420])
def test_a_signature_of_zeros_is_none(forger: Forger, signature: bytes) -> None:
    """CVE-2022-21449: r = s = 0 was right for every message."""
    head, body, _ = forger.signed().split(".")
    assert forger.why(f"{head}.{body}.{base64url(signature)}") in ("signature", "malformed")


def test_a_token_is_not_active_for_another_user_than_its_session() -> None:
    """Even if our own key signed it: the session says who is signed in."""
    forger = Forger()
    session = drive(forger.bench.sign_in())
    for user, active in (("ada", True), ("eve", False)):
        text = forger.signed(claims={**CLAIMS, "sid": session.id, "sub": user})
        assert forger.tokens.introspect(text)["active"] is active
        assert (forger.tokens.admit(text, API) is not None) is active


def test_a_header_that_never_proved_itself_is_not_remembered() -> None:
    """The table of known headers is filled by right signatures only, and is bounded."""
    forger = Forger()
    keys = drive(forger.tokens.flow.keys.current()).public
    own = private_key("ES256", b"\x09" * 32)
    for _ in range(100):
        forger.why(forger.signed(key=own))
    assert not keys.proved
    head = json.dumps(forger.header)
    for spaces in range(200):
        assert forger.passes(forger.raw(head + " " * spaces, json.dumps(CLAIMS)))
    assert len(keys.proved) == 64


@given(st.binary(max_size=200))
def test_base64url_has_one_spelling(raw: bytes) -> None:
    """What is read is what is written, and what is written is read."""
    text = base64url(raw)
    assert unbase64url(text) == raw
    assert "=" not in text


@given(st.text(alphabet="ABab01-_+/=. \n", max_size=12))
def test_what_reads_as_base64url_is_written_so(text: str) -> None:
    """No two texts read as the same bytes."""
    try:
        raw = unbase64url(text)
    except ValueError:
        return
    assert base64url(raw) == text


def test_each_part_has_one_spelling_before_the_library_sees_it() -> None:
    """Whatever the version of the library thinks of unused bits."""
    assert segments("AA.AA.AA")
    assert segments("AAA.AAA.AAA")
    for wrong in ("AB", "AAB", "A", "AAAAA"):
        for at in range(3):
            parts = ["AA", "AA", "AA"]
            parts[at] = wrong
            assert segments(".".join(parts)) is None


@given(st.text(max_size=60) | st.from_regex(r"[\w.=-]{0,40}\.[\w-]{0,9}\.[\w-]{0,9}", fullmatch=True))
def test_garbage_is_refused_without_an_error(text: str) -> None:
    """Any text at all."""
    parts = segments(text)
    assert parts is None or all(base64url(unbase64url(part)) == part for part in parts)


@given(
    st.dictionaries(
        st.sampled_from([*CLAIMS, "cnf", "amr", "x"]), st.none() | st.integers() | st.floats() | st.text(max_size=5)
    )
)
def test_no_claims_make_an_error(changed: dict[str, Any]) -> None:
    """They are a token's, or refused."""
    found = judged(json.dumps({**CLAIMS, **changed}).encode(), issuer=ISSUER, audience=API, now=NOW, tolerance=5)
    assert isinstance(found, Why) or (found.user and found.expires_at > NOW - 5)
