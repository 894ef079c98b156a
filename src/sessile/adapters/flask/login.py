"""Flask-Login: what its signals say about who proved what.

    Flask-Login                        Sessile
    login_user(user)                   sign-in (the key `_user_id` does it); again for the same user: a new token
    login_user(user, fresh=False)      sign-in that proves no factor
    a user from the remember cookie    the same: a cookie that lives for a year is no proof (R89, R94)
    confirm_login()                    a factor is proved again: a new token
    logout_user()                      sign-out, also of a session that must prove more

So `requires(max_age=…)` and Flask-Login's `fresh_login_required` agree: both ask for a proof, not for a cookie.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flask import Flask, request

from ..environ import ENVIRON_KEY
from .session import FlaskSession


def follow(app: Flask) -> None:
    """Follow what Flask-Login says in this application, if it is installed."""
    try:
        signals = import_module("flask_login.signals")
    except ImportError:
        return
    signals.user_logged_in.connect(_logged_in, app)
    signals.user_loaded_from_cookie.connect(_remembered, app)
    signals.user_login_confirmed.connect(_confirmed, app)
    signals.user_logged_out.connect(_logged_out, app)


def _session() -> FlaskSession | None:
    found = request.environ.get(ENVIRON_KEY)
    return found if isinstance(found, FlaskSession) else None


def _logged_in(_app: Flask, **_said: Any) -> None:
    session = _session()
    if session is None:
        return
    if session.get("_fresh") is False:
        session.prove_nothing()
    else:
        session.prove_again()


def _remembered(_app: Flask, **_said: Any) -> None:
    session = _session()
    if session is not None:
        session.prove_nothing()


def _confirmed(_app: Flask, **_said: Any) -> None:
    session = _session()
    if session is not None:
        session.prove_again()


def _logged_out(_app: Flask, **_said: Any) -> None:
    session = _session()
    if session is not None:
        session.pop("_user_id", None)
