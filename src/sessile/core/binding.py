"""What ties a session to its client: the observed context, compared on use, answered by a ladder (R53, R54, R99).

    changed           default       the rungs
    network           log           log        report it and remember the new context
    agent             log           challenge  the session is not authenticated until a factor is proved again
    network + agent   challenge     end        the session ends

Phones change networks all day, so a new address alone never ends a session by default. What is remembered is minimised:
a keyed hash of the network prefix (/24, /64), the browser's and the platform's family name; no address, no version.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from ..errors import ConfigurationError
from .keys import KeyRing
from .network import prefix
from .record import Context

Rung = Literal["ignore", "log", "challenge", "end"]
RUNGS: Final[tuple[Rung, ...]] = ("ignore", "log", "challenge", "end")

_AGENTS: Final = (
    ("edg", "Edge"),
    ("opr/", "Opera"),
    ("samsungbrowser", "Samsung Internet"),
    ("vivaldi", "Vivaldi"),
    ("firefox", "Firefox"),
    ("fxios", "Firefox"),
    ("crios", "Chrome"),
    ("headlesschrome", "Chrome"),
    ("chrome", "Chrome"),
    ("chromium", "Chrome"),
    ("safari", "Safari"),
    ("curl", "curl"),
    ("python", "Python"),
    ("okhttp", "Android app"),
    ("cfnetwork", "Apple app"),
)
_PLATFORMS: Final = (
    ("iphone", "iPhone"),
    ("ipad", "iPad"),
    ("android", "Android"),
    ("windows", "Windows"),
    ("cros", "ChromeOS"),
    ("mac os", "macOS"),
    ("macintosh", "macOS"),
    ("linux", "Linux"),
)
_HINTED: Final = {
    "macos": "macOS",
    "chrome os": "ChromeOS",
    "chromium os": "ChromeOS",
    "windows": "Windows",
    "android": "Android",
    "linux": "Linux",
    "ios": "iPhone",
}


@dataclass(frozen=True, slots=True)
class Binding:
    """Hold the rung for each kind of change.

    Raises:
        ConfigurationError: there is no such rung.
    """

    network: Rung = "log"
    agent: Rung = "log"
    both: Rung = "challenge"

    def __post_init__(self) -> None:
        """Refuse a misspelled rung at start, not at the first thief."""
        for rung in (self.network, self.agent, self.both):
            if rung not in RUNGS:
                raise ConfigurationError(f"binding: the rungs are {', '.join(RUNGS)}")


def changed(stored: Context, seen: Context) -> tuple[str, ...]:
    """Return what changed: `network`, `agent`, both or nothing. What is unknown on either side has not changed."""
    if stored is seen:
        return ()
    changes: list[str] = []
    # The first byte is the id of the key that hashed it: hashes by different keys cannot be compared.
    if stored.network and seen.network and stored.network[0] == seen.network[0] and stored.network != seen.network:
        changes.append("network")
    if _differs(stored.agent, seen.agent) or _differs(stored.platform, seen.platform):
        changes.append("agent")
    return tuple(changes)


def remembered(stored: Context, seen: Context) -> Context:
    """Return what to remember from now on: what was seen, and what was known where nothing was seen."""
    return Context(seen.network or stored.network, seen.agent or stored.agent, seen.platform or stored.platform)


def _differs(left: str, right: str) -> bool:
    return bool(left and right and left != right)


def rung(binding: Binding, changes: tuple[str, ...]) -> Rung:
    """Return the rung that answers these changes."""
    if not changes:
        return "ignore"
    if len(changes) == 2:
        return RUNGS[max(map(RUNGS.index, (binding.both, binding.network, binding.agent)))]
    return binding.network if changes[0] == "network" else binding.agent


class Pseudonyms:
    """Turn network prefixes into keyed hashes that say only "the same" or "another"."""

    __slots__ = ("_keys", "_newest", "of")

    def __init__(self, ring: KeyRing) -> None:
        self._keys = ring.derive(b"pseudonym")
        self._newest = ring.newest
        self.of = lru_cache(maxsize=4096)(self._of)

    def _of(self, address: str) -> bytes:
        network = prefix(address)
        if not network:
            return b""
        return bytes([self._newest]) + hmac.digest(self._keys[self._newest], network, hashlib.sha256)[:8]


@lru_cache(maxsize=4096)
def family(user_agent: str, hinted_platform: str) -> tuple[str, str]:
    """Return the families of browser and platform, "" where unknown; a client hint wins over the User-Agent."""
    lowered = user_agent[:512].lower()
    agent = next((name for needle, name in _AGENTS if needle in lowered), "Other" if lowered else "")
    platform = _HINTED.get(hinted_platform.strip().strip('"').lower(), "")
    if not platform:
        platform = next((name for needle, name in _PLATFORMS if needle in lowered), "")
    return agent, platform
