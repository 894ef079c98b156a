"""The keys that sign signals: one for all nodes, sealed, turned over without a gap (R79)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import KeySet

from sessile import Sessions
from sessile.auth.ground import Ground
from sessile.auth.signals.keys import DAY, LEAD, OVERLAP, PERIOD, SignalKeys
from sessile.auth.vaults import open_vault
from sessile.core.bridge import drive
from sessile.errors import StoreSchema
from sessile.testing.clock import FrozenClock
from tests.auth.signals.signal_bench import RING, group
from tests.support.requirements import requirement

pytestmark = requirement("R79")


def _node(clock: FrozenClock, vault: Any, ring: Any = RING) -> SignalKeys:
    return SignalKeys(Ground(Sessions("memory://", keys=ring, clock=clock, sinks=()), vault))


def _vault() -> Any:
    return open_vault("memory://", blocking=True)


def _kids(keys: SignalKeys) -> list[str]:
    return [key["kid"] for key in json.loads(drive(keys.jwks(frozenset({"ES256"}))))["keys"]]


def test_nodes_share_one_key_and_turn_it_over_with_an_overlap() -> None:
    """A next one is published a day before it signs, and the old one a day after."""
    clock = FrozenClock()
    vault = _vault()
    one, other = _node(clock, vault), _node(clock, vault)
    first = drive(one.signer("ES256")).kid
    assert drive(other.signer("ES256")).kid == first
    assert _kids(one) == _kids(other) == [first]
    clock.advance(PERIOD - LEAD)
    assert drive(one.signer("ES256")).kid == first
    _, second = _kids(other)
    clock.advance(LEAD)
    assert {drive(node.signer("ES256")).kid for node in (one, other)} == {second}
    assert _kids(one) == [first, second]
    clock.advance(OVERLAP + DAY)
    drive(one.signer("ES256"))
    clock.advance(61)
    assert _kids(other) == [second]


def test_each_algorithm_has_a_line_of_its_own() -> None:
    """RS256 for the profile beside ES256; a turn of one leaves the other as it is."""
    node = _node(FrozenClock(), "memory://")
    ec, rsa = (drive(node.signer(name)).kid for name in ("ES256", "RS256"))
    drive(node.rotate("ES256", at_once=True))
    assert drive(node.signer("ES256")).kid != ec
    assert drive(node.signer("RS256")).kid == rsa
    assert ec in _kids(node)


def test_no_key_lies_open_in_the_vault() -> None:
    """It is sealed with the ring of the sessions; another ring cannot read it."""
    from sessile.core.keys import KeyRing

    clock = FrozenClock()
    vault = _vault()
    node = _node(clock, vault)
    drive(node.signer("ES256"))
    item = drive(vault.get("signals:keys"))
    assert item is not None
    assert b"PRIVATE" not in item.value
    with pytest.raises(StoreSchema):
        drive(_node(clock, vault, KeyRing({0: bytes(32)})).signer("ES256"))
    assert "PRIVATE" not in repr(node)


async def test_a_signal_that_waited_over_a_turn_is_signed_by_the_key_of_then() -> None:
    """It is signed when it is sent."""
    a, b = group("a", "b")
    there = await b.login()
    await a.logout(await a.login())
    await a.signals.rotate(at_once=True)
    assert (await a.deliver()).delivered == 1
    assert await b.user(there) is None
    sent = next(body for _, url, _, body in a.network.log if url.endswith("/push/a"))
    keys = KeySet.import_key_set(json.loads((await a.ask("GET", "/jwks.json")).body))
    assert jws.deserialize_compact(sent, keys, ["ES256"]).headers()["typ"] == "secevent+jwt"
