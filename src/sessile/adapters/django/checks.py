"""System checks: settings of Django's own sessions that contradict Sessile's, and settings that do nothing here.

E001   Django's SessionMiddleware is listed, or Sessile's is not
E002   SESSILE is wrong, or the cookie that the settings describe is unsafe
E003   SESSION_COOKIE_NAME names another cookie than the sessions'
W001   SESSION_COOKIE_SAMESITE, _PATH or _DOMAIN is not the cookie's
W002   SESSION_COOKIE_HTTPONLY is switched off
W003   a setting does nothing: SESSION_SAVE_EVERY_REQUEST, SESSION_COOKIE_AGE, SESSION_EXPIRE_AT_BROWSER_CLOSE
W004   a wildcard in CSRF_TRUSTED_ORIGINS, which the guard takes no notice of

`manage.py check` always runs them if INSTALLED_APPS lists `sessile.adapters.django`; otherwise when something has
imported the engine, as the admin's own checks do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from ...core.cookies import CookieRules
from ...errors import ConfigurationError
from .doors import ENGINE, cookie_rules, is_said, options

_DJANGOS_MIDDLEWARE: Final = "django.contrib.sessions.middleware.SessionMiddleware"
_IDLE: Final = {
    "SESSION_SAVE_EVERY_REQUEST": "Sessile touches a session by itself; see Policy(touch=…).",
    "SESSION_COOKIE_AGE": "Say it with Policy(idle=…, absolute=…), and CookieRules(max_age=…) for the cookie.",
    "SESSION_EXPIRE_AT_BROWSER_CLOSE": "The cookie ends with the browser unless CookieRules(max_age=…) is given.",
}
# Without settings of their own: Django's defaults, which contradict nothing.
_DEFAULTS: Final[dict[str, Any]] = {
    "SESSION_SAVE_EVERY_REQUEST": False,
    "SESSION_COOKIE_AGE": 60 * 60 * 24 * 7 * 2,
    "SESSION_EXPIRE_AT_BROWSER_CLOSE": False,
}


@checks.register(checks.Tags.security)
def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with the settings."""
    if settings.SESSION_ENGINE != ENGINE:
        return []
    found = list(_middleware())
    try:
        given = options()
        rules = cookie_rules(given)
    except ConfigurationError as error:
        return [*found, checks.Error(f"The session cookie is unsafe: {error}", id="sessile.E002")]
    return [*found, *_cookie(rules), *_without_effect("guard" in given)]


def _middleware() -> Iterator[checks.CheckMessage]:
    from .middleware import SessionMiddleware

    hint = f"Put '{ENGINE}.SessionMiddleware' in its place."
    if _DJANGOS_MIDDLEWARE in settings.MIDDLEWARE:
        yield checks.Error("Django's SessionMiddleware cannot carry Sessile's sessions.", hint=hint, id="sessile.E001")
    elif not any(_is_a(path, SessionMiddleware) for path in settings.MIDDLEWARE):
        yield checks.Error("Sessile's SessionMiddleware is not in MIDDLEWARE.", hint=hint, id="sessile.E001")


def _is_a(path: str, kind: type) -> bool:
    try:
        found: Any = import_string(path)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, kind)


def _cookie(rules: CookieRules) -> Iterator[checks.CheckMessage]:
    if is_said("SESSION_COOKIE_NAME") and rules.name != settings.SESSION_COOKIE_NAME:
        yield checks.Error(
            f"SESSION_COOKIE_NAME is not {rules.name!r}, the name of the sessions' cookie.",
            hint="Leave it out: it is set to the right name. The test client looks there.",
            id="sessile.E003",
        )
    if settings.SESSION_COOKIE_SAMESITE not in ("Lax", "Strict", rules.samesite):
        hint = "Give SESSILE['cookie'] a CookieRules with samesite='None', if you mean it."
        yield checks.Warning("SESSION_COOKIE_SAMESITE is not honoured.", hint=hint, id="sessile.W001")
    for name, holds in (("SESSION_COOKIE_PATH", rules.path), ("SESSION_COOKIE_DOMAIN", rules.domain)):
        if getattr(settings, name) not in (holds, "/", None):
            yield checks.Warning(f"{name} is not honoured: SESSILE['cookie'] says otherwise.", id="sessile.W001")
    if not settings.SESSION_COOKIE_HTTPONLY:
        yield checks.Warning("SESSION_COOKIE_HTTPONLY=False is not honoured.", id="sessile.W002")


def _without_effect(has_guard: bool) -> Iterator[checks.CheckMessage]:  # noqa: FBT001
    for name, hint in _IDLE.items():
        if getattr(settings, name) != _DEFAULTS[name]:
            yield checks.Warning(f"{name} does nothing.", hint=hint, id="sessile.W003")
    wild = [origin for origin in settings.CSRF_TRUSTED_ORIGINS if "*" in origin]
    if wild and not has_guard:
        hint = "Name each origin, or give SESSILE['guard'] a CrossSiteGuard."
        yield checks.Warning("A wildcard in CSRF_TRUSTED_ORIGINS trusts nobody here.", hint=hint, id="sessile.W004")
