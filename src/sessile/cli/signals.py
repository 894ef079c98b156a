"""`sessile signals …`: deliver what is due to other applications, and see what waits.

The signals are an object of the application's, named `module:attribute`: importing it runs the application's own
configuration, with its stores and secrets, and starts no server.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import ConfigurationError, SessileError
from .output import JsonOption, is_terminal, note, relative, say, say_json, say_row, say_table

if TYPE_CHECKING:
    from ..auth.signals import AsyncSignals, Signals

_TARGET: Final = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)(\(\))?")

TargetArgument = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="module:attribute of the application's signals, or module:factory()."),
]

app = typer.Typer(help="Tell other applications of ends.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def deliver(target: TargetArgument, as_json: JsonOption = False) -> None:
    """Deliver what is due now, once, and fetch from those who are polled.

    Exits with 1 if something still waits.
    """
    done, polled = _run(target, lambda signals: (signals.deliver(), signals.poll()))
    counts = {"delivered": done.delivered, "waiting": done.waiting, "given_up": done.given_up}
    counts |= {"taken": polled.taken, "refused": polled.refused}
    if as_json:
        say_json(counts)
    elif is_terminal():
        say(", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in counts.items()))
    else:
        say_row(tuple(map(str, counts.values())))
    if done.waiting:
        raise typer.Exit(1)


@app.command()
def status(target: TargetArgument, as_json: JsonOption = False) -> None:
    """Show how every stream stands: what waits, since when, after how many tries."""
    (states,) = _run(target, lambda signals: (signals.status(),))
    if as_json:
        for one in states:
            say_json(one._asdict())
        return
    now = time.time()
    rows = [
        (
            one.receiver,
            one.stream,
            "push" if one.method == "8935" else "poll",
            one.status,
            str(one.waiting),
            "-" if one.oldest is None else relative(one.oldest, now),
            str(one.tries),
        )
        for one in states
    ]
    if not is_terminal():
        for row in rows:
            say_row(row)
        return
    say_table(("receiver", "stream", "way", "status", "waiting", "since", "tries"), rows, styles=["cyan"] * len(rows))
    if not rows:
        note("No stream: nobody is told.")


@app.command("end-user")
def end_user(
    target: TargetArgument,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user id, as the application signs in with it.")],
    as_json: JsonOption = False,
) -> None:
    """End all sessions of a user here, tell the other applications, and deliver."""
    (ended, done) = _run(target, lambda signals: (signals.flow.ground.sessions.end_all(user), signals.deliver()))
    counts = {"ended": int(ended), "delivered": done.delivered, "waiting": done.waiting}
    if as_json:
        say_json(counts)
    else:
        say(", ".join(f"{name}: {count:,}" for name, count in counts.items()))
    if not ended:
        raise typer.Exit(1)


def _run(target: str, verbs: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    """Call verbs of the application's signals one after the other, whichever door they are."""
    signals = _found(target)

    async def loop() -> tuple[Any, ...]:
        results = verbs(signals)
        done = [await one if inspect.isawaitable(one) else one for one in results]
        await _closed(signals)
        return tuple(done)

    return asyncio.run(loop())


async def _closed(signals: AsyncSignals | Signals) -> None:
    ground = signals.flow.ground
    for part in (signals, ground.sessions):
        closing: Any = part.close()
        if inspect.isawaitable(closing):
            await closing
    await ground.close()


def _found(target: str) -> AsyncSignals | Signals:
    from ..auth.signals import AsyncSignals, Signals

    match = _TARGET.fullmatch(target)
    if match is None:
        raise ConfigurationError("signals are named module:attribute, or module:factory() for what a function returns")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(match[1])
        for name in match[2].split("."):
            found = getattr(found, name)
        found = found() if match[3] else found
    except SessileError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{target} cannot be imported: {type(error).__name__}") from error
    if not isinstance(found, (AsyncSignals, Signals)):
        raise ConfigurationError(f"{target} is neither AsyncSignals nor Signals")
    return found
