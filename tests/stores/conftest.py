"""The stores' contract is public and knows no marks: here its docstrings' requirements become marks."""

from __future__ import annotations

import re

import pytest

from sessile.testing import StoreContract
from tests.support.requirements import requirement


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each inherited test with the numbers in its docstring, such as (R42)."""
    for item in items:
        if isinstance(item, pytest.Function) and isinstance(item.cls, type) and issubclass(item.cls, StoreContract):
            numbers = re.findall(r"\bR\d+\b", item.obj.__doc__ or "")
            if numbers:
                item.add_marker(requirement(*numbers))
