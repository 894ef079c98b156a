"""What a password must be, and nothing that waits (NIST SP 800-63B-4 §3.1.1).

Length is what counts: no rules of composition, no expiry. Refused is what guessing begins with: common words,
repeated or counted through, and what everybody knows of the user.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from ...errors import ConfigurationError
from .common import WORDS, listed

# As the only factor; beside another one NIST asks for 8.
SINGLE_FACTOR: Final = 15
LEAST: Final = 8
MAX_BYTES: Final = 1024
MIN_CONTEXT: Final = 4
_LEET: Final = str.maketrans("013457@$!", "oleastasi")


class Weak(StrEnum):
    """Say why a password may not be taken."""

    SHORT = "short"
    LONG = "long"
    COMMON = "common"  # guessing begins with it
    OBVIOUS = "obvious"  # little but what is known of the user
    TAKEN = "taken"  # the user has one; it is changed, not set


class Settings(NamedTuple):
    """Say how long passwords are (code points), and what a hash costs (argon2id; `memory` in KiB, RFC 9106 §4)."""

    minimum: int = SINGLE_FACTOR
    time: int = 3
    memory: int = 65536
    lanes: int = 4

    def check(self) -> None:
        """Refuse settings that protect nobody.

        Raises:
            ConfigurationError: they are.
        """
        if not LEAST <= self.minimum <= 64:
            raise ConfigurationError(f"a password's minimum is {LEAST} to 64 characters")
        # OWASP's least: 19 MiB and 2 passes, or 7 MiB and 5.
        if self.lanes < 1 or self.time < 2 or self.memory < 7168 or self.time * self.memory < 35840:
            raise ConfigurationError("argon2id takes 2 passes over 19456 KiB, or 5 over 7168, at least")


def prepared(password: str) -> str | None:
    """Return the password as it is hashed: NFKC, so that it is the same on every keyboard; None if it cannot be one."""
    if len(password) > MAX_BYTES:
        return None
    text = unicodedata.normalize("NFKC", password)
    try:
        return text if 0 < len(text.encode()) <= MAX_BYTES and "\0" not in text else None
    except UnicodeEncodeError:
        return None


def weakness(password: str, settings: Settings, context: Iterable[str] = ()) -> Weak | None:
    """Return why a password may not be taken, None if it may. `context` is what is known of user and site."""
    text = prepared(password)
    if text is None:
        return Weak.LONG if len(password) > settings.minimum else Weak.SHORT
    if len(text) < settings.minimum:
        return Weak.SHORT
    folded = text.casefold()
    if _is_common(folded):
        return Weak.COMMON
    rest = folded
    for word in _words(context):
        rest = rest.replace(word, "")
    return Weak.OBVIOUS if rest != folded and len(rest) < LEAST else None


def _is_common(folded: str) -> bool:
    plain = "".join(one for one in folded if one.isalnum())
    if len(set(plain)) < 4 or _is_run(plain) or folded in listed():
        return True
    for form in (plain, plain.translate(_LEET), folded.translate(_LEET)):
        letters = form.strip("0123456789!@#$%^&*()-_=+.,;:?/ ")
        words = {form, _period(form)}
        if len(form) - len(letters) < LEAST:  # a common word beside a long number is no common password
            words |= {letters, _period(letters)}
        if words & listed() or (words | {letters, _period(letters)}) & WORDS:
            return True
    return False


def _is_run(text: str) -> bool:
    """Tell whether nearly every character follows the one before it, up or down, as in 123456789 or zyxw."""
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    return bool(steps) and max(sum(step == way for step in steps) for way in (1, -1)) >= 0.75 * len(steps)


def _period(text: str) -> str:
    """Return what a text repeats: of abcabcab that is abc."""
    for length in range(1, len(text) // 2 + 1):
        if all(text[place] == text[place - length] for place in range(length, len(text))):
            return text[:length]
    return text


def _words(context: Iterable[str]) -> list[str]:
    found: set[str] = set()
    for text in context:
        whole = unicodedata.normalize("NFKC", text[:MAX_BYTES]).casefold()
        parts = "".join(one if one.isalnum() else " " for one in whole).split()
        found.update(word for word in (whole, *parts) if len(word) >= MIN_CONTEXT)
    return sorted(found, key=len, reverse=True)
