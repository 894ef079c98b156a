"""What is decided on the way through a provider: transactions, what came back, and how long a sign-in counts (decide).

A transaction is what a browser was sent to a provider with. Each is a value of its own in the session of that browser,
so several tabs do not disturb each other, and nobody else can bring its answer (R76).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from ...core.session import Session
from ...errors import ConfigurationError

PREFIX: Final = "_sessile_sso:"
# So long a sign-in at the provider may take (seconds), and so many of one browser are remembered.
LIFETIME: Final = 900.0
MAX_OPEN: Final = 8
MAX_STATE_CHARS: Final = 128
MAX_CODE_CHARS: Final = 4096
_STATE: Final = re.compile(r"[A-Za-z0-9_-]{20,128}", re.ASCII)
_ERROR: Final = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)


class Refused(StrEnum):
    """Name why a sign-in at a provider did not end in one here."""

    UNKNOWN = "unknown"  # no such transaction in this browser: foreign, used, or from before a sign-in
    EXPIRED = "expired"
    PROVIDER = "provider"  # another provider answered than was asked
    DENIED = "denied"  # the user, or the provider, said no
    CODE = "code"  # the provider does not know the code
    TOKEN = "token"  # noqa: S105 - its ID token is not what was asked for
    LEVEL = "level"  # the sign-in there was too long ago, or of too low a level
    USER = "user"  # nobody here
    SIGNED_OUT = "signed-out"  # a sign-out came while the sign-in was on its way


class Transaction(msgspec.Struct, frozen=True, array_like=True):
    """Hold what a browser was sent to a provider with; `at` is seconds since 1970."""

    provider: str
    nonce: str
    verifier: str
    target: str
    at: float
    max_age: float | None = None
    acr_values: tuple[str, ...] = ()
    user: str | None = None  # who must come back: a step-up

    def __repr__(self) -> str:
        return f"<Transaction with {self.provider}>"


class Coupling(NamedTuple):
    """Say how a session here hangs on the one at its provider (R75); times are seconds.

    `recheck` is after how long the provider is asked again, silently, by the refresh token; without one the user is
    sent there. `patience` is how much longer a session lives on if the provider does not answer: after that a request
    is refused as in any outage. `recheck` None: the local timeouts count, and what the provider sends by itself.
    """

    recheck: float | None = None
    patience: float = 900.0

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigurationError: a time is not positive and finite.
        """
        if self.recheck is not None and not 1 <= self.recheck < float("inf"):
            raise ConfigurationError("recheck is a number of seconds, at least one")
        if not 0 <= self.patience < float("inf"):
            raise ConfigurationError("patience is a finite number of seconds")


class Identity(NamedTuple):
    """Say who signed in at a provider: `issuer` and `subject` together name one user, for ever (R76)."""

    provider: str
    issuer: str
    subject: str
    claims: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Return both as one text: issuers have no fragment, so no two are the same."""
        return f"{self.issuer}#{self.subject}"


class Signed(NamedTuple):
    """Say who has signed in, and where to go."""

    user: str
    identity: Identity
    target: str


def challenge_of(verifier: str) -> str:
    """Return a verifier's S256 challenge (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def put(session: Session, state: str, transaction: Transaction) -> None:
    """Remember a transaction, and no more than a few."""
    waiting = sorted(_waiting(session), key=lambda pair: pair[1].at)
    for key, _ in waiting[: max(0, len(waiting) - MAX_OPEN + 1)]:
        del session[key]
    session[PREFIX + state] = list(msgspec.to_builtins(transaction))


def take(session: Session, state: object) -> Transaction | None:
    """Return the transaction of a state, and forget it; None if this browser has none."""
    if not isinstance(state, str) or not _STATE.fullmatch(state):
        return None
    return _read(session.pop(PREFIX + state, None))


def others(session: Session, user: str) -> dict[str, Any]:
    """Return what else this browser has begun, as it stands in the session: a sign-in in one tab ends no other.

    What another user had begun does not come along (R26).
    """
    return {key: session[key] for key, begun in _waiting(session) if begun.user in (None, user)}


def _waiting(session: Session) -> list[tuple[str, Transaction]]:
    found: list[tuple[str, Transaction]] = []
    for key in [key for key in session if key.startswith(PREFIX)]:
        transaction = _read(session.get(key))
        if transaction is None:
            del session[key]
        else:
            found.append((key, transaction))
    return found


def _read(value: object) -> Transaction | None:
    try:
        return None if value is None else msgspec.convert(value, Transaction)
    except msgspec.ValidationError:
        return None


def answered(
    query: Mapping[str, str], transaction: Transaction, issuer: str, *, names: bool, now: float
) -> str | Refused:
    """Return the code that a provider sent back, or why it is not taken.

    `names`: the provider says that it names itself in each answer (RFC 9207); then it must.
    """
    if not transaction.at <= now < transaction.at + LIFETIME:
        return Refused.EXPIRED
    given = query.get("iss")
    if (given is None and names) or (given is not None and not _same(given, issuer)):
        return Refused.PROVIDER
    if "error" in query:
        return Refused.DENIED
    code = query.get("code", "")
    return code if 0 < len(code) <= MAX_CODE_CHARS and code.isascii() and code.isprintable() else Refused.CODE


def error_of(query: Mapping[str, str]) -> str:
    """Return the provider's word for what went wrong, as far as it is one."""
    found = query.get("error", "")
    return found if _ERROR.fullmatch(found) else ""


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))
