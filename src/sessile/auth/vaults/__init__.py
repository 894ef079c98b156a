"""Open the vault that a URL names: `open_vault("sqlite:///accounts.db", blocking=False)`.

memory://                        this process's memory
sqlite:///accounts.db            a file of its own; one machine
postgresql://…  mariadb://…      tables `sessile_…`, through SQLAlchemy, beside the application's or by themselves
"""

from __future__ import annotations

from ...errors import ConfigurationError
from ...stores.url import StoreUrl, seconds
from ..vault import Vault

__all__ = ["open_vault"]


def open_vault(url: str, *, blocking: bool) -> Vault:
    """Open the vault that `url` names, for the blocking door or for the asynchronous one.

    Opening does not wait: files and connections are opened by the first verb.

    Raises:
        ConfigurationError: the URL names no vault that is known, or an option that it has not.
    """
    parsed = StoreUrl.parse(url)
    if parsed.scheme == "memory":
        from .memory import MemoryVault

        parsed.options({})
        return MemoryVault()
    if parsed.scheme == "sqlite":
        from .sqlite import SqliteVault

        if parsed.authority or not parsed.path[1:]:
            raise ConfigurationError("a vault in SQLite is named like sqlite:///accounts.db")
        return SqliteVault(parsed.path[1:], blocking=blocking, **parsed.options({"wait": seconds}))
    raise ConfigurationError(f"there is no vault {parsed.scheme}://; known are memory://, sqlite://")
