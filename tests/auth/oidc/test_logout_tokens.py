"""What a logout token must be: every case of the certification, and everything else that was thought of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("joserfc")

from joserfc.jwk import KeySet, OctKey

from sessile.auth.oidc.logout_tokens import EVENT, Expected, LogoutToken, UnknownKey, Why, judge
from tests.auth.oidc.logout_attacks import ATTACKS, FOUNDATION
from tests.auth.oidc.logout_forge import ABSENT, CLIENT, ISSUER, NOW, Forge
from tests.support.requirements import requirement

EXPECTED = Expected(ISSUER, CLIENT)


@pytest.fixture(scope="module")
def forge() -> Forge:
    """Return one provider for all."""
    return Forge()


def judged(forge: Forge, text: object, expected: Expected = EXPECTED, now: float = NOW) -> object:
    """Judge a text as this provider's."""
    return judge(text, forge.public, expected=expected, now=now)


@requirement("R70", "R71")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_for_its_own_reason(forge: Forge, name: str) -> None:
    """Each forged token breaks one rule, and that rule is what refuses it."""
    why, attack = ATTACKS[name]
    found = judged(forge, attack(forge))
    assert (Why.KEY if isinstance(found, UnknownKey) else found) == why


def test_the_certifications_eight_cases_are_there() -> None:
    """The table begins with the OpenID Foundation's own."""
    assert len(FOUNDATION) == 8


@requirement("R70")
@pytest.mark.parametrize("key", ["RS256", "ES256", "Ed25519"])
def test_a_good_token_says_who_and_which_session(forge: Forge, key: str) -> None:
    """What is not wrong is taken, by each kind of key."""
    found = judged(forge, forge.token(forge.claims(jti="j"), key=key))
    assert found == LogoutToken(ISSUER, "ada", "sid-1", "j", NOW, NOW + 125)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("aud is a list of one", {"aud": [CLIENT]}),
        ("no sid", {"sid": ABSENT}),
        ("no sub", {"sub": ABSENT}),
        ("unknown claims", {"typ": "Logout", "azp": CLIENT, "https://x.example/y": [1]}),
        ("times with fractions", {"iat": NOW - 0.5, "exp": NOW + 119.5}),
        ("as old as it may be", {"iat": NOW - 124, "exp": NOW + 1}),
        ("a clock that is ahead", {"iat": NOW + 5}),
        ("expired within the tolerance", {"exp": NOW - 4}),
        ("a year to live", {"exp": NOW + 86400 * 365}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_specification_allows_is_taken(forge: Forge, name: str, changes: dict[str, Any]) -> None:
    """A token is not refused for what it may be."""
    assert isinstance(judged(forge, forge.token(forge.claims(**changes))), LogoutToken), name


@pytest.mark.parametrize("typ", ["logout+jwt", "LOGOUT+JWT", "application/logout+jwt"])
def test_the_type_is_a_media_type(forge: Forge, typ: str) -> None:
    """It is compared without regard to case, and may be written out (RFC 7515 §4.1.9)."""
    assert isinstance(judged(forge, forge.token(typ=typ)), LogoutToken)


@requirement("R71")
def test_a_provider_without_types_of_its_own_has_a_switch(forge: Forge) -> None:
    """Then `JWT` and nothing pass, other types do not, and an ID token is still none."""
    loose = EXPECTED._replace(typed=False)
    assert isinstance(judged(forge, forge.token(typ="JWT"), loose), LogoutToken)
    assert isinstance(judged(forge, forge.token(typ=ABSENT), loose), LogoutToken)
    assert judged(forge, forge.token(typ="at+jwt"), loose) is Why.TYPE
    assert judged(forge, forge.token(typ=None), loose) is Why.TYPE
    assert judged(forge, forge.id_token(), loose) is Why.NONCE
    assert judged(forge, forge.token(forge.claims(events=ABSENT), typ="JWT"), loose) is Why.EVENT


@requirement("R71")
def test_a_provider_without_expiry_has_a_switch(forge: Forge) -> None:
    """Then the age alone counts, and an expiry that is there still does."""
    loose = EXPECTED._replace(expiring=False)
    text = forge.token(forge.claims(exp=ABSENT))
    assert isinstance(judged(forge, text, loose, NOW + 124), LogoutToken)
    assert judged(forge, text, loose, NOW + 125) is Why.TIME
    assert judged(forge, forge.token(forge.claims(exp=NOW - 6)), loose) is Why.TIME


@requirement("R71")
def test_a_token_is_accepted_for_two_minutes(forge: Forge) -> None:
    """How long its name must be remembered is how long it would be taken."""
    text = forge.token()
    found = judged(forge, text)
    assert isinstance(found, LogoutToken)
    assert isinstance(judged(forge, text, now=found.until - 0.1), LogoutToken)
    assert judged(forge, text, now=found.until) is Why.TIME


def test_keycloak_may_withdraw_offline_access_too(forge: Forge) -> None:
    """Keycloak puts `revoke_offline_access` beside the event; nobody else may put anything there."""
    for value in (True, False):
        found = judged(forge, forge.token(forge.claims(events={EVENT: {}, "revoke_offline_access": value})))
        assert isinstance(found, LogoutToken)
        assert found.offline is value


def test_a_key_that_is_not_here_is_asked_for(forge: Forge) -> None:
    """The caller may fetch the provider's keys again: this one may have been published just now."""
    assert judged(forge, forge.token(kid="tomorrow")) == UnknownKey("tomorrow")


def test_without_a_key_id_the_only_key_that_fits_is_meant(forge: Forge) -> None:
    """One key of a kind needs no name; two do."""
    text = forge.token(kid=ABSENT)
    assert isinstance(judged(forge, text), LogoutToken)
    two = KeySet([*forge.public.keys, *(key for key in Forge().public.keys if key.key_type == "EC")])
    assert judge(text, two, expected=EXPECTED, now=NOW) is Why.KEY


def test_a_secret_key_verifies_nothing(forge: Forge) -> None:
    """Were a client's secret among the keys, or its algorithm on the list, no MAC would pass (R79)."""
    secret = OctKey.import_key("s" * 64, {"kid": "secret"})
    text = forge.raw(
        json.dumps({"typ": "logout+jwt", "alg": "HS256", "kid": "secret"}), json.dumps(forge.claims()), "HS256", secret
    )
    loose = EXPECTED._replace(algorithms=("HS256", "none", "ES256"))
    assert judge(text, KeySet([secret]), expected=loose, now=NOW) is Why.ALGORITHM


def test_a_key_for_encryption_signs_nothing(forge: Forge) -> None:
    """A key that says what it is for is used for that alone."""
    dicts = [{**key.as_dict(private=False), "use": "enc"} for key in forge.keys.values()]
    keys = KeySet.import_key_set({"keys": dicts})
    assert judge(forge.token(), keys, expected=EXPECTED, now=NOW) is Why.KEY


@given(
    text=st.text()
    | st.binary()
    | st.from_regex(r"[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{1,60}", fullmatch=True)
)
def test_junk_is_refused_and_nothing_else_happens(text: object) -> None:
    """Whatever is posted, the answer is a reason."""
    assert isinstance(judge(text, KeySet([]), expected=EXPECTED, now=NOW), Why)


@given(
    claims=st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "sid", "iat", "exp", "jti", "events", "nonce"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=5)
            | st.sampled_from([ISSUER, CLIENT, EVENT]),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([EVENT, "x"]), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    )
)
def test_any_signed_claims_get_an_answer(claims: dict[str, object]) -> None:
    """A provider that is broken, or somebody else's, crashes nothing; only what has every part is taken."""
    found = judge(_FORGE.token(json.dumps(claims)), _PUBLIC, expected=EXPECTED, now=NOW)
    if isinstance(found, LogoutToken):
        assert claims["iss"] == ISSUER
        assert "nonce" not in claims
    else:
        assert isinstance(found, Why)


_FORGE = Forge()
_PUBLIC = _FORGE.public
