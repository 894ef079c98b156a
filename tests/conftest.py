"""What every test gets."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark that `tests.support.requirements.requirement` sets."""
    config.addinivalue_line("markers", "requirement(*numbers): the requirements that this test shows")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio alone; a test that also promises trio overrides this."""
    return "asyncio"
