"""What `contrib.auth` says about who proved what."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.utils.module_loading import import_string

from .store import DjangoSession, SessionStore

_BACKEND = "_auth_user_backend"


def _logged_in(request: Any = None, **_: Any) -> None:
    """Take a sign-in as a proof: of the password if Django's own backend checked one, of something unnamed otherwise."""
    store = getattr(request, "session", None)
    if isinstance(store, SessionStore) and isinstance(store.core, DjangoSession):
        store.core.proved("password" if _by_password(str(store.core.get(_BACKEND, ""))) else "application")


def _by_password(path: str) -> bool:
    from django.contrib.auth.backends import ModelBackend, RemoteUserBackend

    try:
        backend: Any = import_string(path)
    except ImportError:
        return False
    return (
        isinstance(backend, type) and issubclass(backend, ModelBackend) and not issubclass(backend, RemoteUserBackend)
    )


user_logged_in.connect(_logged_in, dispatch_uid="sessile.logged_in")
