"""The key ring: how it is written, what it refuses, what it derives."""

from __future__ import annotations

import pytest

from sessile.core.keys import KeyRing, generate
from sessile.errors import ConfigurationError
from tests.support.requirements import requirement

KEY = "A" * 43


def test_a_generated_key_is_read_back() -> None:
    """256 bits, under the id that was asked for."""
    ring = KeyRing.parse(generate(7))
    assert ring.ids == (7,)
    assert generate() != generate()
    assert generate(3, bytes) == f"k3.{KEY}"


@pytest.mark.parametrize(
    "text", [f"k2.{KEY},k1.{'B' * 42}A", f" k2.{KEY} \n\tk1.{'B' * 42}A\n", [f"k2.{KEY}", f"k1.{'B' * 42}A"]]
)
def test_several_keys_are_newest_first(text: str | list[str]) -> None:
    """Commas, white space or a list separate them."""
    ring = KeyRing.parse(text)
    assert ring.ids == (2, 1)
    assert ring.newest == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        f"k{KEY}",
        f"k32.{KEY}",
        f"k1.{KEY[:-1]}",
        f"k1.{KEY},k1.{KEY}",
        f"k1.{KEY},",
        "k1." + "+" * 43,
        f"k-1.{KEY}",
        f"k1 .{KEY}",
        "k1." + "A" * 45,
    ],
)
def test_what_is_no_ring_is_refused_and_not_repeated(text: str) -> None:
    """A wrong key is an error at start that shows nothing of it."""
    with pytest.raises(ConfigurationError) as caught:
        KeyRing.parse(text)
    assert "AAAA" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_short_keys_and_empty_rings_are_refused() -> None:
    """Built from bytes as well."""
    for secrets in ({}, {0: b"short"}, {32: b"x" * 32}, {-1: b"x" * 32}):
        with pytest.raises(ConfigurationError):
            KeyRing(secrets)
    with pytest.raises(ConfigurationError):
        generate(32)


@requirement("R96")
def test_a_ring_shows_its_ids_and_no_secret() -> None:
    """repr names ids alone."""
    assert repr(KeyRing({4: b"secret" * 6})) == "<KeyRing ids [4]>"


def test_each_purpose_has_its_own_key() -> None:
    """What leaks of one purpose's key says nothing of another's."""
    ring = KeyRing({1: b"x" * 32, 0: b"y" * 32})
    keys = [key for purpose in (b"a", b"b") for key in ring.derive(purpose).values()]
    assert len(set(keys)) == 4
    assert all(len(key) == 32 for key in keys)
