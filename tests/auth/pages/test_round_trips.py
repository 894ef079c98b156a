"""How often signing in asks the stores: counted, and stated in the guide."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.auth.pages.test_account import code_of, signed_up_by_mail, with_app
from tests.auth.pages.visiting import GOOD, Visitor, visiting
from tests.support.authenticator import Authenticator

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "sign-in.md").read_text("utf-8")
ADA = "ada@site.example"
# The verbs of both ports: one call is one round trip to whatever keeps it.
VAULT = ("get", "write", "of_user", "sweep")
STORE = ("load", "create", "save", "touch", "renew", "end", "of_user", "end_user")


def counting(visitor: Visitor) -> Counter[str]:
    """Count the calls of the ports from now on; what is done after the answer (the activity) is left out."""
    ground = visitor.accounts.ground
    counted: Counter[str] = Counter()
    ground.engine.sinks = ()

    def watch(part: Any, verbs: tuple[str, ...], name: str) -> None:
        for verb in verbs:
            inner = getattr(part, verb, None)
            if inner is None:
                continue

            def call(*given: Any, _inner: Callable[..., Any] = inner, **named: Any) -> Any:
                counted[name] += 1
                return _inner(*given, **named)

            setattr(part, verb, call)

    watch(ground.vault, VAULT, "vault")
    watch(ground.engine.store, STORE, "store")
    return counted


async def by_password(visitor: Visitor, counted: Counter[str]) -> None:
    """Sign in where no second factor is."""
    await visitor.sign_up()
    await visitor.sign_out()
    counted.clear()
    await visitor.post("/sign-in", login="ada", password=GOOD)


async def by_app(visitor: Visitor, counted: Counter[str]) -> None:
    """Prove the second factor after the password."""
    await visitor.sign_up()
    app = await with_app(visitor)
    await visitor.sign_out()
    await visitor.sign_in()
    counted.clear()
    await visitor.post("/challenge", way="totp", totp=code_of(visitor, app))


async def by_passkey(visitor: Visitor, counted: Counter[str]) -> None:
    """Both requests of it."""
    key = Authenticator()
    await visitor.sign_up()
    await visitor.add_passkey(key)
    await visitor.sign_out()
    counted.clear()
    await visitor.use_passkey(key)


async def by_mail(visitor: Visitor, counted: Counter[str]) -> None:
    """Asking for the code, and typing it."""
    await signed_up_by_mail(visitor)
    await visitor.sign_out()
    counted.clear()
    await visitor.post("/sign-in", login=ADA, way="email")
    assert visitor.place == "/code"
    await visitor.post("/code", code=await visitor.code(2))


@pytest.mark.tree
@pytest.mark.parametrize(
    ("sign_in", "row"),
    [(by_password, "password"), (by_app, "authenticator code"), (by_passkey, "passkey"), (by_mail, "e-mail code")],
    ids=["password", "app", "passkey", "mail"],
)
async def test_signing_in_asks_the_stores_no_more_often_than_the_guide_says(
    sign_in: Any, row: str, tmp_path: Path
) -> None:
    found = re.search(rf"^\| {row} \|.*?\| (\d+) \| (\d+) \|$", GUIDE, re.MULTILINE)
    async with visiting("asgi", tmp_path, by_mail=sign_in is by_mail) as visitor:
        counted = counting(visitor)
        await sign_in(visitor, counted)
        took = (counted["store"], counted["vault"])
        assert await visitor.is_in()
    assert found is not None, took
    assert took[0] <= int(found[1])
    assert took[1] <= int(found[2])
    assert min(took) > 0  # something was counted
