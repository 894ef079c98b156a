"""Sessions in Redis or Valkey: for many machines, either door; Redis 7.0 and newer, any Valkey, no module.

What it promises
- A load is one MGET, a save one script, a touch one script. What is asked on an event loop while all connections are
  idle leaves at once; whatever else is asked in that turn travels in one write behind it. Nothing is repeated that
  might have been done already.
- A save replaces the version it was made from, or is merged again with what is there: no update is lost, and nothing
  that has ended comes back.
- On one server and behind Sentinels a sign-in is one script: the new session, the user's index, the limit and the end
  of the old session, all or nothing. On a cluster the steps are ordered so that a crash leaves an entry of the index
  without a session, never the reverse, and so that "end all" meets a sign-in either before or after it.
- An end is reported as confirmed when every replica that could take over has it; without replicas, when the server
  keeps what it acknowledged (append-only file), or keeps nothing at all. An end that is not confirmed, or failed, is
  made again by this process until it is, and every end of the last two minutes is made again where another server
  takes over.
- A primary that neither a majority of the Sentinels (of the cluster's primaries) nor all its replicas vouch for is
  not used: within 1.5 s every verb raises `StoreUnavailable`. `?lease=0` switches that off.
- Lifetimes are relative: the clocks of the application and of the server need not agree. What Redis evicts, and
  whatever of a lost epoch is left, is no session any more.

What it cannot do: keep what only a primary knew when that dies. A sign-in or a save may be lost then, an end that was
confirmed may not. A process that dies takes its journal along: an unconfirmed end may then come back with a failover.
"""

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
