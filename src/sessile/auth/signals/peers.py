"""Who is told, and who is listened to: the settings of both, and what a transmitter publishes of itself.

A `Receiver` and a `Transmitter` of one name are one application: what came from it is not sent back to it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from ...errors import ConfigurationError, StoreUnavailable
from ..jws import read_keys
from .http import Http, check_url, origin_of
from .keys import ALGORITHMS as SIGNING
from .sets import ALGORITHMS, MAX_AGE, TOLERANCE, Expected
from .subjects import Simple
from .vocabulary import SUPPORTED

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

# Which user of ours a name means, and which address a user of ours has; None: nobody's, or none.
Users = Callable[[Simple], "str | Awaitable[str | None] | None"]
Addresses = Callable[[str], "str | Awaitable[str | None] | None"]

KEYS_LIFE: Final = 3600.0
STALE_LIFE: Final = 86_400.0
FLOOR: Final = 10.0
RETRY: Final = 1.0
MIN_SECRET: Final = 16
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def same_ids(name: Simple) -> str | None:
    """Take the user ids of the other application for our own: for applications that share their users.

    Never with a provider: its user "1" is not ours.
    """
    return name.name if name.format == "iss_sub" else None


async def awaited(answer: str | Awaitable[str | None] | None) -> str | None:
    """Return what an application's function answers, which may be asynchronous where there is a loop."""
    return answer if answer is None or isinstance(answer, str) else await answer


class Links(Protocol):
    """Know which sessions came from which provider's session: what `sessile.auth.oidc` keeps."""

    async def find(self, issuer: str, *, subject: str | None, sid: str | None) -> tuple[str, ...]:
        """Return the ids of the sessions of a provider's session, or of a user there if `sid` is None."""
        ...


@dataclass(frozen=True)
class Receiver:
    """Say who is told of our ends.

    `audience` is what its SETs are for. With `push`, the address to which they are sent and `push_authorization`, the
    whole value of the Authorization header, it has a stream from the beginning; with `poll`, one that it fetches.
    `token` is the bearer token with which it manages streams and polls. A stream that it makes itself may be pushed to
    an address below one of `origins` only.

    `algorithm` signs: ES256, or RS256 as the interoperability profile asks. `about` says whom a signal names: the
    "user", whose sessions there all end, or the "session" of that user, by our id of it, for who knows which of its
    sessions go with which of ours. `naming` names users by our ids ("iss_sub") or by address ("email").

    Raises:
        ConfigurationError: the settings are wrong.
    """

    name: str
    audience: str
    push: str | None = None
    push_authorization: str | None = field(default=None, repr=False)
    poll: bool = False
    token: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()
    streams: int = 1
    algorithm: Literal["ES256", "RS256"] = "ES256"
    about: Literal["user", "session"] = "user"
    naming: Literal["iss_sub", "email"] = "iss_sub"
    events: tuple[str, ...] = SUPPORTED

    def __post_init__(self) -> None:
        """Check the settings."""
        _check_name(self.name)
        if not self.audience or not self.audience.isprintable():
            raise ConfigurationError("a receiver has an audience: what its signals are for")
        if self.push is not None:
            check_url(self.push, "the address to push to")
        if self.push is not None and self.poll:
            raise ConfigurationError("a stream is pushed or polled, not both")
        if self.poll and self.token is None:
            raise ConfigurationError("who polls needs a token")
        if self.token is not None:
            _check_secret(self.token)
        if self.push_authorization is not None:
            check_header(self.push_authorization)
        if self.algorithm not in SIGNING:
            raise ConfigurationError(f"signals are signed by {' or '.join(SIGNING)}")
        if not self.events or not set(self.events) <= set(SUPPORTED):
            raise ConfigurationError("events are some of vocabulary.SUPPORTED")
        for origin in self.origins:
            if origin_of(check_url(origin, "an origin")) != origin.rstrip("/").lower():
                raise ConfigurationError("an origin is scheme, host and port")


@dataclass(frozen=True)
class Transmitter:
    """Say who is listened to.

    `issuer` is what its SETs name, `audience` what they must be for: who we are there. `users` maps a name to a user of
    ours, None for a stranger's (`same_ids` for applications that share their users). `links` knows which sessions came
    from this provider's. `push_authorization` is the whole Authorization header with which it must push to us; None: it
    does not. `poll` is where we fetch, `token` the bearer token with which we do that and ask for verification of
    `stream`. `jwks` is where its keys are, None: where its metadata say. `algorithms` are those by which it may sign.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    name: str
    issuer: str
    audience: str
    users: Users
    links: Links | None = None
    push_authorization: str | None = field(default=None, repr=False)
    poll: str | None = None
    token: str | None = field(default=None, repr=False)
    stream: str | None = None
    jwks: str | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA", "Ed25519")
    max_age: float = MAX_AGE
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        """Check the settings."""
        _check_name(self.name)
        check_url(self.issuer, "the issuer")
        if not self.audience or not self.audience.isprintable():
            raise ConfigurationError("an audience is missing: who we are for this transmitter")
        if not callable(self.users):
            raise ConfigurationError("users is a function that maps names to user ids, such as same_ids")
        if self.push_authorization is not None:
            check_header(self.push_authorization)
            _check_secret(self.push_authorization)
        for url, what in ((self.poll, "the address to poll"), (self.jwks, "the address of the keys")):
            if url is not None:
                check_url(url, what)
        if self.poll is not None and self.token is None:
            raise ConfigurationError("polling needs a token")
        if not self.algorithms or not set(self.algorithms) <= set(ALGORITHMS):
            raise ConfigurationError(f"algorithms are some of {', '.join(ALGORITHMS)}")
        if not (60 <= self.max_age <= 400 * 86400 and 0 <= self.tolerance <= 300):
            raise ConfigurationError("max_age is a minute at least, tolerance 300 s at most")

    @property
    def expected(self) -> Expected:
        """Return what its SETs must be."""
        return Expected(self.issuer, self.audience, self.algorithms, self.max_age, self.tolerance)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError("a name is up to 40 small letters, digits, - or _")


def _check_secret(text: str) -> None:
    if len(text) < MIN_SECRET:
        raise ConfigurationError(f"a secret has {MIN_SECRET} characters at least")
    check_header(text)


def check_header(text: str) -> None:
    """Refuse what is no header value.

    Raises:
        ConfigurationError: it is none.
    """
    if not text.isascii() or not text.isprintable() or len(text) > 2048 or text != text.strip():
        raise ConfigurationError("an Authorization header is one line of ASCII")


def metadata_url(issuer: str) -> str:
    """Return where a transmitter says what it offers (SSF 1.0 §7.2.1)."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}/.well-known/ssf-configuration{parts.path.rstrip('/')}"


class Known:
    """Be one transmitter at work: its metadata and its keys, fetched when they are needed and kept for a while."""

    def __init__(self, settings: Transmitter, http: Http, clock: Callable[[], float]) -> None:
        self.settings = settings
        self._http = http
        self._clock = clock
        self._metadata: dict[str, Any] | None = None
        self._metadata_at = float("-inf")
        self._keys: KeySet | None = None
        self._keys_at = self._asked = float("-inf")

    async def metadata(self) -> dict[str, Any]:
        """Return what the transmitter says of itself.

        Raises:
            StoreUnavailable: it could not be asked, or said that it is another one.
        """
        now = self._clock()
        if self._metadata is None or not 0 <= now - self._metadata_at < KEYS_LIFE:
            answer = await self._http.send("GET", metadata_url(self.settings.issuer), {})
            found = answer.json() if answer.status == 200 else None
            if found is None or found.get("issuer") != self.settings.issuer:
                raise StoreUnavailable("the transmitter's metadata cannot be used")
            self._metadata, self._metadata_at = found, now
        return self._metadata

    async def address(self, member: str) -> str:
        """Return an address that the metadata name.

        Raises:
            StoreUnavailable: they do not, or it may not be asked.
        """
        try:
            return check_url((await self.metadata()).get(member), member)
        except ConfigurationError as error:
            raise StoreUnavailable(f"the transmitter's metadata cannot be used: {error}") from None

    async def keys(self, *, again: bool = False) -> KeySet:
        """Return its public keys; `again` asks it anew, unless that was done just now.

        Raises:
            StoreUnavailable: it could not be asked, and nothing is known of before.
        """
        now, keys = self._clock(), self._keys
        age = now - self._keys_at
        if keys is not None and not again and 0 <= age < KEYS_LIFE:
            return keys
        if 0 <= now - self._asked < (FLOOR if keys is not None else RETRY):
            if keys is None or not 0 <= age < STALE_LIFE:
                raise StoreUnavailable("the transmitter's keys could not be fetched a moment ago")
            return keys
        self._asked = now
        try:
            url = self.settings.jwks or await self.address("jwks_uri")
            answer = await self._http.send("GET", url, {})
            self._keys, self._keys_at = read_keys(answer.json() if answer.status == 200 else None), now
        except StoreUnavailable:
            if keys is None or not 0 <= age < STALE_LIFE:
                raise
            return keys
        return self._keys
