"""Which pages there are, and who may reach them.

    anyone     signing in and up, codes, the forgotten password, signing out
    begun      proving a further factor: who is on the way in, or in
    signed in  everything else: a pending session is sent to prove itself, nobody to sign in (invariant 5)

Every form is a POST from these very pages: the sessions' guard has refused what other sites sent (R22). What succeeds
is answered with a redirect; what is refused, by the same page with what is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from ...core.session import Session
from ...errors import StepUpRequired
from .. import exchange
from ..accounts import Accounts, AsyncAccounts
from ..changes import someone
from ..exchange import Ask, Reply
from . import app, devices, entrance, keys, overview, password, proof, recovery
from .theme import Theme
from .views import Views

Handler = Callable[[Views, Ask], Awaitable[Reply]]
_SIGNED_IN: Final = frozenset({"factor", "age", "aal"})
_NOT_BY_TOKEN: Final = exchange.plain(403, "These pages are for browsers that sign in, not for access tokens.\n")


class Access(StrEnum):
    """Say who may reach a page."""

    ANYONE = "anyone"
    BEGUN = "begun"
    SIGNED_IN = "signed in"


class Page(NamedTuple):
    """Hold one page: who may reach it, what shows it, what takes its form.

    `way`: only if that way to sign in is on. `back`: where one goes on who had to prove something before a POST; ""
    is the page itself. `script`: its POST comes from the script, and is answered in JSON.
    """

    access: Access
    get: Handler | None = None
    post: Handler | None = None
    way: str = ""
    back: str = ""
    script: bool = False


PAGES: Final[dict[str, Page]] = {
    "/sign-in": Page(Access.ANYONE, entrance.sign_in_page, entrance.sign_in),
    "/sign-in/passkey/begin": Page(Access.ANYONE, None, entrance.begin_passkey, way="passkey", script=True),
    "/sign-in/passkey": Page(Access.ANYONE, None, entrance.finish_passkey, way="passkey", script=True),
    "/sign-up": Page(Access.ANYONE, entrance.sign_up_page, entrance.sign_up),
    "/code": Page(Access.ANYONE, entrance.code_page, entrance.code, way="email"),
    "/link": Page(Access.ANYONE, entrance.link_page, entrance.link, way="email"),
    "/forgotten": Page(Access.ANYONE, entrance.forgotten_page, entrance.forgotten, way="email"),
    "/sign-out": Page(Access.ANYONE, entrance.sign_out_page, entrance.sign_out),
    "/signed-out": Page(Access.ANYONE, entrance.signed_out_page),
    "/challenge": Page(Access.BEGUN, proof.challenge_page, proof.challenge),
    "/prove/passkey/begin": Page(Access.BEGUN, None, proof.begin_passkey, way="passkey", script=True),
    "/prove/passkey": Page(Access.BEGUN, None, proof.finish_passkey, way="passkey", script=True),
    "/step-up": Page(Access.SIGNED_IN, proof.step_up_page, proof.step_up),
    "/": Page(Access.SIGNED_IN, overview.home),
    "/activity": Page(Access.SIGNED_IN, overview.activity),
    "/passkeys": Page(Access.SIGNED_IN, keys.page, way="passkey"),
    "/passkeys/new": Page(Access.SIGNED_IN, keys.new_page, keys.finish, way="passkey", script=True),
    "/passkeys/new/begin": Page(Access.SIGNED_IN, None, keys.begin, way="passkey", back="/passkeys/new", script=True),
    "/passkeys/rename": Page(Access.SIGNED_IN, keys.rename_page, keys.rename, way="passkey", back="/passkeys"),
    "/passkeys/remove": Page(Access.SIGNED_IN, keys.remove_page, keys.remove, way="passkey", back="/passkeys"),
    "/app": Page(Access.SIGNED_IN, app.page, way="totp"),
    "/app/new": Page(Access.SIGNED_IN, app.new_page, app.new, way="totp"),
    "/app/remove": Page(Access.SIGNED_IN, app.remove_page, app.remove, way="totp", back="/app"),
    "/recovery": Page(Access.SIGNED_IN, recovery.page, recovery.make, way="recovery"),
    "/password": Page(Access.SIGNED_IN, password.page, password.change, way="password"),
    "/password/reset": Page(Access.SIGNED_IN, password.reset_page, password.reset, way="password"),
    "/devices": Page(Access.SIGNED_IN, devices.page),
    "/devices/end": Page(Access.SIGNED_IN, devices.end_page, devices.end, back="/devices"),
    "/devices/others": Page(Access.SIGNED_IN, devices.others_page, devices.others, back="/devices"),
    "/devices/not-me": Page(Access.SIGNED_IN, devices.not_me_page, devices.not_me, back="/devices"),
}


class AccountPages:
    """Be the pages of accounts: a site, to be mounted by `sessile.adapters.sites` or its like.

    `home` is where somebody lands who signed in and came from nowhere, a path of this host; `theme` how the pages look;
    `templates` a folder whose files replace ours of the same name.

    Raises:
        ConfigurationError: a setting is wrong.
        ExtraMissing: jinja2 is not installed.
    """

    def __init__(
        self,
        accounts: AsyncAccounts | Accounts,
        *,
        theme: Theme | None = None,
        home: str = "/",
        templates: str | Path | None = None,
    ) -> None:
        self.accounts = accounts
        self.blocking = isinstance(accounts, Accounts)
        self.views = Views(accounts, theme=theme or Theme(), home=home, templates=templates)

    async def answer(self, ask: Ask) -> Reply:
        """Return the reply to one request."""
        if ask.path.startswith("/static/") and ask.method in ("GET", "HEAD"):
            return self.views.file(ask)
        if ask.session.grant is not None:
            return _NOT_BY_TOKEN
        page = PAGES.get(ask.path.rstrip("/") or "/")
        if page is None or (page.way and not self.views.has(page.way)):
            return self.views.missing(ask)
        handler = page.get if ask.method in ("GET", "HEAD") else page.post if ask.method == "POST" else None
        if handler is None:
            return exchange.wrong_method(*(["GET", "HEAD"] if page.get else []), *(["POST"] if page.post else []))
        try:
            _admit(page.access, ask.session)
            return await handler(self.views, ask)
        except StepUpRequired as missing:
            return _sent(ask, page, missing)


def _admit(access: Access, session: Session) -> None:
    """Let a session through.

    Raises:
        StepUpRequired: it proves too little for any page of this kind.
    """
    if access is Access.BEGUN:
        someone(session)
    elif access is Access.SIGNED_IN:
        session.require()


def _sent(ask: Ask, page: Page, missing: StepUpRequired) -> Reply:
    """Send somebody to prove what is missing, and back afterwards."""
    is_get = ask.method in ("GET", "HEAD")
    back = ask.url(ask.path, **ask.query) if is_get else ask.url(page.back or ask.path)
    if missing.reason in _SIGNED_IN:
        target = ask.url("/step-up", next=back, reason=missing.reason)
    else:
        target = ask.url("/sign-in" if missing.reason == "login" else "/challenge", next=back)
    if page.script and not is_get:
        return exchange.json({"error": missing.code, "next": target}, 403 if missing.reason in _SIGNED_IN else 401)
    return exchange.redirect(target)
