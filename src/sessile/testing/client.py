"""Sign test clients in, through the engine and the store that the application itself uses.

    client                            the cookie goes to        the sessions are found
    Starlette's and FastAPI's         its cookie jar            in `client.app`
    httpx.Client, httpx.AsyncClient   its cookie jar            in the application that its transport calls
    Flask's                           its cookie jar            in `client.application`
    Django's                          `client.cookies`          in the settings

What is minted is a session like any other: a record in the store, a token that the engine signed, the events told.
What an existing application asks for is set as well: Flask-Login's keys, Django's `_auth_user_*`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, TypeVar

from ..adapters.discovery import Door, sessions_of
from ..core.bridge import drive
from ..core.engine import Engine
from ..core.requests import Facts, no_headers
from ..core.sessions import Sessions
from ..errors import ConfigurationError
from .jars import Minted, is_django, put

T = TypeVar("T")


def mint_session(
    sessions: Door,
    user: object = None,
    *,
    factors: Iterable[str] = ("password",),
    pending: bool = False,
    data: Mapping[str, Any] | None = None,
) -> Minted:
    """Make a session in the store of `sessions`, by either door, and return its cookie.

    `user` is an id, or an object that has one (`get_id()`, `pk` or `id`); None makes an anonymous session, which needs
    `data`. `factors` are proved now, in this order; `pending=True` says that a further one is due.

    Raises:
        ConfigurationError: neither a user nor data, so there is nothing to store (R27).
    """
    if user is None and not data:
        raise ConfigurationError("an anonymous session exists once it holds data: give a user or data")
    minting = _mint(sessions.engine, _id_of(user), tuple(factors), dict(data or {}), pending=pending)
    return drive(minting) if isinstance(sessions, Sessions) else _run(minting)


def login(
    client: Any,
    user: object = None,
    *,
    sessions: Door | None = None,
    factors: Iterable[str] = ("password",),
    pending: bool = False,
    data: Mapping[str, Any] | None = None,
) -> str:
    """Sign `user` in on a test client: mint a session and put its cookie into the client's jar. Return its id.

    `sessions` is needed only where it cannot be found through the client.

    Raises:
        ConfigurationError: no sessions are found, or the client would never send the cookie.
    """
    app = _app_of(client)
    door = sessions or (_django_door() if is_django(client) else sessions_of(app))
    if door is None:
        raise ConfigurationError("no sessions were found through this client: pass sessions=…")
    framework = _flask_login(client, app, user) if user is not None else {}
    if is_django(client) and user is not None:
        framework = _django_auth(user)
    minted = mint_session(door, user, factors=factors, pending=pending, data={**framework, **(data or {})})
    put(client, minted)
    return minted.id


async def _mint(
    engine: Engine, user: str | None, factors: tuple[str, ...], data: dict[str, Any], *, pending: bool
) -> Minted:
    session = await engine.load(Facts("GET", "https", "localhost", "/", "", "", no_headers))
    session.update(data)
    if user is not None:
        # An application that signs in through a key of its data has done so above; only the factors are missing.
        if session.user_id != user:
            session.login(user, factor=factors[0] if factors else "test", keep="all", pending=pending)
            factors = factors[1:]
        for factor in factors:
            session.add_factor(factor, complete=not pending)
    answer = await engine.commit(session)
    if answer.cookie is None or session.id is None:
        raise ConfigurationError("the session was not stored")
    if answer.more:
        raise ConfigurationError("the session takes several cookies: give the test less data")
    name, _, rest = answer.cookie.partition("=")
    return Minted(name, rest.partition(";")[0], session.id, answer.cookie)


def _run(minting: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where a loop is running: then in a thread, on a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(minting)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, minting).result()


def _id_of(user: object) -> str | None:
    if user is None or isinstance(user, str | int):
        return None if user is None else str(user)
    get_id = getattr(user, "get_id", None)
    found = get_id() if callable(get_id) else getattr(user, "pk", getattr(user, "id", user))
    return str(found)


# -- frameworks --------------------------------------------------------------------------------------------------------


def _app_of(client: Any) -> Any:
    for name in ("app", "application"):
        if hasattr(client, name):
            return getattr(client, name)
    return getattr(getattr(client, "_transport", None), "app", None)


def _django_door() -> Door:
    from ..adapters.django import sessions

    door: Door = sessions()
    return door


def _django_auth(user: object) -> dict[str, Any]:
    """Return what `django.contrib.auth.login` writes for this user, an id or an object."""
    auth = import_module("django.contrib.auth")
    settings: Any = import_module("django.conf").settings
    model = auth.get_user_model()
    found: Any = user if isinstance(user, model) else model._default_manager.get(pk=user)
    return {
        auth.SESSION_KEY: str(found.pk),
        auth.BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
        auth.HASH_SESSION_KEY: found.get_session_auth_hash(),
    }


def _flask_login(client: Any, app: Any, user: object) -> dict[str, Any]:
    """Return what Flask-Login's `login_user` writes for this user; nothing if the application does not use it."""
    if getattr(app, "login_manager", None) is None:
        return {}
    written: dict[str, Any] = {"_user_id": _id_of(user), "_fresh": True}
    identifier = getattr(import_module("flask_login.utils"), "_create_identifier", None)
    if identifier is not None:
        with app.test_request_context(environ_base=client.environ_base):
            written["_id"] = identifier()
    return written
