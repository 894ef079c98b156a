"""The password: a new one, or one in place of what was forgotten."""

from __future__ import annotations

from typing import Any

from ...errors import StepUpRequired
from .. import exchange
from ..changes import FRESH, enrolled, require_fresh
from ..exchange import Ask, Reply
from . import entrance
from .views import Views


async def page(views: Views, ask: Ask) -> Reply:
    """Ask for a new one."""
    user = await require_fresh(views.ground, ask.session)
    return views.page(ask, "password.html", **await _shown(views, user))


async def change(views: Views, ask: Ask) -> Reply:
    """Keep a new one."""
    user = await require_fresh(views.ground, ask.session)
    weak = await views.doors.passwords.flow.change(ask.session, ask.form.get("password", ""), (views.plan.name,))
    if weak is not None:
        wrong = {"password": entrance.weakness_in_words(views, weak)}
        return views.wrong(ask, "password.html", wrong, **await _shown(views, user))
    return exchange.redirect(ask.url("/", done="password"))


async def reset_page(views: Views, ask: Ask) -> Reply:
    """Ask for one in place of the forgotten one."""
    if not _proved(ask):
        return exchange.redirect(ask.url("/forgotten"))
    return views.page(ask, "password.html", **await _shown(views, ask.session.require(), is_reset=True))


async def reset(views: Views, ask: Ask) -> Reply:
    """Keep it, and sign out everywhere: whoever was there may be somebody else."""
    if not _proved(ask):
        return exchange.redirect(ask.url("/forgotten"))
    user = ask.session.require()
    weak = await views.doors.passwords.flow.reset(ask.session, ask.form.get("password", ""), (views.plan.name,))
    if weak is not None:
        wrong = {"password": entrance.weakness_in_words(views, weak)}
        return views.wrong(ask, "password.html", wrong, **await _shown(views, user, is_reset=True))
    await entrance.ended(views, ask.session, everywhere=True)
    return exchange.redirect(ask.url("/sign-in", done="reset"))


def _proved(ask: Ask) -> bool:
    try:
        ask.session.require(factor="email", max_age=FRESH)
    except StepUpRequired:
        return False
    return True


async def _shown(views: Views, user: str, *, is_reset: bool = False) -> dict[str, Any]:
    account = await views.users.get(user)
    return {
        "login": user if account is None else account.login,
        "is_first": "password" not in await enrolled(views.ground, user),
        "is_reset": is_reset,
        "minimum": views.doors.passwords.flow.settings.minimum,
    }
