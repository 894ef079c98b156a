"""For other services: verify access tokens with nothing but the issuer's published keys and its list of what has ended.

No store, no vault, no session: two documents, fetched by functions that the service brings along (its own HTTP client,
its own timeouts). Keys are fetched again every `KEYS_EVERY` seconds and when a token names a key that is not there, but
never more often than every `FLOOR` seconds, so a stranger's tokens cannot make a service hammer its issuer. An end is
known after the lag that the list states; without a list, when the token expires.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from ...core.bridge import drive
from ...errors import ConfigurationError, StoreUnavailable
from . import access, ended
from .access import AccessToken, Unknown, Why
from .dpop import Proved
from .ended import EndedList
from .jose import PublicKey, PublicKeys, public_key

KEYS_EVERY: Final = 300.0
# So long the keys serve on if they cannot be fetched again: one that was discarded must not live for ever.
KEYS_LAST: Final = 3600.0
FLOOR: Final = 10.0
# While there is nothing to go by: so long nobody asks again after it failed.
RETRY: Final = 1.0
MAX_KEYS: Final = 32
MAX_JWKS_BYTES: Final = 256 * 1024

_log = logging.getLogger("sessile.tokens")
_jwks = msgspec.json.Decoder(dict[str, Any])

Tell = Callable[[Why], object]


def keys_of(document: bytes | str) -> PublicKeys:
    """Read a JWKS: the keys in it that sign, are ours to use, and public. Others are passed over.

    Raises:
        StoreUnavailable: it is no JWKS, or holds no such key.
    """
    try:
        listed = _jwks.decode(document).get("keys") if len(document) <= MAX_JWKS_BYTES else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        listed = None
    found: dict[str, PublicKey] = {}
    for jwk in listed[:MAX_KEYS] if isinstance(listed, list) else ():  # pyright: ignore[reportUnknownVariableType]
        if isinstance(jwk, dict) and jwk.get("use", "sig") == "sig" and isinstance(jwk.get("kid"), str):  # pyright: ignore[reportUnknownMemberType]
            key = public_key(jwk)  # pyright: ignore[reportUnknownArgumentType]
            if key is not None:
                found[jwk["kid"]] = key
    if not found:
        raise StoreUnavailable("the issuer's JWKS holds no key that can be used")
    return PublicKeys(found)


class VerifierFlow:
    """Verify for both doors; the fetch functions wait, or block, as the door does."""

    def __init__(
        self,
        fetch_jwks: Callable[[], Awaitable[bytes]],
        fetch_ended: Callable[[], Awaitable[bytes | str]] | None,
        *,
        issuer: str,
        audience: str,
        ends: EndedList,
        ended_every: float,
        tolerance: float,
        tell: Tell | None,
        clock: Callable[[], float],
    ) -> None:
        if not issuer or not audience:
            raise ConfigurationError("a verifier takes tokens of one issuer for one audience: its own")
        self._fetch_jwks, self._fetch_ended = fetch_jwks, fetch_ended
        self._issuer, self._audience, self._tolerance = issuer, audience, tolerance
        self._ends, self._ended_every = ends, ended_every
        self._tell, self._clock = tell, clock
        self._keys: PublicKeys | None = None
        self._keys_at = self._keys_asked = self._keys_failed = float("-inf")
        self._ends_asked = self._ends_failed = float("-inf")

    async def verify(self, text: object, proved: Proved | None) -> AccessToken | None:
        """Return what a token says, None if it is refused; `tell` learns why."""
        token = await self._judged(text, proved)
        if not isinstance(token, Why):
            return token
        if self._tell is not None:
            self._tell(token)
        return None

    async def _judged(self, text: object, proved: Proved | None) -> AccessToken | Why:
        payload = access.verified(text, await self._known(), access.TYP)
        if isinstance(payload, Unknown):
            payload = access.verified(text, await self._known(missing=True), access.TYP)
        if isinstance(payload, Unknown):
            return Why.KEY
        if isinstance(payload, Why):
            return payload
        now = self._clock()
        token = access.judged(payload, issuer=self._issuer, audience=self._audience, now=now, tolerance=self._tolerance)
        if isinstance(token, Why):
            return token
        if not access.is_bound_to(token, None if proved is None else proved.jkt):
            return Why.PROOF
        return Why.ENDED if await self._has_ended(token) else token

    async def _known(self, *, missing: bool = False) -> PublicKeys:
        now, keys = self._clock(), self._keys
        if keys is None:
            keys = await self._first_keys(now)
        elif not (0 <= now - self._keys_at < (FLOOR if missing else KEYS_EVERY) or 0 <= now - self._keys_asked < FLOOR):
            # Set first: who comes meanwhile goes by what is here, and does not ask too.
            self._keys_asked = now
            try:
                keys = self._keys = keys_of(await self._fetch_jwks())
                self._keys_at = now
            except Exception as error:  # noqa: BLE001 - whatever the service's own HTTP client raises; age decides
                _log.warning("the issuer's keys could not be fetched again (%s)", type(error).__name__)
        if not now - self._keys_at < KEYS_LAST:
            raise StoreUnavailable("the issuer's keys are too old and could not be fetched again")
        return keys

    async def _first_keys(self, now: float) -> PublicKeys:
        if 0 <= now - self._keys_failed < RETRY:
            raise StoreUnavailable("the issuer's keys could not be fetched a moment ago")
        try:
            keys = keys_of(await self._fetch_jwks())
        except Exception as error:
            self._keys_failed = now
            raise StoreUnavailable("the issuer's keys could not be fetched") from error
        self._keys, self._keys_at = keys, now
        return keys

    async def _has_ended(self, token: AccessToken) -> bool:
        if self._fetch_ended is None:
            return False
        now, is_fresh = self._clock(), self._ends.is_fresh(self._clock())
        if is_fresh and not 0 <= now - self._ends_asked < self._ended_every:
            self._ends_asked = now  # as above
            await self._fetch_list(self._fetch_ended, now)
        elif not is_fresh and not 0 <= now - self._ends_failed < RETRY:
            # Nobody may go by what is here, so all who come meanwhile ask too.
            await self._fetch_list(self._fetch_ended, now)
            if self._ends.is_fresh(now):
                self._ends_asked = now
            else:
                self._ends_failed = now
        if not self._ends.is_fresh(now) and self._ends.when_stale == "refuse":
            raise StoreUnavailable("the list of ended sessions is too old, and no newer one could be fetched")
        return self._ends.holds(token.session_id, token.token_id)

    async def _fetch_list(self, fetch: Callable[[], Awaitable[bytes | str]], now: float) -> None:
        try:
            document = await fetch()
            text = document if isinstance(document, str) else document.decode("ascii")
        except Exception as error:  # noqa: BLE001 - whatever the service's own HTTP client raises; freshness decides
            _log.warning("the list of ended sessions could not be fetched (%s)", type(error).__name__)
            return
        read = self._read(text, await self._known(), now)
        if isinstance(read, Unknown):
            read = self._read(text, await self._known(missing=True), now)
        if not isinstance(read, ended.Ends):
            _log.warning("the list of ended sessions was refused (%s)", read if isinstance(read, Why) else Why.KEY)
        elif not self._ends.take(read):
            _log.warning("the list of ended sessions is older than the one before")

    def _read(self, text: str, keys: PublicKeys, now: float) -> ended.Ends | Why | Unknown:
        return ended.read(text, keys, issuer=self._issuer, now=now, tolerance=self._tolerance)


class AsyncVerifier:
    """Verify access tokens in another service, from an event loop.

    `jwks` and `ended` fetch the issuer's two documents (`ended` None: a token ends when it expires). `ended_every`
    (seconds) is how often the list is fetched, `ends` how old it may be; `tell` learns why a token was refused.

    Raises:
        ConfigurationError: issuer or audience is missing.
        ExtraMissing: PyJWT or `cryptography` is not installed.
    """

    def __init__(
        self,
        *,
        jwks: Callable[[], Awaitable[bytes]],
        issuer: str,
        audience: str,
        ended: Callable[[], Awaitable[bytes | str]] | None = None,
        ends: EndedList | None = None,
        ended_every: float = 30.0,
        tolerance: float = 5.0,
        tell: Tell | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._flow = VerifierFlow(
            jwks,
            ended,
            issuer=issuer,
            audience=audience,
            ends=EndedList() if ends is None else ends,
            ended_every=ended_every,
            tolerance=tolerance,
            tell=tell,
            clock=clock,
        )

    async def verify(self, text: str, *, proved: Proved | None = None) -> AccessToken | None:
        """Return what a token says if it is right, for this service, and not known to have ended; else None.

        Raises:
            StoreUnavailable: keys or list could not be fetched and what is here is too old. Answer 503.
        """
        return await self._flow.verify(text, proved)


class Verifier:
    """Verify access tokens in another service, from code that blocks.

    `jwks` and `ended` fetch the issuer's two documents (`ended` None: a token ends when it expires). `ended_every`
    (seconds) is how often the list is fetched, `ends` how old it may be; `tell` learns why a token was refused.

    Raises:
        ConfigurationError: issuer or audience is missing.
        ExtraMissing: PyJWT or `cryptography` is not installed.
    """

    def __init__(
        self,
        *,
        jwks: Callable[[], bytes],
        issuer: str,
        audience: str,
        ended: Callable[[], bytes | str] | None = None,
        ends: EndedList | None = None,
        ended_every: float = 30.0,
        tolerance: float = 5.0,
        tell: Tell | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        async def fetch_jwks() -> bytes:
            return jwks()

        async def fetch_ended() -> bytes | str:
            assert ended is not None
            return ended()

        self._flow = VerifierFlow(
            fetch_jwks,
            None if ended is None else fetch_ended,
            issuer=issuer,
            audience=audience,
            ends=EndedList() if ends is None else ends,
            ended_every=ended_every,
            tolerance=tolerance,
            tell=tell,
            clock=clock,
        )

    def verify(self, text: str, *, proved: Proved | None = None) -> AccessToken | None:
        """Return what a token says if it is right, for this service, and not known to have ended; else None.

        Raises:
            StoreUnavailable: keys or list could not be fetched and what is here is too old. Answer 503.
        """
        return drive(self._flow.verify(text, proved))
