"""The keys that sign tokens: made once for all nodes, kept sealed in the vault, turned over with an overlap.

    made            signs             replaced           gone
      │── lead ──────▶│── the period ───▶│── overlap ──────▶│
      in the JWKS     in the JWKS        in the JWKS

A key is published before it signs, so that no verifier meets one that it cannot have, and verifies for a while after
another has taken over. Nodes that start at once, or find the same turn due, write over the version that they have read:
one wins, and all use what it wrote. Every node looks again after `REFRESH` seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from ...errors import ConfigurationError, StoreSchema
from ..events import SigningKeyTurned
from ..ground import Ground, opened, sealed
from ..stored import Stored, read, written
from ..vault import Item, Write, settle
from .jose import SECRET_BYTES, Algorithm, PrivateKey, PublicKeys, private_key

ITEM: Final = "tokens:keys"
# No person has the empty name, so nobody's items are forgotten with these.
NOBODY: Final = ""
REFRESH: Final = 60.0
# An unknown kid is looked up at once, but no stranger can make every request a read.
FLOOR: Final = 5.0
MAX_AGE: Final = 300
DAY: Final = 86400.0


class Key(msgspec.Struct, frozen=True, array_like=True):
    """Hold a key as the vault does, sealed; times are seconds since 1970. Its repr shows no secret."""

    algorithm: str
    secret: bytes
    made_at: float
    signs_from: float

    def __repr__(self) -> str:
        return f"<Key {self.algorithm} from {self.signs_from:.0f}>"


class KeyRules(NamedTuple):
    """Say how keys turn over. `period`, `lead` and `overlap` are seconds."""

    algorithm: Algorithm = "ES256"
    period: float = 90 * DAY
    lead: float = DAY
    overlap: float = DAY

    def check(self, lifetime: float) -> None:
        """Refuse what would leave somebody without a key that they need.

        Raises:
            ConfigurationError: a key would sign before verifiers have it, or leave before its last token expires.
        """
        least = 2 * MAX_AGE + REFRESH
        if not self.lead >= least:
            raise ConfigurationError(f"lead is {least:.0f} s at least: so long may verifiers know an older JWKS")
        if not self.overlap >= lifetime + 2 * REFRESH:
            raise ConfigurationError(
                f"overlap is {lifetime + 2 * REFRESH:.0f} s at least, for tokens of {lifetime:.0f} s"
            )
        if not self.period > self.lead:
            raise ConfigurationError("a key signs for longer than it is published before")


def turned(keys: tuple[Key, ...], rules: KeyRules, now: float, entropy: Callable[[int], bytes]) -> tuple[Key, ...]:
    """Return the keys as they should be now, in the order in which they sign: a next one added, outlived ones gone."""
    if not keys:
        return (new_key(rules.algorithm, now, now, entropy),)
    last = keys[-1]
    if last.signs_from <= now and (
        now >= last.signs_from + rules.period - rules.lead or last.algorithm != rules.algorithm
    ):
        keys = (*keys, new_key(rules.algorithm, now, now + rules.lead, entropy))
    followers = keys[1:]
    living = [key for key, next_key in zip(keys, followers, strict=False) if now < next_key.signs_from + rules.overlap]
    return (*living, keys[-1])


def new_key(algorithm: str, now: float, signs_from: float, entropy: Callable[[int], bytes]) -> Key:
    """Draw a key."""
    while True:
        secret = entropy(SECRET_BYTES)
        try:
            private_key(algorithm, secret)
        except ConfigurationError:
            # One in 2^32 is no P-256 scalar; any other reason is one of the configuration.
            if algorithm == "ES256" and len(secret) == SECRET_BYTES:
                continue
            raise
        return Key(algorithm, secret, now, signs_from)


class KeySet:
    """Hold one state of the keys: all of them verify, `signer(now)` signs."""

    __slots__ = ("_signing", "jwks", "loaded_at", "public")

    def __init__(self, keys: tuple[Key, ...], loaded_at: float) -> None:
        self._signing = tuple((key.signs_from, private_key(key.algorithm, key.secret)) for key in keys)
        self.public = PublicKeys({key.public.thumbprint: key.public for _, key in self._signing})
        self.jwks = jwks_of(key for _, key in self._signing)
        self.loaded_at = loaded_at

    def __repr__(self) -> str:
        return f"<KeySet {list(self.public.by_kid)}>"

    def signer(self, now: float) -> PrivateKey:
        """Return the newest key that signs already; the oldest one, should the clock have jumped back behind all."""
        ready = [key for signs_from, key in self._signing if signs_from <= now]
        return ready[-1] if ready else self._signing[0][1]


def jwks_of(keys: Iterable[PrivateKey]) -> bytes:
    """Write public keys down as a JWKS (RFC 7517 §5)."""
    listed = [{**key.jwk, "kid": key.public.thumbprint, "alg": key.algorithm, "use": "sig"} for key in keys]
    return msgspec.json.encode({"keys": listed})


class _Keys(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold all keys, as they lie under the seal."""

    keys: tuple[Key, ...]


class SigningKeys:
    """Keep the signing keys of all nodes in the vault. `algorithm` is what new keys are for; see `KeyRules`.

    Raises:
        ConfigurationError: the rules would leave somebody without a key.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        rules: KeyRules = KeyRules(),  # noqa: B008 - a frozen value
        lifetime: float = 300.0,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        rules.check(lifetime)
        private_key(rules.algorithm, b"\x01" * SECRET_BYTES)  # it is known and supported, or we do not start
        self.rules = rules
        self._ground = ground
        self._sealer = ground.sealer(b"token keys")
        self._entropy = entropy
        self._loaded: KeySet | None = None

    def __repr__(self) -> str:
        return f"<SigningKeys {self.rules.algorithm}>"

    @property
    def at_hand(self) -> KeySet | None:
        """Return the keys if they were looked at lately: what does no I/O."""
        loaded = self._loaded
        return loaded if loaded is not None and -FLOOR < self._ground.now - loaded.loaded_at < REFRESH else None

    async def current(self) -> KeySet:
        """Return the keys, at most `REFRESH` seconds old; the first of all nodes makes one.

        Raises:
            StoreError: the vault failed, or its keys cannot be opened.
        """
        return self.at_hand or await self._settled(self._turn)

    async def again(self) -> KeySet:
        """Return the keys as they are now, for a kid that was not among them; at most once in `FLOOR` seconds."""
        loaded = self.at_hand
        if loaded is not None and self._ground.now - loaded.loaded_at < FLOOR:
            return loaded
        return await self._settled(self._turn)

    async def rotate(self, *, at_once: bool = False) -> str:
        """Add a next key before its time, and return its kid; it signs after `rules.lead`.

        `at_once=True` lets it sign now: verifiers that have not fetched it yet refuse its tokens until they do.
        """

        def add(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            now = self._ground.now
            waiting = tuple(key for key in keys if key.signs_from <= now)
            signs_from = now if at_once else now + self.rules.lead
            return (*waiting, new_key(self.rules.algorithm, now, signs_from, self._entropy))

        return list((await self._settled(add)).public.by_kid)[-1]

    async def discard(self, kid: str) -> bool:
        """Take a key out at once, because somebody else has it; tokens that it signed are refused from now on.

        Other nodes notice within `REFRESH` seconds, offline verifiers when they fetch the JWKS again. If no other key
        signs, a new one does. Return whether there was such a key.
        """
        found = False

        def remove(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            nonlocal found
            left = tuple(key for key in keys if private_key(key.algorithm, key.secret).public.thumbprint != kid)
            found = len(left) < len(keys)
            now = self._ground.now
            if any(key.signs_from <= now for key in left):
                return left
            return (new_key(self.rules.algorithm, now, now, self._entropy), *left)

        await self._settled(remove)
        return found

    def _turn(self, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        return turned(keys, self.rules, self._ground.now, self._entropy)

    async def _settled(self, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> KeySet:
        def decide(item: Item | None) -> tuple[tuple[tuple[Key, ...], tuple[Key, ...]], Write | None]:
            before = () if item is None else self._open(item.value)
            after = change(before)
            # Sealed anew when the ring of the sessions has turned: its old key will leave, these stay.
            stays = item is not None and before == after and item.value[1] == self._ground.engine.ring.newest
            return (before, after), None if stays else Write(ITEM, self._seal(after), 0, NOBODY)

        (before, after), _ = await settle(self._ground.vault, ITEM, decide, now=self._ground.now)
        made = self._loaded = KeySet(after, self._ground.now)
        self._tell(before, after)
        return made

    def _tell(self, before: tuple[Key, ...], after: tuple[Key, ...]) -> None:
        for what, keys in (("added", set(after) - set(before)), ("removed", set(before) - set(after))):
            for key in keys:
                kid = private_key(key.algorithm, key.secret).public.thumbprint
                self._ground.tell(
                    SigningKeyTurned(at=self._ground.now, kid=kid, algorithm=key.algorithm, what=what)  # type: ignore[arg-type]
                )

    def _seal(self, keys: tuple[Key, ...]) -> bytes:
        return sealed(self._sealer, written(_Keys(keys=keys)), NOBODY, ITEM.encode())

    def _open(self, value: bytes) -> tuple[Key, ...]:
        keys = read(_Keys, opened(self._sealer, value, NOBODY, ITEM.encode())).keys
        try:
            for key in keys:
                private_key(key.algorithm, key.secret)
        except (ConfigurationError, KeyError):
            # The error's text could hold a part of a key.
            raise StoreSchema("the token keys in the vault are none that this version knows") from None
        return keys
