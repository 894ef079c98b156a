"""Flask's signed cookie, and Flask-Session 0.8 on Redis."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final, Unpack

from ..core.legacy import Found, OldSession, OpenBridge, Refusal, UserOf
from . import formats, signatures
from .opened import InCookie, InRows
from .redis import Address, rows_of
from .signatures import Secrets
from .terms import Terms, Until, is_within, lifetime, settle, stale_login

# Flask-Login's key first: who uses both says with it who is signed in.
USER: Final[UserOf] = ("_user_id", "user_id")
_MONTH: Final = dt.timedelta(days=31)  # Flask's PERMANENT_SESSION_LIFETIME
_SID: Final = re.compile(r"[A-Za-z0-9_-]{16,512}")


class FlaskCookie:
    """Adopt sessions that Flask keeps in a signed cookie.

    `secret_key` is the old SECRET_KEY; give several, and those of SECRET_KEY_FALLBACKS count too. `max_age` (seconds)
    is the old PERMANENT_SESSION_LIFETIME. `until` is the deadline; see `Terms` for the rest.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(
        self, *, secret_key: Secrets, until: Until, max_age: float | dt.timedelta = _MONTH, **terms: Unpack[Terms]
    ) -> None:
        self._settled = settle(terms, until, name="flask", cookie="session", user=USER)
        self._max_age = lifetime(max_age, "max_age")
        secrets = signatures.secrets_of(secret_key)
        self._keys = signatures.itsdangerous_keys(secrets, salt=b"cookie-session", derivation="hmac")

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use; it waits for nothing."""
        return InCookie(self._settled, self._verify, self._decode)

    def _verify(self, text: str, now: float) -> OldSession | Refusal:
        signed = signatures.unsign_itsdangerous(text, self._keys, timed=True)
        if signed is None or signed.at is None:
            return Refusal("forged")
        if not is_within(signed.at, self._max_age, now):
            return Refusal("expired")
        return OldSession(identity=signed.signature, expires_at=signed.at + self._max_age, held=signed.value)

    def _decode(self, old: OldSession, now: float) -> Found | Refusal:
        raw = formats.payload(old.held)
        tagged = raw if isinstance(raw, Refusal) else formats.read_json(raw)
        if isinstance(tagged, Refusal):
            return tagged
        data: dict[str, Any] = {key: formats.untag(value) for key, value in tagged.items()}
        if formats.ESCAPED in tagged and len(tagged) == 1:
            whole = formats.untag(tagged)
            data = {} if whole is formats.LOST else whole
        return self._settled.found(data, demote=stale_login)


class FlaskSessionRedis:
    """Adopt sessions that Flask-Session keeps in Redis, as MessagePack or JSON.

    `redis` is the old store: a URL, or a client of redis-py (of redis.asyncio for `AsyncSessions`). `secret_key` is
    needed if SESSION_USE_SIGNER was set, and then ids that are not signed are refused.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: redis-py is not installed.
    """

    def __init__(
        self,
        redis: Address,
        *,
        until: Until,
        key_prefix: str = "session:",
        secret_key: Secrets | None = None,
        **terms: Unpack[Terms],
    ) -> None:
        self._settled = settle(terms, until, name="flask-session", cookie="session", user=USER)
        self._address = redis
        self._prefix = key_prefix
        self._keys: tuple[bytes, ...] | None = None
        if secret_key is not None:
            secrets = signatures.secrets_of(secret_key)
            self._keys = signatures.itsdangerous_keys(secrets, salt=b"flask-session", derivation="hmac")

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use."""
        return InRows(
            self._settled, rows_of(self._address, blocking=blocking), self._identify, self._prefix.__add__, self._decode
        )

    def _identify(self, text: str) -> str | Refusal:
        if self._keys is not None:
            signed = signatures.unsign_itsdangerous(text, self._keys, timed=False)
            if signed is None:
                return Refusal("forged")
            text = signed.value
        return text if _SID.fullmatch(text) else Refusal("forged")

    def _decode(self, row: Any, now: float) -> Found | Refusal | None:
        data = formats.read(row)
        return data if isinstance(data, Refusal) else self._settled.found(data, demote=stale_login)
