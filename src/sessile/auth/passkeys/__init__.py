"""Passkeys: register, sign in, prove once more, by WebAuthn (R90, R93).

    rules       settings, challenges, what an authentic answer means
    items       what the vault keeps
    wire        options out, answers in, bounded; webauthn (py_webauthn) judges signatures
    flow doors  the verbs, and their two doors

`passkeys.js` is the page's half: it needs no inline code and no build. Sessile asks for no attestation, so what kind of
authenticator somebody has is what their browser said when the key was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .doors import AsyncPasskeys, PasskeyOptions, Passkeys
from .flow import Proved
from .items import Passkey
from .rules import Refused

SCRIPT: Final = Path(__file__).with_name("passkeys.js")

__all__ = ["SCRIPT", "AsyncPasskeys", "Passkey", "PasskeyOptions", "Passkeys", "Proved", "Refused"]
