"""Signing in and up, codes and links by e-mail, the forgotten password, signing out.

Whether somebody has an account shows nowhere but at a sign-up by name, which cannot hide that a name is taken. By
e-mail, who signs up anew and who has an account already get the same answer, and a message each.
"""

from __future__ import annotations

from typing import Any, Final

from ...core.session import Session
from .. import exchange
from ..changes import has_second
from ..exchange import Ask, Reply
from ..throttle import Held, Limits, Throttle
from ..users import MAX_LOGIN, Account, Unusable, normal
from .views import Views

# Where somebody goes once they have typed their code: kept in the session, for the message's link cannot carry it.
NEXT: Final = "_sessile_account_next"
_REASONS: Final = frozenset({"factor", "age", "aal"})
# A sign-up by name tells whether a name is taken, so one network may ask for a hundred in a quarter of an hour.
_SIGN_UPS: Final = Limits(free=20, forget=900.0)


# -- signing in --------------------------------------------------------------------------------------------------------


async def sign_in_page(views: Views, ask: Ask) -> Reply:
    """Ask who it is."""
    target, reason = ask.target(views.home), ask.query.get("reason", "")
    if ask.session.is_authenticated:
        # An application without a page for step-ups sends them here.
        return exchange.redirect(ask.url("/step-up", next=target, reason=reason) if reason in _REASONS else target)
    if ask.session.pending_user_id is not None:
        return exchange.redirect(ask.url("/challenge", next=target))
    return views.page(ask, "sign_in.html", next=target, login="", further="next" in ask.query)


async def sign_in(views: Views, ask: Ask) -> Reply:
    """Sign in by password, or send a code."""
    target, login = ask.target(views.home), ask.form.get("login", "")
    shown: dict[str, Any] = {"next": target, "login": login[:MAX_LOGIN], "further": False}
    if views.has("email") and (ask.form.get("way") == "email" or not views.has("password")):
        if normal(login) is None:
            return views.wrong(ask, "sign_in.html", {"login": views.said("wrong.address")}, **shown)
        sent = await views.doors.codes.flow.send(ask.session, login)
        if isinstance(sent, Held):
            return views.held(ask, "sign_in.html", "login", sent, **shown)
        return _to_code(ask, target)
    if not views.has("password"):
        return views.missing(ask)
    outcome = await views.doors.passwords.flow.sign_in(ask.session, login, ask.form.get("password", ""))
    if isinstance(outcome, Held):
        return views.held(ask, "sign_in.html", "login", outcome, **shown)
    if isinstance(outcome, str):
        wrong = "wrong.login.email" if views.has("email") else "wrong.login"
        return views.wrong(ask, "sign_in.html", {"login": views.said(wrong)}, **shown)
    return onward(ask, target, complete=outcome.complete)


async def begin_passkey(views: Views, ask: Ask) -> Reply:
    """Give the page what its browser asks an authenticator: for any passkey of this site, so nobody needs a name."""
    return told(await views.doors.passkeys.flow.begin_sign_in(ask.session, user=None))


async def finish_passkey(views: Views, ask: Ask) -> Reply:
    """Sign in who holds the passkey."""
    target = ask.target(views.home)
    outcome = await views.doors.passkeys.flow.finish_sign_in(ask.session, ask.form.get("credential", ""))
    if isinstance(outcome, str):
        return exchange.json({"error": outcome}, 400)
    return exchange.json({"next": target if outcome.complete else ask.url("/challenge", next=target)})


def told(options: str) -> Reply:
    """Answer the script with options that are JSON already."""
    return exchange.json(None)._replace(body=options.encode())


def onward(ask: Ask, target: str, *, complete: bool) -> Reply:
    """Go on: to the second factor, if one is due."""
    return exchange.redirect(target if complete else ask.url("/challenge", next=target))


# -- signing up --------------------------------------------------------------------------------------------------------


async def sign_up_page(views: Views, ask: Ask) -> Reply:
    """Ask for what a new account needs."""
    if views.doors.registry is None:
        return views.missing(ask, "closed.text")
    return views.page(ask, "sign_up.html", next=ask.target(views.home), login="", minimum=_minimum(views))


async def sign_up(views: Views, ask: Ask) -> Reply:
    """Make an account by name, or send a code to an address."""
    if views.doors.registry is None:
        return views.missing(ask, "closed.text")
    target, login = ask.target(views.home), ask.form.get("login", "")
    shown: dict[str, Any] = {"next": target, "login": login[:MAX_LOGIN], "minimum": _minimum(views)}
    if not views.has("email"):
        return await _sign_up_by_name(views, ask, login, target, shown)
    text = normal(login)
    if text is None or "@" not in text:
        return views.wrong(ask, "sign_up.html", {"login": views.said("wrong.address")}, **shown)
    sent = await views.doors.codes.flow.invite(ask.session, text)
    if isinstance(sent, Held):
        return views.held(ask, "sign_up.html", "login", sent, **shown)
    return _to_code(ask, target)


async def _sign_up_by_name(views: Views, ask: Ask, login: str, target: str, shown: dict[str, Any]) -> Reply:
    by_key = views.has("passkey") and (ask.form.get("way") == "passkey" or not views.has("password"))
    password = ask.form.get("password", "")
    text = normal(login)
    if text is None:
        return views.wrong(ask, "sign_up.html", {"login": views.said("wrong.name")}, **shown)
    if not by_key:
        weak = _weakness(views, password, text)
        if weak is not None:
            return views.wrong(ask, "sign_up.html", {"password": weak}, **shown)
    attempt = await Throttle(views.ground, "sign-up", _SIGN_UPS).reserve(ask.session, text, user=None)
    if isinstance(attempt, Held):
        return views.held(ask, "sign_up.html", "login", attempt, **shown)
    made = await _made(views, text)
    if made is None:
        return views.wrong(ask, "sign_up.html", {"login": views.said("wrong.taken")}, **shown)
    if by_key:
        ask.session.login(made.id, factor="sign-up")
        return exchange.redirect(ask.url("/passkeys/new", next=target, first="1"))
    await views.doors.passwords.flow.set_first(made.id, password, ())
    ask.session.login(made.id, factor="password")
    return exchange.redirect(target)


async def _made(views: Views, login: str) -> Account | None:
    registry = views.doors.registry
    made = Unusable.MALFORMED if registry is None else await registry.create(login)
    return None if isinstance(made, Unusable) else made


def _weakness(views: Views, password: str, login: str) -> str | None:
    from ..passwords.rules import weakness

    weak = weakness(password, views.doors.passwords.flow.settings, (login, views.plan.name))
    return None if weak is None else weakness_in_words(views, weak)


def weakness_in_words(views: Views, weak: str) -> str:
    """Say why a password is not taken."""
    return views.said("wrong.gone" if weak == "taken" else f"wrong.{weak}", minimum=_minimum(views))


def _minimum(views: Views) -> int:
    return views.doors.passwords.flow.settings.minimum if views.has("password") else 0


# -- codes and links ---------------------------------------------------------------------------------------------------


def _to_code(ask: Ask, target: str) -> Reply:
    ask.session[NEXT] = target
    return exchange.redirect(ask.url("/code"))


async def send_further(views: Views, ask: Ask, target: str) -> Held | Reply:
    """Send a code to who is signed in, or on the way."""
    sent = await views.doors.codes.flow.send_further(ask.session)
    return sent if isinstance(sent, Held) else _to_code(ask, target)


async def code_page(views: Views, ask: Ask) -> Reply:
    """Ask for the code."""
    return views.page(ask, "code.html")


async def code(views: Views, ask: Ask) -> Reply:
    """Take the code."""
    return await _accepted(views, ask, ask.form.get("code", ""))


async def link_page(views: Views, ask: Ask) -> Reply:
    """Show a button: what only follows links, such as a scanner of mails, uses nothing up."""
    from ..codes import Look

    token = ask.query.get("token", "")
    here = await views.doors.codes.flow.look(ask.session, token) is Look.HERE
    return views.page(ask, "link.html", here=here, token=token)


async def link(views: Views, ask: Ask) -> Reply:
    """Take the link's token."""
    return await _accepted(views, ask, ask.form.get("token", ""))


async def _accepted(views: Views, ask: Ask, text: str) -> Reply:
    from ..codes import Invited

    session = ask.session
    target = exchange.local(_text(session.get(NEXT)), views.home)
    outcome = await views.doors.codes.flow.accept(session, text)
    if isinstance(outcome, Held):
        return views.held(ask, "code.html", "code", outcome)
    if isinstance(outcome, str):
        return views.wrong(ask, "code.html", {"code": views.said("wrong.code")})
    session.pop(NEXT, None)
    if not isinstance(outcome, Invited):
        return onward(ask, target, complete=outcome.complete)
    made = await _made(views, outcome.address)
    if made is None:
        return await _known(views, ask, outcome.address, target)
    session.login(made.id, factor="email")
    if views.has("passkey"):
        return exchange.redirect(ask.url("/passkeys/new", next=target, first="1"))
    return exchange.redirect(ask.url("/", done="welcome"))


async def _known(views: Views, ask: Ask, address: str, target: str) -> Reply:
    """Sign in who made an account with this address a moment ago, with another code."""
    account = await views.users.find(address)
    if account is None:
        return views.missing(ask, "closed.text")
    pending = await has_second(views.ground, account.id)
    ask.session.login(account.id, factor="email", pending=pending)
    return onward(ask, target, complete=not pending)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# -- the forgotten password --------------------------------------------------------------------------------------------


async def forgotten_page(views: Views, ask: Ask) -> Reply:
    """Ask for the address."""
    return views.page(ask, "forgotten.html", login="")


async def forgotten(views: Views, ask: Ask) -> Reply:
    """Send a code; what follows it is a new password."""
    login = ask.form.get("login", "")
    if normal(login) is None:
        wrong = {"login": views.said("wrong.address")}
        return views.wrong(ask, "forgotten.html", wrong, login=login[:MAX_LOGIN])
    sent = await views.doors.codes.flow.send(ask.session, login)
    if isinstance(sent, Held):
        return views.held(ask, "forgotten.html", "login", sent, login=login[:MAX_LOGIN])
    return _to_code(ask, ask.url("/password/reset"))


# -- signing out -------------------------------------------------------------------------------------------------------


async def sign_out_page(views: Views, ask: Ask) -> Reply:
    """Ask which devices."""
    return views.page(ask, "sign_out.html")


async def sign_out(views: Views, ask: Ask) -> Reply:
    """Sign out here or everywhere, and say how surely (R51)."""
    everywhere = ask.form.get("where") == "everywhere" and ask.session.is_authenticated
    confirmed = await ended(views, ask.session, everywhere=everywhere)
    if ask.form.get("where") == "again":
        return exchange.redirect(ask.url("/sign-in", next=ask.target(views.home)))
    said = {"where": "everywhere"} if everywhere else {}
    return exchange.redirect(ask.url("/signed-out", **said, **({} if confirmed else {"sure": "no"})))


async def ended(views: Views, session: Session, *, everywhere: bool = False) -> bool:
    """End a session now, and tell whether the store confirmed it."""
    return (await views.ground.engine.sign_out(session, everywhere=everywhere)).confirmed


async def signed_out_page(views: Views, ask: Ask) -> Reply:
    """Say that it is done."""
    key = "everywhere" if ask.query.get("where") == "everywhere" else "here"
    lines = [views.said(f"signed-out.{key}")]
    if ask.query.get("sure") == "no":
        lines.append(views.said("signed-out.unsure"))
    again = (ask.url("/sign-in"), views.said("signed-out.again"))
    return views.page(ask, "message.html", title=views.said("signed-out.title"), lines=lines, link=again)
