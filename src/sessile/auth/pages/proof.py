"""Proving that it is you: the second factor of a sign-in, and once more before something serious.

the session is          what may prove it
pending                 a second factor, or a recovery code in its place; never the mail: who has the password and
                        the mailbox must not get past the second factor
challenged              whatever its user has
signed in, too weak     what raises its level
signed in, too long ago whatever its user has; the mail only of who has nothing else
"""

from __future__ import annotations

from typing import Any, Final

from ...core.factors import aal
from ...core.session import Session
from .. import exchange
from ..changes import enrolled, someone
from ..exchange import Ask, Reply
from ..throttle import Held
from ..users import VaultUsers
from . import entrance
from .views import Views

_ALL: Final = ("passkey", "totp", "password", "recovery")
_SECOND: Final = ("passkey", "totp", "recovery")


async def offered(views: Views, session: Session, reason: str) -> tuple[str, ...]:
    """Return by what the session's user may prove themselves now, the best first."""
    user = someone(session)
    there = await enrolled(views.ground, user)
    kinds = [one for one in _ALL if one in there and views.has(one)]
    proved = {one.name for one in session.factors}
    if session.control is not None and session.control.pending:
        second = [one for one in kinds if one in _SECOND or "touch" in proved]
        return tuple(second or [one for one in kinds if one not in proved])
    if reason == "aal":
        return tuple(one for one in kinds if aal({*proved, one}) > aal(proved))
    if kinds or not views.has("email"):
        return tuple(kinds)
    account = await views.users.get(user)
    return ("email",) if account is not None and account.email else ()


async def challenge_page(views: Views, ask: Ask) -> Reply:
    """Ask for what completes the sign-in."""
    if ask.session.is_authenticated:
        return exchange.redirect(ask.target(views.home))
    return await _page(views, ask, "/challenge", ask.target(views.home))


async def challenge(views: Views, ask: Ask) -> Reply:
    """Take what completes the sign-in."""
    return await _taken(views, ask, "/challenge", ask.target(views.home))


async def step_up_page(views: Views, ask: Ask) -> Reply:
    """Ask for a further proof."""
    return await _page(views, ask, "/step-up", ask.target(ask.url("/")))


async def step_up(views: Views, ask: Ask) -> Reply:
    """Take a further proof."""
    target = ask.target(ask.url("/"))
    if ask.form.get("way") == "restart":
        return await _restarted(views, ask, target)
    return await _taken(views, ask, "/step-up", target)


async def begin_passkey(views: Views, ask: Ask) -> Reply:
    """Give the page what its browser asks the user's authenticators."""
    return entrance.told(await views.doors.passkeys.flow.begin_step_up(ask.session))


async def finish_passkey(views: Views, ask: Ask) -> Reply:
    """Take the passkey's answer."""
    outcome = await views.doors.passkeys.flow.finish_step_up(ask.session, ask.form.get("credential", ""))
    if isinstance(outcome, str):
        return exchange.json({"error": outcome}, 400)
    target = ask.target(views.home)
    return exchange.json({"next": target if ask.session.is_authenticated else ask.url("/challenge", next=target)})


async def _page(views: Views, ask: Ask, path: str, target: str) -> Reply:
    return views.page(ask, "proof.html", **await _shown(views, ask, path, target))


async def _shown(views: Views, ask: Ask, path: str, target: str) -> dict[str, Any]:
    reason = ask.form.get("reason") or ask.query.get("reason", "")
    ways = await offered(views, ask.session, reason)
    chosen = ask.form.get("way", "")
    return {
        "path": path,
        "next": target,
        "reason": reason,
        "ways": (chosen, *(one for one in ways if one != chosen)) if chosen in ways else ways,
        "moved": ask.session.control is not None and ask.session.control.challenged,
        "digits": views.doors.totp.flow.settings.digits if views.has("totp") else 0,
        "restart": _may_restart(views, ask.session) and not ways,
    }


async def _taken(views: Views, ask: Ask, path: str, target: str) -> Reply:
    shown = await _shown(views, ask, path, target)
    way = ask.form.get("way", "")
    if way not in shown["ways"] or way == "passkey":
        return views.page(ask, "proof.html", 422, **shown)
    outcome = await _verified(views, ask, way, target)
    if isinstance(outcome, Reply):
        return outcome
    if isinstance(outcome, Held):
        return views.held(ask, "proof.html", way, outcome, **shown)
    if isinstance(outcome, str):
        return views.wrong(ask, "proof.html", {way: views.said(f"wrong.{way}")}, **shown)
    if not ask.session.is_authenticated:
        return exchange.redirect(ask.url(path, next=target))
    return exchange.redirect(target)


async def _verified(views: Views, ask: Ask, way: str, target: str) -> Any:
    """Return what the door of a way says to what was typed."""
    typed = ask.form.get(way, "")
    if way == "totp":
        return await views.doors.totp.flow.verify(ask.session, typed)
    if way == "recovery":
        return await views.doors.recovery.flow.use(ask.session, typed)
    if way == "password":
        return await views.doors.passwords.flow.verify(ask.session, typed)
    return await entrance.send_further(views, ask, target)


def _may_restart(views: Views, session: Session) -> bool:
    """Tell whether this is an account that nobody can ever sign in to: made, and left before a way was added."""
    return {one.name for one in session.factors} == {"sign-up"} and isinstance(views.users, VaultUsers)


async def _restarted(views: Views, ask: Ask, target: str) -> Reply:
    user, shown = ask.session.require(), await _shown(views, ask, "/step-up", target)
    users = views.users
    if not shown["restart"] or not isinstance(users, VaultUsers) or await enrolled(views.ground, user):
        return views.page(ask, "proof.html", 422, **shown)
    await users.remove(user)
    await entrance.ended(views, ask.session, everywhere=True)
    return exchange.redirect(ask.url("/sign-up"))
