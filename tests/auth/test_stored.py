"""What stands in the vault is read, or refused by its own error, whatever it is."""

from __future__ import annotations

import pytest

from sessile.auth.recovery.items import Kept
from sessile.auth.stored import read, written
from sessile.errors import StoreSchema

WHOLE = written(Kept(key=0, hashes=(b"hash",), created_at=1.0))
# The array says that it has one field more, and that one is nested without end.
DEEP = bytes([WHOLE[0] + 1]) + WHOLE[1:] + b"\x91" * 100_000


@pytest.mark.parametrize("value", [b"", b"\xc1", WHOLE[:-1], DEEP, b"\x92\x01\xa1\xff"], ids=range(5))
def test_what_cannot_be_read_is_refused_by_its_own_error(value: bytes) -> None:
    assert read(Kept, WHOLE).hashes == (b"hash",)
    with pytest.raises(StoreSchema):
        read(Kept, value)
