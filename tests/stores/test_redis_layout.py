"""The bytes of the Redis store: what is deflated, and what refuses to come back."""

from __future__ import annotations

import secrets
import zlib

import msgspec
import pytest

from sessile.core.record import Undecodable
from sessile.stores.redis import layout
from tests.support.requirements import requirement

TEXT = msgspec.msgpack.encode({"page": "a catalogue of catalogues " * 8})


def test_data_that_is_shorter_deflated_is_kept_so() -> None:
    assert len(layout.deflated(TEXT)) < len(TEXT) / 2
    assert bytes(layout.inflated(memoryview(layout.deflated(TEXT)))) == TEXT


@pytest.mark.parametrize("data", [b"\x80", TEXT[:40], b"\x81\xa1k\xc4\xc8" + secrets.token_bytes(200)])
def test_data_that_would_not_be_shorter_stays_as_it_is(data: bytes) -> None:
    assert layout.deflated(data) == data
    assert bytes(layout.inflated(memoryview(data))) == data


@requirement("R46", "R47")
def test_what_was_not_deflated_by_us_is_refused() -> None:
    """Cut short, continued, garbage, or a bomb: no session, and no memory for it."""
    whole = layout.deflated(TEXT)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    huge = b"\0" + bomb.compress(bytes(layout._LARGEST + 1)) + bomb.flush()
    for spoiled in (whole[:-3], whole + b"x", b"\0", b"\0garbage", huge):
        with pytest.raises(Undecodable):
            layout.inflated(memoryview(spoiled))


def test_keys_name_what_they_are_made_of() -> None:
    names, session_id, owner = layout.Names("app:"), secrets.token_hex(20), layout.owner_of("ada")
    assert names.id_of(names.session(session_id)) == session_id
    assert names.owner(names.index(owner)) == owner
    assert names.is_index(names.index(owner))
    assert not names.is_index(names.session(session_id))
    assert names.id_of(names.index(owner)) is None
    assert names.session(session_id).startswith(names.epoch(session_id)[:-1])
    assert b"ada" not in names.index(owner)
