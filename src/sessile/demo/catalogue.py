"""What the shop sells: sea creatures that stay where they are."""

from __future__ import annotations

from typing import Final, NamedTuple


class Good(NamedTuple):
    """Hold one thing to buy; the price is in cents."""

    sku: str
    name: str
    line: str
    price: int


GOODS: Final = (
    Good("barnacle", "Barnacle", "Cements its head to a rock and never looks back.", 490),
    Good("coral", "Brain coral", "Nine hundred years old, has not moved once.", 12900),
    Good("sponge", "Glass sponge", "Filters what passes. Says nothing.", 2350),
    Good("anemone", "Sea anemone", "Can move, if it must. It would rather not.", 1790),
)
BY_SKU: Final = {good.sku: good for good in GOODS}


def price(cents: int) -> str:
    """Write a price."""
    return f"€ {cents // 100}.{cents % 100:02}"
