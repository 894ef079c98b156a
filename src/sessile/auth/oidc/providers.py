"""Providers: what is said of each, and what it says of itself (discovery), with its keys.

    Provider    the settings, checked when they are written down
    Known       a provider at work: its metadata and its keys, fetched when they are needed and kept for a while

Metadata must name the very issuer that was asked for (Discovery §4.3), and only addresses that may be asked. Keys are
fetched again when a token names one that is not here, but not more often than every `FLOOR` seconds: a stranger's
tokens do not make us hammer a provider. While it cannot be asked, what is known serves on for a day.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from ...errors import ConfigurationError, ExtraMissing, StoreUnavailable
from ..jws import read_keys
from .http import Http, check_url
from .logout_tokens import ALGORITHMS, LIFETIME, TOLERANCE, Expected

try:
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("OpenID Connect", "oidc") from error

Authentication = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
PrivateKey = RSAKey | ECKey | OKPKey

METADATA_LIFE: Final = 3600.0
KEYS_LIFE: Final = 3600.0
# So long what is known serves on if it cannot be fetched again.
STALE_LIFE: Final = 86_400.0
FLOOR: Final = 10.0
RETRY: Final = 1.0
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_MIN_RSA_BITS: Final = 2048
_ALGORITHM_OF: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA", "Ed448": "EdDSA"}
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_ADDRESSES: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_MORE_ADDRESSES: Final = (
    "userinfo_endpoint",
    "end_session_endpoint",
    "revocation_endpoint",
    "pushed_authorization_request_endpoint",
)


@dataclass(frozen=True)
class Provider:
    """Say what one provider is called, and who we are there.

    `name` stands in our addresses; `title` is for people. `issuer` is its https address, exactly as it writes it.
    `authentication` is how we prove who we are at its token endpoint, with `client_secret` or with `private_key` (PEM
    or JWK; `private_key_jwt`); without either, PKCE alone protects the code ("none"). `algorithms` are those in which
    its tokens may be signed. `scopes` has "openid" always; "offline_access" asks for refresh tokens. `max_age` (s)
    and `acr_values` are asked for at every sign-in, and enforced (R75). `tolerance` (seconds) is how far clocks differ.
    `logout_typed` and `logout_expiring` False take the logout tokens of providers that send no `typ` of their own, or
    no `exp`. `front_origins` are further origins whose pages may frame the front-channel receiver.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    name: str
    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    private_key: str | dict[str, Any] | None = field(default=None, repr=False)
    title: str = ""
    authentication: Authentication | None = None
    scopes: tuple[str, ...] = ("openid",)
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "Ed25519", "EdDSA")
    max_age: float | None = None
    acr_values: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    logout_lifetime: float = LIFETIME
    logout_typed: bool = True
    logout_expiring: bool = True
    front_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError("a provider's name is up to 40 small letters, digits, - or _")
        check_url(self.issuer, "the issuer")
        if urlsplit(self.issuer).query:
            raise ConfigurationError("an issuer has no query")
        if not self.client_id or not self.client_id.isprintable():
            raise ConfigurationError("client_id is missing: it is our name at the provider")
        if "openid" not in self.scopes or not all(scope and " " not in scope for scope in self.scopes):
            raise ConfigurationError('scopes are words, and one of them is "openid"')
        unknown = set(self.algorithms) - set(ALGORITHMS)
        if unknown or not self.algorithms:
            raise ConfigurationError(f"algorithms are some of {', '.join(ALGORITHMS)}")
        if self.client_secret is not None and self.private_key is not None:
            raise ConfigurationError("give client_secret or private_key, not both")
        has = "secret" if self.client_secret else "key" if self.private_key is not None else None
        needs = {
            "client_secret_basic": "secret",
            "client_secret_post": "secret",
            "private_key_jwt": "key",
            "none": None,
        }
        if self.authentication is not None and needs.get(self.authentication) != has:
            raise ConfigurationError(f"{self.authentication!r} does not go with what was given to prove who we are")
        if not (0 <= self.tolerance <= 300 and 0 < self.logout_lifetime <= 3600):
            raise ConfigurationError("tolerance is at most 300 s, the lifetime of logout tokens at most an hour")
        if self.max_age is not None and not 0 <= self.max_age < float("inf"):
            raise ConfigurationError("max_age is a number of seconds")
        for origin in self.front_origins:
            check_url(origin, "an origin")
        self.signing_key()

    @property
    def way(self) -> Authentication:
        """Return how we prove who we are."""
        if self.authentication is not None:
            return self.authentication
        if self.private_key is not None:
            return "private_key_jwt"
        return "client_secret_basic" if self.client_secret else "none"

    @property
    def label(self) -> str:
        """Return the name for people."""
        return self.title or self.name

    def signing_key(self) -> PrivateKey | None:
        """Return the key that signs what proves who we are, None without one.

        Raises:
            ConfigurationError: it cannot be read, or is a public one.
        """
        if self.private_key is None:
            return None
        kinds: tuple[type[PrivateKey], ...] = (RSAKey, ECKey, OKPKey)
        for kind in kinds:
            try:
                key: PrivateKey = kind.import_key(self.private_key)
            except (JoseError, ValueError, TypeError, KeyError):
                continue
            if key.is_private and algorithm_of(key) is not None:
                return key
        raise ConfigurationError(
            "private_key is no private key for signatures: RSA of 2048 bits or more, EC (P-256, P-384, P-521) or "
            "Ed25519, as PEM or JWK"
        )


def algorithm_of(key: PrivateKey) -> str | None:
    """Return the algorithm in which a key signs what proves who we are, None if in none."""
    if isinstance(key, RSAKey):
        return "RS256" if key.raw_value.key_size >= _MIN_RSA_BITS else None
    return _ALGORITHM_OF.get(key.curve_name)


@dataclass(frozen=True)
class Metadata:
    """Hold what a provider says of itself, as far as it is used. Addresses were checked."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    revocation_endpoint: str | None = None
    pushed_authorization_request_endpoint: str | None = None
    names_issuer: bool = False
    pushes: bool = False


def read_metadata(document: dict[str, Any] | None, issuer: str) -> Metadata:
    """Return what a discovery document says.

    Raises:
        StoreUnavailable: it is none, is of another issuer, or names an address that may not be asked.
    """
    if document is None:
        raise StoreUnavailable("the provider's metadata cannot be read")
    if document.get("issuer") != issuer:
        raise StoreUnavailable("the provider's metadata are of another issuer")
    found: dict[str, str] = {}
    for name in (*_ADDRESSES, *_MORE_ADDRESSES):
        if document.get(name) is not None or name in _ADDRESSES:
            try:
                found[name] = check_url(document.get(name), name)
            except ConfigurationError as error:
                raise StoreUnavailable(f"the provider's metadata cannot be used: {error}") from None
    return Metadata(
        **found,
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        pushes=document.get("require_pushed_authorization_requests") is True,
    )


class Known:
    """Be one provider at work. What it publishes is shared by all requests of the process."""

    def __init__(self, provider: Provider, http: Http, clock: Callable[[], float]) -> None:
        self.provider = provider
        self.http = http
        self.signing_key = provider.signing_key()  # once: reading an RSA key takes a tenth of a second
        self._clock = clock
        self._metadata: Metadata | None = None
        self._metadata_at = self._metadata_asked = self._metadata_failed = float("-inf")
        self._keys: KeySet | None = None
        self._keys_at = self._keys_asked = self._keys_forced = self._keys_failed = float("-inf")

    # -- what receivers and sign-outs must know ------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """Return its name for people."""
        return self.provider.label

    @property
    def client_id(self) -> str:
        """Return our name there."""
        return self.provider.client_id

    @property
    def expected(self) -> Expected:
        """Return what its logout tokens must be."""
        provider = self.provider
        return Expected(
            provider.issuer,
            provider.client_id,
            provider.algorithms,
            provider.logout_typed,
            provider.logout_expiring,
            provider.logout_lifetime,
            provider.tolerance,
        )

    @property
    def origins(self) -> tuple[str, ...]:
        """Return the origins whose pages may frame the front-channel receiver."""
        parts = urlsplit(self.provider.issuer)
        return (f"{parts.scheme}://{parts.netloc}", *self.provider.front_origins)

    async def end_session_endpoint(self) -> str | None:
        """Return where sessions end there, None if nowhere; asks whether the provider answers at all.

        Raises:
            StoreUnavailable: it does not.
        """
        metadata = await self._fetched_metadata()
        return metadata.end_session_endpoint

    # -- what it publishes ---------------------------------------------------------------------------------------------

    async def metadata(self) -> Metadata:
        """Return what the provider says of itself.

        Raises:
            StoreUnavailable: it could not be asked, or said something that cannot be used.
        """
        now = self._clock()
        if self._metadata is not None and 0 <= now - self._metadata_at < METADATA_LIFE:
            return self._metadata
        stale = self._metadata if 0 <= now - self._metadata_at < STALE_LIFE else None
        if stale is not None and 0 <= now - self._metadata_asked < RETRY:
            return stale  # another request is asking
        try:
            return await self._fetched_metadata()
        except StoreUnavailable:
            if stale is None:
                raise
            return stale

    async def _fetched_metadata(self) -> Metadata:
        now = self._clock()
        if 0 <= now - self._metadata_failed < RETRY:
            raise StoreUnavailable("the provider could not be asked a moment ago")
        self._metadata_asked = now
        try:
            answer = await self.http.get(self.provider.issuer.rstrip("/") + _WELL_KNOWN)
            if answer.status != 200:
                raise StoreUnavailable(f"the provider answered {answer.status} for its metadata")
            self._metadata = found = read_metadata(answer.json(), self.provider.issuer)
        except StoreUnavailable:
            self._metadata_failed = self._clock()
            raise
        self._metadata_at = now
        return found

    async def keys(self, *, again: bool = False) -> KeySet:
        """Return its public keys; `again` asks it anew, unless that was done just now.

        Raises:
            StoreUnavailable: it could not be asked, and nothing is known of before.
        """
        now, keys = self._clock(), self._keys
        age = now - self._keys_at
        if keys is not None and not again and 0 <= age < KEYS_LIFE:
            return keys
        waits = 0 <= now - self._keys_forced < FLOOR if again else 0 <= now - self._keys_asked < RETRY
        if waits and keys is not None and 0 <= age < STALE_LIFE:
            return keys  # another request is asking
        if 0 <= now - self._keys_failed < RETRY:
            raise StoreUnavailable("the provider's keys could not be fetched a moment ago")
        self._keys_asked = now
        if again:
            self._keys_forced = now
        try:
            answer = await self.http.get((await self.metadata()).jwks_uri)
            if answer.status != 200:
                raise StoreUnavailable(f"the provider answered {answer.status} for its keys")
            self._keys, self._keys_at = read_keys(answer.json()), now
        except StoreUnavailable:
            self._keys_failed = self._clock()
            if keys is None or not 0 <= age < STALE_LIFE:
                raise
            return keys
        return self._keys
