"""Starlette's SessionMiddleware (FastAPI's too), and starsessions with its stores for cookies and for Redis."""

from __future__ import annotations

import base64
import datetime as dt
import re
from typing import Any, Final, Unpack

from ..core.legacy import Found, OldSession, OpenBridge, Refusal, UserOf
from . import formats, signatures
from .opened import InCookie, InRows
from .redis import Address, rows_of
from .signatures import Secrets
from .terms import Terms, Until, is_within, lifetime, settle

USER: Final[UserOf] = ("user_id", "_user_id")
_SALT: Final = b"itsdangerous.Signer"
_FORTNIGHT: Final = dt.timedelta(days=14)  # SessionMiddleware's max_age
_YEAR: Final = 3600.0 * 24 * 30 * 12  # what starsessions' CookieStore takes for a session cookie
# Both sign in the same way: a cookie that both bridges can read is one session, adopted once.
_KIND: Final = b"starlette"
_METADATA: Final = frozenset({"__metadata__"})
_SID: Final = re.compile(r"[0-9A-Za-z_-]{16,512}")


class StarletteCookie:
    """Adopt sessions that Starlette's SessionMiddleware keeps in a signed cookie.

    `secret_key` and `max_age` (seconds; None: no limit) are the middleware's. `until` is the deadline; see `Terms` for
    the rest.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(
        self,
        *,
        secret_key: Secrets,
        until: Until,
        max_age: float | dt.timedelta | None = _FORTNIGHT,
        **terms: Unpack[Terms],
    ) -> None:
        self._cookies = _SignedJson(
            secret_key,
            None if max_age is None else lifetime(max_age, "max_age"),
        )
        self._settled = settle(terms, until, name="starlette", cookie="session", user=USER, kind=_KIND)

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use; it waits for nothing."""
        return InCookie(self._settled, self._cookies.verify, self._decode)

    def _decode(self, old: OldSession, now: float) -> Found | Refusal:
        data = self._cookies.decode(old)
        return data if isinstance(data, Refusal) else self._settled.found(data)


class StarsessionsCookie:
    """Adopt sessions that starsessions keeps in a signed cookie, written by its JsonSerializer.

    `secret_key` is the CookieStore's; `lifetime` (seconds; 0: until the browser closes) the middleware's.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(
        self, *, secret_key: Secrets, until: Until, lifetime: float | dt.timedelta = 0, **terms: Unpack[Terms]
    ) -> None:
        self._cookies = _SignedJson(secret_key, _lifetime(lifetime))
        self._settled = settle(terms, until, name="starsessions-cookie", cookie="session", user=USER, kind=_KIND)

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use; it waits for nothing."""
        return InCookie(self._settled, self._cookies.verify, self._decode)

    def _decode(self, old: OldSession, now: float) -> Found | Refusal:
        data = self._cookies.decode(old)
        return data if isinstance(data, Refusal) else self._settled.found(data, drop=_METADATA)


class StarsessionsRedis:
    """Adopt sessions that starsessions keeps in Redis, written by its JsonSerializer.

    `redis` is the old store: a URL, or a client of redis-py (of redis.asyncio for `AsyncSessions`).

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: redis-py is not installed.
    """

    def __init__(self, redis: Address, *, until: Until, prefix: str = "starsessions.", **terms: Unpack[Terms]) -> None:
        self._settled = settle(terms, until, name="starsessions-redis", cookie="session", user=USER)
        self._address = redis
        self._prefix = prefix

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use."""
        return InRows(
            self._settled, rows_of(self._address, blocking=blocking), _identify, self._prefix.__add__, self._decode
        )

    def _decode(self, row: Any, now: float) -> Found | Refusal | None:
        data = formats.read_json(row)
        return data if isinstance(data, Refusal) else self._settled.found(data, drop=_METADATA)


class _SignedJson:
    """Read cookies of the form base64(JSON).timestamp.signature."""

    def __init__(self, secret_key: Secrets, max_age: float | None) -> None:
        secrets = signatures.secrets_of(secret_key)
        self._keys = signatures.itsdangerous_keys(secrets, salt=_SALT, derivation="django-concat")
        self._max_age = max_age

    def verify(self, text: str, now: float) -> OldSession | Refusal:
        signed = signatures.unsign_itsdangerous(text, self._keys, timed=True)
        if signed is None or signed.at is None:
            return Refusal("forged")
        if self._max_age is None:
            return OldSession(identity=signed.signature, held=signed.value)
        if not is_within(signed.at, self._max_age, now):
            return Refusal("expired")
        return OldSession(identity=signed.signature, expires_at=signed.at + self._max_age, held=signed.value)

    def decode(self, old: OldSession) -> dict[str, Any] | Refusal:
        try:
            raw = base64.b64decode(old.held.encode("ascii"), validate=True)
        except ValueError:
            return Refusal("undecodable")
        return formats.read_json(raw)


def _lifetime(given: float | dt.timedelta) -> float:
    seconds = given.total_seconds() if isinstance(given, dt.timedelta) else given
    return _YEAR if seconds == 0 else lifetime(seconds, "lifetime")


def _identify(text: str) -> str | Refusal:
    return text if _SID.fullmatch(text) else Refusal("forged")
