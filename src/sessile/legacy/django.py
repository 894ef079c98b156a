"""Django's sessions: in the database (`db`, `cached_db`), in a cache on Redis (`cache`), in signed cookies.

Django need not be installed. Rows and cookies are signed with SECRET_KEY and a salt; those of a cache are not signed,
and hold what the cache's own serializer wrote. Django's default there is pickle, which is refused: see the how-to guide
for how to change over first.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final, Unpack

from ..core.legacy import Found, OldSession, OpenBridge, Refusal, UserOf
from . import formats, signatures
from .opened import InCookie, InRows, Rows
from .redis import Address, rows_of
from .signatures import Secrets
from .tables import Database, Row, table_of
from .terms import Terms, Until, is_within, lifetime, settle

USER: Final[UserOf] = "_auth_user_id"
_FORTNIGHT: Final = dt.timedelta(days=14)  # SESSION_COOKIE_AGE
_KEY: Final = re.compile(r"[a-z0-9]{8,40}")
_ROW_SALT: Final = b"django.contrib.sessions.SessionStore"
_COOKIE_SALT: Final = b"django.contrib.sessions.backends.signed_cookies"
_CACHE: Final = "django.contrib.sessions.cache"
_CACHED_DB: Final = "django.contrib.sessions.cached_db"
_EXPIRY: Final = "_session_expiry"


class DjangoCookie:
    """Adopt sessions that Django keeps in signed cookies, written by its JSONSerializer.

    `secret_key` is the old SECRET_KEY; give several, and those of SECRET_KEY_FALLBACKS count too. `max_age` (seconds)
    is the old SESSION_COOKIE_AGE. `until` is the deadline; see `Terms` for the rest.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(
        self, *, secret_key: Secrets, until: Until, max_age: float | dt.timedelta = _FORTNIGHT, **terms: Unpack[Terms]
    ) -> None:
        self._settled = settle(terms, until, name="django-cookie", cookie="sessionid", user=USER)
        self._max_age = lifetime(max_age, "max_age")
        self._keys = signatures.django_keys(signatures.secrets_of(secret_key), salt=_COOKIE_SALT)

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use; it waits for nothing."""
        return InCookie(self._settled, self._verify, self._decode)

    def _verify(self, text: str, now: float) -> OldSession | Refusal:
        signed = signatures.unsign_django(text, self._keys)
        if signed is None or signed.at is None:
            return Refusal("forged")
        if not is_within(signed.at, self._max_age, now):
            return Refusal("expired")
        return OldSession(
            identity=signed.signature, expires_at=signed.at + self._max_age, held=(signed.value, signed.at)
        )

    def _decode(self, old: OldSession, now: float) -> Found | Refusal:
        value, at = old.held
        raw = formats.payload(value)
        data = raw if isinstance(raw, Refusal) else formats.read_json(raw)
        if isinstance(data, Refusal):
            return data
        return Refusal("expired") if _is_over(data.get(_EXPIRY), at, now) else self._settled.found(data)


class DjangoDatabase:
    """Adopt sessions that Django keeps in its table `django_session`, written by its JSONSerializer.

    `database` is a URL as SQLAlchemy has them, or `django:default` for a connection of the Django project that this
    is; it needs the rights to read and to delete. `cache` (a URL of Redis, or a client) is for `cached_db`: the copy
    there is deleted, too; `key_prefix` and `version` are that cache's.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: SQLAlchemy is not installed, or redis-py.
    """

    def __init__(
        self,
        database: str,
        *,
        secret_key: Secrets,
        until: Until,
        table: str = "django_session",
        cache: Address | None = None,
        key_prefix: str = "",
        version: int = 1,
        **terms: Unpack[Terms],
    ) -> None:
        self._settled = settle(terms, until, name="django-db", cookie="sessionid", user=USER)
        self._keys = signatures.django_keys(signatures.secrets_of(secret_key), salt=_ROW_SALT)
        self._database = database
        self._table = table
        self._cache = cache
        self._copies = f"{key_prefix}:{version}:{_CACHED_DB}"

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use."""
        table = table_of(Database(self._database, self._table), blocking=blocking)
        copies = None if self._cache is None else rows_of(self._cache, blocking=blocking)
        rows: Rows = table if copies is None else _WithCopies(table, copies, self._copies)
        return InRows(self._settled, rows, _identify, str, self._decode)

    def _decode(self, row: Row, now: float) -> Found | Refusal | None:
        text, expires_at = row
        if expires_at is None:
            return Refusal("undecodable")
        if not now < expires_at:
            return Refusal("expired")
        if len(text) > formats.MAX_BYTES:
            return Refusal("oversized")
        signed = signatures.unsign_django(text, self._keys)
        if signed is None:
            return Refusal("forged")
        raw = formats.payload(signed.value)
        data = raw if isinstance(raw, Refusal) else formats.read_json(raw)
        return data if isinstance(data, Refusal) else self._settled.found(data)


class DjangoCache:
    """Adopt sessions that Django keeps in a cache on Redis, written by a serializer for JSON or MessagePack.

    `redis` is the cache's server: a URL, or a client of redis-py (of redis.asyncio for `AsyncSessions`). `key_prefix`
    and `version` are the cache's.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: redis-py is not installed.
    """

    def __init__(
        self, redis: Address, *, until: Until, key_prefix: str = "", version: int = 1, **terms: Unpack[Terms]
    ) -> None:
        self._settled = settle(terms, until, name="django-cache", cookie="sessionid", user=USER)
        self._address = redis
        self._prefix = f"{key_prefix}:{version}:{_CACHE}"

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use."""
        rows = rows_of(self._address, blocking=blocking)
        return InRows(self._settled, rows, _identify, self._prefix.__add__, self._decode)

    def _decode(self, row: Any, now: float) -> Found | Refusal | None:
        data = formats.read(row)
        return data if isinstance(data, Refusal) else self._settled.found(data)


class _WithCopies:
    """Be the rows of a table, of which a cache holds copies."""

    def __init__(self, rows: Rows, copies: Rows, prefix: str) -> None:
        self._rows = rows
        self._copies = copies
        self._prefix = prefix

    async def get(self, key: str) -> Any | None:
        """Return the row; the table has them all."""
        return await self._rows.get(key)

    async def delete(self, key: str) -> None:
        """Remove the row, then its copy: in the other order, a request between the two would copy it again."""
        await self._rows.delete(key)
        await self._copies.delete(self._prefix + key)

    async def close(self) -> None:
        """Release both."""
        await self._rows.close()
        await self._copies.close()


def _is_over(expiry: Any, at: int, now: float) -> bool:
    """Tell whether what set_expiry said has passed: seconds since it was signed, or a time; Django asks browsers."""
    if isinstance(expiry, int):
        return not isinstance(expiry, bool) and expiry > 0 and now > at + expiry
    if not isinstance(expiry, str):
        return False
    try:
        time = dt.datetime.fromisoformat(expiry)
        return (time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)).timestamp() < now
    except (ValueError, OverflowError):
        return True


def _identify(text: str) -> str | Refusal:
    return text if _KEY.fullmatch(text) else Refusal("forged")
