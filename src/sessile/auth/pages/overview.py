"""The account at a glance: how its user signs in, what they should do next, and what happened to it."""

from __future__ import annotations

import inspect
from typing import Any, Final, NamedTuple

from ...core.info import SessionInfo
from ...core.session import Session
from ...errors import Unsupported
from ..changes import enrolled
from ..exchange import Ask, Reply
from ..stored import read
from .views import Views

_FIRST: Final = frozenset({"password", "passkey"})
_LOW: Final = 3


class Step(NamedTuple):
    """Recommend something: what, why, and where."""

    text: str
    button: str
    path: str


class Glance(NamedTuple):
    """Hold what a user has."""

    login: str
    email: str | None
    passkeys: int
    password_at: float | None
    apps: int
    codes: int | None


async def home(views: Views, ask: Ask) -> Reply:
    """Show the account."""
    user = ask.session.require()
    glance = await look(views, user)
    devices = await sessions_of(views, user, ask.session)
    level = views.said("home.level", level=views.said(f"home.level.{ask.session.aal}"))
    return views.page(ask, "home.html", glance=glance, step=_step(views, glance), devices=devices, level=level)


async def activity(views: Views, ask: Ask) -> Reply:
    """Show what happened."""
    entries = await views.doors.activity.of(ask.session.require())
    lines = [(views.text.line(one.code, one.about, name=views.plan.name), one) for one in entries]
    return views.page(ask, "activity.html", lines=lines)


async def look(views: Views, user: str) -> Glance:
    """Return what a user has, of the ways that are on."""
    account = await views.users.get(user)
    return Glance(
        user if account is None else account.login,
        account.email if account is not None and views.has("email") else None,
        len(await views.doors.passkeys.flow.keys(user)) if views.has("passkey") else 0,
        await _password_at(views, user) if views.has("password") else None,
        len(await views.doors.totp.flow.authenticators(user)) if views.has("totp") else 0,
        await _codes(views, user) if views.has("recovery") else None,
    )


async def may_go(views: Views, user: str, kind: str, count: int) -> bool:
    """Tell whether somebody can still begin to sign in without one more of a kind, of which they have `count`."""
    if count > 1 or kind not in _FIRST:
        return True
    account = await views.users.get(user)
    if views.has("email") and account is not None and account.email:
        return True
    kinds = await enrolled(views.ground, user)
    return bool({one for one in kinds & _FIRST if views.has(one)} - {kind})


async def sessions_of(views: Views, user: str, current: Session) -> list[SessionInfo] | None:
    """Return a user's sessions, this one first; None if they live in cookies, where nobody can list them."""
    try:
        found: Any = views.ground.sessions.of_user(user, current=current)
        return list(await found if inspect.isawaitable(found) else found)
    except Unsupported:
        return None


async def _password_at(views: Views, user: str) -> float | None:
    from ..passwords.items import Kept, key

    item = await views.ground.vault.get(key(user))
    return None if item is None else read(Kept, item.value).created_at


async def _codes(views: Views, user: str) -> int | None:
    kinds = await enrolled(views.ground, user)
    return (await views.doors.recovery.flow.count(user)).left if "recovery" in kinds else None


def _step(views: Views, glance: Glance) -> Step | None:
    """Return what somebody should do next, None if all is well."""
    if glance.codes is not None and glance.codes <= _LOW:
        return Step(views.said("home.next.low", n=glance.codes), views.said("home.next.low.button"), "/recovery")
    has_second = bool(glance.passkeys or glance.apps)
    if views.has("passkey") and not glance.passkeys:
        alone = glance.password_at is None and glance.email is None
        text = "home.next.first" if alone else "home.next.passkey"
        return Step(views.said(text), views.said("home.next.passkey.button"), "/passkeys/new")
    if views.has("totp") and not has_second:
        return Step(views.said("home.next.totp"), views.said("home.next.totp.button"), "/app/new")
    if glance.codes is None and views.has("recovery") and has_second:
        return Step(views.said("home.next.recovery"), views.said("home.next.recovery.button"), "/recovery")
    return None
