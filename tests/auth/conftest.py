"""The vaults' contract is public and knows no marks: here its docstrings' requirements become marks."""

from __future__ import annotations

import pytest

from sessile.testing import VaultContract
from tests.support.requirements import mark_inherited


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each inherited test with the numbers in its docstring, such as (R45)."""
    mark_inherited(items, VaultContract)
