"""The key ring: which secrets sign, which still verify, and how they are written down.

A key is written `k<id>.<base64url of 32 bytes or more>`, id 0-31. A ring is several of them, newest first, separated by
commas or white space. The newest signs; all verify. Rotate by putting a new key first and dropping the oldest
after the absolute timeout has passed. Where a vault of `sessile.auth` is sealed with the ring, keep the oldest: what
it sealed (TOTP secrets, recovery codes) is sealed anew when it is used, and can be opened by nothing else before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterable
from typing import Final

from ..errors import ConfigurationError

KEY_BYTES: Final = 32
_KEY: Final = re.compile(r"k([0-9]{1,2})\.([A-Za-z0-9_-]{43,})")
MAX_KEY_ID: Final = 31


class KeyRing:
    """Hold the secrets, newest first; derive one key per purpose from each.

    `development` marks a ring that nobody configured: it was made for this machine or this process.
    """

    __slots__ = ("_secrets", "development", "newest")

    def __init__(self, secrets: dict[int, bytes], *, development: bool = False) -> None:
        if not secrets:
            raise ConfigurationError("a key ring needs at least one key; make one with `sessile keygen`")
        for key_id, secret in secrets.items():
            if not 0 <= key_id <= MAX_KEY_ID:
                raise ConfigurationError(f"key id {key_id} is outside 0-{MAX_KEY_ID}")
            if len(secret) < KEY_BYTES:
                raise ConfigurationError(f"key {key_id} has {len(secret)} bytes; it needs {KEY_BYTES} at least")
        self._secrets = dict(secrets)
        self.newest = next(iter(secrets))
        self.development = development

    def __repr__(self) -> str:
        return f"<KeyRing ids {list(self._secrets)}>"

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the key ids, newest first."""
        return tuple(self._secrets)

    @classmethod
    def parse(cls, text: str | Iterable[str], *, development: bool = False) -> KeyRing:
        """Read a ring from its written form.

        Raises:
            ConfigurationError: a part is not a key, or two keys share an id. The text itself is never repeated.
        """
        parts = re.split(r"[\s,]+", text.strip()) if isinstance(text, str) else list(text)
        secrets: dict[int, bytes] = {}
        for position, part in enumerate(parts, 1):
            match = _KEY.fullmatch(part)
            if match is None:
                raise ConfigurationError(
                    f"key {position} is not of the form k<id>.<base64url of 32 bytes>; make one with `sessile keygen`"
                )
            key_id = int(match[1])
            if key_id in secrets:
                raise ConfigurationError(f"key id {key_id} stands twice in the ring")
            try:
                secrets[key_id] = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
            except (binascii.Error, ValueError) as error:
                raise ConfigurationError(f"key {position} is not base64url") from error
        return cls(secrets, development=development)

    def derive(self, purpose: bytes) -> dict[int, bytes]:
        """Return one 32-byte key per secret for `purpose`, by id."""
        return {
            key_id: hmac.digest(secret, b"sessile " + purpose + b" key v1", hashlib.sha256)
            for key_id, secret in self._secrets.items()
        }


def generate(key_id: int = 0, entropy: Callable[[int], bytes] = os.urandom) -> str:
    """Write down a new key with 256 bits from the operating system."""
    if not 0 <= key_id <= MAX_KEY_ID:
        raise ConfigurationError(f"key id {key_id} is outside 0-{MAX_KEY_ID}")
    return f"k{key_id}.{base64.urlsafe_b64encode(entropy(KEY_BYTES)).rstrip(b'=').decode()}"
