"""Real servers for tests: started on free loopback ports, in directories of their own, ended by pid.

    with redis_server(appendonly="yes") as server:
        redis.Redis(port=server.port)

Each is a context manager. `shared("redis")` starts one for the whole test process (one a worker of xdist) at its first
use and ends it with the process. A server that is not installed is an error that says how it is installed.
"""

from __future__ import annotations

from .memcached import memcached_server
from .process import Server, ServerMissing
from .redises import redis_server, valkey_server
from .replicated import RedisCluster, SentinelSet, redis_cluster, redis_sentinel_set
from .shared import shared
from .sql import mariadb, postgres

__all__ = [
    "RedisCluster",
    "SentinelSet",
    "Server",
    "ServerMissing",
    "mariadb",
    "memcached_server",
    "postgres",
    "redis_cluster",
    "redis_sentinel_set",
    "redis_server",
    "shared",
    "valkey_server",
]
