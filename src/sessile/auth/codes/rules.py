"""Codes and links that are sent, and nothing that waits.

    code     eight digits, typed where it was asked for
    link     carries 256 random bits and nothing else; opened where the code was asked for

Both are good for ten minutes (NIST SP 800-63B-4 §3.1.3.2), for the session that asked, and once: one uses up both.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from enum import StrEnum
from typing import Any, Final

import msgspec

LIFETIME: Final = 600.0
CODE_DIGITS: Final = 8
LINK_BYTES: Final = 32
NAME_BYTES: Final = 16
LINK_CHARS: Final = 43
_CODE: Final = re.compile(r"[0-9]{8}", re.ASCII)
_LINK: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_NAME: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Look(StrEnum):
    """Say what a link is worth before it is used: looking uses nothing up."""

    HERE = "here"  # it was asked for in this session: show the button that uses it
    ELSEWHERE = "elsewhere"  # this session asked for none, or for another: open it where it was asked for


class Asked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Hold what a session remembers of the code it asked for: the item's name, and until when (seconds since 1970)."""

    name: str
    deadline: float


def code_of(entropy: bytes) -> str:
    """Return eight random bytes as a code; no digit is likelier than another by more than one in 10^11."""
    return f"{int.from_bytes(entropy, 'big') % 10**CODE_DIGITS:0{CODE_DIGITS}}"


def shown(code: str) -> str:
    """Return a code as people read it."""
    return f"{code[:4]} {code[4:]}"


def link_of(entropy: bytes) -> str:
    """Return random bytes as a link carries them."""
    return base64.urlsafe_b64encode(entropy).rstrip(b"=").decode()


def typed(text: str) -> str | None:
    """Return the code that somebody typed, with spaces or hyphens or without; None if it is none."""
    plain = text[:32].replace(" ", "").replace("-", "")
    return plain if _CODE.fullmatch(plain) else None


def followed(text: str) -> str | None:
    """Return what a link carried, None if it is nothing of ours."""
    return text if _LINK.fullmatch(text) else None


def hashed(secret: bytes, name: str, text: str) -> bytes:
    """Return what the vault keeps of a code or a link: keyed, and for this item only."""
    return hmac.digest(secret, f"{name}\0{text}".encode(), hashlib.sha256)


def is_same(kept: bytes, came: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(kept, came)


def remembered(asked: Asked) -> list[Any]:
    """Return what the session's data holds."""
    return [asked.name, asked.deadline]


def recalled(stored: object, now: float) -> Asked | None:
    """Return what the session asked for, None if it asked for nothing, or too long ago."""
    try:
        asked = msgspec.convert(stored, Asked)
    except msgspec.ValidationError:
        return None
    return asked if now < asked.deadline and _NAME.fullmatch(asked.name) else None
