"""The cookie jars of test clients: how a session's cookie is put in, and how it is read."""

from __future__ import annotations

from email.message import Message
from typing import Any, NamedTuple
from urllib.request import Request

from ..core import cookies
from ..errors import ConfigurationError
from .shape import shape_of


class Minted(NamedTuple):
    """Hold a new session's cookie and id. Its repr shows no token."""

    name: str
    token: str
    id: str
    set_cookie: str

    def __repr__(self) -> str:
        return f"<Minted session {self.id[:8]}>"


def is_django(client: Any) -> bool:
    """Tell whether this is Django's test client, without importing Django."""
    return any(kind.__module__ == "django.test.client" for kind in type(client).__mro__)


def put(client: Any, minted: Minted) -> None:
    """Put the cookie into the client's jar.

    Raises:
        ConfigurationError: it is no client that is known, or it would never send the cookie.
    """
    if is_django(client):
        client.cookies[minted.name] = minted.token
        client.cookies[minted.name].update({"path": "/", "secure": True, "httponly": True})
    elif hasattr(client, "set_cookie") and hasattr(client, "application"):
        host = (client.application.config.get("SERVER_NAME") or "localhost").partition(":")[0]
        client.set_cookie(minted.name, minted.token, domain=host, secure=True, httponly=True, samesite="Lax")
    elif hasattr(client, "cookies") and hasattr(client, "base_url"):
        _put_into_jar(client.cookies.jar, str(client.base_url), minted)
    else:
        raise ConfigurationError(f"{type(client).__name__} is no test client that Sessile knows")


class _Answered:
    """Be a response as `http.cookiejar` reads one."""

    def __init__(self, set_cookie: str) -> None:
        self._headers = Message()
        self._headers["Set-Cookie"] = set_cookie

    def info(self) -> Message:
        return self._headers


def _put_into_jar(jar: Any, url: str, minted: Minted) -> None:
    """Let the jar take the cookie as it takes that of a response, so that the next one replaces it."""
    request = Request(url or "http://localhost/")  # noqa: S310 - never opened
    jar.extract_cookies(_Answered(minted.set_cookie), request)
    jar.add_cookie_header(request)
    if cookies.read(request.get_header("Cookie") or "", minted.name) != minted.token:
        raise ConfigurationError(
            f"this client never sends a Secure cookie to {url!r}: make it with base_url='https://testserver'"
        )


def session_token(holder: Any) -> str | None:
    """Return the session token that a test client holds, or that a response sets; None if there is none."""
    pairs = _set_by(holder) if hasattr(holder, "status_code") else _held_by(holder)
    return next((value for value in pairs if shape_of(value) is not None), None)


def _set_by(response: Any) -> list[str]:
    lines = _all(response.headers, "set-cookie")
    values = [line.partition(";")[0].partition("=")[2] for line in lines]
    if type(getattr(response, "cookies", None)).__name__ == "SimpleCookie":  # Django's, beside its headers
        values += [morsel.value for morsel in response.cookies.values()]
    return values


def _held_by(client: Any) -> list[str]:
    held: Any = getattr(client, "cookies", None)
    if hasattr(held, "jar"):
        return [one.value or "" for one in held.jar]
    if held is not None:
        return [morsel.value for morsel in held.values()]
    stored: Any = getattr(client, "_cookies", None) or {}
    return [one.value for one in stored.values()]


def _all(headers: Any, name: str) -> list[str]:
    for method in ("get_list", "getlist", "get_all"):
        if hasattr(headers, method):
            return list(getattr(headers, method)(name) or ())
    value = headers.get(name)
    return [] if value is None else [value]
