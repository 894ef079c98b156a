"""What the side panel shows: the events of this visitor's sessions, and the session's present state; never a token.

A visitor is a browser, named by a random cookie that means nothing to Sessile. Events are a visitor's if they happened
in one of its requests, or if they concern a session that it has held.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict, deque
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ..adapters.messages import by_name
from ..adapters.replies import PREFIX
from ..core import cookies
from ..core.events import Event
from ..core.policy import Policy
from ..core.session import Session

COOKIE: Final = "demo-visitor"
_VISITOR: Final = re.compile(r"[\w-]{22}", re.ASCII)
_current: ContextVar[str] = ContextVar("demo_visitor", default="")
_MAX_VISITORS: Final = 500
_MAX_EVENTS: Final = 60

TOPICS: Final = {
    "R5": "An id that we did not issue is never adopted.",
    "R6": "Malformed tokens are refused before any store call.",
    "R22": "Unsafe requests from other sites are refused, signing in included.",
    "R25": "Signing in, and any change of privilege, gives a new token and ends the old one.",
    "R27": "Nothing is stored for a visitor until there is something to remember.",
    "R29": "Tokens are rotated; the old one works only for a short grace.",
    "R30": "Use of a token that was left behind ends the session.",
    "R42": "What has ended is never brought back by a late save.",
    "R53": "The client's context is compared on use.",
    "R61": "After the end, any later use fails at once.",
    "R64": "Everything can be ended in one step.",
    "R66": "The number of concurrent sessions can be limited.",
    "R88": "A session records what was proved, and when.",
}


class Visitors:
    """Remember, per visitor, the latest events and the sessions held; bounded."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, deque[tuple[int, Event]]] = OrderedDict()
        self._held: OrderedDict[str, str] = OrderedDict()
        self._number = 0

    def __call__(self, event: Event) -> None:
        """Take an event, as a sink."""
        self._number += 1
        concerned = {_current.get(), self._held.get(event.session or "", "")} - {""}
        for visitor in concerned:
            self._of(visitor).append((self._number, event))

    def held(self, visitor: str, session_id: str | None) -> None:
        """Remember that this visitor holds this session."""
        if visitor and session_id is not None:
            self._held[session_id] = visitor
            self._held.move_to_end(session_id)
            while len(self._held) > 20 * _MAX_VISITORS:
                self._held.popitem(last=False)

    def since(self, visitor: str, number: int) -> list[dict[str, Any]]:
        """Return the visitor's events after that number, oldest first, as the page shows them."""
        return [_shown(count, event) for count, event in self._of(visitor) if count > number]

    def _of(self, visitor: str) -> deque[tuple[int, Event]]:
        found = self._events.setdefault(visitor, deque(maxlen=_MAX_EVENTS))
        self._events.move_to_end(visitor)
        while len(self._events) > _MAX_VISITORS:
            self._events.popitem(last=False)
        return found


def _shown(number: int, event: Event) -> dict[str, Any]:
    return {
        "number": number,
        "at": event.at,
        "code": event.code,
        "severity": event.severity,
        "says": event.sentence(),
        "requirement": event.requirement,
        "topic": TOPICS.get(event.requirement, ""),
        "session": (event.session or "")[:8],
    }


def state(session: Session, policy: Policy) -> dict[str, Any]:
    """Return what the session is now, for the picture; times are seconds from now."""
    control, base, now = session.control, session.base, session.now
    if control is None or base is None:
        return {"kind": "none", "why": str(session.ended) if session.ended else ""}
    return {
        "kind": session.kind,
        "user": session.user_id or session.pending_user_id,
        "id": (session.id or "")[:8],
        "generation": control.generation,
        "branches": 1 + len(control.line.superseded),
        "aal": session.aal,
        "factors": [{"name": factor.name, "ago": now - factor.at} for factor in session.factors],
        "idle": max(0.0, session.idle_deadline - now),
        "absolute": max(0.0, control.authenticated_at + policy.absolute - now),
        "rotation": max(0.0, control.rotated_at + policy.rotation - now),
        "keys": len(base.data),
    }


class VisitorMiddleware:
    """Name the visitor of each request, so that the panel can tell what is whose."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Whatever else listens on localhost sets cookies here, too, and not all of them as the standard has it.
        known = cookies.read(by_name(scope["headers"]).get(b"cookie", b"").decode("latin-1"), COOKIE)
        visitor = known if isinstance(known, str) and _VISITOR.fullmatch(known) else secrets.token_urlsafe(16)
        # What caches may keep must not name anybody.
        is_named = visitor != known and not scope["path"].startswith(("/static/", PREFIX))
        scope["visitor"] = visitor
        token = _current.set(visitor)

        async def naming(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and is_named:
                cookie = f"{COOKIE}={visitor}; Path=/; HttpOnly; SameSite=Lax".encode()
                message["headers"] = [*message.get("headers", ()), (b"set-cookie", cookie)]
            await send(message)

        try:
            await self._app(scope, receive, naming)
        finally:
            _current.reset(token)
