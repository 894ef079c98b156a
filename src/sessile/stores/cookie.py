"""Sessions that live in their browsers' cookies: this store keeps nothing, and knows where their ends are remembered.

    cookie://                                        nothing can end a session early but its own limits
    cookie://?revocations=sqlite:///ends.db          ends are remembered in a file: for one machine
    cookie://?revocations=redis://host/0             on a Redis: for several
    cookie://?revocations=memory://                  in this process: for development; a restart ends every session

A URL inside a URL: write its own "&" as %26 and its "#" as %23.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn, cast

from ..core.ports import Diagnosable, Diagnosis, Embedded, Revocations
from ..core.record import PLAIN, Codec, Tombstone
from ..core.sealedcookies import LIMIT, MOST
from ..errors import ConfigurationError, Unsupported
from .url import StoreUrl, whole_number

_LEAST: Final = 1_024
_BACKENDS: Final = {
    "memory": ".memory_revocations",
    "sqlite": ".sqlite.revocations",
    "redis": ".redis.revocations",
    "rediss": ".redis.revocations",
    "redis+unix": ".redis.revocations",
    "redis+sentinel": ".redis.revocations",
    "rediss+sentinel": ".redis.revocations",
    "redis+cluster": ".redis.revocations",
    "rediss+cluster": ".redis.revocations",
    "valkey": ".redis.revocations",
    "valkeys": ".redis.revocations",
}


def open_url(url: StoreUrl, *, blocking: bool, codec: Codec = PLAIN) -> CookieStore:
    """Open `cookie://`, with `?revocations=<URL>`, `?bytes=7168` and `?compress=yes`.

    Raises:
        ConfigurationError: the URL names a host or a path, or an option is unknown or refused.
    """
    if url.authority or url.path not in ("", "/"):
        raise ConfigurationError("cookie:// takes neither a host nor a path")
    if codec is not PLAIN:
        raise ConfigurationError("sessions in cookies are sealed always, with the token keys: leave encrypt=… away")
    found = url.options({"revocations": str, "bytes": _limit, "compress": _yes})
    where: str | None = found.get("revocations")
    ends = None if where is None else open_revocations(where, blocking=blocking)
    kind = EmbeddedCookieStore if isinstance(ends, Embedded) else CookieStore
    return kind(ends, limit=found.get("bytes", LIMIT), compress=found.get("compress", False))


def open_revocations(url: str, *, blocking: bool) -> Revocations:
    """Open what remembers the ends of sessions that live in cookies. Opening does not wait.

    Raises:
        ConfigurationError: the URL names nothing that is known, or an option that it has not.
    """
    parsed = StoreUrl.parse(url)
    backend = _BACKENDS.get(parsed.scheme)
    if backend is None:
        known = ", ".join(f"{scheme}://" for scheme in _BACKENDS)
        raise ConfigurationError(f"revocations cannot be kept in {parsed.scheme}://; known are {known}")
    module = import_module(backend, __package__)
    return cast("Revocations", module.open_revocations_url(parsed, blocking=blocking))


class CookieStore:
    """Be the store of sessions that live in cookies.

    `limit` is how many bytes they may take of a request's Cookie header; servers and proxies before you must let that
    much pass. `compress` makes what is sealed smaller, and its length then tells of its content.

    Raises:
        ConfigurationError: the limit is more than the cookies hold, or less than any session needs.
    """

    def __init__(self, revocations: Revocations | None = None, *, limit: int = LIMIT, compress: bool = False) -> None:
        if not _LEAST <= limit <= MOST:
            raise ConfigurationError(f"the limit of a session in cookies is {_LEAST:,} to {MOST:,} bytes")
        self.revocations = revocations
        self.limit = limit
        self.compress = compress

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Say what an end is worth, and what the place where ends are remembered says of itself."""
        carried = Diagnosis(
            "ok",
            "cookie-limit",
            "R14",
            f"a session takes up to {self.limit:,} bytes of each request's and each writing response's headers",
            "Servers and proxies must let that much pass; docs/explanation/cookie-sessions.md has their settings.",
        )
        if self.revocations is None:
            return (
                carried,
                Diagnosis(
                    "warn",
                    "cookie-revocations",
                    "R61",
                    "sessions live in cookies and nothing remembers their ends",
                    "A sign-out only asks the browser to forget: a copy of the cookies works until a limit ends it. "
                    "Nobody can be signed out from elsewhere.",
                    "Add revocations to the URL: cookie://?revocations=sqlite:///ends.db, or a Redis.",
                ),
            )
        findings = [carried, Diagnosis("ok", "cookie-revocations", "R61", "ends of sessions in cookies are remembered")]
        if isinstance(self.revocations, Diagnosable):
            findings += await self.revocations.diagnose()
        return tuple(findings)

    async def close(self) -> None:
        """Close what remembers the ends."""
        if self.revocations is not None:
            await self.revocations.close()

    # What asks a store directly hears why there is no answer. The engine of cookies asks none of these.

    async def load(self, session_id: str) -> NoReturn:
        """Raise: what a session holds, only its browser has."""
        raise _nothing()

    async def create(self, session_id: str, record: object, **options: object) -> NoReturn:
        """Raise: a session begins in an answer's cookies."""
        raise _nothing()

    async def save(self, session_id: str, change: object, base: object) -> NoReturn:
        """Raise: a session is written by an answer's cookies."""
        raise _nothing()

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> NoReturn:
        """Raise: a session's times are written by an answer's cookies."""
        raise _nothing()

    async def end(self, session_id: str, tombstone: Tombstone) -> NoReturn:
        """Raise: ends go through `revocations`."""
        raise _nothing()


class EmbeddedCookieStore(CookieStore):
    """Be one whose ends are remembered on this machine alone, so that a development key may live beside them."""

    @property
    def key_file(self) -> Path | None:
        """Return the development key's path; None: it dies with the process, as what remembers the ends does."""
        return self.revocations.key_file if isinstance(self.revocations, Embedded) else None


def _nothing() -> Unsupported:
    return Unsupported("sessions that live in cookies are in no store: only their browsers have them")


def _limit(value: str) -> int:
    number = whole_number(value)
    if not _LEAST <= number <= MOST:
        raise ValueError(f"must be {_LEAST:,} to {MOST:,} bytes")
    return number


def _yes(value: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError("must be yes or no")
    return value == "yes"
