"""The record: how it is encoded, how a change is merged, what is refused."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from sessile.core import values
from sessile.core.factors import Factor
from sessile.core.record import (
    Change,
    Context,
    Control,
    EndReason,
    Line,
    Record,
    Superseded,
    Tombstone,
    Undecodable,
    apply,
    clashes,
    decode_control,
    decode_data,
    decode_tombstone,
    encode_control,
    encode_data,
    encode_tombstone,
)
from tests.support.requirements import requirement

CONTROL = Control(
    1,
    1.0,
    2.0,
    3.0,
    generation=4,
    line=Line(b"head", 5.0, (b"head", b"b"), (Superseded(b"c", 6.0),)),
    previous=Line(b"old", 0.5),
    user="ada",
    factors=(Factor("password", 2.0),),
    pending=True,
    challenged=True,
    user_key="user_id",
    context=Context(b"\x00net", "Firefox", "Linux"),
    place="Oslo",
)
ONE, TWO = values.encode("k", 1), values.encode("k", [2])
RECORD = Record(CONTROL, {"a": ONE, "b": TWO}, 10.0, 20.0, 3, 7)


def test_everything_comes_back_as_it_was() -> None:
    """Control, data and tombstone survive encoding, all parts in use."""
    assert decode_control(encode_control(CONTROL)) == CONTROL
    assert decode_control(memoryview(encode_control(CONTROL))) == CONTROL
    assert {key: bytes(raw) for key, raw in decode_data(encode_data(RECORD.data)).items()} == RECORD.data
    assert encode_data(decode_data(encode_data(RECORD.data))) == encode_data(RECORD.data)
    tombstone = Tombstone(EndReason.REPLAY, 1.0, 2.0, "ada")
    assert decode_tombstone(encode_tombstone(tombstone)) == tombstone


@requirement("R46")
@pytest.mark.parametrize(
    "raw", [b"", b"\xc0", b"\x90", b"\x80", b"{}", encode_control(CONTROL)[:-3], encode_control(CONTROL) + b"\x00"]
)
def test_what_is_no_control_is_refused(raw: bytes) -> None:
    """By the one decoder there is; trailing bytes are damage, too."""
    with pytest.raises(Undecodable, match="control"):
        decode_control(raw)


@requirement("R46")
def test_a_schema_of_another_version_is_refused() -> None:
    """A record of the future is not guessed at."""
    with pytest.raises(Undecodable, match="schema"):
        decode_control(encode_control(replace(CONTROL, schema=2)))


@requirement("R46")
@pytest.mark.parametrize("raw", [b"", b"\x90", b"\x81\x01\x02", b"\x81\xa1a", msgspec.msgpack.encode([1])])
def test_what_is_no_map_of_text_keys_is_refused(raw: bytes) -> None:
    """Data is a map from text, or nothing."""
    with pytest.raises(Undecodable, match="data"):
        decode_data(raw)
    with pytest.raises(Undecodable, match="tombstone"):
        decode_tombstone(raw)


@requirement("R43", "R44")
def test_a_change_moves_what_it_names_and_nothing_else() -> None:
    """Keys are put and dropped, versions count, times only move forward."""
    after = apply(RECORD, Change(seen_at=11.0, expires_at=5.0, put={"c": ONE}, drop=frozenset({"a", "not there"})))
    assert dict(after.data) == {"b": TWO, "c": ONE}
    assert (after.seen_at, after.expires_at, after.revision, after.version) == (11.0, 20.0, 3, 8)
    assert after.control is CONTROL
    assert dict(RECORD.data) == {"a": ONE, "b": TWO}
    touched = apply(RECORD, Change(seen_at=9.0, expires_at=30.0))
    assert (touched.seen_at, touched.expires_at, touched.revision, touched.version) == (10.0, 30.0, 3, 7)
    assert touched.data is RECORD.data
    rotated = apply(RECORD, Change(seen_at=9.0, expires_at=1.0, control=replace(CONTROL, generation=5), revision=3))
    assert (rotated.control.generation, rotated.revision, rotated.version) == (5, 4, 7)


def test_a_key_that_is_put_and_dropped_is_put() -> None:
    """The later intent of one request wins."""
    assert (
        dict(apply(RECORD, Change(seen_at=1.0, expires_at=1.0, put={"a": TWO}, drop=frozenset({"a"}))).data)["a"] == TWO
    )


@requirement("R43")
@pytest.mark.parametrize(
    ("expect", "keys"),
    [
        (None, ()),
        ({}, ()),
        ({"a": ONE}, ()),
        ({"a": TWO}, ("a",)),
        ({"z": None}, ()),
        ({"a": None}, ("a",)),
        ({"z": ONE, "b": TWO}, ("z",)),
    ],
)
def test_expectations_are_compared_by_bytes_and_absence(
    expect: dict[str, bytes | None] | None, keys: tuple[str, ...]
) -> None:
    """A key clashes if it holds other bytes, is there unexpectedly, or is missing."""
    assert clashes(RECORD.data, Change(seen_at=0.0, expires_at=0.0, expect=expect)) == keys
