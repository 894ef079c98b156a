"""The two doors of passwords: `AsyncPasswords` for event loops, `Passwords` for the rest. Same methods, one line."""

from __future__ import annotations

from collections.abc import Iterable

from ...core.bridge import drive
from ...core.session import Session
from ...errors import ConfigurationError
from ..ground import Ground
from ..outcomes import Proved, Refused
from ..throttle import Held, Limits
from ..users import Users
from .flow import PasswordFlow
from .rules import Settings, Weak


def _flow(
    ground: Ground, users: Users, settings: Settings | None, limits: Limits | None, *, blocking: bool
) -> PasswordFlow:
    if ground.blocking != blocking:
        raise ConfigurationError("these sessions are for the other door")
    return PasswordFlow(ground, users, settings or Settings(), limits)


class AsyncPasswords:
    """Set and check passwords, from an event loop.

    `users` finds who is meant, `settings` say how long a password is and what its hash costs, `limits` how many
    attempts there are.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: argon2-cffi is not installed.
    """

    def __init__(
        self, ground: Ground, users: Users, *, settings: Settings | None = None, limits: Limits | None = None
    ) -> None:
        self.flow = _flow(ground, users, settings, limits, blocking=False)

    async def set_first(self, user: str | int, password: str, *, context: Iterable[str] = ()) -> Weak | None:
        """Keep the password of a user who has none, at sign-up; return what is wrong with it. `context` nobody may use.

        It asks for no session: who may call it, the application decides.

        Raises:
            StoreError: the vault failed.
        """
        return await self.flow.set_first(user, password, context)

    async def change(self, session: Session, password: str, *, context: Iterable[str] = ()) -> Weak | None:
        """Replace the password of the session's user and end the other sessions; return what is wrong with it.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return await self.flow.change(session, password, context)

    async def reset(self, session: Session, password: str, *, context: Iterable[str] = ()) -> Weak | None:
        """Replace a forgotten password and end the other sessions, of who proved in the last five minutes to read mail.

        Who has a second factor must have proved that as well; the e-mail stands for the password, and for no more.

        Raises:
            StepUpRequired: nobody is signed in, or e-mail or second factor were not proved, or too long ago.
            StoreError: the vault failed.
        """
        return await self.flow.reset(session, password, context)

    async def remove(self, session: Session) -> bool:
        """Remove the password of the session's user and end the other sessions; tell whether there was one.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return await self.flow.remove(session)

    async def sign_in(self, session: Session, login: str, password: str) -> Proved | Refused | Held:
        """Sign in whose name and password these are; pending if a further factor is due.

        Raises:
            NotByToken: an access token opened the session.
            StoreError: the vault failed.
        """
        return await self.flow.sign_in(session, login, password)

    async def verify(self, session: Session, password: str) -> Proved | Refused | Held:
        """Let the session's user prove their password: once more, or as the further factor.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return await self.flow.verify(session, password)


class Passwords:
    """Set and check passwords, from code that blocks.

    `users` finds who is meant, `settings` say how long a password is and what its hash costs, `limits` how many
    attempts there are.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: argon2-cffi is not installed.
    """

    def __init__(
        self, ground: Ground, users: Users, *, settings: Settings | None = None, limits: Limits | None = None
    ) -> None:
        self.flow = _flow(ground, users, settings, limits, blocking=True)

    def set_first(self, user: str | int, password: str, *, context: Iterable[str] = ()) -> Weak | None:
        """Keep the password of a user who has none, at sign-up; return what is wrong with it. `context` nobody may use.

        It asks for no session: who may call it, the application decides.

        Raises:
            StoreError: the vault failed.
        """
        return drive(self.flow.set_first(user, password, context))

    def change(self, session: Session, password: str, *, context: Iterable[str] = ()) -> Weak | None:
        """Replace the password of the session's user and end the other sessions; return what is wrong with it.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return drive(self.flow.change(session, password, context))

    def reset(self, session: Session, password: str, *, context: Iterable[str] = ()) -> Weak | None:
        """Replace a forgotten password and end the other sessions, of who proved in the last five minutes to read mail.

        Who has a second factor must have proved that as well; the e-mail stands for the password, and for no more.

        Raises:
            StepUpRequired: nobody is signed in, or e-mail or second factor were not proved, or too long ago.
            StoreError: the vault failed.
        """
        return drive(self.flow.reset(session, password, context))

    def remove(self, session: Session) -> bool:
        """Remove the password of the session's user and end the other sessions; tell whether there was one.

        Raises:
            StepUpRequired: nobody is signed in, nothing was proved in the last five minutes, or too little.
            StoreError: the vault failed.
        """
        return drive(self.flow.remove(session))

    def sign_in(self, session: Session, login: str, password: str) -> Proved | Refused | Held:
        """Sign in whose name and password these are; pending if a further factor is due.

        Raises:
            NotByToken: an access token opened the session.
            StoreError: the vault failed.
        """
        return drive(self.flow.sign_in(session, login, password))

    def verify(self, session: Session, password: str) -> Proved | Refused | Held:
        """Let the session's user prove their password: once more, or as the further factor.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return drive(self.flow.verify(session, password))
