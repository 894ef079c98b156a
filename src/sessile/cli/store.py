"""A store as operators open it: one that is there already. Nothing is created, no key is needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from ..core.bridge import drive
from ..core.cookies import MAX_AGE_LIMIT
from ..core.keys import KeyRing, generate
from ..core.policy import Policy
from ..core.ports import InCookies
from ..core.sessions import Sessions, data_keys
from ..core.shutouts import Elsewhere, standing_until
from ..errors import ConfigurationError, StoreUnavailable
from ..stores.memory import MemoryStore
from ..stores.memory_revocations import MemoryRevocations
from ..stores.sqlite import SqliteStore
from ..stores.sqlite.file import APPLICATION_ID, unavailable
from ..stores.sqlite.revocations import APPLICATION_ID as ENDS_ID
from ..stores.sqlite.revocations import SqliteRevocations

ENVIRONMENT: Final = "SESSILE_STORE"

StoreOption = Annotated[
    str, typer.Option("--store", envvar=ENVIRONMENT, metavar="URL", help="The store, as in sqlite:///sessions.db.")
]


@contextmanager
def existing(url: str) -> Generator[Sessions]:
    """Open the store that `url` names, for a while.

    The ring is a throw-away: operators' verbs take ids, and no token is read or minted.

    Raises:
        ConfigurationError: the URL names no store, or one that no other process can see, or one that is not there.
        StoreUnavailable: it is there and cannot be read.
    """
    if not url:
        raise ConfigurationError(f"no store is named: give --store URL, or set {ENVIRONMENT}")
    # What is sealed shows as unreadable without its keys; it can be ended all the same.
    sealed = None if url.startswith(("cookie:", "memory:")) else data_keys()
    # Nor is the application's policy known: what ends here is remembered longer than any browser keeps a cookie.
    policy = Policy(absolute=MAX_AGE_LIMIT) if url.startswith("cookie:") else Policy()
    sessions = Sessions(url, keys=KeyRing.parse(generate()), encrypt=sealed or False, policy=policy, sinks=())
    store = sessions.engine.store
    if isinstance(store, InCookies) and isinstance(store.revocations, MemoryRevocations):
        raise ConfigurationError("memory:// lives and dies inside the application's process; nobody else can see it")
    if isinstance(store, InCookies) and isinstance(store.revocations, SqliteRevocations):
        check_database(store.revocations.path, ENDS_ID)
    if isinstance(store, MemoryStore):
        raise ConfigurationError("memory:// lives and dies inside the application's process; nobody else can see it")
    if isinstance(store, SqliteStore):
        check_database(store.path)
    with closing(sessions):
        if not isinstance(store, InCookies):
            # What is ended from here must not come back by a bridge that only the application knows.
            until = drive(standing_until(store))
            if until is not None:
                sessions.engine.take_over((Elsewhere(until),))
        yield sessions


def check_database(path: Path, application_id: int = APPLICATION_ID) -> None:
    """Look whether there is a session database of ours at a path, without making one.

    Raises:
        ConfigurationError: there is none.
        StoreUnavailable: it cannot be read.
    """
    if not path.is_file():
        raise ConfigurationError("there is no session database at this path (it is created by the application)")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            ours = connection.execute("PRAGMA application_id").fetchone()[0] == application_id
    except sqlite3.Error as error:
        raise unavailable(error) from error
    except OSError as error:
        raise StoreUnavailable("the session database cannot be read") from error
    if not ours:
        raise ConfigurationError("the file at this path is not a session database of Sessile's")
