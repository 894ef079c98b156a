"""How small items are written in the vault: MessagePack arrays whose first field is the schema's number."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from ..errors import StoreSchema

SCHEMA: Final = 1


class Stored(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Be what every item of the vault begins with."""

    schema: int = SCHEMA


T = TypeVar("T", bound=Stored)


def read(kind: type[T], value: bytes) -> T:
    """Return an item of the vault.

    Raises:
        StoreSchema: it is not one that this version wrote. Nobody passes (R45).
    """
    try:
        found = msgspec.msgpack.decode(value, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise StoreSchema("an item in the vault cannot be read") from None
    if found.schema != SCHEMA:
        raise StoreSchema("an item in the vault is of another version")
    return found


def written(item: Stored) -> bytes:
    """Return an item as the vault keeps it."""
    return msgspec.msgpack.encode(item)
