"""Find the sessions of an application, whatever wraps it: for the doctor, and for tests that sign users in.

Middlewares hold their door as an attribute, Starlette keeps theirs as arguments until the first request, Flask's
extension enters it by name. No framework is imported for this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..core.sessions import AsyncSessions, Sessions

Door = Sessions | AsyncSessions

# Where wrappers keep what they wrap.
_INSIDE: Final = ("app", "_app", "wsgi_app", "application", "middleware_stack", "__self__", "__wrapped__")
# No application is wrapped more often than this; what is larger is searched no further.
_MOST: Final = 1_000


def sessions_of(app: object) -> Door | None:
    """Return the door that `app` uses, None if none is found; the outermost, if there are several."""
    waiting: deque[object] = deque([app])
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        thing = waiting.popleft()
        if isinstance(thing, Sessions | AsyncSessions):
            return thing
        if thing is None or id(thing) in seen:
            continue
        seen.add(id(thing))
        waiting.extend(_held(thing))
    return None


def _held(thing: object) -> Iterator[object]:
    attributes = _attributes(thing)
    yield from (value for value in attributes.values() if isinstance(value, Sessions | AsyncSessions))
    extensions: Mapping[str, object] = attributes.get("extensions") or {}
    if hasattr(extensions, "get"):
        yield extensions.get("sessile")
    for waiting in attributes.get("user_middleware") or ():
        yield from (*getattr(waiting, "args", ()), *getattr(waiting, "kwargs", {}).values())
    for name in _INSIDE:
        yield attributes[name] if name in attributes else getattr(thing, name, None) if name.startswith("__") else None
    for route in attributes.get("routes") or getattr(attributes.get("router"), "routes", None) or ():
        yield _attributes(route).get("app")


def _attributes(thing: object) -> dict[str, Any]:
    try:
        return vars(thing)
    except TypeError:
        return {}
