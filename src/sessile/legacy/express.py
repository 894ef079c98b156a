"""express-session with connect-redis: how sessions come along when an application leaves Node."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, Unpack, cast
from urllib.parse import unquote

from ..core.legacy import Found, OpenBridge, Refusal
from . import formats, signatures
from .opened import InRows
from .redis import Address, rows_of
from .signatures import Secrets
from .terms import Terms, Until, settle

_COOKIE: Final = frozenset({"cookie"})
_MAX_SID: Final = 512


class ExpressRedis:
    """Adopt sessions that express-session keeps in Redis by way of connect-redis.

    `redis` is the old store: a URL, or a client of redis-py (of redis.asyncio for `AsyncSessions`). `secret` is
    express-session's; several are tried as it does. `prefix` is connect-redis'. Who is signed in is, by default, what
    Passport says (`passport.user`), or the key `user_id` or `userId`.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: redis-py is not installed.
    """

    def __init__(
        self, redis: Address, *, secret: Secrets, until: Until, prefix: str = "sess:", **terms: Unpack[Terms]
    ) -> None:
        self._settled = settle(terms, until, name="express", cookie="connect.sid", user=_user)
        self._secrets = signatures.secrets_of(secret)
        self._address = redis
        self._prefix = prefix

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use."""
        return InRows(
            self._settled, rows_of(self._address, blocking=blocking), self._identify, self._prefix.__add__, self._decode
        )

    def _identify(self, text: str) -> str | Refusal:
        text = unquote(text)
        signed = signatures.unsign_express(text[2:], self._secrets) if text.startswith("s:") else None
        if signed is None or not 0 < len(signed.value) <= _MAX_SID:
            return Refusal("forged")
        return signed.value

    def _decode(self, row: Any, now: float) -> Found | Refusal | None:
        data = formats.read_json(row)
        if isinstance(data, Refusal):
            return data
        if _is_over(data.get("cookie"), now):
            return Refusal("expired")
        return self._settled.found(data, drop=_COOKIE)


def _is_over(cookie: Any, now: float) -> bool:
    """Tell whether the expiry that express-session keeps in the row has passed; a row without one has none."""
    expires = cast("dict[str, Any]", cookie).get("expires") if isinstance(cookie, dict) else None
    if not isinstance(expires, str):
        return False
    try:
        return dt.datetime.fromisoformat(expires).timestamp() <= now
    except (ValueError, OverflowError):
        return True


def _user(data: Mapping[str, Any]) -> str | int | None:
    passport = data.get("passport")
    named = cast("dict[str, Any]", passport).get("user") if isinstance(passport, dict) else None
    found: Any
    for found in (named, data.get("user_id"), data.get("userId")):
        if isinstance(found, (str, int)) and not isinstance(found, bool) and found != "":
            return found
    return None
