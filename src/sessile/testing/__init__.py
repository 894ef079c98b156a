"""What tests of applications and stores need: a clock that stands still, a sink that remembers, a contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .assertions import assert_not_cacheable, assert_renewed, assert_rotated
from .client import login, mint_session
from .clock import FrozenClock, freeze
from .jars import Minted, session_token
from .sink import RecordingSink, record

if TYPE_CHECKING:
    from .store_contract import StoreContract

__all__ = [
    "FrozenClock",
    "Minted",
    "RecordingSink",
    "StoreContract",
    "assert_not_cacheable",
    "assert_renewed",
    "assert_rotated",
    "freeze",
    "login",
    "mint_session",
    "record",
    "session_token",
]


def __getattr__(name: str) -> Any:
    """Import the contract when it is asked for: it needs pytest, the rest of this package does not."""
    if name != "StoreContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ModuleNotFoundError as error:
        from ..errors import ExtraMissing

        raise ExtraMissing("StoreContract", "testing") from error
    pytest.register_assert_rewrite(f"{__name__}.store_contract")
    from .store_contract import StoreContract

    return StoreContract
