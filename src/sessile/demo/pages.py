"""How pages are made: templates, what every page knows, and the headers that every answer carries."""

from __future__ import annotations

import datetime as dt
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..adapters.starlette import session_of
from .catalogue import BY_SKU, GOODS, price
from .panel import Visitors
from .users import SEEDED

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Pages:
    """Render templates for a request."""

    def __init__(self, visitors: Visitors) -> None:
        self._visitors = visitors
        loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
        self._templates = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        filters: dict[str, Any] = {"price": price, "ago": ago}
        self._templates.filters.update(filters)

    def show(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page."""
        session = session_of(request)
        cart: dict[str, int] = session.get("cart", {})
        lines = [(BY_SKU[sku], count) for sku, count in cart.items() if sku in BY_SKU]
        known: dict[str, Any] = {
            "path": request.url.path,
            "user": session.user_id,
            "session": session,
            "now": session.now,
            "goods": GOODS,
            "cart": lines,
            "cart_count": sum(count for _, count in lines),
            "cart_total": sum(good.price * count for good, count in lines),
            "seeded": SEEDED,
            "signed_out": "signed-out" in request.query_params,
            "wrong": None,
            "name": "",
            "reason": "",
        }
        return HTMLResponse(self._templates.get_template(template).render({**known, **values}), status)


def ago(then: float, now: float) -> str:
    """Say how long ago something was."""
    seconds = max(0, int(now - then))
    if seconds < 10:
        return "just now"
    if seconds < 90:
        return f"{seconds} s ago"
    if seconds < 5400:
        return f"{round(seconds / 60)} min ago"
    return dt.datetime.fromtimestamp(then, dt.UTC).strftime("%d %b, %H:%M UTC")


class SecurityHeaders:
    """Put the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                said = {name.lower() for name, _ in given}  # the account pages say it themselves
                message["headers"] = [*given, *(pair for pair in _HEADERS if pair[0] not in said)]
            await send(message)

        await self._app(scope, receive, with_headers)
