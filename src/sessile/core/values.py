"""How the application's values travel: MessagePack, typed, bounded; no decoder here can run code (R47).

What MessagePack knows travels as itself. What Python programs also keep in sessions travels as an extension with its
own type, and comes back as that type: tuple, set, frozenset, datetime, date, time, timedelta, UUID, Decimal, large
integers and markup that is safe to print. Any other type is an error that names the key, never a silent change of type.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from ..errors import ValueTooDeep, ValueUnsupported

MAX_DEPTH: Final = 32
ATOMS: Final = frozenset({str, int, float, bool, bytes, type(None)})

_TUPLE, _SET, _FROZENSET, _INT, _DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL, _MARKUP = range(1, 12)
_INT64_MIN: Final = -(1 << 63)
_UINT64_MAX: Final = (1 << 64) - 1

_encode: Final = msgspec.msgpack.Encoder().encode


def _text(value: Any) -> bytes:
    return str(value).encode()


_TO_TEXT: Final[dict[type, tuple[int, Callable[[Any], bytes]]]] = {
    dt.datetime: (_DATETIME, lambda value: value.isoformat().encode()),
    dt.date: (_DATE, lambda value: value.isoformat().encode()),
    dt.time: (_TIME, lambda value: value.isoformat().encode()),
    dt.timedelta: (_TIMEDELTA, lambda value: b"%d %d %d" % (value.days, value.seconds, value.microseconds)),
    uuid.UUID: (_UUID, lambda value: value.bytes),
    Decimal: (_DECIMAL, _text),
}


def encode(key: str, value: Any) -> bytes:
    """Encode the value of `key`.

    Raises:
        ValueUnsupported: it holds a type that cannot travel, or a text that is not Unicode.
        ValueTooDeep: it is nested deeper than `MAX_DEPTH`.
    """
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    try:
        if kind in ATOMS:
            if kind is int and not _INT64_MIN <= value <= _UINT64_MAX:
                return _encode(_portable(key, value, 0))
            return _encode(value)
        return _encode(_portable(key, value, 0))
    except UnicodeEncodeError as error:
        raise ValueUnsupported(key, "a text holds surrogates, which is not Unicode") from error


def check_key(key: str) -> None:
    """Refuse a key that no store can hold.

    Raises:
        ValueUnsupported: it is not Unicode.
    """
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ValueUnsupported(key, "a key holds surrogates, which is not Unicode") from error


def _portable(key: str, value: Any, depth: int) -> Any:
    """Return the value with every type that MessagePack does not know turned into its extension."""
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in ATOMS:
        if kind is int and not _INT64_MIN <= value <= _UINT64_MAX:
            return msgspec.msgpack.Ext(_INT, _digits(key, value))
        return value
    if depth >= MAX_DEPTH:
        raise ValueTooDeep(key, f"nested deeper than {MAX_DEPTH} levels")
    if kind is dict:
        return {_portable_key(key, name): _portable(key, item, depth + 1) for name, item in value.items()}
    if kind is list:
        return [_portable(key, item, depth + 1) for item in value]
    if kind in _TO_TEXT:
        code, write = _TO_TEXT[kind]
        return msgspec.msgpack.Ext(code, write(value))
    sequence = _TUPLE if kind is tuple else _SET if kind is set else _FROZENSET if kind is frozenset else None
    if sequence is not None:
        items = [_portable(key, item, depth + 1) for item in value]
        if sequence != _TUPLE:
            items.sort(key=_encode)  # one spelling per set, so that an unchanged one compares equal
        return msgspec.msgpack.Ext(sequence, _encode(items))
    return _portable_subclass(key, value, depth)


def _digits(key: str, value: int) -> bytes:
    try:
        return b"%d" % value
    except ValueError as error:  # longer than the interpreter converts, and it could not be read back either
        raise ValueUnsupported(key, "a whole number has too many digits") from error


def _portable_key(key: str, name: Any) -> Any:
    if type(name) is str or (type(name) is int and _INT64_MIN <= name <= _UINT64_MAX):
        return name
    if isinstance(name, str):
        return str.__str__(name)
    raise ValueUnsupported(key, f"a mapping inside has a key of type {type(name).__name__}; use text or whole numbers")


def _portable_subclass(key: str, value: Any, depth: int) -> Any:
    """Handle subclasses by their base, so that lazy strings, enums of text or ordered dicts need no thought."""
    if isinstance(value, str):
        html: Callable[[], Any] | None = getattr(value, "__html__", None)
        return str.__str__(value) if html is None else msgspec.msgpack.Ext(_MARKUP, str(html()).encode())
    if isinstance(value, int):
        return _portable(key, int(value), depth)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return _portable(key, dict(value), depth)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list):
        return _portable(key, list(value), depth)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)  # pyright: ignore[reportUnknownArgumentType]
    if hasattr(value, "__html__"):
        return msgspec.msgpack.Ext(_MARKUP, str(value.__html__()).encode())
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ValueUnsupported(
        key, f"{name} cannot be stored in a session; store its parts (text, numbers, lists, dicts, dates)"
    )


def _markup(text: str) -> str:
    try:
        from markupsafe import Markup
    except ImportError:
        return text
    return Markup(text)  # noqa: S704  (it was markup when it was stored, by this application, under our tag)


def _revive(code: int, data: memoryview) -> Any:
    raw = bytes(data)
    match code:
        case 1:
            return tuple(_decoder.decode(raw))
        case 2:
            return set(_decoder.decode(raw))
        case 3:
            return frozenset(_decoder.decode(raw))
        case 4:
            return int(raw)
        case 5:
            return dt.datetime.fromisoformat(raw.decode())
        case 6:
            return dt.date.fromisoformat(raw.decode())
        case 7:
            return dt.time.fromisoformat(raw.decode())
        case 8:
            days, seconds, microseconds = raw.split()
            return dt.timedelta(int(days), int(seconds), int(microseconds))
        case 9:
            return uuid.UUID(bytes=raw)
        case 10:
            return Decimal(raw.decode())
        case 11:
            return _markup(raw.decode())
        case _:
            raise ValueError(f"extension {code} is unknown")


_decoder: Final = msgspec.msgpack.Decoder(ext_hook=_revive)


def decode(raw: msgspec.Raw | bytes) -> Any:
    """Decode one value by the one decoder there is.

    Raises:
        ValueError: the bytes are no value (also msgspec's decode errors, which are ValueErrors).
    """
    try:
        return _decoder.decode(raw)
    except (RecursionError, ArithmeticError, TypeError) as error:
        raise ValueError("not a stored value") from error
