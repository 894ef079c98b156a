"""What the vault keeps of a code that was sent: `code:<name>`, for ten minutes."""

from __future__ import annotations

from typing import Final

from ..stored import Stored

PREFIX: Final = "code:"


class Kept(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold for whom a code is (empty: nobody; it opens nothing), keyed hashes of code and link, and the key's id.

    `address` is that of somebody without an account who may make one.
    """

    user: str
    key: int
    code: bytes
    link: bytes
    further: bool
    address: str = ""

    def __repr__(self) -> str:
        return "<Kept code>"


def key(name: str) -> str:
    """Return under which key a code stands."""
    return PREFIX + name
