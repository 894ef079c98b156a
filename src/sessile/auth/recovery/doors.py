"""The two doors of recovery codes: `AsyncRecovery` for event loops, `Recovery` for the rest. Same methods, one line."""

from __future__ import annotations

from ...core.bridge import drive
from ...core.session import Session
from ...errors import ConfigurationError
from ..ground import Ground
from ..outcomes import Refused
from ..throttle import Held, Limits
from .flow import Proved, RecoveryFlow, Stock


def _flow(ground: Ground, limits: Limits | None, *, blocking: bool) -> RecoveryFlow:
    if ground.blocking != blocking:
        raise ConfigurationError("these sessions are for the other door")
    return RecoveryFlow(ground, limits)


class AsyncRecovery:
    """Make recovery codes and take them, from an event loop. `limits` say how many attempts there are.

    Raises:
        ConfigurationError: the limits are wrong.
    """

    def __init__(self, ground: Ground, *, limits: Limits | None = None) -> None:
        self.flow = _flow(ground, limits, blocking=False)

    async def generate(self, session: Session) -> tuple[str, ...]:
        """Return ten new codes, to be shown once; the old ones are dead, and the user's other sessions end.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return await self.flow.generate(session)

    async def use(self, session: Session, code: str) -> Proved | Refused | Held:
        """Use a code up in place of the further factor: it completes a pending sign-in, or is a step-up.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return await self.flow.use(session, code)

    async def count(self, user: str | int) -> Stock:
        """Return how many codes a user has left."""
        return await self.flow.count(user)

    async def remove(self, session: Session) -> bool:
        """Remove all codes of the session's user and end the other sessions; tell whether there were any.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return await self.flow.remove(session)


class Recovery:
    """Make recovery codes and take them, from code that blocks. `limits` say how many attempts there are.

    Raises:
        ConfigurationError: the limits are wrong.
    """

    def __init__(self, ground: Ground, *, limits: Limits | None = None) -> None:
        self.flow = _flow(ground, limits, blocking=True)

    def generate(self, session: Session) -> tuple[str, ...]:
        """Return ten new codes, to be shown once; the old ones are dead, and the user's other sessions end.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return drive(self.flow.generate(session))

    def use(self, session: Session, code: str) -> Proved | Refused | Held:
        """Use a code up in place of the further factor: it completes a pending sign-in, or is a step-up.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return drive(self.flow.use(session, code))

    def count(self, user: str | int) -> Stock:
        """Return how many codes a user has left."""
        return drive(self.flow.count(user))

    def remove(self, session: Session) -> bool:
        """Remove all codes of the session's user and end the other sessions; tell whether there were any.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return drive(self.flow.remove(session))
