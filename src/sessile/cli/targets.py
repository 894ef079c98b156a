"""Where `doctor` gets its facts from: an object of the application's, or a store's URL. It starts nothing it need not.

Importing an application runs it: what its own start creates is created. From a URL, nothing is.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ..adapters.discovery import Door, sessions_of
from ..auth.vaults import open_vault
from ..auth.vaults.memory import MemoryVault
from ..auth.vaults.sqlite import SqliteVault
from ..core.bridge import drive
from ..core.keyfile import ENVIRONMENT
from ..core.keys import KeyRing
from ..core.ports import Census, Diagnosable, Diagnosis, Embedded, Epochs, InCookies, Store, UserIndex
from ..core.sessions import AsyncSessions, Sessions, is_production
from ..errors import ConfigurationError, SessileError, StoreError, WouldBlock
from ..stores import open_store
from ..stores.memory import MemoryStore
from ..stores.sqlite import SqliteStore
from .deployment import BridgeFacts, Deployment, FileFacts, FrameworkFacts, KeyFacts, StoreFacts

_DJANGO: Final = "sessile.adapters.django"
_TARGET: Final = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)(\(\))?")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


class Refused(SessileError):
    """Say that the application's own start was refused, and by which error."""

    code = "refused"

    def __init__(self, error: SessileError) -> None:
        super().__init__(str(error))
        self.error = error


def of_object(target: str) -> Deployment:
    """Return the facts of `module:attribute`, or of what `module:factory()` returns.

    Raises:
        Refused: Sessile refused what it was told.
        ConfigurationError: it cannot be imported, or uses no sessions of Sessile's.
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        raise ConfigurationError(
            "a target is written module:attribute, or module:factory() for what a function returns"
        )
    with _noticed() as noticed:
        found: Any = _imported(match[1])
        for name in match[2].split("."):
            if not hasattr(found, name):
                raise ConfigurationError(f"{match[1]} has no attribute {match[2]}")
            found = getattr(found, name)
        if match[3]:
            found = _tried(found, f"calling {match[2]}()")
    door = sessions_of(found)
    if door is None:
        called = "; if it is a factory, write it with ()" if callable(found) and not match[3] else ""
        raise ConfigurationError(f"{target} uses no sessions of Sessile's{called}")
    return replace(of_door(door), framework=_framework(found), warnings=tuple(noticed))


def of_django(settings: str) -> Deployment:
    """Return the facts of a Django project by the module of its settings.

    Raises:
        Refused: Sessile refused what it was told.
        ConfigurationError: it cannot be imported, or uses no sessions of Sessile's.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    with _noticed() as noticed:
        _tried(_imported("django").setup, f"setting up {settings}")
        configured: Any = _imported("django.conf").settings
        if configured.SESSION_ENGINE != _DJANGO:
            raise ConfigurationError(f"{settings} uses no sessions of Sessile's: SESSION_ENGINE is not {_DJANGO!r}")
        door: Door = _tried(_imported(_DJANGO).sessions, "opening the sessions")
        # Django's own checks of what the settings of its sessions contradict.
        checks = [one for one in _imported("django.core.checks").run_checks() if str(one.id).startswith("sessile.")]
    errors = tuple(str(one.msg) for one in checks if one.is_serious())
    noticed += [" ".join(filter(None, (str(one.msg), one.hint))) for one in checks if not one.is_serious()]
    facts = FrameworkFacts("Django", bool(configured.DEBUG))
    return replace(of_door(door), framework=facts, warnings=tuple(noticed), errors=errors)


def of_door(door: Door) -> Deployment:
    """Return the facts of an open door."""
    engine, settings = door.engine, door.settings
    store = engine.store
    file = store.key_file if isinstance(store, Embedded) and settings.ring.development else None
    return Deployment(
        production=settings.production,
        keys=KeyFacts(
            ids=settings.ring.ids, development=settings.ring.development, file=None if file is None else _file(file)
        ),
        store=_store(store),
        policy=engine.policy,
        cookie=engine.cookie,
        proxies=engine.proxies,
        guard=door.guard,
        sinks=tuple(getattr(sink, "__name__", type(sink).__name__) for sink in engine.sinks),
        clear_site_data=settings.clear_site_data,
        development_hosts=settings.development_hosts,
        real_clock=engine.clock is time.time,
        workers=_workers(),
        bridges=tuple(
            BridgeFacts(one.name, one.until, one.until - time.time(), one.on_outage == "ignore")
            for one in (() if engine.adoption is None else engine.adoption.bridges)
        ),
    )


def of_url(url: str) -> Deployment:
    """Return the facts of a store's URL and of the environment's keys; nothing is created.

    Raises:
        ConfigurationError: the URL names no store, or the environment holds no ring.
    """
    store = open_store(url, blocking=True)
    production = is_production()
    written = os.environ.get(ENVIRONMENT, "").strip()
    keys: KeyFacts | None = None
    if written:
        keys = KeyFacts(ids=KeyRing.parse(written).ids)
    elif isinstance(store, Embedded) and not production:
        file = store.key_file
        keys = KeyFacts(ids=(0,), development=True, file=None if file is None else _file(file))
    return Deployment(production=production, keys=keys, store=_store(store), workers=_workers())


def of_vault(url: str) -> StoreFacts:
    """Return the facts of a vault's URL; nothing is created.

    Raises:
        ConfigurationError: the URL names no vault.
    """
    vault = open_vault(url, blocking=True)
    try:
        if isinstance(vault, MemoryVault):
            return StoreFacts(kind="memory")
        if isinstance(vault, SqliteVault):
            return StoreFacts(kind="sqlite", files=_files(vault.path), journal=_journal(vault.path))
        unreachable = Diagnosis("fail", "unreachable", "R45", "the vault did not answer: {}", "Nobody can sign in.")
        return StoreFacts(kind=type(vault).__name__, diagnoses=_diagnosed(vault, unreachable))
    finally:
        drive(vault.close())


def _imported(module: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")
    return _tried(import_module, f"importing {module}", module)


def _tried(function: Any, doing: str, *arguments: str) -> Any:
    """Call what the application wrote; its output does not mix with ours, and its error becomes one line."""
    try:
        with redirect_stdout(sys.stderr):
            return function(*arguments)
    except SessileError as error:
        raise Refused(error) from error
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        raise ConfigurationError(f"{doing} failed: {type(error).__name__}: {said}") from error


@contextmanager
def _noticed() -> Generator[list[str]]:
    noticed: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield noticed
    noticed += dict.fromkeys(str(one.message) for one in caught if "Sessile" in str(one.message))


def _framework(app: object) -> FrameworkFacts | None:
    if isinstance(app, Sessions | AsyncSessions):
        return None
    roots = [kind.__module__.partition(".")[0] for kind in type(app).__mro__]
    names = {"flask": "Flask", "fastapi": "FastAPI", "starlette": "Starlette", "django": "Django"}
    name = next((names[root] for root in roots if root in names), None)
    return None if name is None else FrameworkFacts(name, getattr(app, "debug", False) is True)


def _workers() -> int | None:
    text = os.environ.get("WEB_CONCURRENCY", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


# -- stores and files --------------------------------------------------------------------------------------------------


def _store(store: Store) -> StoreFacts:
    powers = {"index": UserIndex, "epochs": Epochs, "census": Census}
    lacks = frozenset(name for name, power in powers.items() if not isinstance(store, power))
    means = "Every request that carries a session is answered with 503."
    diagnoses = _diagnosed(store, Diagnosis("fail", "store-unreachable", "R45", "the store did not answer: {}", means))
    if isinstance(store, MemoryStore):
        return StoreFacts(kind="memory", lacks=lacks, diagnoses=diagnoses)
    if isinstance(store, InCookies):
        # What it says of itself tells whether sessions end; what they are, nobody can list.
        return StoreFacts(kind="cookie", lacks=frozenset({"census"}), diagnoses=diagnoses)
    if isinstance(store, SqliteStore):
        return StoreFacts(kind="sqlite", lacks=lacks, files=_files(store.path), journal=_journal(store.path))
    return StoreFacts(kind=type(store).__name__, lacks=lacks, diagnoses=diagnoses)


def _diagnosed(store: object, unreachable: Diagnosis) -> tuple[Diagnosis, ...]:
    """Ask a store or a vault what it thinks of its server; it may have been opened for either door."""
    if not isinstance(store, Diagnosable):
        return ()
    try:
        try:
            return drive(store.diagnose())
        except (WouldBlock, RuntimeError):  # it waits for an event loop, or misses one
            return asyncio.run(store.diagnose())
    except StoreError as error:
        return (unreachable._replace(found=unreachable.found.format(error)),)


def _files(database: Path) -> tuple[FileFacts, ...]:
    """Return the facts of a database of SQLite's, and of what it keeps beside it."""
    beside = [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm")]
    return (_file(database), *(_file(path) for path in beside if path.exists()))


def _file(path: Path) -> FileFacts:
    folder = path.parent.stat().st_mode if path.parent.exists() else None
    filesystem = _filesystem(path.parent)
    try:
        found = path.stat()
    except OSError:
        return FileFacts(path.name, None, folder, filesystem=filesystem)
    ours = not hasattr(os, "geteuid") or found.st_uid in (0, os.geteuid())
    return FileFacts(path.name, found.st_mode, folder, ours, filesystem)


def _journal(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    except sqlite3.Error:
        return ""


def _filesystem(folder: Path) -> str:
    """Return the type of the file system that holds `folder`, as Linux tells it; elsewhere ""."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        resolved = folder.resolve()
    except OSError:
        return ""
    kind, longest = "", -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        mount = Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if resolved.is_relative_to(mount) and len(mount.parts) >= longest:
            kind, longest = after.split(" ")[0], len(mount.parts)
    return kind
