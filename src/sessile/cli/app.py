"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import demo, doctor, keygen, migrate, move, policy, sessions, signals

HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="sessile",
    help="Sessions that stay put: make keys, check a configuration, find and end sessions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sessile {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sessions that stay put: make keys, check a configuration, find and end sessions."""


app.command()(demo.demo)
app.command()(keygen.keygen)
app.command()(doctor.doctor)
app.command()(migrate.migrate)
app.command()(move.move)
app.add_typer(sessions.app, name="sessions")
app.add_typer(signals.app, name="signals")
app.command()(policy.policy)
