"""Tokens: whatever is changed of one, it is refused; what is minted is read back."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessile.core.ids import BRANCH_BYTES, SEED_BYTES, TOKEN_CHARS, Token, TokenMint, is_session_id, session_id
from sessile.core.keys import KeyRing
from tests.support.requirements import requirement

MINT = TokenMint(KeyRing({3: b"n" * 32, 1: b"o" * 32}))
SEEDS = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)
BRANCHES = st.binary(min_size=BRANCH_BYTES, max_size=BRANCH_BYTES)
GENERATIONS = st.integers(0, 2**32 - 1)
ALPHABET = string.ascii_letters + string.digits + "-_"
GOOD = MINT.mint(bytes(range(20)), 7, b"branch")


@given(seed=SEEDS, generation=GENERATIONS, branch=BRANCHES)
def test_a_minted_token_is_read_back(seed: bytes, generation: int, branch: bytes) -> None:
    """Minting and verifying are inverse, and every token has the same length."""
    text = MINT.mint(seed, generation, branch)
    assert len(text) == TOKEN_CHARS
    assert MINT.verify(text) == Token(seed, generation, branch)


@requirement("R6", "R8")
def test_every_change_of_every_character_is_refused() -> None:
    """There is one spelling of a token: all 63 × 63 others at distance one fail, unused bits included."""
    for position, present in enumerate(GOOD):
        for other in ALPHABET + "+/=. %\x00é":
            if other != present:
                assert MINT.verify(GOOD[:position] + other + GOOD[position + 1 :]) is None


@requirement("R6")
@given(st.text(max_size=200))
@example("")
@example(GOOD + "=")
@example(GOOD + "A")
@example(GOOD[:-1])
@example(" " + GOOD)
@example(GOOD + "\n")
@example(GOOD.swapcase())
@example("é" * 63)
@example("A" * 63)
@example("A" * 100_000)
@example("\ud800" * 63)
def test_no_other_text_is_a_token(text: str) -> None:
    """Whatever is not minted is None, never an exception."""
    assert MINT.verify(text) is None


@requirement("R6")
@given(st.lists(st.tuples(st.integers(0, 62), st.sampled_from(ALPHABET)), min_size=1, max_size=8))
def test_any_set_of_changes_is_refused(changes: list[tuple[int, str]]) -> None:
    """Several characters changed at once fail as well."""
    characters = list(GOOD)
    for position, other in changes:
        characters[position] = other
    changed = "".join(characters)
    assert (MINT.verify(changed) is None) == (changed != GOOD)


@requirement("R2", "R3")
@given(seed=SEEDS)
def test_an_id_says_nothing_and_has_its_form(seed: bytes) -> None:
    """The id is a hash: neither it nor the seed is found in the other, and it has the form of an id."""
    sid = session_id(seed)
    assert is_session_id(sid)
    assert seed.hex()[:40] != sid
    assert sid not in MINT.mint(seed, 0, b"branch")


@given(st.text(max_size=60))
def test_is_session_id_takes_any_text(text: str) -> None:
    """Any text is asked without an exception."""
    assert is_session_id(text) == (len(text) == 40 and all(c in "0123456789abcdef" for c in text))


@requirement("R10")
@pytest.mark.parametrize("secret", [b"x" * 32, b"n" * 31 + b"m"])
def test_another_key_of_the_same_id_verifies_nothing(secret: bytes) -> None:
    """The tag needs the very key, not its id."""
    assert TokenMint(KeyRing({3: secret})).verify(GOOD) is None
