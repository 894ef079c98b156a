"""What `doctor` looks at: the facts of one configuration, as values. Nothing here is decided."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.cookies import CookieRules
from ..core.crosssite import CrossSiteGuard
from ..core.network import Proxies
from ..core.policy import Policy
from ..core.ports import Diagnosis


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Hold what is known of a file: its name, its mode and its folder's (None: not there), whose it is.

    `owner_is_us`: this user's or root's. `filesystem`: its type as the kernel names it, "" if unknown.
    """

    name: str
    mode: int | None
    folder_mode: int | None = None
    owner_is_us: bool = True
    filesystem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """Hold what is known of the ring, never a secret: ids, newest first, and the development key's file."""

    ids: tuple[int, ...]
    development: bool = False
    file: FileFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """Hold what is known of the store.

    `lacks`: which powers it has not (`index`, `epochs`, `census`). `files`: the database and what SQLite keeps beside
    it; `journal`: its mode. `diagnoses`: what the store found when it looked at its own server.
    """

    kind: str
    lacks: frozenset[str] = frozenset()
    files: tuple[FileFacts, ...] = ()
    journal: str = ""
    diagnoses: tuple[Diagnosis, ...] = ()


@dataclass(frozen=True, slots=True)
class BridgeFacts:
    """Hold what is known of a bridge to old sessions: when it ends (seconds since 1970), and in how many seconds."""

    name: str
    until: float
    left: float
    ignores_outage: bool = False


@dataclass(frozen=True, slots=True)
class FrameworkFacts:
    """Hold what is known of the application's framework."""

    name: str
    debug: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Hold the facts of one configuration. `warnings`, `errors`: what Sessile itself said while it started."""

    production: bool
    keys: KeyFacts | None
    store: StoreFacts
    policy: Policy = field(default_factory=Policy)
    cookie: CookieRules = field(default_factory=CookieRules)
    proxies: Proxies = field(default_factory=Proxies)
    guard: CrossSiteGuard = field(default_factory=CrossSiteGuard)
    sinks: tuple[str, ...] = ("LogSink",)
    clear_site_data: tuple[str, ...] = ("cache", "cookies", "storage")
    development_hosts: frozenset[str] = frozenset()
    real_clock: bool = True
    workers: int | None = None
    bridges: tuple[BridgeFacts, ...] = ()
    framework: FrameworkFacts | None = None
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
