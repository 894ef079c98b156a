"""Say which requirements a test shows: `@requirement("R25", "R26")`."""

from __future__ import annotations

import re
from typing import Final

import pytest

HIGHEST: Final = 101
_NUMBER: Final = re.compile(r"R[1-9][0-9]{0,2}")


def requirement(*numbers: str) -> pytest.MarkDecorator:
    """Mark a test or a class of tests with the requirements of `docs/requirements.toml` that it shows.

    Raises:
        ValueError: no number, or one that is not R1 … R101: a typing error would hide a requirement's test.
    """
    if not numbers:
        raise ValueError("requirement() needs at least one number, such as R25")
    for number in numbers:
        if not _NUMBER.fullmatch(number) or int(number[1:]) > HIGHEST:
            raise ValueError(f"{number!r} is not one of R1 … R{HIGHEST}")
    return pytest.mark.requirement(*numbers)


def mark_inherited(items: list[pytest.Item], contract: type) -> None:
    """Mark each test that a class inherited from a contract with the numbers in its docstring, such as (R42)."""
    for item in items:
        if isinstance(item, pytest.Function) and isinstance(item.cls, type) and issubclass(item.cls, contract):
            numbers = re.findall(r"\bR\d+\b", item.obj.__doc__ or "")
            if numbers:
                item.add_marker(requirement(*numbers))
