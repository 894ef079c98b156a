"""Everything that is posted as a logout token and is none, and why each is refused.

The first eight are the OpenID Foundation's cases of its certification of relying parties for back-channel logout.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from sessile.auth.oidc.logout_tokens import EVENT, MAX_CHARS, Why
from tests.auth.oidc.logout_forge import ABSENT, NOW, Forge, base64url, twice

Attack = Callable[[Forge], str]
_REVOKE: Final = "revoke_offline_access"


def _claims(**changes: Any) -> Attack:
    return lambda forge: forge.token(forge.claims(**changes))


def _header(**changes: Any) -> Attack:
    return lambda forge: forge.token(**changes)


def _unsigned(name: str, signature: str = "") -> Attack:
    def forged(forge: Forge) -> str:
        head = base64url(json.dumps({"typ": "logout+jwt", "alg": name, "kid": "ec"}).encode())
        return f"{head}.{base64url(json.dumps(forge.claims()).encode())}.{signature}"

    return forged


def _part(index: int, change: Callable[[str], str]) -> Attack:
    def forged(forge: Forge) -> str:
        parts = forge.token().split(".")
        parts[index] = change(parts[index])
        return ".".join(parts)

    return forged


def _body(change: Callable[[str], str]) -> Attack:
    return lambda forge: forge.token(change(json.dumps(forge.claims())))


def _head(change: Callable[[str], str]) -> Attack:
    def forged(forge: Forge) -> str:
        head = change(json.dumps({"typ": "logout+jwt", "alg": "ES256", "kid": "ec"}))
        return forge.raw(head, json.dumps(forge.claims()), "ES256", forge.keys["ES256"])

    return forged


def _self_signed(forge: Forge) -> str:
    other = Forge(forge.issuer, forge.client)
    return other.token(jwk=other.keys["ES256"].as_dict(private=False))


def _flipped(text: str) -> str:
    return ("A" if text[0] != "A" else "B") + text[1:]


def _swapped_claims(forge: Forge) -> str:
    head, _, signature = forge.token().split(".")
    return f"{head}.{base64url(json.dumps(forge.claims(sub='eve')).encode())}.{signature}"


FOUNDATION: Final[dict[str, tuple[Why, Attack]]] = {
    "alg none": (Why.MALFORMED, _unsigned("none")),
    "wrong alg": (Why.ALGORITHM, Forge.confused),
    "wrong iss": (Why.ISSUER, _claims(iss="https://evil.example")),
    "wrong aud": (Why.AUDIENCE, _claims(aud="another-client")),
    "no event": (Why.EVENT, _claims(events=ABSENT)),
    "wrong event": (Why.EVENT, _claims(events={"http://schemas.openid.net/event/other": {}})),
    "nonce present": (Why.NONCE, _claims(nonce="n-1")),
    "neither sub nor sid": (Why.SUBJECT, _claims(sub=ABSENT, sid=ABSENT)),
}

ATTACKS: Final[dict[str, tuple[Why, Attack]]] = {
    **FOUNDATION,
    # what is no token at all
    "empty": (Why.MALFORMED, lambda _: ""),
    "a word": (Why.MALFORMED, lambda _: "logout"),
    "two parts": (Why.MALFORMED, lambda forge: forge.token().rpartition(".")[0]),
    "four parts": (Why.MALFORMED, lambda forge: forge.token() + ".AAAA"),
    "five parts, encrypted": (Why.MALFORMED, lambda forge: "AAAA." + forge.token() + ".AAAA"),
    "oversize": (Why.MALFORMED, _claims(pad="x" * MAX_CHARS)),
    "padded base64": (Why.MALFORMED, lambda forge: forge.token() + "=="),
    "standard base64": (Why.MALFORMED, _part(2, lambda text: "+/" + text[2:])),
    "white space": (Why.MALFORMED, lambda forge: " " + forge.token()),
    "line break at the end": (Why.MALFORMED, lambda forge: forge.token() + "\n"),
    "second spelling of a last character": (Why.MALFORMED, _part(2, lambda text: text[:-1] + "h")),
    "header is no JSON": (Why.MALFORMED, _head(lambda _: "{")),
    "header is a list": (Why.MALFORMED, _head(lambda text: f"[{text}]")),
    "header is in UTF-16": (Why.MALFORMED, _part(0, lambda _: base64url('{"alg":"ES256"}'.encode("utf-16")))),
    "a name twice in the header": (Why.MALFORMED, _head(lambda text: twice(text, "alg", "none"))),
    "nested header": (Why.MALFORMED, _head(lambda _: "[" * 5000)),
    "crit": (Why.MALFORMED, _header(crit=["exp"])),
    "payload not encoded": (Why.MALFORMED, _header(b64=False)),
    "kid is a number": (Why.MALFORMED, _header(kid=7)),
    # another kind of token
    "an ID token": (Why.TYPE, Forge.id_token),
    "typ of an access token": (Why.TYPE, _header(typ="at+jwt")),
    "typ of a security event": (Why.TYPE, _header(typ="secevent+jwt")),
    "typ JWT": (Why.TYPE, _header(typ="JWT")),
    "no typ": (Why.TYPE, _header(typ=ABSENT)),
    "typ is null": (Why.TYPE, _header(typ=None)),
    "typ is a list": (Why.TYPE, _header(typ=["logout+jwt"])),
    # algorithms and keys
    **{
        f"alg {name} with a signature": (Why.ALGORITHM, _unsigned(name, "AAAA"))
        for name in ("none", "None", "NONE", "nOnE")
    },
    "alg is null": (Why.ALGORITHM, _header(alg=None)),
    "alg is a list": (Why.ALGORITHM, _header(alg=["ES256"])),
    "alg not on the list": (Why.ALGORITHM, lambda forge: forge.token(key="RS256", algorithm="RS512")),
    "another key's alg": (Why.KEY, _header(alg="RS256")),
    "a key for another alg": (Why.KEY, lambda forge: forge.token(key="RS256", algorithm="PS256")),
    "no kid, and another key": (Why.SIGNATURE, lambda forge: Forge().token(kid=ABSENT)),
    "unknown key": (Why.KEY, _header(kid="nobody")),
    "a key in the header": (Why.SIGNATURE, _self_signed),
    "a key somewhere else": (Why.SIGNATURE, lambda forge: Forge().token(jku="https://evil.example/jwks")),
    "signed by somebody else": (Why.SIGNATURE, lambda forge: Forge().token()),
    "a changed signature": (Why.SIGNATURE, _part(2, _flipped)),
    "swapped claims": (Why.SIGNATURE, _swapped_claims),
    # claims
    "claims are no JSON": (Why.CLAIMS, _body(lambda _: "logout")),
    "claims are a list": (Why.CLAIMS, _body(lambda text: f"[{text}]")),
    "claims are not in UTF-8": (
        Why.CLAIMS,
        lambda forge: forge.raw(
            '{"typ":"logout+jwt","alg":"ES256","kid":"ec"}', b"\xff\xfe{}", "ES256", forge.keys["ES256"]
        ),
    ),
    "nested junk": (Why.CLAIMS, _body(lambda _: '{"events":' * 1000 + "1" + "}" * 1000)),
    "a name twice": (Why.CLAIMS, _body(lambda text: twice(text, "sub", "eve"))),
    "a name twice in the events": (
        Why.CLAIMS,
        _body(lambda text: text.replace('"events": {', f'"events": {{"{EVENT}": {{}}, ')),
    ),
    "no iss": (Why.ISSUER, _claims(iss=ABSENT)),
    "iss with a slash more": (Why.ISSUER, lambda forge: forge.token(forge.claims(iss=forge.issuer + "/"))),
    "iss is a list": (Why.ISSUER, lambda forge: forge.token(forge.claims(iss=[forge.issuer]))),
    "no aud": (Why.AUDIENCE, _claims(aud=ABSENT)),
    "aud is an empty list": (Why.AUDIENCE, _claims(aud=[])),
    "aud with somebody else": (
        Why.AUDIENCE,
        lambda forge: forge.token(forge.claims(aud=[forge.client, "another-client"])),
    ),
    "aud is an object": (Why.AUDIENCE, lambda forge: forge.token(forge.claims(aud={forge.client: 1}))),
    "nonce is null": (Why.NONCE, _claims(nonce=None)),
    "events is a list": (Why.EVENT, _claims(events=[EVENT])),
    "events is a text": (Why.EVENT, _claims(events=EVENT)),
    "events is empty": (Why.EVENT, _claims(events={})),
    "event is null": (Why.EVENT, _claims(events={EVENT: None})),
    "event is true": (Why.EVENT, _claims(events={EVENT: True})),
    "event is an empty list": (Why.EVENT, _claims(events={EVENT: []})),
    "event is not empty": (Why.EVENT, _claims(events={EVENT: {"sub": "eve"}})),
    "an event beside it": (Why.EVENT, _claims(events={EVENT: {}, "https://evil.example/event": {}})),
    "Keycloak's member is no truth value": (Why.EVENT, _claims(events={EVENT: {}, _REVOKE: "yes"})),
    "no iat": (Why.TIME, _claims(iat=ABSENT)),
    "future iat": (Why.TIME, _claims(iat=int(NOW) + 60)),
    "old iat": (Why.TIME, _claims(iat=int(NOW) - 126, exp=int(NOW) + 600)),
    "iat is a text": (Why.TIME, _claims(iat=str(int(NOW)))),
    "iat is true": (Why.TIME, _claims(iat=True)),
    "iat has 4,000 digits": (Why.TIME, _body(lambda text: text.replace(str(int(NOW)), "9" * 4000, 1))),
    "iat is no number": (Why.CLAIMS, _body(lambda text: text.replace(str(int(NOW)), "NaN", 1))),
    "iat is infinite": (Why.TIME, _body(lambda text: text.replace(str(int(NOW)), "1e999", 1))),
    "no exp": (Why.TIME, _claims(exp=ABSENT)),
    "expired": (Why.TIME, _claims(iat=int(NOW) - 60, exp=int(NOW) - 6)),
    "exp is null": (Why.TIME, _claims(exp=None)),
    "no jti": (Why.CLAIMS, _claims(jti=ABSENT)),
    "empty jti": (Why.CLAIMS, _claims(jti="")),
    "jti is a number": (Why.CLAIMS, _claims(jti=7)),
    "sub is a number": (Why.SUBJECT, _claims(sub=7)),
    "sub is empty": (Why.SUBJECT, _claims(sub="", sid=ABSENT)),
    "sid is a list": (Why.SUBJECT, _claims(sid=["sid-1"])),
    "sid has a line break": (Why.SUBJECT, _claims(sid="sid-1\n")),
}
