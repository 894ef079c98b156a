"""Recovery codes and how they are read, and nothing that waits (R92; Crockford's base 32).

A code has 80 bits, in four groups of four. I, L and O are read as what they look like; case, spaces and
hyphens say nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

COUNT: Final = 10
CODE_BYTES: Final = 10
CODE_CHARS: Final = 16
LOW: Final = 3
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ: Final = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})


def code_of(entropy: bytes) -> str:
    """Return ten random bytes as a code."""
    number = int.from_bytes(entropy, "big")
    text = "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(CODE_CHARS)))
    return "-".join(text[place : place + 4] for place in range(0, CODE_CHARS, 4))


def typed(text: str) -> str | None:
    """Return the code that somebody typed, None if it is none."""
    plain = text[:64].upper().translate(_READ)
    return plain if len(plain) == CODE_CHARS and all(one in ALPHABET for one in plain) else None


def hashed(secret: bytes, user: str, plain: str) -> bytes:
    """Return what is kept of a code: keyed, and for this user only."""
    return hmac.digest(secret, plain.encode() + b"\0" + user.encode(), hashlib.sha256)


def without(hashes: tuple[bytes, ...], one: bytes) -> tuple[bytes, ...] | None:
    """Return the hashes after one was used up, None if it is none of them. Each is compared."""
    left = tuple(other for other in hashes if not hmac.compare_digest(other, one))
    return left if len(left) < len(hashes) else None
