"""Values: how each type travels. (Round trips of any value: tests/properties/test_values.py.)"""

from __future__ import annotations

import collections
import datetime as dt
import enum
import subprocess
import sys

import msgspec
import pytest

from sessile.core import values
from sessile.errors import ValueTooDeep, ValueUnsupported
from tests.support.requirements import requirement

UTC = dt.UTC


def travelled(value: object) -> object:
    """Return what comes back."""
    return values.decode(values.encode("key", value))


class Level(enum.IntEnum):
    """Be a number."""

    HIGH = 3


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (Level.HIGH, 3),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.UserString("x").data, "x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (type("Names", (list,), {})([1]), [1]),
        (type("Ratio", (float,), {})(0.5), 0.5),
    ],
)
def test_subclasses_travel_as_their_base(value: object, back: object) -> None:
    """Enums of numbers, ordered and default dicts, buffers: no thought needed, and a plain type comes back."""
    found = travelled(value)
    assert found == back
    assert type(found) is type(back)


def test_what_json_loses_is_kept() -> None:
    """Tuples stay tuples, keys stay numbers, times keep their zone."""
    value = {"when": dt.datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "pair": (1, (2,)), "by": {1: {2, 3}}, "big": 2**80}
    assert travelled(value) == value
    assert type(travelled(value)["pair"]) is tuple  # type: ignore[index]


def test_markup_stays_markup() -> None:
    """What was safe to print is safe to print when it comes back, and was never made so on the way."""
    markupsafe = pytest.importorskip("markupsafe")
    assert type(travelled(markupsafe.Markup("<b>"))) is markupsafe.Markup
    assert type(travelled("<b>")) is str


def test_a_set_has_one_spelling() -> None:
    """However a set was built, its bytes are the same, so an unchanged one is not written."""
    assert values.encode("k", {3, 1, "b", "a"}) == values.encode("k", {"a", "b", 1} | {3})


@requirement("R47")
def test_the_depth_limit_is_where_it_is_said_to_be() -> None:
    """32 levels travel, 33 do not."""
    nested: list[object] = []
    for _ in range(values.MAX_DEPTH - 1):
        nested = [nested]
    assert travelled(nested) == nested
    with pytest.raises(ValueTooDeep, match=r"session\['key'\].*32"):
        values.encode("key", [nested])


@requirement("R47")
def test_no_decoder_runs_code() -> None:
    """A pickle, or an extension that we do not know, is no value."""
    for raw in (b"\x80\x04cos\nsystem\n(S'true'\ntR.", msgspec.msgpack.encode(msgspec.msgpack.Ext(99, b"os.system"))):
        with pytest.raises(ValueError):  # noqa: PT011  (any kind of it)
            values.decode(raw)
    loaded = subprocess.run(
        [sys.executable, "-c", "import sessile.core.engine, sys; print('pickle' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "False"


def test_the_error_names_key_and_type_and_what_to_do() -> None:
    """A developer reads it and knows."""
    with pytest.raises(ValueUnsupported, match=r"session\['now'\].*builtins.complex cannot be stored.*store its parts"):
        values.encode("now", 1j)
