"""Passkeys: what there is, a new one, another name, removing one."""

from __future__ import annotations

from .. import exchange
from ..changes import require_fresh
from ..exchange import Ask, Reply
from . import entrance
from .overview import may_go
from .views import Views


async def page(views: Views, ask: Ask) -> Reply:
    """List them."""
    keys = await views.doors.passkeys.flow.keys(ask.session.require())
    return views.page(ask, "passkeys.html", keys=keys)


async def new_page(views: Views, ask: Ask) -> Reply:
    """Offer to make one."""
    await require_fresh(views.ground, ask.session)
    first = ask.query.get("first") == "1"
    after = ask.target(views.home) if first else ask.url("/passkeys", done="passkey-added")
    return views.page(ask, "passkey_new.html", next=after, first=first)


async def begin(views: Views, ask: Ask) -> Reply:
    """Give the page what its browser asks an authenticator."""
    user = ask.session.require()
    account = await views.users.get(user)
    name = user if account is None else account.login
    return entrance.told(await views.doors.passkeys.flow.begin_registration(ask.session, name=name, display_name=None))


async def finish(views: Views, ask: Ask) -> Reply:
    """Keep the new passkey."""
    form = ask.form
    made = await views.doors.passkeys.flow.finish_registration(
        ask.session, form.get("credential", ""), label=form.get("label", "")
    )
    if isinstance(made, str):
        return exchange.json({"error": made}, 400)
    return exchange.json({"next": ask.target(ask.url("/passkeys", done="passkey-added"))})


async def rename_page(views: Views, ask: Ask) -> Reply:
    """Ask for another name."""
    label = await _label(views, ask, ask.query.get("id", ""))
    if label is None:
        return exchange.redirect(ask.url("/passkeys"))
    return views.page(ask, "passkey_rename.html", id=ask.query["id"], label=label)


async def rename(views: Views, ask: Ask) -> Reply:
    """Keep another name."""
    done = await views.doors.passkeys.flow.rename(ask.session, ask.form.get("id", ""), ask.form.get("label", ""))
    return exchange.redirect(ask.url("/passkeys", **({"done": "passkey-renamed"} if done else {})))


async def remove_page(views: Views, ask: Ask) -> Reply:
    """Ask whether it is meant."""
    await require_fresh(views.ground, ask.session)
    name = ask.query.get("id", "")
    label = await _label(views, ask, name)
    if label is None:
        return exchange.redirect(ask.url("/passkeys"))
    return _confirm(views, ask, name, label)


async def remove(views: Views, ask: Ask) -> Reply:
    """Remove one, unless its user could not come back."""
    user = await require_fresh(views.ground, ask.session)
    name = ask.form.get("id", "")
    label = await _label(views, ask, name)
    keys = await views.doors.passkeys.flow.keys(user)
    if label is not None and not await may_go(views, user, "passkey", len(keys)):
        return _confirm(views, ask, name, label, {"confirm": views.said("wrong.last")})
    done = label is not None and await views.doors.passkeys.flow.remove(ask.session, name)
    return exchange.redirect(ask.url("/passkeys", **({"done": "passkey-removed"} if done else {})))


async def _label(views: Views, ask: Ask, name: str) -> str | None:
    keys = await views.doors.passkeys.flow.keys(ask.session.require())
    return next((key.label for key in keys if key.id == name), None)


def _confirm(views: Views, ask: Ask, name: str, label: str, errors: dict[str, str] | None = None) -> Reply:
    return views.confirm(
        ask,
        "passkeys.remove",
        "/passkeys/remove",
        {"id": name},
        "/passkeys",
        errors=errors or {},
        label=label,
    )
