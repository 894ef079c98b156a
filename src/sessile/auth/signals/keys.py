"""The keys that sign signals: made once for all nodes, kept sealed in the vault, turned over with an overlap.

They are keys of their own: what signs access tokens signs nothing else. Of each algorithm that a stream asks for there
is a line of keys, each published `LEAD` before it signs and `OVERLAP` after; the first one of a line signs at once,
because nobody can have fetched the list before there was one. Nodes that make one at the same moment write over the
version that they have read: one wins, and all use what it wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import msgspec

from ...errors import ConfigurationError, ExtraMissing, StoreSchema
from ..ground import Ground, opened, sealed
from ..vault import Item, Write, settle

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from joserfc.jwk import ECKey, RSAKey
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("shared signals", "signals") from error

SigningKey = ECKey | RSAKey

SCHEMA: Final = 1
ITEM: Final = "signals:keys"
NOBODY: Final = ""
ALGORITHMS: Final = ("ES256", "RS256")
RSA_BITS: Final = 2048  # the least that the interoperability profile takes
DAY: Final = 86400.0
PERIOD: Final = 90 * DAY
LEAD: Final = DAY
OVERLAP: Final = DAY
REFRESH: Final = 60.0


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """Hold a key as the vault does, sealed; times are seconds since 1970. Its repr shows no secret."""

    algorithm: str
    secret: bytes
    made_at: float
    signs_from: float

    def __repr__(self) -> str:
        return f"<Kept {self.algorithm} from {self.signs_from:.0f}>"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, tuple[Kept, ...]])


def new_key(algorithm: str) -> bytes:
    """Draw a private key, as PKCS 8."""
    key = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else rsa.generate_private_key(65537, RSA_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def turned(
    keys: tuple[Kept, ...], algorithm: str, now: float, draw: Callable[[str], bytes], *, at_once: bool = False
) -> tuple[Kept, ...]:
    """Return the keys as they should be now: a next one of `algorithm` added if it is due, outlived ones gone."""
    line = [key for key in keys if key.algorithm == algorithm]
    if not line:
        line = [Kept(algorithm, draw(algorithm), now, now)]
    elif at_once or (line[-1].signs_from <= now and now >= line[-1].signs_from + PERIOD - LEAD):
        line.append(Kept(algorithm, draw(algorithm), now, now if at_once else now + LEAD))
    living = [key for key, after in pairwise(line) if now < after.signs_from + OVERLAP]
    return (*(key for key in keys if key.algorithm != algorithm), *living, line[-1])


class _Ready:
    """Hold one state of the keys, read."""

    def __init__(self, keys: tuple[Kept, ...], at: float) -> None:
        self.at = at
        self.keys = [(kept, _read(kept)) for kept in keys]
        self.jwks = msgspec.json.encode({"keys": [_public(kept, key) for kept, key in self.keys]})

    def signer(self, algorithm: str, now: float) -> SigningKey | None:
        """Return the newest key that signs already."""
        line = [(kept, key) for kept, key in self.keys if kept.algorithm == algorithm]
        ready = [key for kept, key in line if kept.signs_from <= now]
        return ready[-1] if ready else line[0][1] if line else None

    def is_due(self, algorithm: str, now: float) -> bool:
        """Tell whether a line has to be turned."""
        line = [kept for kept, _ in self.keys if kept.algorithm == algorithm]
        if not line or now >= line[-1].signs_from + PERIOD - LEAD:
            return True
        return any(now >= after.signs_from + OVERLAP for after in line[1:])


def _read(kept: Kept) -> SigningKey:
    kind: Any = ECKey if kept.algorithm == "ES256" else RSAKey
    key: SigningKey = kind.import_key(kept.secret)
    return kind.import_key(  # type: ignore[no-any-return]
        kept.secret, {"kid": key.thumbprint(), "use": "sig", "alg": kept.algorithm}
    )


def _public(kept: Kept, key: SigningKey) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": key.kid, "use": "sig", "alg": kept.algorithm}


class SignalKeys:
    """Keep the signing keys of all nodes in the vault."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._sealer = ground.sealer(b"signal keys")
        self._ready: _Ready | None = None

    def __repr__(self) -> str:
        return "<SignalKeys>"

    async def signer(self, algorithm: str) -> SigningKey:
        """Return the key that signs by an algorithm now.

        Raises:
            ConfigurationError: signals are not signed by it.
            StoreError: the vault failed.
        """
        if algorithm not in ALGORITHMS:
            raise ConfigurationError(f"signals are signed by {' or '.join(ALGORITHMS)}")
        now, ready = self._ground.now, await self._fresh()
        if ready.is_due(algorithm, now):
            ready = await self._turn(algorithm)
        key = ready.signer(algorithm, now)
        assert key is not None
        return key

    async def jwks(self, algorithms: frozenset[str]) -> bytes:
        """Return the public keys as a JWKS, with one at least of each of these algorithms."""
        for algorithm in sorted(algorithms):
            await self.signer(algorithm)
        return (await self._fresh()).jwks

    async def rotate(self, algorithm: str = "ES256", *, at_once: bool = False) -> None:
        """Add a next key before its time; it signs after `LEAD`, or now with `at_once`."""
        await self._turn(algorithm, at_once=at_once)

    async def _fresh(self) -> _Ready:
        ready = self._ready
        if ready is None or not 0 <= self._ground.now - ready.at < REFRESH:
            item = await self._ground.vault.get(ITEM)
            ready = self._ready = _Ready(() if item is None else self._open(item.value), self._ground.now)
        return ready

    async def _turn(self, algorithm: str, *, at_once: bool = False) -> _Ready:
        made = await self._ground.compute(new_key, algorithm)

        def decide(item: Item | None) -> tuple[tuple[Kept, ...], Write | None]:
            now = self._ground.now
            before = () if item is None else self._open(item.value)
            after = turned(before, algorithm, now, lambda _: made, at_once=at_once)
            return after, None if before == after else Write(ITEM, self._seal(after), 0, NOBODY)

        after, _ = await settle(self._ground.vault, ITEM, decide, now=self._ground.now)
        self._ready = _Ready(after, self._ground.now)
        return self._ready

    def _seal(self, keys: tuple[Kept, ...]) -> bytes:
        return sealed(self._sealer, _encoder.encode((SCHEMA, keys)), NOBODY, ITEM.encode())

    def _open(self, value: bytes) -> tuple[Kept, ...]:
        try:
            schema, keys = _decoder.decode(opened(self._sealer, value, NOBODY, ITEM.encode()))
        except msgspec.DecodeError:
            raise StoreSchema("the signal keys in the vault cannot be read") from None
        if schema != SCHEMA:
            raise StoreSchema("the signal keys in the vault are of another version")
        return keys
