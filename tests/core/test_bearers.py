"""The Authorization header: what is judged as an access token, and that nothing falls between two stools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.core.bearers import is_by_token, presented
from sessile.errors import AccessRefused
from tests.core.rig import facts

PIECES = st.lists(
    st.sampled_from(
        ["Bearer", "bearer", "DPoP", "Basic", " ", "  ", ",", ", ", "\t", "x", "abc.def", '"', "é", "=", "\x85"]
    )
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer a.b.c", ("bearer", "a.b.c")),
        ("dpop   a", ("dpop", "a")),
        (" Bearer a ", ("bearer", "a")),
    ],
)
def test_one_scheme_and_one_token_are_read(header: str, expected: tuple[str, str]) -> None:
    """In any casing, with the white space that HTTP allows."""
    assert presented(facts(authorization=header)) == expected


@given(st.one_of(PIECES.map("".join), st.text()))
def test_a_header_is_judged_as_a_token_or_not_seen_at_all(header: str) -> None:
    """What is taken for one is read whole or refused with 400; it never goes on as a cookie's request."""
    asked = facts(authorization=header)
    if not is_by_token(asked):
        assert header.strip(" \t").partition(" ")[0].lower() not in ("bearer", "dpop")
        return
    try:
        scheme, token = presented(asked)
    except AccessRefused as error:
        refused = error
    else:
        assert scheme in ("bearer", "dpop")
        assert token.isascii()
        assert token
        assert not set(token) & set(" ,\t")
        return
    assert (refused.status, refused.error) == (400, "invalid_request")


def test_a_request_without_the_header_is_not_by_token() -> None:
    """The cookie counts then."""
    assert not is_by_token(facts("token"))
