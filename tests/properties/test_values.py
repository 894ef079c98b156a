"""Values: what goes into a session comes out with its type, and what cannot travel is named by its key."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessile.core import values
from sessile.core.record import Undecodable, decode_control, decode_data, decode_tombstone, encode_control
from sessile.core.session import anonymous
from sessile.errors import DataError, ValueTooDeep, ValueUnsupported
from tests.support.requirements import requirement

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
ZONES = st.none() | st.timedeltas(min_value=dt.timedelta(hours=-23), max_value=dt.timedelta(hours=23)).map(dt.timezone)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63 - 2, max_value=2**64 + 2),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(max_size=20),
    st.datetimes(timezones=ZONES),
    st.dates(),
    st.times(timezones=ZONES),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
)
HASHABLE = st.recursive(ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(TEXT | st.integers(-(2**63), 2**64 - 1), inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Compare values and, all the way down, their types."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (set, frozenset)):
        return left == right and sorted(map(repr, map(type, left))) == sorted(map(repr, map(type, right)))
    return bool(left == right)


@requirement("R47")
@given(VALUES)
@example(Decimal("-0.00"))
@example(Decimal("Infinity"))
@example(dt.datetime(2024, 10, 27, 2, 30, fold=1))
@example(-(2**63) - 1)
@example({1: "a", "1": "b"})
@example((1, [2, {3: (4,)}]))
def test_supported_values_come_back_with_their_types(value: Any) -> None:
    """A round trip changes neither value nor type, at any depth."""
    assert same(values.decode(values.encode("key", value)), value)


@given(VALUES)
def test_an_unchanged_value_encodes_to_the_same_bytes(value: Any) -> None:
    """Decoding and encoding again gives the same bytes, so that what was only read is not written."""
    encoded = values.encode("key", value)
    assert values.encode("key", values.decode(encoded)) == encoded


def test_not_a_number_and_the_infinities_travel() -> None:
    """Floats without order come back as themselves."""
    assert math.isnan(values.decode(values.encode("key", math.nan)))
    assert values.decode(values.encode("key", -math.inf)) == -math.inf
    assert values.decode(values.encode("key", Decimal("NaN"))).is_nan()


class Opaque:
    """Be something that no serializer knows."""


UNSUPPORTED: list[Any] = [
    Opaque(),
    Opaque,
    object(),
    len,
    complex(1, 2),
    range(3),
    iter([]),
    (one for one in ()),
    Exception("x"),
    {("a", 1): 2},
    {1.5: 2},
    {None: 2},
    {b"key": 2},
    {2**64: 1},
    "\ud800",
    10**5000,
    -(10**5000),
]


@requirement("R47")
@pytest.mark.parametrize(
    "wrap", [lambda one: one, lambda one: [one], lambda one: {"a": (one,)}, lambda one: [{"b": [one]}]]
)
@pytest.mark.parametrize("value", UNSUPPORTED, ids=lambda value: type(value).__name__)
def test_unsupported_values_are_an_error_that_names_the_key(value: Any, wrap: Any) -> None:
    """What cannot travel is refused under the key it stands at, never silently turned into something else."""
    with pytest.raises(ValueUnsupported, match="'cart'") as caught:
        values.encode("cart", wrap(value))
    assert caught.value.key == "cart"


@requirement("R47")
@given(VALUES, st.integers(33, 2000), st.sampled_from([list, tuple, dict]))
def test_deep_values_are_an_error_that_names_the_key(value: Any, depth: int, kind: type) -> None:
    """Depth is bounded, and a bound that is exceeded never becomes a RecursionError."""
    for _ in range(depth):
        value = {"a": value} if kind is dict else kind([value])
    with pytest.raises(ValueTooDeep, match="'cart'"):
        values.encode("cart", value)


def test_a_value_that_holds_itself_is_too_deep() -> None:
    """A cycle meets the depth limit."""
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueTooDeep, match="'cart'"):
        values.encode("cart", cycle)


@requirement("R46", "R47")
@given(st.binary(max_size=200))
@example(b"\x91" * 5000)
@example(b"\xc7\x00\x09")
@example(b"\xd4\x0a\x00")
@example(b"\xd4\x08\x00")
@example(b"\xd4\x02\x91")
@example(b"\xc7\x02\x02\x91\x90")
@example(b"\xc7\x04\x02\x91\x81\x01\x02")
@example(b"\xd6\xff\xff\xff\xff\xff")
def test_decoding_any_bytes_raises_only_value_errors(raw: bytes) -> None:
    """Whatever stands in a store, decoding a value answers or raises ValueError."""
    with contextlib.suppress(ValueError):
        values.decode(raw)


@requirement("R46")
@given(st.binary(max_size=300))
@example(b"\x91" * 5000)
@example(encode_control(anonymous(1.0))[:-1])
@example(encode_control(anonymous(1.0)) + b"\xc0")
def test_decoding_a_record_of_any_bytes_raises_only_undecodable(raw: bytes) -> None:
    """There is one way to say that bytes are no record."""
    for decode in (decode_control, decode_data, decode_tombstone):
        with contextlib.suppress(Undecodable):
            decode(raw)


@given(TEXT, VALUES)
def test_data_errors_are_one_family(key: str, value: Any) -> None:
    """What an application catches for its data is DataError, whichever limit was met."""
    with pytest.raises(DataError):
        values.encode(key, [value, Opaque()])


def test_uuid_subclasses_and_enums_are_named_or_based() -> None:
    """A subclass of text or number travels as its base; one of anything else is named."""

    class Mine(uuid.UUID):
        pass

    class Title(str):
        __slots__ = ()

    with pytest.raises(ValueUnsupported, match="Mine"):
        values.encode("key", Mine(int=1))
    assert type(values.decode(values.encode("key", Title("x")))) is str


def test_a_key_that_is_an_enum_of_text_travels_as_its_text() -> None:
    """Keys inside a mapping follow the same rule as values: the text, not what `str()` of the enum says."""

    class Colour(str, enum.Enum):  # noqa: UP042  (not StrEnum: its str() is another text)
        RED = "red"

    assert values.decode(values.encode("key", {Colour.RED: Colour.RED})) == {"red": "red"}
