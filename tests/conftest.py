"""What every test gets."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark that `tests.support.requirements.requirement` sets."""
    config.addinivalue_line("markers", "requirement(*numbers): the requirements that this test shows")


# What starts servers, or as many processes as a race needs, is left out of `make quick`.
_WITH_SERVERS = (
    "stores/test_redis",
    "stores/test_near",
    "stores/test_memcached",
    "stores/test_sql.",
    "stores/test_sql_",
    "stores/test_moving",
    "stores/test_review_networked",
    "auth/test_vaults_",
    "auth/test_throttle_processes",
    "legacy/",
    "support/test_servers",
    "failure/",
)


def _with_servers(path: Path) -> bool:
    return any(f"/tests/{place}" in path.as_posix() for place in _WITH_SERVERS)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import nothing of what would be left out as a whole: it takes seconds."""
    return True if _is_quick(config) and collection_path.suffix == ".py" and _with_servers(collection_path) else None


def _is_quick(config: pytest.Config) -> bool:
    return "not slow" in config.option.markexpr


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of networked stores as slow."""
    for item in items:
        if _with_servers(item.path):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio alone; a test that also promises trio overrides this."""
    return "asyncio"
