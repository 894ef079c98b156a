"""Django: `SESSION_ENGINE = "sessile.adapters.django"` and one middleware line, then `request.session` as ever.

    SESSION_ENGINE = "sessile.adapters.django"
    MIDDLEWARE = [..., "sessile.adapters.django.SessionMiddleware", ...]     # in place of Django's
    SESSILE = {"store": "sqlite:///sessions.db"}                             # and the options of `Sessions`

`login()`, `logout()`, the admin, messages, `CSRF_USE_SESSIONS` and the test client work as they do. What Sessile adds
are methods of the same object (`request.session.require(...)`, `.add_factor(...)`, …); `sessions()` finds and ends
sessions. What differs from Django's own engines, and why:

    Django's engines                         here                             because
    SESSION_COOKIE_NAME "sessionid"          "__Host-id" unless you set one   no sibling host can plant it (R11)
    SESSION_COOKIE_SECURE, _HTTPONLY, …      always; see `CookieRules`        said once; contradictions fail the checks
    SESSION_COOKIE_AGE, SAVE_EVERY_REQUEST   `Policy`: idle and absolute      an age since the last write is neither
    `session_key` is the secret              is the public id                 it ends up in logs; it opens nothing
    login() of the same user keeps the key   gives a new token                authentication renews it (R25)
    `flush()` deletes at once                at the end of the request        what was not stored was not done
    `clear()` keeps the key                  is `flush()`                     an ended session is ended for certain
    `cycle_key()` of a new one stores it     does not                         nothing to remember (R27)
    two requests: the last one wins          by key: both win (R43)           concurrent requests lose nothing
    SessionInterrupted (400)                 the late write is dropped        the end stands (R42)
    a nested change needs `modified`         is noticed by itself             forgotten flags lose data
    `modified = False` drops changes         does not                         what was done is stored
    what JSON knows                          dates, sets, decimals, …, too    they come back as what they were
    keys of any JSON kind                    text; whole numbers become text  JSON did the same, silently
    `set_expiry()` may lengthen              it may only shorten              the policy's limits are upper bounds
    plain http                               on loopback only                 what travels in clear is stolen (R20)
    cross-site posts: CSRF tokens            refused before the view, too     signing in is covered as well (R22)
    an outage is an error 500                503                              it is not "signed out" (R45)

As with Django's own middleware, a response with a status of 500 or more stores nothing: nothing was done. That holds
for a sign-out, too.

Outside a request (`SessionStore()` in a script, the test client) there is no cookie, so `session_key` is the token
there, and `SessionStore(token)` opens the session. A public id opens nothing, anywhere; `exists` and `delete` take it.

A second factor: `request.session.login(user, pending=True)` when the password is right (`request.user` stays
anonymous), then `request.session.add_factor("totp")`.
"""

from __future__ import annotations

from ...errors import ExtraMissing

try:
    import django as _django
except ImportError as error:
    raise ExtraMissing("The Django adapter", "django") from error

from . import checks as _checks
from . import signals as _signals
from .doors import async_sessions, sessions
from .guards import SessionRequiredMixin, requires
from .middleware import SessionMiddleware
from .store import SessionStore

del _django, _checks, _signals

__all__ = ["SessionMiddleware", "SessionRequiredMixin", "SessionStore", "async_sessions", "requires", "sessions"]
