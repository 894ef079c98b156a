"""The two doors of single sign-on: `AsyncSignOn` for event loops, `SignOn` for code that blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict, Unpack

from ...core.bridge import drive
from ...core.session import Session
from ...errors import ConfigurationError
from ..ground import Ground
from . import logout_pages
from .flow import Levels, Settings, SignOnFlow, Users
from .http import TIMEOUT, Http, check_url, open_http
from .links import Links
from .logout import SignedOut, SignOut
from .providers import Known, Provider
from .receivers import Receivers
from .rules import Coupling, Refused, Signed
from .site import SignOnSite


class SignOnOptions(TypedDict, total=False):
    """List what both doors take beside ground, providers and address.

    `users` finds the user here for an `Identity` (None: nobody; without it, issuer and subject make the user's id).
    `levels` reads an ID token's `amr` and `acr` as factors; by itself it is one factor, "sso" (AAL1). `coupling` says
    how a session hangs on the provider's. `userinfo` fetches what the provider knows of the user. `second_factor` asks
    who has a second factor here for it, too. `home` is where people go without a better idea. `signed_out` writes the
    page after a sign-out. `timeout` (seconds) is for a whole request to a provider; `http` is another client.
    """

    users: Users | None
    levels: Levels | None
    coupling: Coupling
    userinfo: bool
    second_factor: bool
    home: str
    signed_out: Callable[[SignedOut], str]
    timeout: float
    http: Http


class _Door:
    def __init__(
        self, ground: Ground, providers: Iterable[Provider], address: str, options: SignOnOptions, *, blocking: bool
    ) -> None:
        if ground.blocking != blocking:
            raise ConfigurationError("these sessions are for the other door")
        given: dict[str, Any] = dict(options)
        unknown = given.keys() - SignOnOptions.__annotations__.keys()
        if unknown:
            raise ConfigurationError(
                f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(sorted(SignOnOptions.__annotations__))}"
            )
        listed = tuple(providers)
        names = {provider.name for provider in listed}
        if not listed or len(names) != len(listed):
            raise ConfigurationError("give one provider or more, each with a name of its own")
        address = check_url(address, "the address of the sign-on").rstrip("/")
        self.http: Http = given.get("http") or open_http(blocking=blocking, timeout=given.get("timeout", TIMEOUT))
        self.known: Mapping[str, Known] = {
            provider.name: Known(provider, self.http, ground.engine.clock) for provider in listed
        }
        links = Links(ground)
        settings = Settings(
            address,
            given.get("users"),
            given.get("levels"),
            given.get("coupling", Coupling()),
            given.get("userinfo", False),
            given.get("second_factor", False),
        )
        self.ground = ground
        self.flow = SignOnFlow(ground, self.known, links, settings)
        self.site = SignOnSite(
            self.flow,
            SignOut(
                ground,
                self.known,
                links,
                address=address,
                pages=given.get("signed_out", logout_pages.signed_out),
                revoke=self.flow.revoke,
            ),
            Receivers(ground, self.known, links),
            home=given.get("home", "/"),
        )


class AsyncSignOn(_Door):
    """Sign in at providers, and out with them, from an event loop.

    `address` is where `site` is mounted, as browsers and providers know it: `https://shop.example/sso`.

    Raises:
        ConfigurationError: the settings are wrong, or the sessions are in no store that knows its users.
        ExtraMissing: joserfc or httpx is not installed.
    """

    def __init__(
        self, ground: Ground, providers: Iterable[Provider], *, address: str, **options: Unpack[SignOnOptions]
    ) -> None:
        super().__init__(ground, providers, address, options, blocking=False)

    async def begin(
        self,
        session: Session,
        provider: str,
        *,
        next: str = "/",  # noqa: A002 - the parameter's name everywhere
        max_age: float | None = None,
        acr_values: tuple[str, ...] = (),
        prompt: str | None = None,
        login_hint: str | None = None,
    ) -> str:
        """Return where the browser goes to sign in; `next` is where it goes afterwards, a path of this host.

        Raises:
            ConfigurationError: there is no such provider.
            StoreUnavailable: the provider cannot be asked.
        """
        return await self.flow.begin(
            session,
            provider,
            target=next,
            max_age=max_age,
            acr_values=acr_values,
            prompt=prompt,
            login_hint=login_hint,
        )

    async def finish(self, session: Session, provider: str, query: Mapping[str, str]) -> Signed | Refused:
        """Sign in whom the provider vouches for in the query of its answer, or say why not.

        Raises:
            StoreError: a store, the vault or the provider failed; nobody signs in.
        """
        return await self.flow.finish(session, provider, query)

    async def check(self, session: Session) -> None:
        """Ask the provider whether its session is still there, if that is due (`Coupling.recheck`; R75).

        Raises:
            StepUpRequired: it is not, or nobody can be asked without the user; the session has ended in the first case.
            StoreUnavailable: the provider has not answered for longer than `Coupling.patience` allows.
        """
        await self.flow.check(session)

    async def close(self) -> None:
        """Close the connections to providers."""
        await self.http.close()


class SignOn(_Door):
    """Sign in at providers, and out with them, from code that blocks.

    `address` is where `site` is mounted, as browsers and providers know it: `https://shop.example/sso`.

    Raises:
        ConfigurationError: the settings are wrong, or the sessions are in no store that knows its users.
        ExtraMissing: joserfc or httpx is not installed.
    """

    def __init__(
        self, ground: Ground, providers: Iterable[Provider], *, address: str, **options: Unpack[SignOnOptions]
    ) -> None:
        super().__init__(ground, providers, address, options, blocking=True)

    def begin(
        self,
        session: Session,
        provider: str,
        *,
        next: str = "/",  # noqa: A002 - the parameter's name everywhere
        max_age: float | None = None,
        acr_values: tuple[str, ...] = (),
        prompt: str | None = None,
        login_hint: str | None = None,
    ) -> str:
        """Return where the browser goes to sign in; `next` is where it goes afterwards, a path of this host.

        Raises:
            ConfigurationError: there is no such provider.
            StoreUnavailable: the provider cannot be asked.
        """
        return drive(
            self.flow.begin(
                session,
                provider,
                target=next,
                max_age=max_age,
                acr_values=acr_values,
                prompt=prompt,
                login_hint=login_hint,
            )
        )

    def finish(self, session: Session, provider: str, query: Mapping[str, str]) -> Signed | Refused:
        """Sign in whom the provider vouches for in the query of its answer, or say why not.

        Raises:
            StoreError: a store, the vault or the provider failed; nobody signs in.
        """
        return drive(self.flow.finish(session, provider, query))

    def check(self, session: Session) -> None:
        """Ask the provider whether its session is still there, if that is due (`Coupling.recheck`; R75).

        Raises:
            StepUpRequired: it is not, or nobody can be asked without the user; the session has ended in the first case.
            StoreUnavailable: the provider has not answered for longer than `Coupling.patience` allows.
        """
        drive(self.flow.check(session))

    def close(self) -> None:
        """Close the connections to providers."""
        drive(self.http.close())
