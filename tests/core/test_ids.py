"""Tokens and ids: their form, their keys, their secrecy. (Mutations: tests/properties/test_tokens.py.)"""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from sessile.core.ids import REMEMBERED, TOKEN_CHARS, Token, TokenMint, is_session_id, new_branch, new_seed, session_id
from sessile.core.keys import KeyRing
from tests.support.requirements import requirement

SEED, BRANCH = bytes(range(20)), b"branch"
OLD, NEW = b"o" * 32, b"n" * 32


def test_the_token_is_what_the_documentation_draws() -> None:
    """Version and key id, seed, generation, branch, and an HMAC-SHA-256 of all that, in base64url without padding."""
    text = TokenMint(KeyRing({5: OLD})).mint(SEED, 258, BRANCH)
    raw = base64.urlsafe_b64decode(text + "=")
    assert len(text) == TOKEN_CHARS
    assert raw[:31] == bytes([1 << 5 | 5]) + SEED + b"\x00\x00\x01\x02" + BRANCH
    key = hmac.digest(OLD, b"sessile session token key v1", hashlib.sha256)
    assert raw[31:] == hmac.digest(key, b"sessile token v1\0" + raw[:31], hashlib.sha256)[:16]


def test_the_newest_key_signs_and_all_verify() -> None:
    """Rotating keys signs nobody out; dropping the old key does."""
    before, both, after = (
        TokenMint(KeyRing({1: OLD})),
        TokenMint(KeyRing({2: NEW, 1: OLD})),
        TokenMint(KeyRing({2: NEW})),
    )
    old, new = before.mint(SEED, 0, BRANCH), both.mint(SEED, 0, BRANCH)
    assert both.verify(old) == both.verify(new) == Token(SEED, 0, BRANCH)
    assert after.verify(new)
    assert after.verify(old) is None
    assert before.verify(new) is None


@requirement("R1")
def test_secrets_have_their_entropy_from_the_operating_system() -> None:
    """160 bits of seed and 48 of branch, asked of os.urandom, and never twice the same."""
    assert (len(new_seed()), len(new_branch())) == (20, 6)
    assert len({new_seed() for _ in range(50)}) == 50
    asked: list[int] = []
    new_seed(lambda size: bytes(asked.append(size) or size))
    new_branch(lambda size: bytes(asked.append(size) or size))
    assert asked == [20, 6]


@requirement("R3")
def test_an_id_is_a_one_way_hash_of_the_seed() -> None:
    """The store's key is SHA-256 of a context and the seed, cut to 160 bits."""
    assert session_id(SEED) == hashlib.sha256(b"sessile session id v1\0" + SEED).hexdigest()[:40]


@pytest.mark.parametrize(
    ("text", "said"),
    [("a" * 40, True), ("A" * 40, False), ("a" * 39, False), ("g" * 40, False), ("", False), ("٣" * 40, False)],
)
def test_is_session_id_knows_the_form(text: str, said: bool) -> None:
    """Forty lower-case hexadecimal digits, nothing else."""
    assert is_session_id(text) is said


@requirement("R96")
def test_a_token_never_shows_itself() -> None:
    """Neither repr nor str of the parts holds seed or branch."""
    for shown in (repr(Token(SEED, 3, BRANCH)), str(Token(SEED, 3, BRANCH)), f"{Token(SEED, 3, BRANCH)}"):
        assert shown == "<Token of generation 3>"


def test_reading_a_token_again_gives_the_same_parts_and_never_remembers_a_forged_one() -> None:
    """The table of authentic tokens is bounded, holds no forged one, and answers as the tag does."""
    mint = TokenMint(KeyRing({0: b"k" * 32}))
    token = mint.mint(b"s" * 20, 3, b"b" * 6)
    first = mint.read(token)
    assert first == (mint.verify(token), session_id(b"s" * 20))
    assert mint.read(token) is first
    forged = token[:-1] + ("A" if token[-1] != "A" else "E")
    assert mint.read(forged) is None
    assert mint.read(forged) is None
    for number in range(REMEMBERED + 10):
        assert mint.read(mint.mint(number.to_bytes(20, "big"), 0, b"b" * 6)) is not None
    assert mint.read(token) == first
