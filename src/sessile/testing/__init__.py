"""What tests of applications and stores need: a clock that stands still, a sink that remembers, a contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .store_contract import StoreContract

__all__ = ["StoreContract"]


def __getattr__(name: str) -> Any:
    """Import the contract when it is asked for: it needs pytest, the rest of this package does not."""
    if name != "StoreContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite(f"{__name__}.store_contract")
    from .store_contract import StoreContract

    return StoreContract
