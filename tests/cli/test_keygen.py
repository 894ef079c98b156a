"""`sessile keygen`."""

from __future__ import annotations

import pytest

from sessile import KeyRing
from sessile.core.keys import generate
from tests.cli.conftest import Call
from tests.support.requirements import requirement


@requirement("R1")
def test_a_piped_key_is_a_key_and_nothing_else(sessile: Call) -> None:
    """`export SESSILE_KEYS=$(sessile keygen)` works: one line, no advice beside it."""
    said = sessile("keygen")
    assert said.err == ""
    assert KeyRing.parse(said.out).ids == (0,)
    assert said.out.count("\n") == 1


@requirement("R1")
def test_two_keys_are_never_the_same(sessile: Call) -> None:
    """A key is drawn from the operating system each time."""
    assert sessile("keygen").out != sessile("keygen").out


def test_the_id_is_the_one_asked_for(sessile: Call) -> None:
    """`--id` names the key."""
    assert KeyRing.parse(sessile("keygen", "--id", "7").out).ids == (7,)


def test_a_ring_gets_the_new_key_in_front_and_keeps_the_old_ones(sessile: Call) -> None:
    """The new key signs, what was signed before still verifies."""
    old = f"{generate(3)} {generate(0)}"
    said = sessile("keygen", "--ring", "MY_RING", env={"MY_RING": old})
    ring = KeyRing.parse(said.out)
    assert (ring.newest, ring.ids) == (1, (1, 3, 0))
    assert said.out.strip().split(",")[1:] == old.split()


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        ("", ()),
        ("not-a-ring-but-maybe-secret", ()),
        (generate(4), ("--id", "4")),
        (",".join(map(generate, range(32))), ()),
    ],
    ids=["unset", "no ring", "id taken", "full"],
)
def test_a_ring_that_cannot_be_extended_is_refused_without_repeating_it(
    sessile: Call, value: str, arguments: tuple[str, ...]
) -> None:
    """Error messages end in tickets and logs: no part of a ring may stand in them."""
    said = sessile("keygen", "--ring", "MY_RING", *arguments, env={"MY_RING": value})
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("sessile: ")
    assert said.err.count("\n") == 1
    assert not value or value[3:20] not in said.err


def test_a_ring_given_in_place_of_its_variable_is_not_repeated(sessile: Call) -> None:
    """Who pastes the secret where its variable's name belongs does not find it in the error."""
    ring = generate(0)
    said = sessile("keygen", "--ring", ring)
    assert said.code == 2
    assert ring not in said.err
