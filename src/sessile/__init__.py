"""Sessile: sessions that stay put.

One engine gives every Python web framework and every store the same sessions: they cannot be fixated, are useless when
stolen, end everywhere and for certain, and say what happened.
"""

from .core.binding import Binding
from .core.cookies import CookieRules
from .core.crosssite import CrossSiteGuard
from .core.events import Event, Sink
from .core.factors import Factor
from .core.info import SessionInfo
from .core.keys import KeyRing
from .core.network import Proxies
from .core.policy import Policy
from .core.record import EndReason
from .core.requests import Facts
from .core.session import Session
from .core.sessions import AsyncSessions, Sessions
from .errors import ConfigurationError, SessileError, StepUpRequired, StoreError

__version__ = "0.1.0"

__all__ = [
    "AsyncSessions",
    "Binding",
    "ConfigurationError",
    "CookieRules",
    "CrossSiteGuard",
    "EndReason",
    "Event",
    "Factor",
    "Facts",
    "KeyRing",
    "Policy",
    "Proxies",
    "SessileError",
    "Session",
    "SessionInfo",
    "Sessions",
    "Sink",
    "StepUpRequired",
    "StoreError",
]
