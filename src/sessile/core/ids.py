"""The session token and the session id: all that is known about their bytes lives here.

    token = base64url( version/key-id(1) ‖ seed(20) ‖ generation(4) ‖ branch(6) ‖ tag(16) )      63 characters
    tag   = HMAC-SHA-256(key[key-id], context ‖ everything before it), truncated to 16 bytes
    id    = SHA-256(context ‖ seed), truncated to 20 bytes, in hex                                40 characters

The top three bits of the first byte are the version, the lower five the key's id. A token that is forged, malformed or
over-long fails at the tag, before any store is asked (R6); its id is a one-way hash, so a store's copy replays
nothing (R3).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from .keys import KeyRing

VERSION: Final = 1
SEED_BYTES: Final = 20
BRANCH_BYTES: Final = 6
TAG_BYTES: Final = 16
BODY_BYTES: Final = 1 + SEED_BYTES + 4 + BRANCH_BYTES
TOKEN_CHARS: Final = 63
REMEMBERED: Final = 4096

_TAG_CONTEXT: Final = b"sessile token v1\0"
_ID_CONTEXT: Final = b"sessile session id v1\0"
# Only the URL-safe alphabet passes; "+" and "/" become something that the strict decoder refuses.
_FROM_URLSAFE: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_TO_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")
# 47 bytes fill 62⅔ characters: the last one carries two unused bits, which must be zero (no second spelling).
_CANONICAL_LAST: Final = frozenset("AEIMQUYcgkosw048")


class Token(NamedTuple):
    """Hold the parts of an authentic session token. Its repr shows none of them."""

    seed: bytes
    generation: int
    branch: bytes

    def __repr__(self) -> str:
        return f"<Token of generation {self.generation}>"


class TokenMint:
    """Mint and verify session tokens with a ring of keys: the newest signs, all verify.

    `purpose` tells envelopes apart that hold such a token: each has keys and a tag of its own, so that a token in the
    wrong one is forged.

    A browser sends the same token for minutes, so the last `REMEMBERED` authentic ones are not computed again. What is
    remembered says that a token is ours, never that its session lives: that is asked of the store, every time. The
    table lives in this process's memory, where the tokens of its requests are anyway; forged ones never enter it.
    """

    __slots__ = ("_macs", "_newest", "_prefix", "_remembered")

    def __init__(self, ring: KeyRing, purpose: bytes = b"session token") -> None:
        self._macs: dict[int, hmac.HMAC] = {}
        context = _TAG_CONTEXT if purpose == b"session token" else b"sessile " + purpose + b" v1\0"
        for key_id, key in ring.derive(purpose).items():
            mac = hmac.new(key, context, hashlib.sha256)
            self._macs[VERSION << 5 | key_id] = mac
        self._newest = self._macs[VERSION << 5 | ring.newest]
        self._prefix = bytes([VERSION << 5 | ring.newest])
        self._remembered: dict[str, tuple[Token, str]] = {}

    def mint(self, seed: bytes, generation: int, branch: bytes) -> str:
        """Return the token's 63 characters."""
        body = b"%b%b%b%b" % (self._prefix, seed, generation.to_bytes(4, "big"), branch)
        mac = self._newest.copy()
        mac.update(body)
        return binascii.b2a_base64(body + mac.digest()[:TAG_BYTES], newline=False).translate(_TO_URLSAFE, b"=").decode()

    def read(self, text: str) -> tuple[Token, str] | None:
        """Return the token's parts and its session's id if it is authentic, else None. Asks no store (R6)."""
        found = self._remembered.get(text)
        if found is None:
            token = self.verify(text)
            if token is None:
                return None
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            found = self._remembered[text] = token, session_id(token.seed)
        return found

    def verify(self, text: str) -> Token | None:
        """Return the token's parts if it is authentic, else None. Asks no store (R6)."""
        if len(text) != TOKEN_CHARS or text[-1] not in _CANONICAL_LAST:
            return None
        try:
            raw = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URLSAFE) + b"=", strict_mode=True)
        except ValueError:
            return None
        key = self._macs.get(raw[0])
        if key is None:
            return None
        mac = key.copy()
        mac.update(raw[:BODY_BYTES])
        if not hmac.compare_digest(mac.digest()[:TAG_BYTES], raw[BODY_BYTES:]):
            return None
        return Token(raw[1:21], int.from_bytes(raw[21:25], "big"), raw[25:31])


def session_id(seed: bytes) -> str:
    """Return the public name of the session that grew from `seed`: 40 hexadecimal characters."""
    return hashlib.sha256(_ID_CONTEXT + seed).hexdigest()[:40]


def is_session_id(text: str) -> bool:
    """Tell whether `text` has the form of a session id."""
    return len(text) == 40 and not text.strip("0123456789abcdef")


def new_seed(entropy: Callable[[int], bytes] = os.urandom) -> bytes:
    """Draw a seed: 160 bits from the operating system (R1 asks 128)."""
    return entropy(SEED_BYTES)


def new_branch(entropy: Callable[[int], bytes] = os.urandom) -> bytes:
    """Draw a branch: 48 bits that tell siblings of one generation apart."""
    return entropy(BRANCH_BYTES)
