"""What an error of redis-py becomes: one sentence that says its kind, and nothing that was in a command.

redis-py quotes whole commands and addresses in its messages, and so ids and data. Nothing of a message travels on;
errors are raised `from None`, so that no traceback shows the original beside ours.
"""

from __future__ import annotations

from typing import Final

from redis import exceptions as redis

from ...errors import StoreError, StoreFull, StoreUnavailable

# A server that answers so is not the one to ask: the connections to it are given up.
LOST: Final = (
    redis.ConnectionError,  # LOADING is among them
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.MasterDownError,
    redis.ClusterDownError,
    OSError,
)
_WORDS: Final = ("NOREPLICAS", "MISCONF", "UNBLOCKED", "LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN")


def is_lost(error: BaseException) -> bool:
    """Tell whether the server behind a connection should not be asked again through it."""
    return isinstance(error, LOST) or (isinstance(error, redis.ResponseError) and _begins(error, _WORDS))


def is_denied(error: object) -> bool:
    """Tell whether a reply says that the user may not do this; scripts say so in words of their own."""
    return isinstance(error, redis.NoPermissionError) or (
        isinstance(error, redis.ResponseError) and "The user executing the script can't" in str(error)
    )


def wrapped(error: BaseException) -> StoreError:
    """Return our error for one of redis-py's."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return StoreUnavailable("Redis did not answer in time")
    if isinstance(error, redis.AuthenticationError | redis.AuthenticationWrongNumberOfArgsError):
        return StoreUnavailable("Redis refused the user name or the password")
    if is_denied(error):
        return StoreError(
            "Redis denies this user a command or a key that the store needs (`sessile doctor` says which)"
        )
    if isinstance(error, redis.OutOfMemoryError) or _begins(error, ("OOM",)):
        return StoreFull("Redis has reached maxmemory and may not evict anything")
    if isinstance(error, redis.ReadOnlyError):
        return StoreUnavailable("this Redis is a replica: the primary is elsewhere now")
    if _begins(error, ("NOREPLICAS",)):
        return StoreUnavailable("Redis has fewer replicas attached than it needs to accept writes")
    if _begins(error, ("MISCONF",)):
        return StoreUnavailable("Redis accepts no writes because it cannot save to its disk")
    if isinstance(error, redis.BusyLoadingError | redis.MasterDownError | redis.ClusterDownError):
        return StoreUnavailable("Redis is not ready to answer")
    if isinstance(error, redis.ConnectionError | OSError | UnicodeError):
        return StoreUnavailable("the connection to Redis failed")
    if _begins(error, ("WRONGTYPE",)):
        return StoreError("Redis holds something else under the prefix of the sessions")
    return StoreError("Redis refused a command")


def _begins(error: BaseException, words: tuple[str, ...]) -> bool:
    return str(error).startswith(words)
