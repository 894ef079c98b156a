"""Servers that one test process shares: started at their first use, ended with the process."""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from .memcached import memcached_server
from .redises import redis_server, valkey_server
from .replicated import redis_cluster, redis_sentinel_set
from .sql import mariadb, postgres

_MADE: Final[dict[str, Any]] = {}
_STACK: Final = ExitStack()
# Nobody fails over here, and a machine that stands still for a second must not be taken for a dead one.
_SILENCE: Final = 30.0  # seconds
_KINDS: Final[dict[str, Any]] = {
    "redis": redis_server,
    "valkey": valkey_server,
    "sentinel": partial(redis_sentinel_set, silence=_SILENCE),
    "cluster": partial(redis_cluster, silence=_SILENCE),
    "memcached": memcached_server,
    "postgresql": postgres,
    "mariadb": mariadb,
}
_OWNER: Final = os.getpid()


def shared(kind: str) -> Any:
    """Return the server of that kind which the tests of this process share; they keep out of each other's way.

    `memcacheds` are three of them. Tests that flush, kill or freeze a server start their own.
    """
    if kind not in _MADE:
        if kind == "memcacheds":
            _MADE[kind] = [_STACK.enter_context(memcached_server()) for _ in range(3)]
        else:
            _MADE[kind] = _STACK.enter_context(_KINDS[kind]())
    return _MADE[kind]


def _end() -> None:
    if os.getpid() == _OWNER:  # a child that a test forked must not end its parent's servers
        _STACK.close()


atexit.register(_end)
