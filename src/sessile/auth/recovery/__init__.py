"""Recovery codes: ten that work once each, for the day when the other factor is lost (R92).

rules           how codes look and are read
items           what the vault keeps
flow, doors     the verbs, and their two doors
"""

from __future__ import annotations

from ..outcomes import Refused
from .doors import AsyncRecovery, Recovery
from .flow import Proved, Stock

__all__ = ["AsyncRecovery", "Proved", "Recovery", "Refused", "Stock"]
