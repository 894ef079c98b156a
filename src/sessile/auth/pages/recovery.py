"""Recovery codes: how many are left, and new ones, which are shown once."""

from __future__ import annotations

from ..changes import enrolled, require_fresh
from ..exchange import Ask, Reply
from .views import Views


async def page(views: Views, ask: Ask) -> Reply:
    """Show how many are left; who comes here mostly wants new ones, so the proof comes first."""
    user = await require_fresh(views.ground, ask.session)
    stock = await views.doors.recovery.flow.count(user)
    there = "recovery" in await enrolled(views.ground, user)
    return views.page(ask, "recovery.html", there=there, left=stock.left, low=stock.low)


async def make(views: Views, ask: Ask) -> Reply:
    """Make new ones and show them: in this very answer, for they are kept nowhere that could show them again."""
    codes = await views.doors.recovery.flow.generate(ask.session)
    user = ask.session.require()
    account = await views.users.get(user)
    return views.page(ask, "recovery_codes.html", codes=codes, login=user if account is None else account.login)
