"""The doors that the settings describe: one blocking, one for event loops, over one store and one ring of keys."""

from __future__ import annotations

import threading
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.core.signals import setting_changed

from ...core.cookies import CookieRules
from ...core.sessions import AsyncSessions, Sessions
from ...errors import ConfigurationError
from ..replies import PREFIX, Pages

USER_KEY: Final = "_auth_user_id"
_DJANGO_NAME: Final = "sessionid"
# What belongs to the middleware rather than to the doors.
_OWN: Final = frozenset({"store", "prefix", "login_url", "step_up_url", "after_logout", "passive_paths"})


class Doors(NamedTuple):
    """Hold both doors and what the middleware needs beside them."""

    blocking: Sessions
    asynchronous: AsyncSessions
    pages: Pages
    prefix: str | None
    passive_paths: tuple[str, ...]


_lock = threading.Lock()
_doors: Doors | None = None


def doors() -> Doors:
    """Return the doors of this process, opened at first use.

    Raises:
        ConfigurationError: SESSILE is no mapping, or its options are wrong.
    """
    global _doors  # noqa: PLW0603
    if _doors is None:
        with _lock:
            if _doors is None:
                _doors = _open()
    return _doors


def sessions() -> Sessions:
    """Return the blocking door: find and end sessions from views and scripts."""
    return doors().blocking


def async_sessions() -> AsyncSessions:
    """Return the asynchronous door: find and end sessions from async views."""
    return doors().asynchronous


def cookie_rules(given: dict[str, Any]) -> CookieRules:
    """Return the cookie's rules: the ones given, or the default with the settings that fit them."""
    rules = given.get("cookie")
    if isinstance(rules, CookieRules):
        return rules
    name: str = settings.SESSION_COOKIE_NAME
    samesite: Any = settings.SESSION_COOKIE_SAMESITE
    return CookieRules(
        name=CookieRules().name if name == _DJANGO_NAME else name,
        path=settings.SESSION_COOKIE_PATH,
        domain=settings.SESSION_COOKIE_DOMAIN,
        samesite=samesite if samesite in ("Lax", "Strict") else "Lax",
    )


def options() -> dict[str, Any]:
    """Return the setting SESSILE.

    Raises:
        ConfigurationError: it is no mapping.
    """
    given: Any = getattr(settings, "SESSILE", {})
    if not isinstance(given, dict):
        raise ConfigurationError("the setting SESSILE is a dict: a store, and the options of Sessions")
    return dict(given)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _open() -> Doors:
    given = options()
    rules = cookie_rules(given)
    # The test client and a few packages look for the session cookie by this name.
    settings.SESSION_COOKIE_NAME = rules.name
    store: Any = given.get("store", "sqlite:///sessions.db")
    shared = {name: value for name, value in given.items() if name not in _OWN}
    shared.setdefault("user_keys", (USER_KEY,))
    shared["cookie"] = rules
    blocking = Sessions(store, **shared)
    # One memory is one store; a file is opened twice, because an event loop must not wait for it as a thread may.
    in_memory = not isinstance(store, str) or store.startswith("memory:")
    shared["keys"] = blocking.engine.ring
    asynchronous = AsyncSessions(blocking.engine.store if in_memory else store, **shared)
    login_url: Any = given.get("login_url", settings.LOGIN_URL)
    pages = Pages(
        login_url=str(login_url) if str(login_url).startswith("/") else None,
        step_up_url=given.get("step_up_url"),
        after_logout=given.get("after_logout", "/"),
    )
    return Doors(blocking, asynchronous, pages, given.get("prefix", PREFIX), tuple(given.get("passive_paths", ())))


def _forget(*, setting: str, **_: Any) -> None:
    """Open the doors anew when a test overrides the settings."""
    global _doors  # noqa: PLW0603
    if setting == "SESSILE" and _doors is not None:
        _doors.blocking.close()
        _doors = None


setting_changed.connect(_forget)
