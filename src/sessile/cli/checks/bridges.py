"""Checks of the bridges to other session libraries: how long they stand, and what they do in an outage."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final

from ...core.policy import DAY
from ..deployment import Deployment
from .finding import Finding

# By then whoever still comes has signed in anew anyway.
_LONG: Final = 90 * DAY


def bridges(deployment: Deployment) -> Iterator[Finding]:
    """Look at each bridge's deadline and at what it does when the old store fails."""
    for bridge in deployment.bridges:
        day = dt.datetime.fromtimestamp(bridge.until, dt.UTC).date().isoformat()
        if bridge.left <= 0:
            yield Finding(
                "warn",
                "bridge-over",
                "R89",
                f"the bridge to sessions of {bridge.name} ended on {day}",
                "It does nothing any more, but its old secret and its access to the old store are still configured.",
                "Remove it from `legacy`, withdraw the old secret and switch the old store off.",
            )
        elif bridge.left > _LONG:
            yield Finding(
                "warn",
                "bridge-long",
                "R89",
                f"the bridge to sessions of {bridge.name} stands until {day}",
                "Until then an old cookie signs its holder in, without any limit or factor of Sessile's.",
                "Choose a date within the next weeks: as far ahead as old sessions are worth being kept.",
            )
        else:
            yield Finding("ok", "bridge", "R89", f"sessions of {bridge.name} are adopted until {day}, as no factor")
        if bridge.ignores_outage and bridge.left > 0:
            yield Finding(
                "warn",
                "bridge-outage",
                "R45",
                f"requests are served when the old store of {bridge.name} fails",
                "Who has an old session is then nobody for as long as it lasts.",
                "Leave on_outage out: such a request is answered with 503, and the session is adopted by a later one.",
            )
