"""Codes and links by e-mail: ten minutes, once, and only in the browser that asked.

    rules           how codes and links look, and what a session remembers
    mail            who delivers (port), and two senders for development
    items           what the vault keeps
    flow, doors     the verbs, and their two doors

Reading one's mail is one kind of factor, and a weak one: NIST does not count it at AAL2. Prefer passkeys.
"""

from __future__ import annotations

from ..outcomes import Proved, Refused
from .doors import AsyncCodes, CodeOptions, Codes
from .flow import Invited, Sent
from .mail import ConsoleMailer, FileMailer, Mailer
from .rules import Look

__all__ = [
    "AsyncCodes",
    "CodeOptions",
    "Codes",
    "ConsoleMailer",
    "FileMailer",
    "Invited",
    "Look",
    "Mailer",
    "Proved",
    "Refused",
    "Sent",
]
