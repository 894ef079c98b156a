"""Sessions that an Authorization header opens instead of a cookie (port): who judges the header, and what it answers.

The engine asks the judge only for `Bearer` and `DPoP`, and whatever it answers, the cookie of that request is not
looked at: so no cross-site form, which cannot set the header, gains anything, and no session is mixed up with another.
Such a session is for one request: it stores what the request changed, and is handed no cookie and no new token.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from ..errors import AccessRefused
from .record import Record
from .requests import Facts

SCHEMES: Final = frozenset({"bearer", "dpop"})


class Grant(msgspec.Struct, frozen=True):
    """Hold what an access token grants: a session that lives, the audience and client it is for, and its scopes."""

    session_id: str
    record: Record
    audience: str
    client: str
    scopes: frozenset[str]


class Bearer(Protocol):
    """Judge the access tokens of requests."""

    async def judge(self, facts: Facts, scheme: str, token: str) -> Grant:
        """Return what a request's token grants; `scheme` is bearer or dpop.

        Raises:
            AccessRefused: it grants nothing.
            StoreError: a store failed; nobody passes.
        """
        ...


def is_by_token(facts: Facts) -> bool:
    """Tell whether a request speaks with an access token, well-formed or not."""
    header = facts.header("authorization")
    return header is not None and any(_scheme(part) in SCHEMES for part in header.split(","))


def presented(facts: Facts) -> tuple[str, str]:
    """Return scheme and token of a request that speaks with one.

    Raises:
        AccessRefused: there is more than one header, or there is no token in it (RFC 6750 §3.1: 400).
    """
    scheme, _, token = (facts.header("authorization") or "").strip(" \t").partition(" ")
    token = token.strip(" ")
    if scheme.lower() not in SCHEMES or not token or not token.isascii() or set(token) & set(' ,\t"'):
        raise AccessRefused(400, "invalid_request", (("www-authenticate", 'Bearer error="invalid_request"'),))
    return scheme.lower(), token


def _scheme(part: str) -> str:
    return part.strip(" \t").partition(" ")[0].lower()
