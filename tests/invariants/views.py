"""The application that every adapter serves to the invariants: what each route does to the session, written once.

GET  /                                what the session is: kind, user, pending, cart, id, data
POST /cart?item=…                     put something into the cart: a nested change
POST /set?key=…&value=…               write one key
POST /login?user=…&pending=0|1&factor=…   sign in
POST /factor?name=…                   prove another factor
POST /rotate                          new token and id, as after a change of privilege
POST /logout
GET  /private                         needs a user
GET  /secure                          needs totp, proved at most 60 s ago
GET  /plain                           does not touch the session
GET  /boom                            writes, then raises
GET  /public                          reads, and says Cache-Control: public, max-age=60
GET  /moved                           writes and redirects
ANY  /slow?gate=…[&key=…&value=…]     reads, is held in the gate, then writes if asked to, answers as /
POST /userkey?user=…                  sign in as applications without Sessile do: session["user_id"] = …
POST /drop-userkey                    and sign out
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

PUBLIC: Final = "public, max-age=60"


class Answered(NamedTuple):
    """Hold what a view answers."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


class Boom(Exception):
    """Be the application's own mistake."""


def state(session: Any) -> dict[str, Any]:
    """Return what the session is."""
    return {
        "kind": session.kind,
        "user": session.user_id,
        "pending": session.pending_user_id,
        "cart": session.get("cart", []),
        "id": session.id,
        "data": {key: session[key] for key in session},
    }


def answer(method: str, path: str, query: Mapping[str, str], session: Callable[[], Any]) -> Answered:
    """Serve one request; `session()` returns the session and is called only by routes that touch it.

    Raises:
        StepUpRequired: the session does not prove enough; it is the adapter's to answer.
        Boom: the route is made to fail.
    """
    match method, path:
        case _, "/plain":
            return _json({"plain": True})
        case _, "/" | "/public" | "/slow":
            if path == "/slow" and "then" in query:
                return _act(query["then"], query, session())
            if "key" in query:
                session()[query["key"]] = query["value"]
            found = _json(state(session()))
            if path == "/public":
                found = found._replace(headers=(*found.headers, ("cache-control", query.get("cache", PUBLIC))))
            return found
        case _, "/private":
            return _json({"user": session().require()})
        case _, "/secure":
            return _json({"user": session().require(factor="totp", max_age=60)})
        case _, "/boom":
            session()["boom"] = True
            raise Boom("the application failed")
        case _, "/moved":
            session()["moved"] = True
            return Answered(302, b"", (("location", "/"),))
        case "POST", _:
            return _act(path, query, session())
    return Answered(404, b"{}")


def _act(path: str, query: Mapping[str, str], session: Any) -> Answered:
    match path:
        case "/cart":
            session.setdefault("cart", []).append(query["item"])
        case "/set":
            session[query["key"]] = query["value"]
        case "/login":
            factor = query.get("factor", "password")
            session.login(query["user"], factor=factor, pending=query.get("pending") == "1")
        case "/factor":
            session.add_factor(query["name"])
        case "/rotate":
            session.rotate()
        case "/logout":
            session.logout()
        case "/userkey":
            session["user_id"] = query["user"]
        case "/drop-userkey":
            session.pop("user_id", None)
        case _:
            return Answered(404, b"{}")
    return _json({"done": path})


def _json(value: object) -> Answered:
    return Answered(200, json.dumps(value).encode())
