"""What `contrib.auth` says about who proved what.

    login(request, user) after                          counts as the factor
    authenticate() by Django's own password check       password
    anything else, also backend="…ModelBackend" given   application: one unnamed kind

A view that knows better says so: `request.session.add_factor("totp")`.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.utils.module_loading import import_string

from .session import DjangoSession


def _logged_in(request: Any = None, user: Any = None, **_: Any) -> None:
    session = getattr(request, "session", None)
    if isinstance(session, DjangoSession):
        session.proved("password" if _by_password(user) else "application")


def _by_password(user: object) -> bool:
    """Tell whether `authenticate()` has checked a password: it notes its backend on the user, `login()` does not."""
    from django.contrib.auth.backends import ModelBackend, RemoteUserBackend

    path = getattr(user, "backend", None)
    if path is None:
        return False
    try:
        backend: Any = import_string(path)
    except ImportError:
        return False
    return (
        isinstance(backend, type)
        and issubclass(backend, ModelBackend)
        and not issubclass(backend, RemoteUserBackend)
        and backend.authenticate is ModelBackend.authenticate
    )


user_logged_in.connect(_logged_in, dispatch_uid="sessile.logged_in")
