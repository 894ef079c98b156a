"""The two doors of e-mail codes: `AsyncCodes` for event loops, `Codes` for the rest. Same methods, one line each."""

from __future__ import annotations

from typing import TypedDict, Unpack

from ...core.bridge import drive
from ...core.session import Session
from ...errors import ConfigurationError
from ..ground import Ground
from ..outcomes import Proved, Refused
from ..throttle import Held, Limits
from ..users import Users
from .flow import CodeFlow, Invited, Sent
from .mail import Mailer
from .rules import Look


class CodeOptions(TypedDict, total=False):
    """List what both doors take beside ground, users and mailer.

    `link` is the address of the page that a link opens, with `{token}` where the token goes (none: codes alone);
    `limits` say how many attempts at a code there are.
    """

    link: str
    limits: Limits


def _flow(ground: Ground, users: Users, mailer: Mailer, site: str, options: CodeOptions, *, blocking: bool) -> CodeFlow:
    if ground.blocking != blocking:
        raise ConfigurationError("these sessions are for the other door")
    return CodeFlow(ground, users, mailer, site, options.get("link"), options.get("limits"))


class AsyncCodes:
    """Send codes and links by e-mail, and take them, from an event loop.

    `site` is what people call the application; see `CodeOptions` for the rest.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(
        self, ground: Ground, users: Users, mailer: Mailer, *, site: str, **options: Unpack[CodeOptions]
    ) -> None:
        self.flow = _flow(ground, users, mailer, site, options, blocking=False)

    async def send(self, session: Session, login: str) -> Sent | Held:
        """Send a code to sign in with; of somebody without an account the answer is the same.

        Raises:
            StoreError: the vault failed.
        """
        return await self.flow.send(session, login)

    async def invite(self, session: Session, address: str) -> Sent | Held:
        """Send a code to an address that may be new; of somebody with an account the answer is the same.

        Raises:
            StoreError: the vault failed.
        """
        return await self.flow.invite(session, address)

    async def send_further(self, session: Session) -> Sent | Held:
        """Send a code to the session's user, as the further factor or to prove themselves once more.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return await self.flow.send_further(session)

    async def look(self, session: Session, link: str) -> Look:
        """Tell whether a link's token was asked for in this session; nothing is used up. For the GET of its page.

        Raises:
            StoreError: the vault failed.
        """
        return await self.flow.look(session, link)

    async def accept(self, session: Session, text: str) -> Proved | Invited | Refused | Held:
        """Use up a code as `use` does, or one of `invite`: then somebody reads this mail, and nobody is signed in.

        Raises:
            StoreError: the vault failed; nobody is signed in.
        """
        return await self.flow.accept(session, text)

    async def use(self, session: Session, text: str) -> Proved | Refused | Held:
        """Use up a code that was typed, or a link's token, and sign in. For a POST.

        Raises:
            StoreError: the vault failed; nobody is signed in.
        """
        return await self.flow.use(session, text)


class Codes:
    """Send codes and links by e-mail, and take them, from code that blocks.

    `site` is what people call the application; see `CodeOptions` for the rest.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(
        self, ground: Ground, users: Users, mailer: Mailer, *, site: str, **options: Unpack[CodeOptions]
    ) -> None:
        self.flow = _flow(ground, users, mailer, site, options, blocking=True)

    def send(self, session: Session, login: str) -> Sent | Held:
        """Send a code to sign in with; of somebody without an account the answer is the same.

        Raises:
            StoreError: the vault failed.
        """
        return drive(self.flow.send(session, login))

    def invite(self, session: Session, address: str) -> Sent | Held:
        """Send a code to an address that may be new; of somebody with an account the answer is the same.

        Raises:
            StoreError: the vault failed.
        """
        return drive(self.flow.invite(session, address))

    def send_further(self, session: Session) -> Sent | Held:
        """Send a code to the session's user, as the further factor or to prove themselves once more.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return drive(self.flow.send_further(session))

    def look(self, session: Session, link: str) -> Look:
        """Tell whether a link's token was asked for in this session; nothing is used up. For the GET of its page.

        Raises:
            StoreError: the vault failed.
        """
        return drive(self.flow.look(session, link))

    def accept(self, session: Session, text: str) -> Proved | Invited | Refused | Held:
        """Use up a code as `use` does, or one of `invite`: then somebody reads this mail, and nobody is signed in.

        Raises:
            StoreError: the vault failed; nobody is signed in.
        """
        return drive(self.flow.accept(session, text))

    def use(self, session: Session, text: str) -> Proved | Refused | Held:
        """Use up a code that was typed, or a link's token, and sign in. For a POST.

        Raises:
            StoreError: the vault failed; nobody is signed in.
        """
        return drive(self.flow.use(session, text))
