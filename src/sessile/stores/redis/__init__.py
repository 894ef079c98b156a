"""Sessions in Redis or Valkey: for many machines, either door, 7.0 and newer, no module."""

from __future__ import annotations

from typing import Final

from ...core.record import PLAIN, Codec
from ...errors import ExtraMissing
from ..url import StoreUrl
from .address import Settings

try:
    import hiredis as hiredis
    import redis as redis
except ImportError:
    raise ExtraMissing("a Redis or Valkey store", "redis") from None

from .cluster import ClusterWire
from .sentinel import SentinelWire
from .store import RedisStore
from .wire import Single, Wire

__all__: Final = ["RedisStore", "open_url"]


def open_url(url: StoreUrl, *, blocking: bool, codec: Codec = PLAIN) -> RedisStore:
    """Open a store; `address` says how its URL is written.

    Raises:
        ConfigurationError: the URL is malformed, or has an unknown option.
    """
    settings = Settings.of(url)
    kind = RedisStore
    if settings.cache:
        from .near import NearStore as kind
    return kind(settings, open_wire(settings, blocking=blocking), codec=codec, blocking=blocking)


def open_wire(settings: Settings, *, blocking: bool) -> Wire:
    """Return what reaches the servers of the settings' topology; it connects when it is first used."""
    if settings.topology == "sentinel":
        return SentinelWire(settings, blocking=blocking)
    if settings.topology == "cluster":
        return ClusterWire(settings, blocking=blocking)
    return Single(settings, blocking=blocking)
