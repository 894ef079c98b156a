"""Assertions about what a response did to a session. A failure says what was found, and never shows a token."""

from __future__ import annotations

from typing import Any, NoReturn

from .jars import session_token
from .shape import Shape, shape_of


def assert_rotated(before: Any, after: Any) -> None:
    """Assert that the token after is a successor of the one before, or of a session that took its place.

    Each is a token, a response that sets one, or a client that holds one; a client changes as it is used, so take its
    `session_token(client)` before.
    """
    __tracebackhide__ = True
    old, new = _shapes(before, after)
    if old.id == new.id and new.generation <= old.generation:
        _fail(f"the token was not rotated: it was {old}, and is {new} (R29)")


def assert_renewed(before: Any, after: Any) -> None:
    """Assert that another session took the place of the one before: what a sign-in must do (R25)."""
    __tracebackhide__ = True
    old, new = _shapes(before, after)
    if old.id == new.id:
        _fail(f"the session was not renewed: it was {old}, and is {new}; whoever knew the old token still has it (R25)")


def assert_not_cacheable(response: Any) -> None:
    """Assert that no shared cache keeps this response, and none at all if it sets a session cookie (R19)."""
    __tracebackhide__ = True
    written = str(response.headers.get("cache-control") or "")
    directives = {part.strip().lower().partition("=")[0] for part in written.split(",")}
    sets = session_token(response) is not None
    if "no-store" in directives or (not sets and "private" in directives and "public" not in directives):
        return
    found = f"Cache-Control is {written!r}" if written else "there is no Cache-Control"
    danger = "it sets a session cookie" if sets else "it may show what belongs to one user"
    _fail(f"{found}, so a cache may keep this response and hand it to somebody else: {danger} (R19)")


def _shapes(before: Any, after: Any) -> tuple[Shape, Shape]:
    __tracebackhide__ = True
    if before is after and not isinstance(before, str):
        _fail("before and after are the same object: take session_token(…) of it before")
    return _shape(before, "before"), _shape(after, "after")


def _shape(holder: Any, when: str) -> Shape:
    __tracebackhide__ = True
    token = holder if isinstance(holder, str) or holder is None else session_token(holder)
    shape = None if token is None else shape_of(token)
    if shape is None:
        _fail(f"there is no session token {when}")
    return shape


def _fail(message: str) -> NoReturn:
    __tracebackhide__ = True
    raise AssertionError(message)
