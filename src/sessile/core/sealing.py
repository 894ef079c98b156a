"""Sealing: AES-256-GCM under keys of the ring, for records at rest and for sessions that live in cookies (R48).

    sealed = suite(1) ‖ key id(1) ‖ nonce(12, random) ‖ ciphertext ‖ tag(16)               30 bytes more than the text
    key    = HMAC-SHA-256(ring key for the purpose, lane)          lane: one of 256, by a checksum of the session's id
    bound  = suite ‖ key id ‖ session id, its length before it ‖ context                   the text opens nowhere else

The newest key of the ring seals, the one that the text names opens it. Suite, key, context or a single bit other than
sealed: `Undecodable`, whatever the reason, and nothing else is tried (R46).

Nonces are random, so they may repeat: NIST SP 800-38D allows 2^32 texts under one key. A ring's key is 256 keys for
each purpose, so it seals 2^40 texts: 34 years of a thousand writes a second. (One key a session would allow more and
was measured: to make it ready costs more than to open a cookie with it.)
"""

from __future__ import annotations

import hashlib
import hmac
import os
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from ..errors import ExtraMissing
from .keys import KeyRing
from .record import SCHEMA, Control, Undecodable, decode_control, decode_data, encode_control, encode_data

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

AES_256_GCM: Final = 1
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
HEAD_BYTES: Final = 2 + NONCE_BYTES
OVERHEAD: Final = HEAD_BYTES + TAG_BYTES
LANES: Final = 256

# Which half of a record, of which schema.
_CONTROL: Final = SCHEMA.to_bytes(2, "big") + b"control"
_DATA: Final = SCHEMA.to_bytes(2, "big") + b"data"


class Sealer:
    """Seal and open for one purpose; what is sealed for another does not open here.

    Raises:
        ExtraMissing: `cryptography` is not installed.
    """

    __slots__ = ("_ciphers", "_entropy", "_foreign", "_head", "_keys", "_make", "_newest")

    def __init__(
        self, ring: KeyRing, purpose: bytes, *, feature: str, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ExtraMissing(feature, "encryption") from error
        self._keys = ring.derive(b"sealing " + purpose)
        self._make = AESGCM
        self._ciphers: dict[int, AESGCM] = {}
        self._newest = ring.newest
        self._head = bytes([AES_256_GCM, ring.newest])
        self._foreign = InvalidTag
        self._entropy = entropy

    def seal(self, text: bytes, session_id: bytes, context: bytes) -> bytes:
        """Return the text sealed with the newest key, for this session and context only."""
        head, nonce = self._head, self._entropy(NONCE_BYTES)
        cipher = self._cipher(self._newest, session_id)
        return head + nonce + cipher.encrypt(nonce, text, _bound(head, session_id, context))

    def open(self, sealed: bytes | memoryview, session_id: bytes, context: bytes) -> bytes:
        """Return the text.

        Raises:
            Undecodable: it was not sealed with a key of this ring, for this purpose, session and context; or altered.
        """
        if not isinstance(sealed, bytes):
            # Never `bytes(…)` of what might be a number: that would be as many zeros.
            if not isinstance(sealed, memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise Undecodable("sealed")
            sealed = bytes(sealed)
        if len(sealed) < OVERHEAD or sealed[0] != AES_256_GCM:
            raise Undecodable("sealed")
        try:
            cipher = self._cipher(sealed[1], session_id)
            return cipher.decrypt(sealed[2:HEAD_BYTES], sealed[HEAD_BYTES:], _bound(sealed[:2], session_id, context))
        except (KeyError, self._foreign):
            raise Undecodable("sealed") from None

    def _cipher(self, key_id: int, session_id: bytes) -> AESGCM:
        lane = zlib.crc32(session_id) % LANES
        cipher = self._ciphers.get(key_id * LANES + lane)
        if cipher is None:
            key = hmac.digest(self._keys[key_id], bytes([lane]), hashlib.sha256)
            cipher = self._ciphers[key_id * LANES + lane] = self._make(key)
        return cipher


def _bound(head: bytes, session_id: bytes, context: bytes) -> bytes:
    return b"%b%b%b%b" % (head, len(session_id).to_bytes(4, "big"), session_id, context)


class SealedCodec:
    """Be the codec of a store that keeps its records sealed: each half for its session, its schema and its place.

    What is sealed is everything the application and Sessile wrote. What stores need to find and to remove records
    stays readable beside it: session ids, times, counters, and the user's id, in the index and in tombstones.

    Raises:
        ExtraMissing: `cryptography` is not installed.
    """

    __slots__ = ("_sealer",)

    def __init__(self, ring: KeyRing, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._sealer = Sealer(ring, b"record", feature="encryption at rest", entropy=entropy)

    def __repr__(self) -> str:
        return "<SealedCodec>"

    def encode_control(self, session_id: str, control: Control) -> bytes:
        """Encode and seal Sessile's half."""
        return self._seal(session_id, _CONTROL, encode_control(control))

    def decode_control(self, session_id: str, raw: bytes | memoryview) -> Control:
        """Open and decode Sessile's half.

        Raises:
            Undecodable: it is not what `encode_control` made for this session.
        """
        return decode_control(self._open(session_id, _CONTROL, raw))

    def encode_data(self, session_id: str, data: Mapping[str, msgspec.Raw | bytes]) -> bytes:
        """Encode and seal the application's half."""
        return self._seal(session_id, _DATA, encode_data(data))

    def decode_data(self, session_id: str, raw: bytes | memoryview) -> dict[str, msgspec.Raw]:
        """Open and decode the application's half; its values stay encoded.

        Raises:
            Undecodable: it is not what `encode_data` made for this session.
        """
        return decode_data(self._open(session_id, _DATA, raw))

    def _seal(self, session_id: str, half: bytes, text: bytes) -> bytes:
        return self._sealer.seal(text, _name(session_id), half)

    def _open(self, session_id: str, half: bytes, raw: bytes | memoryview) -> bytes:
        return self._sealer.open(raw, _name(session_id), half)


def _name(session_id: str) -> bytes:
    if not isinstance(session_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Undecodable("id")  # a damaged file may hold anything anywhere
    return session_id.encode("utf-8", "surrogatepass")
