"""The two doors of passkeys: `AsyncPasskeys` for event loops, `Passkeys` for the rest. Same methods, one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict, Unpack

from ...core.bridge import drive
from ...core.session import Session
from ...errors import ConfigurationError
from ..ground import Ground
from .flow import PasskeyFlow, Proved
from .items import Passkey
from .rules import Refused, Rules, Verification


class PasskeyOptions(TypedDict, total=False):
    """List what both doors take beside the ground and the site.

    `verification` of the user at the authenticator (required); `discoverable` keys, found without a user name
    (required).
    """

    verification: Verification
    discoverable: Literal["required", "preferred"]


def _flow(
    ground: Ground, rp_id: str, rp_name: str, origins: Iterable[str], options: PasskeyOptions, *, blocking: bool
) -> PasskeyFlow:
    if ground.blocking != blocking:
        raise ConfigurationError("these sessions are for the other door")
    if isinstance(origins, str):
        raise ConfigurationError("origins is a list of origins")
    return PasskeyFlow(ground, Rules(rp_id, rp_name, tuple(origins), **options))


class AsyncPasskeys:
    """Register passkeys and sign in with them, from an event loop.

    `rp_id` is the domain that keys belong to for ever, `origins` the exact origins of the pages that use them,
    `rp_name` what authenticators show; see `PasskeyOptions` for the rest. `begin_…` returns JSON for the page, and
    `finish_…` takes the JSON that the page got; both belong to one session.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: webauthn or `cryptography` is not installed.
    """

    def __init__(
        self, ground: Ground, *, rp_id: str, rp_name: str, origins: Iterable[str], **options: Unpack[PasskeyOptions]
    ) -> None:
        self.flow = _flow(ground, rp_id, rp_name, origins, options, blocking=False)

    async def begin_registration(self, session: Session, *, name: str, display_name: str | None = None) -> str:
        """Return the options of a new key for the signed-in user; authenticators show `name` (their login name).

        Raises:
            StepUpRequired: nobody is signed in, or nothing was proved within the last five minutes.
            StoreError: the vault failed.
        """
        return await self.flow.begin_registration(session, name=name, display_name=display_name)

    async def finish_registration(self, session: Session, answer: str | bytes, *, label: str = "") -> Passkey | Refused:
        """Keep the new key under the name `label`, and end the user's other sessions.

        Raises:
            StepUpRequired: nobody is signed in, or what was proved is too old.
            StoreError: the vault failed.
        """
        return await self.flow.finish_registration(session, answer, label=label)

    async def begin_sign_in(self, session: Session, *, user: str | int | None = None) -> str:
        """Return the options of a sign-in: with any key of this site, or with those of a user.

        Of a user without keys the options look alike.

        Raises:
            StoreError: the vault failed.
        """
        return await self.flow.begin_sign_in(session, user=user)

    async def finish_sign_in(self, session: Session, answer: str | bytes) -> Proved | Refused:
        """Sign in who holds the key; pending if the authenticator did not verify the user.

        Raises:
            NotByToken: an access token opened the session.
            StoreError: the vault failed; nobody is signed in.
        """
        return await self.flow.finish_sign_in(session, answer)

    async def begin_step_up(self, session: Session) -> str:
        """Return the options of a further proof by the user who is signed in, or whose sign-in is pending.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return await self.flow.begin_step_up(session)

    async def finish_step_up(self, session: Session, answer: str | bytes) -> Proved | Refused:
        """Add the factor to the session: it completes a pending sign-in, or is a step-up.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            NotByToken: an access token opened the session.
            StoreError: the vault failed.
        """
        return await self.flow.finish_step_up(session, answer)

    async def keys(self, user: str | int) -> tuple[Passkey, ...]:
        """Return a user's keys, the oldest first."""
        return await self.flow.keys(user)

    async def rename(self, session: Session, key: str, label: str) -> bool:
        """Give a key of the session's user another name; tell whether it is one.

        Raises:
            StepUpRequired: nobody is signed in.
        """
        return await self.flow.rename(session, key, label)

    async def remove(self, session: Session, key: str) -> bool:
        """Remove a key of the session's user and end the other sessions; tell whether it was one.

        Raises:
            StepUpRequired: nobody is signed in, or nothing was proved within the last five minutes.
        """
        return await self.flow.remove(session, key)


class Passkeys:
    """Register passkeys and sign in with them, from code that blocks.

    `rp_id` is the domain that keys belong to for ever, `origins` the exact origins of the pages that use them,
    `rp_name` what authenticators show; see `PasskeyOptions` for the rest. `begin_…` returns JSON for the page, and
    `finish_…` takes the JSON that the page got; both belong to one session.

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: webauthn or `cryptography` is not installed.
    """

    def __init__(
        self, ground: Ground, *, rp_id: str, rp_name: str, origins: Iterable[str], **options: Unpack[PasskeyOptions]
    ) -> None:
        self.flow = _flow(ground, rp_id, rp_name, origins, options, blocking=True)

    def begin_registration(self, session: Session, *, name: str, display_name: str | None = None) -> str:
        """Return the options of a new key for the signed-in user; authenticators show `name` (their login name).

        Raises:
            StepUpRequired: nobody is signed in, or nothing was proved within the last five minutes.
            StoreError: the vault failed.
        """
        return drive(self.flow.begin_registration(session, name=name, display_name=display_name))

    def finish_registration(self, session: Session, answer: str | bytes, *, label: str = "") -> Passkey | Refused:
        """Keep the new key under the name `label`, and end the user's other sessions.

        Raises:
            StepUpRequired: nobody is signed in, or what was proved is too old.
            StoreError: the vault failed.
        """
        return drive(self.flow.finish_registration(session, answer, label=label))

    def begin_sign_in(self, session: Session, *, user: str | int | None = None) -> str:
        """Return the options of a sign-in: with any key of this site, or with those of a user.

        Of a user without keys the options look alike.

        Raises:
            StoreError: the vault failed.
        """
        return drive(self.flow.begin_sign_in(session, user=user))

    def finish_sign_in(self, session: Session, answer: str | bytes) -> Proved | Refused:
        """Sign in who holds the key; pending if the authenticator did not verify the user.

        Raises:
            NotByToken: an access token opened the session.
            StoreError: the vault failed; nobody is signed in.
        """
        return drive(self.flow.finish_sign_in(session, answer))

    def begin_step_up(self, session: Session) -> str:
        """Return the options of a further proof by the user who is signed in, or whose sign-in is pending.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            StoreError: the vault failed.
        """
        return drive(self.flow.begin_step_up(session))

    def finish_step_up(self, session: Session, answer: str | bytes) -> Proved | Refused:
        """Add the factor to the session: it completes a pending sign-in, or is a step-up.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            NotByToken: an access token opened the session.
            StoreError: the vault failed.
        """
        return drive(self.flow.finish_step_up(session, answer))

    def keys(self, user: str | int) -> tuple[Passkey, ...]:
        """Return a user's keys, the oldest first."""
        return drive(self.flow.keys(user))

    def rename(self, session: Session, key: str, label: str) -> bool:
        """Give a key of the session's user another name; tell whether it is one.

        Raises:
            StepUpRequired: nobody is signed in.
        """
        return drive(self.flow.rename(session, key, label))

    def remove(self, session: Session, key: str) -> bool:
        """Remove a key of the session's user and end the other sessions; tell whether it was one.

        Raises:
            StepUpRequired: nobody is signed in, or nothing was proved within the last five minutes.
        """
        return drive(self.flow.remove(session, key))
