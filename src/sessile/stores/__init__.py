"""Open the store that a URL names: `open_store("sqlite:///sessions.db", blocking=False)`.

One module a backend, imported when its scheme is first asked for, so that a missing driver fails at its own door. A
backend offers `open_url(url, *, blocking, codec)`; to add one, write its module and its line in the table.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from ..core.record import PLAIN, Codec
from ..errors import ConfigurationError
from .url import StoreUrl

if TYPE_CHECKING:
    from ..core.ports import Store

_BACKENDS: Final = {
    "memory": "memory",
    "sqlite": "sqlite",
    "redis": "redis",
    "rediss": "redis",
    "redis+unix": "redis",
    "redis+sentinel": "redis",
    "rediss+sentinel": "redis",
    "redis+cluster": "redis",
    "rediss+cluster": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "memcached": "memcached",
    "cookie": "cookie",
    "moving": "moving",
    "postgresql": "sql",
    "mysql": "sql",
    "mariadb": "sql",
}

__all__ = ["open_store"]


def open_store(url: str, *, blocking: bool, codec: Codec = PLAIN) -> Store:
    """Open the store that `url` names, for the blocking door or for the asynchronous one.

    Opening does not wait: files and connections are opened by the first verb. `codec` encodes what the store keeps.

    Raises:
        ConfigurationError: the URL names no store that is known, or an option that its store has not. The message
            repeats neither user names nor passwords.
    """
    parsed = StoreUrl.parse(url)
    backend = _BACKENDS.get(parsed.scheme)
    if backend is None:
        known = ", ".join(f"{scheme}://" for scheme in _BACKENDS)
        raise ConfigurationError(f"there is no store {parsed.scheme}://; known are {known}")
    module = import_module(f".{backend}", __name__)
    return cast("Store", module.open_url(parsed, blocking=blocking, codec=codec))
