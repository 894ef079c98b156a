"""The doors that the settings describe: one blocking, one for event loops, over one store and one ring of keys."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch

from ...core.cookies import CookieRules
from ...core.crosssite import CrossSiteGuard
from ...core.sessions import AsyncSessions, Sessions
from ...errors import ConfigurationError
from ..replies import PREFIX, Pages

ENGINE: Final = "sessile.adapters.django"
USER_KEY: Final = "_auth_user_id"
_DJANGO_NAME: Final = "sessionid"
# What belongs to the middleware rather than to the doors.
_OWN: Final = frozenset({"store", "prefix", "login_url", "step_up_url", "after_logout", "passive_paths"})


class Doors:
    """Hold both doors, over one store and one ring of keys, and what the middleware needs beside them.

    For event loops, a URL is opened a second time when that door is first needed: a loop must not wait for a file as a
    thread may. Only memory, and a store that was given as an object, is one for both.

    Raises:
        ConfigurationError: SESSILE is no mapping, or its options are wrong.
    """

    def __init__(self) -> None:
        given = options()
        rules = cookie_rules(given)
        self.prefix: str | None = given.get("prefix", PREFIX)
        self.passive_paths: tuple[str, ...] = tuple(given.get("passive_paths", ()))
        self._given = given
        self._store: Any = given.get("store", "sqlite:///sessions.db")
        self._is_ours = isinstance(self._store, str)
        shared: dict[str, Any] = {name: value for name, value in given.items() if name not in _OWN}
        shared.setdefault("user_keys", (USER_KEY,))
        if "guard" not in shared:
            # Wildcards name no origin; a check says so.
            shared["guard"] = CrossSiteGuard(
                trusted_origins=[one for one in settings.CSRF_TRUSTED_ORIGINS if "*" not in one]
            )
        shared["cookie"] = rules
        self.blocking = Sessions(self._store, **shared)
        self._shared: dict[str, Any] = {**shared, "keys": self.blocking.engine.ring}
        self._opening = threading.Lock()
        self._asynchronous: AsyncSessions | None = None
        _agree(rules)

    @property
    def asynchronous(self) -> AsyncSessions:
        """Return the door for event loops."""
        if self._asynchronous is None:
            with self._opening:
                if self._asynchronous is None:
                    in_memory = self._is_ours and (
                        self._store.startswith("memory:") or "revocations=memory:" in self._store
                    )
                    is_one = in_memory or not self._is_ours
                    store = self.blocking.engine.store if is_one else self._store
                    self._asynchronous = AsyncSessions(store, **self._shared)
        return self._asynchronous

    @cached_property
    def pages(self) -> Pages:
        """Return where the project's own pages are; names of URL patterns are resolved when first asked for."""
        login_url = self._given.get("login_url", settings.LOGIN_URL)
        step_up_url = self._given.get("step_up_url")
        after = self._given.get("after_logout") or settings.LOGOUT_REDIRECT_URL or "/"
        return Pages(
            None if login_url is None else _path(login_url),
            None if step_up_url is None else _path(step_up_url),
            _path(after) or "/",
        )


_lock = threading.Lock()
_doors: Doors | None = None
# The cookie's name, where the settings were told it.
_agreed: str = _DJANGO_NAME


def doors() -> Doors:
    """Return the doors of this process, opened at first use.

    Raises:
        ConfigurationError: SESSILE is no mapping, or its options are wrong.
    """
    global _doors  # noqa: PLW0603
    if _doors is None:
        with _lock:
            if _doors is None:
                _doors = Doors()
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
        name=CookieRules().name if name in (_DJANGO_NAME, _agreed) else name,
        path=settings.SESSION_COOKIE_PATH,
        domain=settings.SESSION_COOKIE_DOMAIN,
        samesite=samesite if samesite in ("Lax", "Strict") else "Lax",
    )


def is_said(name: str) -> bool:
    """Tell whether the project itself says this setting."""
    said: Any = settings
    if name == "SESSION_COOKIE_NAME" and settings.SESSION_COOKIE_NAME in (_DJANGO_NAME, _agreed):
        return False
    return bool(said.is_overridden(name))


def options() -> dict[str, Any]:
    """Return the setting SESSILE.

    Raises:
        ConfigurationError: it is no mapping.
    """
    given: Any = getattr(settings, "SESSILE", {})
    if not isinstance(given, dict):
        raise ConfigurationError("the setting SESSILE is a dict: a store, and the options of Sessions")
    return dict(given)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _path(url: Any) -> str | None:
    try:
        return str(resolve_url(url))
    except NoReverseMatch:
        return None


def _agree(rules: CookieRules) -> None:
    """Tell the test client, and others who look there, what the cookie is."""
    global _agreed  # noqa: PLW0603
    if settings.SESSION_ENGINE != ENGINE:
        return  # the cookie of Django's own engines is none of ours
    if settings.SESSION_COOKIE_NAME in (_DJANGO_NAME, _agreed):
        settings.SESSION_COOKIE_NAME = _agreed = rules.name


def reopen() -> None:
    """Forget the doors: the next use opens those that the settings describe then."""
    global _doors  # noqa: PLW0603
    _doors = None


def _forget(*, setting: str, **_: Any) -> None:
    """Open the doors anew when a test overrides the settings."""
    if setting == "SESSILE":
        reopen()
    elif _doors is not None:
        _agree(_doors.blocking.engine.cookie)


setting_changed.connect(_forget)
