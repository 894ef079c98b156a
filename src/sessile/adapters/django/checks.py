"""System checks: settings of Django's own sessions that contradict Sessile's, and what signs in again."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

from ...errors import ConfigurationError
from .doors import cookie_rules, options

_ENGINE = "sessile.adapters.django"
_DJANGOS_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"


@checks.register(checks.Tags.security)
def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with the settings."""
    if settings.SESSION_ENGINE != _ENGINE:
        return []
    found: list[checks.CheckMessage] = []
    if _DJANGOS_MIDDLEWARE in settings.MIDDLEWARE:
        hint = f"Put '{_ENGINE}.SessionMiddleware' in its place."
        found.append(
            checks.Error("Django's SessionMiddleware cannot carry Sessile's sessions.", hint=hint, id="sessile.E001")
        )
    try:
        rules = cookie_rules(options())
    except ConfigurationError as error:
        found.append(checks.Error(f"The session cookie is unsafe: {error}", id="sessile.E002"))
        return found
    if settings.SESSION_COOKIE_SAMESITE not in ("Lax", "Strict", rules.samesite):
        hint = "Set SESSILE['cookie'] = CookieRules(samesite='None', cross_site_cookie_is_my_decision=True) if you mean it."
        found.append(checks.Warning("SESSION_COOKIE_SAMESITE is not honoured.", hint=hint, id="sessile.W001"))
    if not settings.SESSION_COOKIE_HTTPONLY:
        found.append(checks.Warning("SESSION_COOKIE_HTTPONLY=False is not honoured.", id="sessile.W002"))
    if settings.SESSION_SAVE_EVERY_REQUEST:
        hint = "Sessile touches a session by itself; see Policy(touch=…)."
        found.append(checks.Warning("SESSION_SAVE_EVERY_REQUEST does nothing.", hint=hint, id="sessile.W003"))
    return found
