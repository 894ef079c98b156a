"""The pages around a sign-out: plain HTML without script or style, so that every policy lets them through.

They say what is known and no more; an application that wants its own gives `SignOut(pages=…)` a function.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .logout import SignedOut

_HERE: Final = {
    (True, False): "You are signed out of this application.",
    (True, True): "You are signed out of this application, in every browser.",
    (False, False): "You are signed out here. Not every copy of the store has confirmed it yet.",
    (False, True): "You are signed out here, in every browser. Not every copy of the store has confirmed it yet.",
}
_THERE: Final = {
    "returned": (
        "{provider} has sent you back. It does not say whether your session there has ended: if you chose to stay "
        "signed in there, you are, and other applications may be open."
    ),
    "unreached": (
        "{provider} could not be reached. Your session there may still be open, and other applications with it."
    ),
    "unsupported": (
        "{provider} does not offer to end its session from here. You may still be signed in there, and in other "
        "applications."
    ),
    "none": "",
}


def signed_out(done: SignedOut) -> str:
    """Say what has ended, what has not, and what nobody knows."""
    there = _THERE[done.there].format(provider=escape(done.provider))
    parts = [f"<p role=status>{_HERE[done.confirmed, done.everywhere]}</p>"]
    if there:
        parts.append(f"<p>{there}</p>")
    return page("Signed out", "".join(parts))


def question(target: str, *, signed_in: bool) -> str:
    """Ask whether to sign out."""
    if not signed_in:
        return page("Sign out", "<p role=status>You are not signed in.</p>")
    form = (
        f'<form method=post action="{escape(target)}"><p><button>Sign out</button> '
        "<button name=everywhere value=1>Sign out everywhere</button></p></form>"
    )
    return page("Sign out", form)


def nothing(*, signed_in: bool) -> str:
    """Say that this browser has not asked for a sign-out, or has been told what came of it."""
    state = "You are signed in." if signed_in else "You are not signed in."
    return page("Sign out", f"<p role=status>{state} There is no sign-out to report.</p>")


def page(title: str, body: str) -> str:
    """Return a page of its own."""
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{body}"
