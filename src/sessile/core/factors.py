"""Factors and the assurance level that they reach together (NIST SP 800-63B-4 §2, RFC 8176).

    factor       kinds                  amr     phishing-resistant
    password     something you know     pwd     no
    totp         something you have     otp     no
    recovery     something you have     otp     no
    sms          something you have     sms     no
    email        counts as one kind     otp     no; it proves no device (NIST SP 800-63B-4 §3.1.3.1)
    passkey      have + verified user   swk     yes
    security-key have + verified user   hwk     yes, in hardware
    touch        something you have     pop     yes; a key that did not verify its user
    sso          as the provider said   -       counts as one kind

One kind is AAL1; two kinds are AAL2; AAL3 needs a hardware-bound, phishing-resistant factor with user verification. A
factor that is not in the table counts as one unnamed kind, so an application's own names work and never raise the level
by being many (R89).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

_KINDS: Final[dict[str, frozenset[str]]] = {
    "password": frozenset({"know"}),
    "totp": frozenset({"have"}),
    "recovery": frozenset({"have"}),
    "email": frozenset({"other"}),
    "sms": frozenset({"have"}),
    "passkey": frozenset({"have", "are"}),
    "security-key": frozenset({"have", "are"}),
    "touch": frozenset({"have"}),
}
_HARDWARE: Final = frozenset({"security-key"})
_AMR: Final = {
    "password": "pwd",
    "totp": "otp",
    "recovery": "otp",
    "email": "otp",
    "sms": "sms",
    "passkey": "swk",
    "security-key": "hwk",
    "touch": "pop",
}


class Factor(msgspec.Struct, frozen=True, array_like=True):
    """Hold one way in which the user proved who they are, and when (seconds since 1970)."""

    name: str
    at: float


def aal(names: Iterable[str]) -> int:
    """Return the authenticator assurance level, 0 (nothing proved) to 3."""
    kinds: set[str] = set()
    hardware = False
    for name in names:
        kinds |= _KINDS.get(name, frozenset({"other"}))
        hardware = hardware or name in _HARDWARE
    proved = len(kinds - {"other"}) or (1 if kinds else 0)
    if hardware and proved >= 2:
        return 3
    return min(proved, 2)


def amr(names: Iterable[str]) -> tuple[str, ...]:
    """Return the RFC 8176 names, with `mfa` when more than one kind was proved."""
    listed = tuple(names)
    values = dict.fromkeys(_AMR.get(name, name) for name in listed)
    if aal(listed) >= 2:
        values["mfa"] = None
    return tuple(values)
