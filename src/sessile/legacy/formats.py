"""The formats in which old sessions are written: bounded before they are decoded, and none can run code (R47).

    what it is                        how it is known                what happens
    JSON                              decodes, and is an object      read
    MessagePack                       decodes, and is a map          read
    pickle                            its opcodes                    refused: reading it can run code
    zlib                              the caller knows               inflated up to `MAX_BYTES`, then refused
    anything else                     -                              refused

The order is that of the list, so a row that is both JSON and something worse is JSON.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
import zlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

import msgspec

from ..core.legacy import Refusal
from .signatures import b64_urlsafe

MAX_BYTES: Final = 1 << 20
# The first opcodes that pickles begin with: protocol 2 and newer, and what older protocols write for mappings.
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]|\(dp?\d*\n|\}q|c[A-Za-z_]", re.DOTALL)

_messages: Final = msgspec.msgpack.Decoder()


class Lost:
    """Stand for a value that could not be read."""


LOST: Final = Lost()


def read(raw: bytes) -> dict[str, Any] | Refusal:
    """Read a row: JSON or MessagePack, an object with text keys."""
    if len(raw) > MAX_BYTES:
        return Refusal("oversized")
    for decode in (_json, _messages.decode):
        try:
            found = decode(raw)
        except (ValueError, RecursionError, msgspec.DecodeError):
            continue
        if isinstance(found, dict):
            return _with_text_keys(found)  # pyright: ignore[reportUnknownArgumentType]
    return Refusal("pickle" if looks_pickled(raw) else "undecodable")


def read_json(raw: bytes) -> dict[str, Any] | Refusal:
    """Read a JSON object."""
    if len(raw) > MAX_BYTES:
        return Refusal("oversized")
    try:
        found = _json(raw)
    except (ValueError, RecursionError):
        return Refusal("pickle" if looks_pickled(raw) else "undecodable")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else Refusal("undecodable")


def looks_pickled(raw: bytes) -> bool:
    """Tell whether bytes look like a pickle. It is for the message alone: what is none of ours is refused anyway."""
    return raw.endswith(b".") and _PICKLE.match(raw) is not None


def inflate(raw: bytes) -> bytes | Refusal:
    """Inflate what zlib has deflated, up to `MAX_BYTES`."""
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(raw, MAX_BYTES + 1)
    except zlib.error:
        return Refusal("undecodable")
    if len(found) > MAX_BYTES or inflater.unconsumed_tail:
        return Refusal("oversized")
    # Bytes behind the end are no part of what was written.
    return found if inflater.eof and not inflater.unused_data else Refusal("undecodable")


def payload(text: str) -> bytes | Refusal:
    """Return the bytes of a base64url payload, inflated if it begins with a dot, as itsdangerous and Django write."""
    raw = b64_urlsafe(text[1:] if text.startswith(".") else text)
    if raw is None:
        return Refusal("undecodable")
    return inflate(raw) if text.startswith(".") else raw


def _json(raw: bytes) -> Any:
    return json.loads(raw.decode())


def _with_text_keys(found: dict[Any, Any]) -> dict[str, Any]:
    """Return the mapping as sessions know it: JSON libraries write whole numbers as text, others are not readable."""
    return {
        key if isinstance(key, str) else str(key) if type(key) is int else f"?{number}": value
        if isinstance(key, str) or type(key) is int
        else LOST
        for number, (key, value) in enumerate(found.items())
    }


# -- Flask's tags ------------------------------------------------------------------------------------------------------


def _markup(text: str) -> Any:
    try:
        from markupsafe import Markup
    except ImportError:
        return text
    return Markup(text)  # noqa: S704  (it was markup when the application signed it)


def _bytes(text: str) -> bytes:
    raw = b64_urlsafe(text.rstrip("=").replace("+", "-").replace("/", "_"))
    if raw is None:
        raise ValueError("not base64")
    return raw


def _date(text: str) -> dt.datetime:
    return parsedate_to_datetime(text).replace(tzinfo=dt.UTC)


ESCAPED: Final = " di"
_TAGS: Final[dict[str, Callable[[Any], Any]]] = {
    " t": tuple,
    " b": _bytes,
    " m": _markup,
    " u": lambda text: uuid.UUID(hex=text),
    " d": _date,
}


def untag(value: Any) -> Any:
    """Return what Flask's TaggedJSONSerializer wrote; `LOST` for a tag that is not Flask's own, or too deep a value."""
    try:
        return _untagged(value)
    except RecursionError:  # JSON is read deeper than it can be walked
        return LOST


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        items = [_untagged(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return LOST if any(item is LOST for item in items) else items
    if not isinstance(value, dict):
        return value
    given = cast("dict[str, Any]", value)
    if len(given) == 1:
        ((key, item),) = given.items()
        if key == ESCAPED and isinstance(item, dict):
            # A mapping that looked like a tag, and was escaped.
            return _mapping({name[:-2]: one for name, one in cast("dict[str, Any]", item).items()})
        if key in _TAGS:
            return _tagged(key, _untagged(item))
        if key.startswith(" "):
            # Flask's own tags begin with a blank, and so do those that applications add; no key that people write does.
            return LOST
    return _mapping(given)


def _mapping(given: dict[str, Any]) -> Any:
    found = {key: _untagged(item) for key, item in given.items()}
    return LOST if any(item is LOST for item in found.values()) else found


def _tagged(key: str, item: Any) -> Any:
    try:
        return LOST if item is LOST else _TAGS[key](item)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return LOST


def split(data: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Part what was read from the keys of what was not."""
    lost = tuple(key for key, value in data.items() if value is LOST)
    return {key: value for key, value in data.items() if value is not LOST}, lost
