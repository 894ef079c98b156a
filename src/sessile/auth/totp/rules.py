"""Which codes count, and nothing that waits (RFC 6238, R91).

A code is of one step of 30 seconds. The step before and the one after count as well, for clocks differ; a step that was
taken, and all before it, never again.
"""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Literal, NamedTuple, get_args

from ...errors import ConfigurationError

Algorithm = Literal["SHA1", "SHA256", "SHA512"]

PERIOD: Final = 30
TOLERANCE: Final = 1
SECRET_BYTES: Final = 20
MAX_AUTHENTICATORS: Final = 5
LIFETIME: Final = 900.0
MAX_LABEL: Final = 64


class Refused(StrEnum):
    """Say what a page may tell."""

    REFUSED = "refused"
    STALE = "stale"  # this session has begun no enrolment, or too long ago
    FULL = "full"  # the user has as many authenticators as allowed


class Settings(NamedTuple):
    """Say what authenticators show: the issuer's name, and codes that most of them can make."""

    issuer: str
    algorithm: Algorithm = "SHA1"
    digits: int = 6

    def check(self) -> None:
        """Refuse settings that no authenticator takes.

        Raises:
            ConfigurationError: they are.
        """
        if not self.issuer or ":" in self.issuer or len(self.issuer) > 64:
            raise ConfigurationError("an issuer is a name of 1 to 64 characters without a colon")
        if self.algorithm not in get_args(Algorithm) or self.digits not in (6, 8):
            raise ConfigurationError("TOTP codes have 6 or 8 digits, by SHA1, SHA256 or SHA512")


def digits_of(text: str, digits: int) -> str | None:
    """Return the code that somebody typed, with spaces or without; None if it is none."""
    plain = text[:64].replace(" ", "")
    return plain if len(plain) == digits and plain.isascii() and plain.isdigit() else None


def taken_step(code: str, now: float, last: int, code_at: Callable[[int], str]) -> int | None:
    """Return the step that a code is of, if it is one after `last` that may be taken now."""
    step = int(now // PERIOD)
    found = None
    for one in range(step - TOLERANCE, step + TOLERANCE + 1):
        if hmac.compare_digest(code_at(one), code) and one > last and found is None:
            found = one
    return found


def clean(label: str) -> str:
    """Return an authenticator's name as it is kept: one line, bounded."""
    plain = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in label[: 4 * MAX_LABEL])
    return " ".join(plain.split())[:MAX_LABEL].rstrip() or "Authenticator app"


def grouped(secret: str) -> str:
    """Return a secret as people type it: in groups of four."""
    return " ".join(secret[place : place + 4] for place in range(0, len(secret), 4))
