"""The two doors of TOTP: `AsyncTotp` for event loops, `Totp` for the rest. Same methods, one line."""

from __future__ import annotations

from ...core.bridge import drive
from ...core.session import Session
from ...errors import ConfigurationError
from ..ground import Ground
from ..outcomes import Proved
from ..throttle import Held, Limits
from .flow import Authenticator, Enrolment, TotpFlow
from .rules import Algorithm, Refused, Settings


def _flow(ground: Ground, settings: Settings, limits: Limits | None, *, blocking: bool) -> TotpFlow:
    if ground.blocking != blocking:
        raise ConfigurationError("these sessions are for the other door")
    return TotpFlow(ground, settings, limits)


class AsyncTotp:
    """Enrol authenticator apps and check their codes, from an event loop.

    `issuer` is the name that they show, `limits` say how many attempts there are.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: pyotp, segno or `cryptography` is not installed.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        issuer: str,
        algorithm: Algorithm = "SHA1",
        digits: int = 6,
        limits: Limits | None = None,
    ) -> None:
        self.flow = _flow(ground, Settings(issuer, algorithm, digits), limits, blocking=False)

    async def begin(self, session: Session, *, account: str) -> Enrolment:
        """Draw a secret for the session's user; `account` is what the app shows. It counts when it is confirmed.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return await self.flow.begin(session, account)

    async def resume(self, session: Session, *, account: str) -> Enrolment | None:
        """Show what this session began once more, after a wrong code; None if it began nothing, or too long ago.

        Raises:
            StepUpRequired: nobody is signed in, what was proved is too old, or too little.
            StoreError: the vault failed.
        """
        return await self.flow.resume(session, account)

    async def confirm(self, session: Session, code: str, *, label: str = "") -> Authenticator | Refused:
        """Keep the authenticator if this is its code, and end the user's other sessions; it proves the factor, too.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return await self.flow.confirm(session, code, label)

    async def verify(self, session: Session, code: str) -> Proved | Refused | Held:
        """Add the factor to the session: it completes a pending sign-in, or is a step-up. Each code works once.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return await self.flow.verify(session, code)

    async def authenticators(self, user: str | int) -> tuple[Authenticator, ...]:
        """Return a user's authenticators, the oldest first."""
        return await self.flow.authenticators(user)

    async def remove(self, session: Session, authenticator: str) -> bool:
        """Remove an authenticator by its id and end the other sessions; tell whether it was the user's.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return await self.flow.remove(session, authenticator)


class Totp:
    """Enrol authenticator apps and check their codes, from code that blocks.

    `issuer` is the name that they show, `limits` say how many attempts there are.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: pyotp, segno or `cryptography` is not installed.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        issuer: str,
        algorithm: Algorithm = "SHA1",
        digits: int = 6,
        limits: Limits | None = None,
    ) -> None:
        self.flow = _flow(ground, Settings(issuer, algorithm, digits), limits, blocking=True)

    def begin(self, session: Session, *, account: str) -> Enrolment:
        """Draw a secret for the session's user; `account` is what the app shows. It counts when it is confirmed.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return drive(self.flow.begin(session, account))

    def resume(self, session: Session, *, account: str) -> Enrolment | None:
        """Show what this session began once more, after a wrong code; None if it began nothing, or too long ago.

        Raises:
            StepUpRequired: nobody is signed in, what was proved is too old, or too little.
            StoreError: the vault failed.
        """
        return drive(self.flow.resume(session, account))

    def confirm(self, session: Session, code: str, *, label: str = "") -> Authenticator | Refused:
        """Keep the authenticator if this is its code, and end the user's other sessions; it proves the factor, too.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return drive(self.flow.confirm(session, code, label))

    def verify(self, session: Session, code: str) -> Proved | Refused | Held:
        """Add the factor to the session: it completes a pending sign-in, or is a step-up. Each code works once.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return drive(self.flow.verify(session, code))

    def authenticators(self, user: str | int) -> tuple[Authenticator, ...]:
        """Return a user's authenticators, the oldest first."""
        return drive(self.flow.authenticators(user))

    def remove(self, session: Session, authenticator: str) -> bool:
        """Remove an authenticator by its id and end the other sessions; tell whether it was the user's.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return drive(self.flow.remove(session, authenticator))
