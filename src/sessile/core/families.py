"""Token families: the sessions behind refresh tokens, and what they remember beside a session's own.

A family is a session in the same store, under the same user: devices are listed with it and every end reaches it. Its
token is a session token in another envelope (`TokenMint` with a purpose of its own), so no cookie opens it. One that
was begun from a signed-in session (its parent) lives no longer than that one, and is never proved better.

What marks a family is in Sessile's half of the record, where no application writes.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from . import values
from .record import Control, Record

FAMILY: Final = "_sessile_family"
SCHEMA: Final = 1


class Family(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Hold what a family is for. `parent` is a session id, None for a client that signed in by itself.

    `jkt` is the thumbprint of the key that whoever uses its tokens must prove, None if there is none.
    """

    schema: int
    parent: str | None
    audience: str
    client: str
    scope: str
    jkt: str | None


def is_family(control: Control) -> bool:
    """Tell whether this is Sessile's half of a family."""
    return control.user_key == FAMILY


def family_of(record: Record) -> Family | None:
    """Return what a family is for; None if the record is no family, or what it remembered was damaged."""
    raw = record.data.get(FAMILY)
    if raw is None or not is_family(record.control):
        return None
    try:
        family = msgspec.msgpack.decode(raw, type=Family)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return family if family.schema == SCHEMA else None


def marked(control: Control) -> Control:
    """Return Sessile's half of a new family."""
    return replace(control, user_key=FAMILY)


def written(family: Family) -> bytes:
    """Return what the record holds under `FAMILY`."""
    return values.encode(FAMILY, list(msgspec.to_builtins(family)))


def beneath(record: Record, parent: Control) -> Record:
    """Return a family's record as it counts beside its parent: with no factor that the parent does not have.

    It is for looking only: without its store's mark, no store takes it for what stands there.
    """
    control, names = record.control, {factor.name for factor in parent.factors}
    factors = tuple(factor for factor in control.factors if factor.name in names)
    challenged = control.challenged or parent.challenged or parent.pending
    if factors == control.factors and challenged == control.challenged:
        return record
    return replace(record, control=replace(control, factors=factors, challenged=challenged), etag=None)
