"""`sessile keygen`: make a token key, or put a new one in front of a ring."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer

from ..core.keyfile import ENVIRONMENT
from ..core.keys import MAX_KEY_ID, KeyRing, generate
from ..errors import ConfigurationError
from .output import is_terminal, note, say


def keygen(
    key_id: Annotated[
        int | None,
        typer.Option("--id", min=0, max=MAX_KEY_ID, metavar="N", help="The key's id. Default: the first free one."),
    ] = None,
    ring: Annotated[
        str | None,
        typer.Option(
            "--ring",
            metavar="VARIABLE",
            help="Name of an environment variable that holds a ring; prints it with the new key in front.",
        ),
    ] = None,
) -> None:
    """Make a token key."""
    if ring is None:
        say(generate(0 if key_id is None else key_id))
        if is_terminal():
            note(f"\nKeep it secret, the same for every process: export {ENVIRONMENT}=<key>, or pass keys=… in code.")
            note(f"To replace it later: sessile keygen --ring {ENVIRONMENT}")
        return
    written = _written(ring)
    known = KeyRing.parse(written)
    free = [number for number in range(MAX_KEY_ID + 1) if number not in known.ids]
    if key_id in known.ids:
        raise ConfigurationError(f"key id {key_id} stands in the ring already; leave --id out to take a free one")
    if not free:
        raise ConfigurationError("the ring holds every id there is; drop its oldest keys first")
    say(",".join([generate(free[0] if key_id is None else key_id), *re.split(r"[\s,]+", written)]))
    if is_terminal():
        note("\nThe first key signs, all of them verify: nobody is logged out. When processes are replaced one by one,")
        note("give all of them the new key as the last of the ring first, and put it in front afterwards.")
        note("Drop the oldest key when the absolute timeout has passed.")


def _written(variable: str) -> str:
    # What was meant for the variable's place may be the ring itself: it is never repeated.
    text = os.environ.get(variable, "").strip()
    if not text:
        raise ConfigurationError(
            "--ring takes the name of an environment variable that holds a ring; this one does not"
        )
    return text
