"""Open the vault that a URL names: `open_vault("sqlite:///accounts.db", blocking=False)`.

memory://                        this process's memory
sqlite:///accounts.db            a file of its own; one machine
postgresql://user@host/database  PostgreSQL; many machines
mariadb://…  mysql://…           MariaDB, MySQL

`SqlVault(engine)` is a vault on the application's own SQLAlchemy Engine or AsyncEngine; `vault_table(metadata)` puts
its table into the metadata that Alembic reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError
from ...stores.sql import missing
from ...stores.url import StoreUrl, seconds
from ..vault import Vault

if TYPE_CHECKING:
    from .sql import SqlVault, vault_table

__all__ = ["SqlVault", "open_vault", "vault_table"]


def open_vault(url: str, *, blocking: bool) -> Vault:
    """Open the vault that `url` names, for the blocking door or for the asynchronous one.

    Opening does not wait: files and connections are opened by the first verb.

    Raises:
        ConfigurationError: the URL names no vault that is known, or an option that it has not.
        ExtraMissing: SQLAlchemy or the driver is not installed.
    """
    parsed = StoreUrl.parse(url)
    if parsed.scheme == "memory":
        return _memory(parsed)
    if parsed.scheme == "sqlite":
        return _sqlite(parsed, blocking=blocking)
    if parsed.scheme in ("postgresql", "mariadb", "mysql"):
        return _sql(parsed, blocking=blocking)
    known = "memory://, sqlite://, postgresql://, mariadb://, mysql://"
    raise ConfigurationError(f"there is no vault {parsed.scheme}://; known are {known}")


def _memory(url: StoreUrl) -> Vault:
    from .memory import MemoryVault

    if url.authority or url.path not in ("", "/"):
        raise ConfigurationError("memory:// takes neither a host nor a path")
    url.options({})
    return MemoryVault()


def _sqlite(url: StoreUrl, *, blocking: bool) -> Vault:
    from .sqlite import SqliteVault

    if url.authority or url.path[1:] in ("", ":memory:"):
        raise ConfigurationError("a vault in SQLite is named like sqlite:///accounts.db")
    return SqliteVault(url.path[1:], blocking=blocking, **url.options({"wait": seconds}))


def _sql(url: StoreUrl, *, blocking: bool) -> Vault:
    extra = "postgresql" if url.scheme == "postgresql" else "mariadb"
    try:
        from .sql import open_url

        return open_url(url, blocking=blocking)
    except ModuleNotFoundError as error:
        raise missing(error, extra, "A vault in SQL") from None


def __getattr__(name: str) -> Any:
    """Import what needs SQLAlchemy when it is asked for."""
    if name not in ("SqlVault", "vault_table"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import sql
    except ModuleNotFoundError as error:
        raise missing(error, "postgresql", "A vault in SQL") from None
    return getattr(sql, name)
