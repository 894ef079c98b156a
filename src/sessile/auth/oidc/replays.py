"""Which tokens from a provider were used already: remembered in the vault until nobody would take them any more (R71).

A token is looked up before anything is ended, and remembered after the end was stored: so what a crash, or a store that
failed, has cut short may be sent again. Of two that come at the same moment one is remembered, and the other one is
told that it is a replay; what it asked for had been asked for, and carried out, in that very moment.
"""

from __future__ import annotations

from typing import Final

from ..ground import Ground, name_of
from ..stored import Stored, written
from ..vault import Write, living, version_of

# Clocks of nodes differ by less than this: an item must not be gone while another node would take its token.
MARGIN: Final = 60.0


class Used(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold when a token was used (seconds since 1970)."""

    at: float


class Replays:
    """Remember the names of used tokens (`jti`), for all processes that share the vault."""

    def __init__(self, ground: Ground, purpose: str) -> None:
        self._ground = ground
        self._prefix = f"{purpose}:"

    async def is_used(self, issuer: str, audience: str, token_id: str) -> bool:
        """Tell whether a token was used."""
        found = await self._ground.vault.get(self._key(issuer, audience, token_id))
        return living(found, self._ground.now) is not None

    async def use(self, issuer: str, audience: str, token_id: str, *, until: float) -> bool:
        """Remember that a token was used, by a single write; tell whether this was the first use.

        `until` is when it stops being accepted (seconds since 1970).
        """
        now, key = self._ground.now, self._key(issuer, audience, token_id)
        found = await self._ground.vault.get(key)
        if living(found, now) is not None:
            return False
        item = written(Used(at=now))
        return await self._ground.vault.write(Write(key, item, version_of(found), expires_at=until + MARGIN))

    def _key(self, issuer: str, audience: str, token_id: str) -> str:
        return self._prefix + name_of(f"{issuer}\n{audience}\n{token_id}")
