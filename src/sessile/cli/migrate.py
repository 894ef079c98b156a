"""`sessile migrate`: make the tables of a SQL store or of a vault in SQL, or bring them up to date."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from ..auth.vaults import open_vault
from ..errors import ConfigurationError
from ..stores import open_store
from .output import JsonOption, say, say_json
from .store import ENVIRONMENT

_SCHEMES: Final = ("postgresql://", "mysql://", "mariadb://")


def migrate(
    url: Annotated[
        str,
        typer.Argument(
            envvar=ENVIRONMENT, metavar="URL", help="The store or vault, as in postgresql://user@host/database."
        ),
    ],
    vault: Annotated[bool, typer.Option("--vault", help="The URL is a vault's: make its tables instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the tables of a SQL store, or with --vault those of a vault, or bring them up to date.

    Safe to run twice, from several machines at once, and while the application is running. Exits with 2 if the tables
    are of a later version of Sessile.
    """
    if not url.startswith(_SCHEMES):
        raise ConfigurationError("only postgresql://, mariadb:// and mysql:// have tables to migrate")
    before, after = asyncio.run(_migrate(url, vault=vault))
    tables = "the vault's tables" if vault else "the session tables"
    if as_json:
        say_json({"before": before, "after": after})
    elif before == after:
        say(f"{tables} are up to date (schema {after})")
    else:
        say(f"{tables} went from schema {before} to {after}" if before else f"made {tables} ({after})")


async def _migrate(url: str, *, vault: bool) -> tuple[int, int]:
    # What is in SQL alone has this power; its module needs SQLAlchemy, which this one must not.
    opened = open_vault(url, blocking=False) if vault else open_store(url, blocking=False)
    from ..stores.sql.database import Database

    assert isinstance(opened, Database)
    try:
        return await opened.migrate()
    finally:
        await opened.close()
