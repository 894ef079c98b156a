"""Assurance levels and authentication methods, row by row."""

from __future__ import annotations

import pytest

from sessile.core.factors import aal, amr
from tests.support.requirements import requirement


@requirement("R88", "R89")
@pytest.mark.parametrize(
    ("names", "level"),
    [
        ([], 0),
        (["password"], 1),
        (["totp"], 1),
        (["sms", "email", "totp", "recovery"], 1),  # many of one kind stay one
        (["password", "totp"], 2),
        (["password", "recovery"], 2),
        (["password", "email"], 1),  # reading one's mail proves no device
        (["passkey"], 2),
        (["password", "passkey"], 2),
        (["security-key"], 3),
        (["password", "security-key"], 3),
        (["sso"], 1),
        (["application"], 1),
        (["magic", "more magic", "sso"], 1),  # invented names never raise the level
        (["password", "magic"], 1),
        (["passkey", "magic"], 2),
        (["touch"], 1),
        (["touch", "totp"], 1),  # a key that did not verify its user is something they have
        (["password", "touch"], 2),
    ],
)
def test_the_level_is_what_the_kinds_reach_together(names: list[str], level: int) -> None:
    """Two kinds are AAL2, hardware is AAL3, and nothing is raised by being many."""
    assert aal(names) == level
    assert aal(reversed(names)) == level


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ([], ()),
        (["password"], ("pwd",)),
        (["password", "totp"], ("pwd", "otp", "mfa")),
        (["totp", "email"], ("otp",)),
        (["passkey"], ("swk", "mfa")),
        (["security-key"], ("hwk", "mfa")),
        (["password", "touch"], ("pwd", "pop", "mfa")),
        (["sso"], ("sso",)),
    ],
)
def test_the_registered_names_are_given(names: list[str], values: tuple[str, ...]) -> None:
    """RFC 8176, each once, and mfa where more than one kind was proved."""
    assert amr(iter(names)) == values
