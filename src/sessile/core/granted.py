"""Sessions that an access token opens: each for one request, which is handed no cookie and no new token."""

from __future__ import annotations

from ..errors import AccessRefused
from .bearers import Bearer, Grant, presented
from .families import FAMILY, family_of, is_family
from .record import Record
from .requests import Facts
from .session import Rules, Session


async def judged(bearer: Bearer, facts: Facts, *, is_secure: bool) -> Grant:
    """Return what the access token of a request grants.

    Raises:
        AccessRefused: it grants nothing, or came over a channel where others could read it.
        StoreError: a store failed; nobody passes.
    """
    if not is_secure:
        raise AccessRefused(401, "invalid_token", (("www-authenticate", 'Bearer error="invalid_token"'),))
    return await bearer.judge(facts, *presented(facts))


def session_of(grant: Grant, kind: type[Session], rules: Rules) -> Session:
    """Return the session that an access token opens; its request sees nothing of what marks a family."""
    session = kind(rules, grant.record, grant.session_id)
    session.grant = grant
    if is_family(grant.record.control):
        session.hide(FAMILY)
    return session


def parent_of(record: Record | None) -> str | None:
    """Return the session that a family hangs on, which a sign-out with a token of it ends, too."""
    family = None if record is None else family_of(record)
    return None if family is None else family.parent
