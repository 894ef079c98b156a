"""The short form of the drill: each pair of stores, under traffic, with the mover killed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.moving.drill import KINDS, move
from tests.support.requirements import requirement

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]

PAIRS = [(source, target) for source in KINDS for target in KINDS if source != target]


@requirement("R42", "R43", "R61")
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_nobody_is_signed_out_and_nothing_comes_back(source: str, target: str, tmp_path: Path) -> None:
    seen = move(source, target, 1200, tmp_path, shown=200)
    assert seen.is_kept, seen
    assert seen.people["requests"] > 100
