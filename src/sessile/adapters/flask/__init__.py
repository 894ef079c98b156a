"""Flask: `Sessile(app, "sqlite:///sessions.db")`, then `flask.session` as ever.

What an application does already counts: `login_user()`, `logout_user()`, or setting and removing `session["user_id"]`
rotates the token, ends the old one and keeps the user's list of sessions. What Sessile adds are attributes of the same
object (`session.login(...)`, `.user_id`, `.require(...)`, …); `current_sessions()` finds and ends sessions.

What differs from Flask's signed cookie, and why:

    Flask's cookie session                       here                            because
    SECRET_KEY signs it                          not needed (extensions may be)  the token is signed by its own key ring
    SESSION_COOKIE_*, …_LIFETIME                 `CookieRules`, `Policy`         said once; Strict counts, others warn
    cookie "session", not Secure                 `__Host-id`, Secure, Lax        no sibling host can plant it (R11)
    works on plain http                          on loopback only                what travels in clear is stolen (R20)
    `permanent` makes the cookie persistent      data; `CookieRules(max_age=)`   persistence is a stated choice (R16)
    `permanent` alone sets a cookie              is not stored                   nothing to remember (R27)
    `modified = True` for nested changes         noticed by themselves           forgotten flags lose data
    `modified = False` drops changes             does not                        what was done is stored
    writes while streaming are lost              raise `SessionClosed`           silence would hide a lost sign-in
    two requests: the last one wins              by key: both win (R43)          concurrent requests lose nothing
    `session.clear()`                            also signs the user out         an ended session is ended for certain
    a value of an unknown type: TypeError        `ValueUnsupported`              it names the key
    -                                            503 when the store fails        an outage is not "signed out" (R45)
    -                                            unsafe cross-site requests: 403 covers signing in, too (R22)
    -                                            `csrf_token` changes at login   as it must (R23); open forms go stale

Flask's own behaviour stays: error responses commit like all others, and `save_session` runs after `after_request`.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, Unpack, cast

try:
    from flask import Flask, current_app
    from flask import session as flask_session
except ImportError as error:
    from ...errors import ExtraMissing

    raise ExtraMissing("Flask", "flask") from error

from ...core.cookies import CookieRules
from ...core.sessions import Options, Sessions
from ...errors import ConfigurationError
from ..environ import check_door
from ..replies import PREFIX, Pages
from . import login
from .interface import HANDLED, Answered, SessileInterface
from .session import FlaskSession

if TYPE_CHECKING:
    from ...core.ports import Store

__all__ = ["FlaskSession", "Sessile", "SessileInterface", "current_sessions", "requires"]

P = ParamSpec("P")
R = TypeVar("R")

_EXTENSION: Final = "sessile"
_CONFIG: Final = "SESSILE_"
_PAGES: Final = frozenset({"prefix", "login_url", "step_up_url", "after_logout", "passive_paths"})
# What Flask's cookie was told and Sessile takes from elsewhere: the setting, Flask's default, where it is said here.
_ELSEWHERE: Final = (
    ("SESSION_COOKIE_NAME", "session", "CookieRules(name)"),
    ("SESSION_COOKIE_DOMAIN", None, "CookieRules(domain) with a __Secure- name"),
    ("SESSION_COOKIE_PATH", None, "CookieRules(path) with a __Secure- name"),
    ("PERMANENT_SESSION_LIFETIME", dt.timedelta(days=31), "Policy(idle, absolute) and CookieRules(max_age)"),
)


class FlaskOptions(Options, total=False):
    """List what `Sessile` takes beside the store: all of `Options`, and what its own answers need.

    `sessions` is a door that is open already. `prefix` is where Sessile's own endpoints are (None: nowhere).
    `login_url`, `step_up_url`, `after_logout` are pages of the application. Requests whose path begins with one of
    `passive_paths` are no activity of the user (R40).
    """

    sessions: Sessions
    prefix: str | None
    login_url: str | None
    step_up_url: str | None
    after_logout: str
    passive_paths: Iterable[str]


class Sessile:
    """Give Flask applications sessions.

    `store` is a URL (`memory://`, `sqlite:///sessions.db`) or a store object; see `FlaskOptions` for the rest. Without
    `app`, call `init_app` later, as application factories do. What is not said here is read from the application's
    configuration: `SESSILE_STORE`, `SESSILE_KEYS`, `SESSILE_LOGIN_URL`, and so on.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(
        self, app: Flask | None = None, store: str | Store | None = None, **options: Unpack[FlaskOptions]
    ) -> None:
        self._app = app
        self._store = store
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Put the sessions behind `flask.session` of this application.

        Raises:
            ConfigurationError: the settings are wrong, or the application has sessions already.
        """
        if _EXTENSION in app.extensions:
            raise ConfigurationError("this application has its sessions already: init_app was called twice")
        config = cast("dict[str, Any]", app.config)
        said = {name[len(_CONFIG) :].lower(): value for name, value in config.items() if name.startswith(_CONFIG)}
        settings: dict[str, Any] = {**said, **self._options}
        if self._store is not None:
            settings["store"] = self._store
        pages = {name: settings.pop(name) for name in _PAGES & settings.keys()}
        sessions = _open(config, settings)
        interface = SessileInterface(
            sessions,
            pages=Pages(pages.get("login_url"), pages.get("step_up_url"), pages.get("after_logout", "/")),
            prefix=pages.get("prefix", PREFIX),
            passive_paths=tuple(pages.get("passive_paths", ())),
        )
        app.extensions[_EXTENSION] = sessions
        app.session_interface = interface
        app.preprocess_request = interface.first(app.preprocess_request)  # type: ignore[method-assign]
        # Where HTTP exceptions are trapped for debugging, only one with a handler of its own still passes.
        app.register_error_handler(Answered, Answered.get_response)
        for kind in HANDLED:
            app.register_error_handler(kind, interface.handle)
        login.follow(app)

    @property
    def sessions(self) -> Sessions:
        """Return the door that lists and ends sessions."""
        return current_sessions(self._app)


def current_sessions(app: Flask | None = None) -> Sessions:
    """Return the sessions of `app`, or of the application that is running.

    Raises:
        ConfigurationError: it has none.
    """
    found = (current_app if app is None else app).extensions.get(_EXTENSION)
    if not isinstance(found, Sessions):
        raise ConfigurationError("this application has no sessions: call Sessile(app) first")
    return found


def requires(
    *, factor: str | None = None, max_age: float | None = None, aal: int | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Open a view only to sessions that prove enough, as `Session.require` does; otherwise `StepUpRequired` (R90)."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            cast("FlaskSession", flask_session).require(factor=factor, max_age=max_age, aal=aal)
            return cast("R", current_app.ensure_sync(view)(*args, **kwargs))

        return guarded

    return decorate


def _open(config: dict[str, Any], settings: dict[str, Any]) -> Sessions:
    given = settings.pop("sessions", None)
    if given is not None:
        if settings:
            raise ConfigurationError(f"{sorted(settings)[0]!r} belongs to the Sessions that you made yourself")
        check_door(given)
        return cast("Sessions", given)
    if "cookie" not in settings and config.get("SESSION_COOKIE_SAMESITE") == "Strict":
        settings["cookie"] = CookieRules(samesite="Strict")
    if not {"cookie", "policy"} & settings.keys():
        for name, default, where in _ELSEWHERE:
            if config.get(name, default) != default:
                warnings.warn(f"{name} has no effect on Sessile's sessions: say it with {where}", stacklevel=4)
    return Sessions(settings.pop("store", "memory://"), **settings)
