"""Shared signals: applications that sign each other's users out (SSF 1.0, CAEP 1.0; R77, R78).

    signals = AsyncSignals(ground, url="https://a.example/signals", receivers=[…], transmitters=[…])
    app.mount("/signals", sites.asgi(signals.site))
    async with signals.running(): …

Who ends a session here is noted, and the receivers are told, whatever dies in between (`outbox`, `delivery`). What the
transmitters tell is judged and carried out (`sets`, `receiver`). No provider stands between two applications that do
both.
"""

from __future__ import annotations

from .delivery import Delivered
from .doors import AsyncSignals, SignalOptions, Signals
from .flow import StreamState
from .management import Granted
from .peers import Receiver, Transmitter, same_ids
from .receiver import Polled, ReceiverPolicy
from .subjects import Simple
from .vocabulary import ASSURANCE_LEVEL_CHANGE, CREDENTIAL_CHANGE, SESSION_REVOKED

__all__ = [
    "ASSURANCE_LEVEL_CHANGE",
    "CREDENTIAL_CHANGE",
    "SESSION_REVOKED",
    "AsyncSignals",
    "Delivered",
    "Granted",
    "Polled",
    "Receiver",
    "ReceiverPolicy",
    "SignalOptions",
    "Signals",
    "Simple",
    "StreamState",
    "Transmitter",
    "same_ids",
]
