"""Where somebody is signed in, and how they end what they do not know (R65)."""

from __future__ import annotations

from ...core.record import EndReason
from .. import exchange
from ..changes import FRESH
from ..exchange import Ask, Reply
from .overview import sessions_of
from .views import Views


async def page(views: Views, ask: Ask) -> Reply:
    """List them."""
    devices = await sessions_of(views, ask.session.require(), ask.session)
    return views.page(ask, "devices.html", devices=devices)


async def end_page(views: Views, ask: Ask) -> Reply:
    """Ask whether one is meant."""
    return await _confirm(views, ask, "devices.end", "/devices/end")


async def end(views: Views, ask: Ask) -> Reply:
    """End one; a session of somebody else is as unknown as none."""
    user = ask.session.require(max_age=FRESH)
    ending = await views.ground.engine.end(ask.form.get("id", ""), EndReason.USER, user)
    return _done(ask, len(ending.ended), confirmed=ending.confirmed)


async def others_page(views: Views, ask: Ask) -> Reply:
    """Ask whether all others are meant."""
    ask.session.require(max_age=FRESH)
    return views.confirm(ask, "devices.others", "/devices/others", {}, "/devices")


async def others(views: Views, ask: Ask) -> Reply:
    """End all others."""
    confirmed = await _others(views, ask)
    return exchange.redirect(ask.url("/devices", done="others" if confirmed else "others-unsure"))


async def not_me_page(views: Views, ask: Ask) -> Reply:
    """Say what happens when somebody else was there."""
    return await _confirm(views, ask, "devices.not-me", "/devices/not-me")


async def not_me(views: Views, ask: Ask) -> Reply:
    """End all others, and have the user prove themselves and change what may be known."""
    await _others(views, ask)
    ask.session.rotate()
    if views.has("password"):
        after = ask.url("/password", done="not-me")
    elif views.has("passkey"):
        after = ask.url("/passkeys", done="not-me-passkey")
    else:
        after = ask.url("/devices")
    return exchange.redirect(ask.url("/step-up", next=after))


async def _others(views: Views, ask: Ask) -> bool:
    user = ask.session.require(max_age=FRESH)
    keep: frozenset[str] = frozenset() if ask.session.id is None else frozenset({ask.session.id})
    return (await views.ground.engine.end_user(user, EndReason.USER, keep)).confirmed


async def _confirm(views: Views, ask: Ask, key: str, path: str) -> Reply:
    user, sid = ask.session.require(max_age=FRESH), ask.query.get("id", "")
    listed = await sessions_of(views, user, ask.session) or []
    found = [one for one in listed if one.id == sid and not one.current]
    if not found:
        return exchange.redirect(ask.url("/devices"))
    return views.confirm(ask, key, path, {"id": sid}, "/devices", label=found[0].label)


def _done(ask: Ask, count: int, *, confirmed: bool) -> Reply:
    return exchange.redirect(ask.url("/devices", done="ended" if confirmed else "ended-unsure", n=str(count)))
