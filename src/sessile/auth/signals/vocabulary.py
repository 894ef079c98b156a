"""The words of shared signals: event types, delivery methods, and the text that goes with each of our ends.

RFC 8417   security event tokens (SETs)            RFC 8935, 8936   delivery by push and by poll
SSF 1.0    streams, their management, verification  CAEP 1.0        session-revoked, credential-change, …
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from ...core.record import EndReason

TYP: Final = "secevent+jwt"
MEDIA: Final = "application/secevent+jwt"

_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
_SSF: Final = "https://schemas.openid.net/secevent/ssf/event-type/"
SESSION_REVOKED: Final = _CAEP + "session-revoked"
CREDENTIAL_CHANGE: Final = _CAEP + "credential-change"
ASSURANCE_LEVEL_CHANGE: Final = _CAEP + "assurance-level-change"
VERIFICATION: Final = _SSF + "verification"
STREAM_UPDATED: Final = _SSF + "stream-updated"
SUPPORTED: Final = (SESSION_REVOKED, CREDENTIAL_CHANGE, ASSURANCE_LEVEL_CHANGE)

PUSH: Final = "urn:ietf:rfc:8935"
POLL: Final = "urn:ietf:rfc:8936"

Credential = Literal[
    "password",
    "pin",
    "x509",
    "fido2-platform",
    "fido2-roaming",
    "fido-u2f",
    "verifiable-credential",
    "phone-voice",
    "phone-sms",
    "app",
]
Changed = Literal["create", "revoke", "update", "delete"]
CHANGES: Final[frozenset[str]] = frozenset({"create", "revoke", "update", "delete"})
Entity = Literal["admin", "user", "policy", "system"]

# What of ours is which credential there.
CREDENTIALS: Final[Mapping[str, Credential]] = {
    "password": "password",
    "totp": "app",
    "recovery": "app",
    "passkey": "fido2-platform",
    "security-key": "fido2-roaming",
    "sms": "phone-sms",
}
CHANGE_OF: Final[Mapping[str, Changed]] = {"added": "create", "changed": "update", "removed": "delete"}


def short(kind: str) -> str:
    """Return an event type as events and people name it: its last word."""
    return kind.rpartition("/")[2][:64]


class Told(NamedTuple):
    """Say who ended a session, why (for logs), and why (for its user)."""

    entity: Entity
    admin: str
    user: str


# The ends that other applications learn of. What a limit ended (idle, absolute, number) is each application's own.
ENDS: Final[Mapping[EndReason, Told]] = {
    EndReason.LOGOUT: Told("user", "The user signed out.", "You signed out."),
    EndReason.RENEWED: Told("user", "Another user signed in, in the same browser.", "Another user signed in."),
    EndReason.USER: Told("user", "The user ended the session from another one.", "You ended the session."),
    EndReason.ADMIN: Told("admin", "An operator ended the session.", "An operator ended the session."),
    EndReason.REPLAY: Told("policy", "A copy of the session's token was used.", "Somebody else may have had access."),
    EndReason.BINDING: Told("policy", "The session moved to another client.", "Somebody else may have had access."),
    EndReason.PROVIDER: Told("system", "The user's provider ended the session.", "You signed out elsewhere."),
    EndReason.SIGNAL: Told("system", "Another application ended the session.", "You signed out elsewhere."),
}


def credential_event(
    credential: str, change: str, *, at: float, entity: Entity = "user", why: str = ""
) -> dict[str, object]:
    """Return what a credential-change says of one of our factors, or of a credential in CAEP's own words."""
    return {
        "credential_type": CREDENTIALS.get(credential, credential),
        "change_type": CHANGE_OF.get(change, change),
        "event_timestamp": int(at),
        "initiating_entity": entity,
        "reason_admin": {"en": why or "A credential was changed."},
    }
