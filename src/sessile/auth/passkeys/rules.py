"""What holds for passkeys, and nothing that waits: settings, challenges, names, and what an authentic answer means.

    purpose     who may ask                                answered by
    register    the signed-in user, proved just now        a new key of the authenticator
    sign-in     anybody                                    a key of anybody, or of the user who was named
    step-up     who is signed in, or is on the way there   a key of that user

A challenge is for one purpose, one session, one use and five minutes (R93, WebAuthn L3 §13.4.3).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import msgspec

from ...core.network import is_loopback_host
from ...errors import ConfigurationError

Purpose = Literal["register", "sign-in", "step-up"]
Verification = Literal["required", "preferred", "discouraged"]
Kind = Literal["passkey", "security-key"]
Why = Literal[
    "malformed",
    "challenge",
    "replay",
    "unknown",
    "user",
    "response",
    "verification",
    "signature",
    "backup",
    "algorithm",
    "known",
    "full",
    "clone",
]

CHALLENGE_BYTES: Final = 32
HANDLE_BYTES: Final = 32
LIFETIME: Final = 300.0
MAX_KEYS: Final = 20
MAX_LABEL: Final = 64
# Two tabs and a sign-in form that offers passkeys by itself: each page that asks has its own challenge.
MAX_PENDING: Final = 4
# What a key proves without user verification: that somebody touched it. Not who (R89).
TOUCH: Final = "touch"


class Refused(StrEnum):
    """Say what a page may tell: never which part of an answer was wrong."""

    REFUSED = "refused"
    STALE = "stale"  # the challenge is over, was used, or is not this session's: ask for another one
    FULL = "full"  # the user has as many keys as allowed


def refusal(why: Why) -> Refused:
    """Return what the page is told of a refusal."""
    if why in ("challenge", "replay"):
        return Refused.STALE
    return Refused.FULL if why == "full" else Refused.REFUSED


class Rules(NamedTuple):
    """Say for which site keys are made, and what they must prove.

    `rp_id` is the domain that keys belong to, `origins` the exact origins of pages that may use them, `rp_name` what
    authenticators show. `verification` is asked of the user at the authenticator; `discoverable` keys are found
    without a user name.
    """

    rp_id: str
    rp_name: str
    origins: tuple[str, ...]
    verification: Verification = "required"
    discoverable: Literal["required", "preferred"] = "required"

    def check(self) -> None:
        """Refuse settings under which browsers would make no key, or other sites could ask for ours.

        Raises:
            ConfigurationError: they are wrong.
        """
        if not _is_domain(self.rp_id):
            raise ConfigurationError("rp_id is a domain like example.com, in lower case: no scheme, port or address")
        if not self.rp_name or not self.origins:
            raise ConfigurationError("passkeys need rp_name and at least one origin")
        for origin in self.origins:
            if not _is_origin(origin, self.rp_id):
                raise ConfigurationError(f"{origin!r} is no https origin of {self.rp_id} (http only for localhost)")
        if self.verification not in get_args(Verification) or self.discoverable not in ("required", "preferred"):
            raise ConfigurationError(
                "verification is required, preferred or discouraged; discoverable one of the first"
            )


def _is_domain(text: str) -> bool:
    labels = text.split(".")
    plain = text.isascii() and text == text.lower() and 0 < len(text) <= 253
    return (
        plain
        and all(label.replace("-", "").isalnum() and label.strip("-") == label for label in labels)
        and not labels[-1].isdigit()
    )


def _is_origin(text: str, rp_id: str) -> bool:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if text != f"{parts.scheme}://{host}" + ("" if port is None else f":{port}"):
        return False
    if not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(host))):
        return False
    return host == rp_id or host.endswith("." + rp_id)


# -- challenges, as a session holds them -------------------------------------------------------------------------------


class Challenge(NamedTuple):
    """Hold what a session was asked: `text` in base64url, until when (seconds since 1970), and whose key is due."""

    purpose: str
    text: str
    deadline: float
    user: str


def pending(stored: Any, now: float) -> list[Challenge]:
    """Return the living challenges of a session's data; what is not in their form is none."""
    try:
        found = msgspec.convert(stored, list[Challenge])
    except msgspec.ValidationError:
        return []
    return [one for one in found if now < one.deadline <= now + LIFETIME]


def asked(stored: Any, challenge: Challenge, now: float) -> list[list[Any]]:
    """Return what the session holds after one more challenge: the newest few."""
    return [list(one) for one in [*pending(stored, now), challenge][-MAX_PENDING:]]


def named(stored: Any, text: str, purpose: Purpose, now: float) -> Challenge | None:
    """Return the living challenge that an answer names, if it was asked for this purpose."""
    for one in pending(stored, now):
        if one.text == text and one.purpose == purpose:
            return one
    return None


def without(stored: Any, challenge: Challenge, now: float) -> list[list[Any]]:
    """Return what the session holds after an answer."""
    return [list(one) for one in pending(stored, now) if one.text != challenge.text]


# -- what an authentic answer means ------------------------------------------------------------------------------------


def kind_of(*, eligible: bool, attachment: str, transports: Iterable[str]) -> Kind:
    """Tell a hardware key, which is one device and not built in, from all others; who cannot be sure says passkey."""
    outside = attachment == "cross-platform" and not set(transports) & {"internal", "hybrid"}
    return "security-key" if outside and not eligible else "passkey"


def factor_of(kind: Kind, *, verified: bool) -> str:
    """Return the factor that was proved. A touch alone proves possession, nothing about who it was."""
    return kind if verified else TOUCH


def completes(proved: Sequence[str], *, verified: bool) -> bool:
    """Tell whether this key completes a sign-in that began with `proved`: two touches are one factor."""
    return verified or any(name != TOUCH for name in proved)


def is_clone(stored: int, came: int) -> bool:
    """Tell whether a signature counter did not grow although it counts (WebAuthn L3 §6.1.1)."""
    return (stored > 0 or came > 0) and came <= stored


def clean(label: str, kind: Kind) -> str:
    """Return a key's name as it is kept: one line, bounded; a name that is empty is the kind's."""
    plain = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in label[: 4 * MAX_LABEL])
    cut = " ".join(plain.split())[:MAX_LABEL].rstrip()
    return cut or ("Security key" if kind == "security-key" else "Passkey")
