"""Authenticator apps: what there is, setting one up, removing one."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from .. import exchange
from ..changes import enrolled, require_fresh
from ..exchange import Ask, Reply
from .views import Views


async def page(views: Views, ask: Ask) -> Reply:
    """List them."""
    apps = await views.doors.totp.flow.authenticators(ask.session.require())
    return views.page(ask, "apps.html", apps=apps)


async def new_page(views: Views, ask: Ask) -> Reply:
    """Show a secret; it counts when a code of it was typed."""
    return views.page(ask, "app_new.html", **await _secret(views, ask))


async def new(views: Views, ask: Ask) -> Reply:
    """Keep the app, if it makes the right codes."""
    made = await views.doors.totp.flow.confirm(ask.session, ask.form.get("totp", ""), ask.form.get("label", ""))
    if isinstance(made, str):
        wrong = {"refused": "wrong.totp", "stale": "wrong.totp.stale", "full": "wrong.totp.full"}[made]
        shown = await _secret(views, ask)
        return views.wrong(ask, "app_new.html", {"totp": views.said(wrong)}, **shown)
    kinds = await enrolled(views.ground, ask.session.require())
    there = "/recovery" if views.has("recovery") and "recovery" not in kinds else "/app"
    return exchange.redirect(ask.url(there, done="totp-added"))


async def remove_page(views: Views, ask: Ask) -> Reply:
    """Ask whether it is meant."""
    user = await require_fresh(views.ground, ask.session)
    name = ask.query.get("id", "")
    apps = await views.doors.totp.flow.authenticators(user)
    label = next((one.label for one in apps if one.id == name), None)
    if label is None:
        return exchange.redirect(ask.url("/app"))
    return views.confirm(ask, "totp.remove", "/app/remove", {"id": name}, "/app", label=label)


async def remove(views: Views, ask: Ask) -> Reply:
    """Remove one."""
    done = await views.doors.totp.flow.remove(ask.session, ask.form.get("id", ""))
    return exchange.redirect(ask.url("/app", **({"done": "totp-removed"} if done else {})))


async def _secret(views: Views, ask: Ask) -> dict[str, Any]:
    user = await require_fresh(views.ground, ask.session)
    account = await views.users.get(user)
    name = user if account is None else account.login
    flow = views.doors.totp.flow
    enrolment = await flow.resume(ask.session, name) or await flow.begin(ask.session, name)
    picture = "data:image/svg+xml;base64," + b64encode(enrolment.svg.encode()).decode()
    return {"picture": picture, "key": enrolment.key, "uri": enrolment.uri, "digits": flow.settings.digits}
