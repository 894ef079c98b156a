"""What a session token says of its session to anybody who looks: which one, and which generation.

Whether it is authentic is for the engine to tell; nothing here needs a key.
"""

from __future__ import annotations

import binascii
from typing import NamedTuple

from ..core.ids import BODY_BYTES, SEED_BYTES, TAG_BYTES, TOKEN_CHARS, VERSION, session_id


class Shape(NamedTuple):
    """Hold the id of the session that a token belongs to, and the token's generation."""

    id: str
    generation: int

    def __str__(self) -> str:
        return f"session {self.id[:8]}, generation {self.generation}"


def shape_of(text: str) -> Shape | None:
    """Return what a token says; None for a text that is none."""
    if len(text) != TOKEN_CHARS or not text.isascii():
        return None
    try:
        raw = binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "=", strict_mode=True)
    except binascii.Error:
        return None
    seed_end = 1 + SEED_BYTES
    if len(raw) != BODY_BYTES + TAG_BYTES or raw[0] >> 5 != VERSION:
        return None
    return Shape(session_id(raw[1:seed_end]), int.from_bytes(raw[seed_end : seed_end + 4], "big"))
