"""Everything about signing in, built once: the ground, the users, and a door for each way that is on.

    sessions = AsyncSessions("sqlite:///sessions.db")
    accounts = AsyncAccounts(sessions, "sqlite:///accounts.db", name="My shop", origin="https://shop.example")
    accounts.passwords  .passkeys  .totp  .recovery  .codes      the headless doors
    accounts.users  .factors  .activity  .ground                 what they share

`sessile.auth.pages` shows them. A way that is off is neither imported nor shown; asking for its door is a
`ConfigurationError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypedDict, TypeVar, Unpack, get_args
from urllib.parse import urlsplit

from ..core.bridge import drive
from ..core.sessions import AsyncSessions, Sessions
from ..errors import ConfigurationError
from .activity import Activity
from .ground import Ground
from .texts import Texts
from .users import Account, Unusable, Users, VaultUsers
from .vault import Vault

if TYPE_CHECKING:
    from .codes import AsyncCodes, Codes, Mailer
    from .factors import AsyncFactors, Factors
    from .passkeys import AsyncPasskeys, Passkeys
    from .passwords import AsyncPasswords, Passwords
    from .passwords import Settings as PasswordRules
    from .recovery import AsyncRecovery, Recovery
    from .totp import AsyncTotp, Totp

Way = Literal["password", "passkey", "totp", "recovery", "email"]
WAYS: Final[frozenset[str]] = frozenset(get_args(Way))
# A way by which one can begin to sign in; the others only go on from there.
FIRST: Final = frozenset({"password", "passkey", "email"})
T = TypeVar("T")


class Registry(Users, Protocol):
    """Find users, and make new ones (port): what an open sign-up needs."""

    async def create(self, login: str) -> Account | Unusable:
        """Make an account; of two that ask for one login at once, one gets it."""
        ...


class AccountOptions(TypedDict, total=False):
    """List what both doors take beside sessions, vault, name and origin.

    `ways` to sign in (all for which there is what they need: e-mail needs a mailer); `sign_up` whether people may make
    accounts themselves (if `users` can); `address` the path that the pages are mounted at, for links in messages
    ("/account"); `rp_id` the domain that passkeys belong to for ever (the origin's host); `mailer` who delivers
    messages; `users` who has an account (a sample in the vault); `password_rules` how long a password is and what its
    hash costs; `texts` other words, by their ids in `sessile.auth.texts`.
    """

    ways: Iterable[Way]
    sign_up: bool
    address: str
    rp_id: str
    mailer: Mailer
    users: Users
    password_rules: PasswordRules
    texts: Mapping[str, str]


class Plan(NamedTuple):
    """Hold the settings, checked."""

    name: str
    origins: tuple[str, ...]
    rp_id: str
    address: str
    ways: frozenset[str]
    texts: Texts


class Doors(NamedTuple):
    """Hold what `_built` built, of either door; None: that way is off."""

    plan: Plan
    users: Users
    registry: Registry | None
    activity: Activity
    passwords: Any
    passkeys: Any
    totp: Any
    recovery: Any
    codes: Any


def _planned(name: str, origin: str | Iterable[str], options: AccountOptions) -> Plan:
    unknown = options.keys() - AccountOptions.__annotations__.keys()
    if unknown:
        raise ConfigurationError(f"unknown option {sorted(unknown)[0]!r}")
    origins = (origin,) if isinstance(origin, str) else tuple(origin)
    if not origins or not all(_is_origin(one) for one in origins):
        raise ConfigurationError("an origin is scheme, host and port of your pages, as in https://shop.example")
    if not name or not name.isprintable() or len(name) > 64:
        raise ConfigurationError("name is what people call the application: up to 64 characters on one line")
    mail: set[str] = {"email"} if "mailer" in options else set()
    ways = frozenset[str](options.get("ways", (WAYS - {"email"}) | mail))
    if not ways <= WAYS:
        raise ConfigurationError(f"ways to sign in are {', '.join(sorted(WAYS))}, not {min(ways - WAYS)}")
    if "email" in ways and not mail:
        raise ConfigurationError("signing in by e-mail needs a mailer")
    if not ways & FIRST:
        raise ConfigurationError("somebody must be able to begin: with a password, a passkey or an e-mail")
    address = options.get("address", "/account").rstrip("/")
    if address and not address.startswith("/"):
        raise ConfigurationError("address is the path that the pages are mounted at: it begins with /")
    host = urlsplit(origins[0]).hostname or ""
    return Plan(name, origins, options.get("rp_id", host), address, ways, Texts(options.get("texts", {})))


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        written = f"{parts.scheme}://{parts.netloc}"
        return parts.scheme in ("http", "https") and bool(parts.hostname) and written == text and "@" not in text
    except ValueError:
        return False


def _registry(users: Users, sign_up: bool | None) -> Registry | None:  # noqa: FBT001 - None: whether users can
    able = hasattr(users, "create")
    if sign_up and not able:
        raise ConfigurationError("an open sign-up needs users with a create method")
    registry: Any = users
    return registry if able and sign_up is not False else None


def _built(ground: Ground, name: str, origin: str | Iterable[str], options: AccountOptions) -> Doors:
    plan = _planned(name, origin, options)
    users = options.get("users") or VaultUsers(ground)
    mailer = options.get("mailer")
    registry = _registry(users, options.get("sign_up"))
    passwords: Any = None
    passkeys: Any = None
    totp: Any = None
    recovery: Any = None
    codes: Any = None
    if "password" in plan.ways:
        from .passwords import AsyncPasswords, Passwords

        kind: Any = Passwords if ground.blocking else AsyncPasswords
        passwords = kind(ground, users, settings=options.get("password_rules"))
    if "passkey" in plan.ways:
        from .passkeys import AsyncPasskeys, Passkeys

        kind = Passkeys if ground.blocking else AsyncPasskeys
        passkeys = kind(ground, rp_id=plan.rp_id, rp_name=plan.name, origins=plan.origins)
    if "totp" in plan.ways:
        from .totp import AsyncTotp, Totp

        kind = Totp if ground.blocking else AsyncTotp
        totp = kind(ground, issuer=plan.name.replace(":", " "))
    if "recovery" in plan.ways:
        from .recovery import AsyncRecovery, Recovery

        recovery = (Recovery if ground.blocking else AsyncRecovery)(ground)
    if "email" in plan.ways and mailer is not None:
        from .codes import AsyncCodes, Codes

        kind = Codes if ground.blocking else AsyncCodes
        link = f"{plan.origins[0]}{plan.address}/link?token={{token}}"
        codes = kind(ground, users, mailer, site=plan.name, link=link)
    home = f"{plan.origins[0]}{plan.address}"
    activity = Activity(ground, users, mailer=mailer, site=plan.name, home=home, texts=plan.texts)
    ground.engine.sinks = (*ground.engine.sinks, activity)
    return Doors(plan, users, registry, activity, passwords, passkeys, totp, recovery, codes)


def _on(door: T | None, way: Way) -> T:
    if door is None:
        raise ConfigurationError(f"this way to sign in is off: {way} is not among `ways`, or needs a mailer")
    return door


class AsyncAccounts:
    """Hold everything about signing in, for an event loop; see `AccountOptions`.

    `vault` is a vault or its URL, `name` what people call the application, `origin` scheme, host and port of its pages
    (or several; messages link to the first).

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: a way is on whose package is not installed.
    """

    def __init__(
        self,
        sessions: AsyncSessions,
        vault: str | Vault,
        *,
        name: str,
        origin: str | Iterable[str],
        **options: Unpack[AccountOptions],
    ) -> None:
        self.ground = Ground(sessions, vault)
        self.doors = _built(self.ground, name, origin, options)
        self.users = self.doors.users
        self.activity = self.doors.activity

    @property
    def passwords(self) -> AsyncPasswords:
        """Return the door of passwords."""
        return _on(self.doors.passwords, "password")  # type: ignore[no-any-return]

    @property
    def passkeys(self) -> AsyncPasskeys:
        """Return the door of passkeys."""
        return _on(self.doors.passkeys, "passkey")  # type: ignore[no-any-return]

    @property
    def totp(self) -> AsyncTotp:
        """Return the door of authenticator apps."""
        return _on(self.doors.totp, "totp")  # type: ignore[no-any-return]

    @property
    def recovery(self) -> AsyncRecovery:
        """Return the door of recovery codes."""
        return _on(self.doors.recovery, "recovery")  # type: ignore[no-any-return]

    @property
    def codes(self) -> AsyncCodes:
        """Return the door of codes by e-mail."""
        return _on(self.doors.codes, "email")  # type: ignore[no-any-return]

    @property
    def factors(self) -> AsyncFactors:
        """Return the door that lists what users sign in with; it needs the packages of all ways."""
        from .factors import AsyncFactors

        return AsyncFactors(self.ground)

    async def close(self) -> None:
        """Finish what is being written, and release the vault; the sessions stay open."""
        await self.activity.settled()
        await self.ground.close()


class Accounts:
    """Hold everything about signing in, for code that blocks; see `AccountOptions`.

    `vault` is a vault or its URL, `name` what people call the application, `origin` scheme, host and port of its pages
    (or several; messages link to the first).

    Raises:
        ConfigurationError: the settings are wrong.
        ExtraMissing: a way is on whose package is not installed.
    """

    def __init__(
        self,
        sessions: Sessions,
        vault: str | Vault,
        *,
        name: str,
        origin: str | Iterable[str],
        **options: Unpack[AccountOptions],
    ) -> None:
        self.ground = Ground(sessions, vault)
        self.doors = _built(self.ground, name, origin, options)
        self.users = self.doors.users
        self.activity = self.doors.activity

    @property
    def passwords(self) -> Passwords:
        """Return the door of passwords."""
        return _on(self.doors.passwords, "password")  # type: ignore[no-any-return]

    @property
    def passkeys(self) -> Passkeys:
        """Return the door of passkeys."""
        return _on(self.doors.passkeys, "passkey")  # type: ignore[no-any-return]

    @property
    def totp(self) -> Totp:
        """Return the door of authenticator apps."""
        return _on(self.doors.totp, "totp")  # type: ignore[no-any-return]

    @property
    def recovery(self) -> Recovery:
        """Return the door of recovery codes."""
        return _on(self.doors.recovery, "recovery")  # type: ignore[no-any-return]

    @property
    def codes(self) -> Codes:
        """Return the door of codes by e-mail."""
        return _on(self.doors.codes, "email")  # type: ignore[no-any-return]

    @property
    def factors(self) -> Factors:
        """Return the door that lists what users sign in with; it needs the packages of all ways."""
        from .factors import Factors

        return Factors(self.ground)

    def close(self) -> None:
        """Release the vault; the sessions stay open."""
        drive(self.ground.close())
