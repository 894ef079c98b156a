"""What tests of applications and stores need: a clock that stands still, a sink that remembers, a contract."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .assertions import assert_not_cacheable, assert_renewed, assert_rotated
    from .client import login, mint_session
    from .clock import FrozenClock, freeze
    from .jars import Minted, session_token
    from .sink import RecordingSink, record
    from .store_contract import StoreContract
    from .vault_contract import VaultContract

__all__ = [
    "FrozenClock",
    "Minted",
    "RecordingSink",
    "StoreContract",
    "VaultContract",
    "assert_not_cacheable",
    "assert_renewed",
    "assert_rotated",
    "freeze",
    "login",
    "mint_session",
    "record",
    "session_token",
]

_WHERE: Final = {
    "FrozenClock": "clock",
    "Minted": "jars",
    "RecordingSink": "sink",
    "StoreContract": "store_contract",
    "VaultContract": "vault_contract",
    "assert_not_cacheable": "assertions",
    "assert_renewed": "assertions",
    "assert_rotated": "assertions",
    "freeze": "clock",
    "login": "client",
    "mint_session": "client",
    "record": "sink",
    "session_token": "jars",
}


def __getattr__(name: str) -> Any:
    """Import each name when it is asked for: pytest loads our plugin, and so this package, in every run."""
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if module.endswith("_contract"):
        try:
            import pytest
        except ModuleNotFoundError as error:
            from ..errors import ExtraMissing

            raise ExtraMissing(name, "testing") from error
        pytest.register_assert_rewrite(f"{__name__}.{module}")
    return getattr(import_module(f".{module}", __name__), name)
