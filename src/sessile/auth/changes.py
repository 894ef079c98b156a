"""What adding, changing or removing a factor asks for, and what follows from it.

    before   a complete session, proved in the last five minutes, at the level that its user can reach (R90)
    after    the user's other sessions end, this one gets a new token, and the sinks are told (R63)

Which kinds of factors a user has is read off the keys of their items in the vault, which nobody needs to decode for it.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Protocol, runtime_checkable

from ..core.factors import aal
from ..core.record import EndReason
from ..core.session import Session
from ..errors import NotByToken, StepUpRequired
from .events import FactorChanged
from .ground import Ground

# How long ago somebody who changes a factor must have proved who they are (R90), in seconds.
FRESH: Final = 300.0
# Nobody is asked for a hardware key: it may be the one that was lost.
MOST: Final = 2

What = Literal["added", "changed", "removed"]

_KINDS: Final = {"password:": "password", "totp:": "totp", "recovery:": "recovery", "passkey:": "passkey"}
_SECOND: Final = frozenset({"totp", "passkey"})


@runtime_checkable
class Informed(Protocol):
    """Be a witness that tells other applications of changed factors, too. It raises nothing."""

    async def changed(self, user: str, factor: str, what: What) -> None:
        """Note that a user's factor changed."""
        ...


async def enrolled(ground: Ground, user: str) -> frozenset[str]:
    """Return the kinds of factors that a user has in the vault: password, totp, recovery, passkey."""
    keys = [item.key for item in await ground.vault.of_user(user)]  # one round trip, where each kind would be one
    return frozenset(kind for prefix, kind in _KINDS.items() if any(key.startswith(prefix) for key in keys))


async def has_second(ground: Ground, user: str) -> bool:
    """Tell whether a user must prove a further factor after the first (R88)."""
    return bool(_SECOND & await enrolled(ground, user))


def refuse_token(session: Session) -> None:
    """Refuse a session that an access token opened, before anything is stored.

    Raises:
        NotByToken: it is one.
    """
    if session.grant is not None:
        raise NotByToken("changing a factor")


async def require_fresh(ground: Ground, session: Session, *, max_age: float = FRESH) -> str:
    """Return the user of a session that may change factors.

    The level is the highest that the user can reach with what this session proved and what they have: who has a second
    factor proves it first, and who has none is not asked for it. An access token is for another purpose, however fresh
    the session is that gave it.

    Raises:
        StepUpRequired: nobody is signed in, the sign-in is not complete, too long ago, or of too low a level.
        NotByToken: an access token opened the session.
    """
    refuse_token(session)
    user = session.require(max_age=max_age)
    names = {one.name for one in session.factors} | await enrolled(ground, user)
    return session.require(max_age=max_age, aal=min(MOST, aal(names)))


async def factor_changed(ground: Ground, session: Session, factor: str, what: What) -> None:
    """End the other sessions of the session's user, give this one a new token, and tell (R63).

    It is called after the change was stored: whoever signs in meanwhile does so with the new factors.

    Raises:
        StepUpRequired: nobody is signed in.
        StoreError: the store failed; the change stands, and the caller's response is an error.
    """
    user = session.require()
    keep: frozenset[str] = frozenset() if session.id is None else frozenset({session.id})
    witness: object = ground.engine.witness
    if isinstance(witness, Informed):
        await witness.changed(user, factor, what)
    await ground.engine.end_user(user, EndReason.USER, keep)
    session.rotate()
    ground.tell(FactorChanged(**about(ground, session, user), factor=factor, what=what))


def someone(session: Session) -> str:
    """Return who is signed in, or on the way there.

    Raises:
        StepUpRequired: nobody is.
    """
    user = session.user_id or session.pending_user_id
    if user is None:
        raise StepUpRequired("login")
    return user


def completes(session: Session, factor: str) -> bool:
    """Tell whether `factor` completes a pending sign-in: proving the same one again does not (R88)."""
    return any(one.name != factor for one in session.factors)


def about(ground: Ground, session: Session, user: str | None) -> dict[str, Any]:
    """Return what all events say."""
    return {"at": ground.now, "session": session.id, "user": user, "source": ground.source(session)}
