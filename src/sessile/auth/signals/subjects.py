"""Whom a signal is about: `sub_id`, as RFC 9493 and SSF 1.0 §3 write it.

    iss_sub   a user, by the issuer that names them        email     a user, by an address
    opaque    a session (or a stream), by its name         aliases   one user, by several of these
    complex   members that all hold: user, session, and others (device, tenant, …)

Members that are not understood do not narrow: a signal about a user's one device ends all of that user's sessions
rather than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeGuard, cast

MAX_NAME: Final = 1024
_MAX_ALIASES: Final = 16


class Simple(NamedTuple):
    """Hold one name: of which format, who gave it (`iss_sub` alone, else ""), and the name."""

    format: str
    issuer: str
    name: str


class Subject(NamedTuple):
    """Hold the names of a user and of a session that a signal holds."""

    users: tuple[Simple, ...] = ()
    sessions: tuple[Simple, ...] = ()


def is_name(value: object) -> TypeGuard[str]:
    """Tell whether a value can name something."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def read(sub_id: object) -> Subject | None:
    """Return whom a `sub_id` names, None if it is none; one of a format that is not known here names nobody."""
    if not isinstance(sub_id, dict):
        return None
    found = cast("dict[str, Any]", sub_id)
    if found.get("format") != "complex":
        names = _simple(found)
        # An opaque name is one of a session (CAEP 1.0 §3.1); users are never named so between strangers.
        return None if names is None else _parted(names)
    users: list[Simple] = []
    sessions: list[Simple] = []
    members = {name: value for name, value in found.items() if name != "format"}
    if not members:
        return None
    for name, value in members.items():
        names = _simple(value)
        if names is None:
            return None
        if name == "user":
            users += names
        elif name == "session":
            sessions += names
    return Subject(tuple(users), tuple(sessions))


def _parted(names: tuple[Simple, ...]) -> Subject:
    return Subject(
        tuple(one for one in names if one.format != "opaque"), tuple(one for one in names if one.format == "opaque")
    )


def _simple(value: object) -> tuple[Simple, ...] | None:
    """Return the names in one subject identifier; empty: of a format that is not known; None: malformed."""
    if not isinstance(value, dict):
        return None
    found = cast("dict[str, Any]", value)
    form = found.get("format")
    if not is_name(form):
        return None
    if form == "aliases":
        return _aliases(found.get("identifiers"))
    member = {"iss_sub": "sub", "email": "email", "opaque": "id"}.get(form)
    if member is None:
        return ()
    name, issuer = found.get(member), found.get("iss") if form == "iss_sub" else ""
    if not is_name(name) or not isinstance(issuer, str) or (form == "iss_sub" and not is_name(issuer)):
        return None
    return (Simple(form, issuer, name),)


def _aliases(listed: object) -> tuple[Simple, ...] | None:
    if not isinstance(listed, list) or not 0 < len(cast("list[object]", listed)) <= _MAX_ALIASES:
        return None
    names: list[Simple] = []
    for one in cast("list[object]", listed):
        if _format(one) in ("aliases", "complex"):
            return None  # RFC 9493 §3.2.8: nothing nested
        found = _simple(one)
        if found is None:
            return None
        names += found
    return tuple(names)


def _format(value: object) -> object:
    return cast("dict[str, Any]", value).get("format") if isinstance(value, dict) else None


def iss_sub(issuer: str, subject: str) -> dict[str, Any]:
    """Name a user by who names them so."""
    return {"format": "iss_sub", "iss": issuer, "sub": subject}


def email(address: str) -> dict[str, Any]:
    """Name a user by an address."""
    return {"format": "email", "email": address}


def opaque(name: str) -> dict[str, Any]:
    """Name a session or a stream."""
    return {"format": "opaque", "id": name}


def complex_of(**members: Mapping[str, Any]) -> dict[str, Any]:
    """Name what all members name."""
    return {"format": "complex", **members}


def matches(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Tell whether two subjects match (SSF 1.0 §8.1.3.1): a complex one by all members that both have.

    A simple one matches the member of a complex one that it names, so that a stream's filter by user holds for the
    sessions of that user too.
    """
    if left.get("format") != "complex" and right.get("format") != "complex":
        return dict(left) == dict(right)
    if left.get("format") != "complex":
        left, right = right, left
    if right.get("format") != "complex":
        return any(member == dict(right) for name, member in left.items() if name != "format")
    shared = (left.keys() & right.keys()) - {"format"}
    return bool(shared) and all(left[name] == right[name] for name in shared)
