"""Every error Sessile raises, as one tree.

SessileError                       code
├── ConfigurationError             configuration          wrong settings; raised at start, never while serving
│   ├── KeyMissing                 key-missing            production needs a configured token key
│   ├── UnsafeCookie               unsafe-cookie          cookie attributes that browsers or OWASP refuse
│   ├── ExtraMissing               extra-missing          an optional package is not installed
│   └── Unsupported                unsupported            the store has not the power that was asked for
├── StoreError                     store                  the store failed: answer 503, never "anonymous"
│   ├── StoreUnavailable           store-unavailable      it could not be reached, or not in time
│   ├── StoreFull                  store-full             it has no room and nothing that may be evicted
│   └── StoreSchema                store-schema           it holds a schema that this version cannot read
├── DataError                      data                   the application's data cannot be stored
│   ├── ValueUnsupported           value-unsupported      a type that cannot travel; names the key
│   ├── ValueTooDeep               value-too-deep         nested deeper than the limit; names the key
│   └── SessionTooLarge            session-too-large      over the size limit; names the largest changed key
├── SessionError                   session                this session cannot do what was asked
│   ├── SessionClosed              session-closed         changed after the response had begun
│   ├── SessionGone                session-gone           ended by someone else while this request ran
│   ├── ConflictError              conflict               another request changed the same keys
│   ├── TooManySessions            too-many-sessions      the concurrent-session limit refused a sign-in
│   └── NotByToken                 not-by-token           a request with an access token cannot renew its session
├── UserInvalid                    user-invalid           what was given names no user: text, a whole number, a UUID
├── StepUpRequired                 step-up-required       the session does not prove enough for this route
├── AccessRefused                  access-refused         the request's access token opens nothing: answer 401
├── CookieTooLarge                 cookie-too-large       a cookie that no browser would keep
└── WouldBlock                     would-block            asynchronous work was given to the blocking door

What an attacker sends is no error: it is refused quietly and told to the event sinks.
Each class carries `code`, a stable machine name, and what its handler needs.
"""

from __future__ import annotations

from typing import ClassVar


class SessileError(Exception):
    """Be the root of all errors that Sessile raises."""

    code: ClassVar[str] = "sessile"


class ConfigurationError(SessileError):
    """Say that the settings are wrong."""

    code = "configuration"


class KeyMissing(ConfigurationError):
    """Say that a token key must be configured."""

    code = "key-missing"


class UnsafeCookie(ConfigurationError):
    """Say that the cookie's attributes contradict its name or each other (R11-R15)."""

    code = "unsafe-cookie"


class ExtraMissing(ConfigurationError):
    """Say which package is missing, and the line that installs it."""

    code = "extra-missing"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs a package that is not installed: pip install 'sessile[{extra}]'")
        self.extra = extra


class Unsupported(ConfigurationError):
    """Say that the configured store has not the power that was asked for."""

    code = "unsupported"


class StoreError(SessileError):
    """Say that the store failed; adapters answer 503 (R45)."""

    code = "store"


class StoreUnavailable(StoreError):
    """Say that the store could not be reached or did not answer in time."""

    code = "store-unavailable"


class StoreFull(StoreError):
    """Say that the store has no room and holds nothing that may be evicted."""

    code = "store-full"


class StoreSchema(StoreError):
    """Say that the store's schema is of another version."""

    code = "store-schema"


class DataError(SessileError):
    """Say that data cannot be stored, and under which key it stands."""

    code = "data"

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"session[{key!r}]: {message}")
        self.key = key


class ValueUnsupported(DataError):
    """Say that a value has a type that cannot travel."""

    code = "value-unsupported"


class ValueTooDeep(DataError):
    """Say that a value is nested deeper than the limit."""

    code = "value-too-deep"


class SessionTooLarge(DataError):
    """Say that the session would exceed its size limit, in bytes."""

    code = "session-too-large"

    def __init__(self, key: str, size: int, limit: int) -> None:
        super().__init__(
            key, f"the session would hold {size:,} bytes; the limit is {limit:,} (the largest change is here)"
        )
        self.size = size
        self.limit = limit


class SessionError(SessileError):
    """Say that this session cannot do what was asked."""

    code = "session"


class SessionClosed(SessionError):
    """Say that the session was changed after its response had begun."""

    code = "session-closed"

    def __init__(self) -> None:
        super().__init__("the response has begun: the session was committed and can no longer change")


class SessionGone(SessionError):
    """Say that the session was ended by someone else while this request ran (R42)."""

    code = "session-gone"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this session was ended while the request ran ({reason})")
        self.reason = reason


class ConflictError(SessionError):
    """Say which keys another request changed meanwhile (R43)."""

    code = "conflict"

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(f"another request changed {', '.join(map(repr, keys))} meanwhile")
        self.keys = keys


class TooManySessions(SessionError):
    """Say that the concurrent-session limit refused a sign-in (R66)."""

    code = "too-many-sessions"

    def __init__(self, limit: int) -> None:
        super().__init__(f"this user already has {limit} sessions; end one of them first")
        self.limit = limit


class NotByToken(SessionError):
    """Say that a session which an access token opened was asked for what only its own cookie can do: a new token."""

    code = "not-by-token"

    def __init__(self, verb: str) -> None:
        super().__init__(f"{verb} needs a browser's session: this one was opened by an access token")
        self.verb = verb


class UserInvalid(SessileError, ValueError):
    """Say that what was given as a user id names no user for certain."""

    code = "user-invalid"


class StepUpRequired(SessileError):
    """Say what a session must still prove before a route opens (R90).

    `reason` is one of `login` (nobody is signed in), `pending` (the sign-in is not complete), `challenged` (the
    client's context changed), `factor` (a factor is missing), `age` (it was proved too long ago), `aal` (the level is
    too low). `factor`, `max_age` (seconds) and `aal` repeat what the route asked for. `challenge` is what a 401 says in
    WWW-Authenticate, where access tokens are taken (RFC 6750 §3).
    """

    code = "step-up-required"

    def __init__(
        self,
        reason: str,
        *,
        factor: str | None = None,
        max_age: float | None = None,
        aal: int | None = None,
        challenge: str = "",
    ) -> None:
        super().__init__(f"step-up required: {reason}")
        self.reason = reason
        self.factor = factor
        self.max_age = max_age
        self.aal = aal
        self.challenge = challenge


class AccessRefused(SessileError):
    """Say that a request must be refused for its Authorization header, and with which headers (RFC 6750 §3).

    `error` is the standard's code, which the response repeats.
    """

    code = "access-refused"

    def __init__(self, status: int, error: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"the access token was refused: {error}")
        self.status = status
        self.error = error
        self.headers = headers


class CookieTooLarge(SessileError):
    """Say that name and value exceed the 4096 bytes that browsers keep (R14)."""

    code = "cookie-too-large"


class WouldBlock(SessileError):
    """Say that a coroutine waited although it was driven by the blocking door."""

    code = "would-block"

    def __init__(self) -> None:
        super().__init__("the blocking door met work that waits for an event loop: open this store for `Sessions`")
