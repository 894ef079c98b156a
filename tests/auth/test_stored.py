"""What stands in the vault is read, or refused by its own error, whatever it is."""

from __future__ import annotations

import pytest

from sessile.auth.recovery.items import Kept
from sessile.auth.stored import read, written
from sessile.auth.tokens import Clients, Endpoints
from sessile.auth.vault import Write
from sessile.core.bridge import drive
from sessile.errors import StoreSchema
from tests.auth.token_bench import Bench, asked
from tests.support.requirements import requirement

WHOLE = written(Kept(key=0, hashes=(b"hash",), created_at=1.0))
# The array says that it has one field more, and that one is nested without end.
DEEP = bytes([WHOLE[0] + 1]) + WHOLE[1:] + b"\x91" * 100_000


@pytest.mark.parametrize("value", [b"", b"\xc1", WHOLE[:-1], DEEP, b"\x92\x01\xa1\xff"], ids=range(5))
def test_what_cannot_be_read_is_refused_by_its_own_error(value: bytes) -> None:
    assert read(Kept, WHOLE).hashes == (b"hash",)
    with pytest.raises(StoreSchema):
        read(Kept, value)


@requirement("R45")
@pytest.mark.parametrize(
    "value",
    [b"", b"\xc1", b"\x92\x01", b"\x92\x01\xc0", b"\x92\x01\xa1\xff", b"\x92\x02\xa1x", b"\x80", b"\x91" * 100_000],
    ids=range(8),
)
def test_one_wrong_item_stops_the_list_of_ends_by_its_own_error(value: bytes) -> None:
    """A list that left the item out would bring a revoked token back for everybody who verifies offline."""
    bench = Bench()
    text = drive(bench.issue(drive(bench.sign_in())))
    assert bench.tokens.revoke(text, "web")
    [item] = drive(bench.ground.vault.of_user("", "revoked:"))
    assert drive(bench.ground.vault.write(Write(item.key, value, item.version, "", item.expires_at)))
    with pytest.raises(StoreSchema):
        bench.tokens.ended()
    assert Endpoints(bench.tokens, Clients()).ended(asked()).status == 503
    assert not drive(bench.is_active(text))
