"""`sessile move`: move sessions from one store to another while the application runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Annotated, Final

import typer

from ..core.keyfile import ENVIRONMENT
from ..core.keys import KeyRing
from ..core.ports import Census, Store
from ..core.record import PLAIN, Codec
from ..core.sealing import SealedCodec
from ..core.shutouts import standing_until
from ..errors import ConfigurationError
from ..stores import open_store
from ..stores.memory import MemoryStore
from ..stores.moving import Moving
from ..stores.moving.mover import Moved, Mover
from ..stores.sqlite import SqliteStore
from .output import JsonOption, Progress, note, say, say_json, say_pairs
from .store import check_database

_KEYS: Final = ENVIRONMENT


def move(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The store that sessions leave, as a URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The store that they move to, as a URL.")],
    *,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=500, help="How many are moved at a time.")] = 16,
    from_sealed: Annotated[
        bool, typer.Option("--from-sealed", help=f"FROM is encrypted at rest, with the keys in {_KEYS}.")
    ] = False,
    to_sealed: Annotated[
        bool, typer.Option("--to-sealed", help=f"TO is encrypted at rest, with the keys in {_KEYS}.")
    ] = False,
    despite_bridges: Annotated[
        bool,
        typer.Option(
            "--old-cookies-may-be-adopted-again",
            help="Move although bridges to another library's sessions stand before FROM.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Move all sessions from one store to another while the application runs.

    First let every node open moving://?from=FROM&to=TO, so that it looks into both. Nobody is signed out, and what ends
    meanwhile stays ended. It may be stopped at any time and run again. Exits with 1 if something is left in FROM.
    """
    if source == target:
        raise ConfigurationError("FROM and TO are the same store")
    counted = asyncio.run(_move(source, target, at_once, (from_sealed, to_sealed), despite_bridges=despite_bridges))
    if as_json:
        say_json(vars(counted))
    else:
        _say(counted)
    if counted.left or counted.wrong:
        raise typer.Exit(1)


async def _move(source: str, target: str, at_once: int, sealed: tuple[bool, bool], *, despite_bridges: bool) -> Moved:
    codecs = _codecs(*sealed)
    async with contextlib.AsyncExitStack() as stack:
        stores = [
            open_store(url, blocking=False, codec=codec) for url, codec in zip((source, target), codecs, strict=True)
        ]
        for store in stores:
            stack.push_async_callback(store.close)
            if isinstance(store, MemoryStore):
                raise ConfigurationError("memory:// lives and dies inside the application's process")
        if isinstance(stores[0], SqliteStore):
            check_database(stores[0].path)
        with Progress("Moving sessions", lambda: before) as progress:
            mover = Mover(Moving(*stores), at_once=at_once, progress=progress)
            if not despite_bridges:
                await _refuse_bridges(stores[0])
            before = await _live(stores[0])
            return await mover.run()


async def _refuse_bridges(store: Store) -> None:
    until = await standing_until(store)
    if until is not None and until > time.time():
        raise ConfigurationError(
            "bridges to another library's sessions stand before FROM, and what they remember does not move: old "
            "cookies could be adopted again, after a sign-out too; finish with them first"
        )


async def _live(store: Store) -> int | None:
    return (await store.stats(time.time())).live if isinstance(store, Census) else None


def _codecs(*sealed: bool) -> tuple[Codec, ...]:
    if not any(sealed):
        return tuple(PLAIN for _ in sealed)
    written = os.environ.get(_KEYS, "")
    if not written.strip():
        raise ConfigurationError(f"encryption at rest needs the keys: set {_KEYS}")
    codec = SealedCodec(KeyRing.parse(written))
    return tuple(codec if one else PLAIN for one in sealed)


def _say(counted: Moved) -> None:
    rows = [
        ("moved", counted.moved),
        ("verified in the new store", counted.verified),
        ("left waiting by an earlier run, arrived now", counted.arrived),
        ("ended before they could be moved", counted.ended),
        ("written to faster than they could be moved", counted.busy),
        ("held back: they left the new store before", counted.held),
        ("not readable", counted.unreadable),
        ("not what was sent", counted.wrong),
        ("still alive in the old store", counted.left),
    ]
    say_pairs([(name, f"{number:,}") for name, number in rows if number or name in ("moved", rows[1][0])])
    if counted.wrong:
        note("Some sessions are not what was sent: keep both stores, and report this.")
    elif counted.unreadable:
        note(f"Some cannot be read: are --from-sealed and {_KEYS} as the old store needs them?")
    elif counted.left:
        note("Run this again for what is left.")
    else:
        say("Nothing is left to move. When every node opens the new store alone, the old one may go.")
