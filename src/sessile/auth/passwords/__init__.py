"""Passwords: set at sign-up, changed, checked, by argon2id; for applications that have no store of their own.

rules, common   what a password must be
items           what the vault keeps
flow, doors     the verbs, and their two doors
"""

from __future__ import annotations

from ..outcomes import Proved, Refused
from .doors import AsyncPasswords, Passwords
from .rules import Settings, Weak

__all__ = ["AsyncPasswords", "Passwords", "Proved", "Refused", "Settings", "Weak"]
