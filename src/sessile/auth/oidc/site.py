"""The routes of single sign-on, to be mounted anywhere: `sessile.adapters.sites`, Flask's and Django's.

GET   login/<provider>          to the provider (next, prompt, login_hint)
GET   callback/<provider>       and back
GET   logout                    a page with the question; POST: sign out here, then there
GET   logged-out                the provider sent the browser back
POST  backchannel/<provider>    the provider signs somebody out
GET   frontchannel/<provider>   the same in a frame: best effort
"""

from __future__ import annotations

from html import escape
from typing import Final

from ..exchange import NOT_FOUND, Ask, Reply, html, local, redirect, wrong_method
from . import logout_pages
from .flow import SignOnFlow
from .logout import SignOut
from .receivers import Receivers
from .rules import Refused

_SAYS: Final = {
    Refused.UNKNOWN: "This sign-in was not begun in this browser, or it is finished already.",
    Refused.EXPIRED: "That took too long.",
    Refused.PROVIDER: "The answer came from somebody else than was asked.",
    Refused.DENIED: "The sign-in was cancelled, or refused there.",
    Refused.CODE: "The sign-in could not be completed there.",
    Refused.TOKEN: "The answer cannot be trusted.",
    Refused.LEVEL: "The sign-in there does not prove enough, or is too long ago.",
    Refused.USER: "There is no account here for that user.",
    Refused.SIGNED_OUT: "You were signed out there in the meantime.",
}
# What another try would not change.
_FINAL: Final = frozenset({Refused.USER})


class SignOnSite:
    """Answer what is asked below one path."""

    def __init__(self, flow: SignOnFlow, sign_out: SignOut, receivers: Receivers, *, home: str) -> None:
        self._flow = flow
        self._sign_out = sign_out
        self._receivers = receivers
        self._home = home

    @property
    def blocking(self) -> bool:
        """Tell for which door it was made."""
        return self._flow.ground.blocking

    async def answer(self, ask: Ask) -> Reply:
        """Return the reply to one request.

        Raises:
            StoreError: a store, the vault or the provider failed: 503.
        """
        head, _, name = ask.path[1:].partition("/")
        match head, name:
            case "logout", "":
                return await (self._sign_out.leave(ask) if ask.method == "POST" else self._sign_out.page(ask))
            case "logged-out", "":
                return await self._sign_out.back(ask)
            case "backchannel", _:
                return await self._receivers.back(ask, name)
            case "frontchannel", _:
                return await self._receivers.front(ask, name)
            case (("login" | "callback"), _) if name in self._flow.known:
                if ask.method != "GET":
                    return wrong_method("GET")
                return await (self._login(ask, name) if head == "login" else self._callback(ask, name))
            case _:
                return NOT_FOUND

    async def _login(self, ask: Ask, name: str) -> Reply:
        prompt = ask.query.get("prompt")
        return redirect(
            await self._flow.begin(
                ask.session,
                name,
                target=ask.target(self._home),
                max_age=0.0 if ask.query.get("reason") in ("age", "factor", "aal") else None,
                acr_values=(),
                prompt=prompt if prompt in ("login", "select_account", "create") else None,
                login_hint=ask.query.get("login_hint", "")[:256] or None,
            )
        )

    async def _callback(self, ask: Ask, name: str) -> Reply:
        outcome = await self._flow.finish(ask.session, name, ask.query)
        if not isinstance(outcome, Refused):
            return redirect(local(outcome.target, self._home))
        if outcome is Refused.UNKNOWN and ask.session.user_id is not None:
            return redirect(self._home)  # another tab was faster, or the browser went back
        again = "" if outcome in _FINAL else f'<p><a href="{escape(ask.url("/login/" + name))}">Try again</a></p>'
        said = f"<p role=alert>{_SAYS[outcome]}</p>{again}"
        return html(logout_pages.page("You are not signed in", said), 400)
