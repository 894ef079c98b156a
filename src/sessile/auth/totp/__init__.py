"""Authenticator apps: six digits that change every half minute, as the second factor (RFC 6238, R91).

rules, codes    which codes count, and how they are made
items           what the vault keeps
flow, doors     the verbs, and their two doors
"""

from __future__ import annotations

from ..outcomes import Proved
from .doors import AsyncTotp, Totp
from .flow import Authenticator, Enrolment
from .rules import Refused

__all__ = ["AsyncTotp", "Authenticator", "Enrolment", "Proved", "Refused", "Totp"]
