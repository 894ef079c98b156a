"""What the errors of databases and drivers mean, and what Sessile raises for them.

Drivers and SQLAlchemy quote statements, parameters and addresses in their messages. None of that is repeated: the
sentences below are all that leaves the store, and the original is not chained.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from ...errors import StoreError, StoreFull, StoreSchema, StoreUnavailable


class Fault(Enum):
    """Name what went wrong, by what follows from it."""

    AGAIN = "transactions met; nothing was done, and trying again makes sense"
    TAKEN = "a row with this key is there already"
    LATE = "a lock or the statement took longer than the budget"
    LOST = "the connection is gone; what it was doing is unknown"
    READ_ONLY = "the server takes no writes: a standby, or a full disk"
    FULL = "the server has no room"
    MISSING = "the tables are not there, or not these"
    REFUSED = "the server refuses these credentials or rights"
    CROWDED = "the server has no connection free"
    FAILED = "anything else"


class Names(NamedTuple):
    """Say what errors call what is kept."""

    thing: str  # what is opened and closed
    database: str
    tables: str
    command: str  # what makes the tables

    @property
    def mend(self) -> str:
        """Say how tables that are missing or old are mended."""
        return f"create or update them with `{self.command}` (or open the {self.thing} with ?migrate=auto)"


SESSIONS: Final = Names("store", "session database", "session tables", "sessile migrate URL")

_SENTENCES: Final = {
    Fault.AGAIN: "transactions on the {} kept colliding",
    Fault.TAKEN: "the {} reports a duplicate",
    Fault.LATE: "the {} did not answer in time",
    Fault.LOST: "the connection to the {} was lost",
    Fault.READ_ONLY: "the {} takes no writes",
    Fault.FULL: "the {} has no room",
    Fault.REFUSED: "the {} refuses the credentials or the rights it was given",
    Fault.CROWDED: "the {} has no connection free",
    Fault.FAILED: "the {} failed",
}

_SQLSTATES: Final = {
    "40001": Fault.AGAIN,  # serialization failure
    "40P01": Fault.AGAIN,  # deadlock
    "23505": Fault.TAKEN,
    "55P03": Fault.LATE,  # lock_timeout
    "57014": Fault.LATE,  # statement_timeout
    "25P03": Fault.LOST,  # idle_in_transaction_session_timeout
    "57P01": Fault.LOST,  # terminated by an administrator
    "57P02": Fault.LOST,
    "57P03": Fault.LOST,  # starting up or shutting down
    "25006": Fault.READ_ONLY,
    "53300": Fault.CROWDED,
    "42P01": Fault.MISSING,
    "42703": Fault.MISSING,
    "3F000": Fault.MISSING,
    "42501": Fault.REFUSED,
}
_SQLSTATE_CLASSES: Final = {"08": Fault.LOST, "28": Fault.REFUSED, "53": Fault.FULL}
_NUMBERS: Final = {  # of MariaDB and MySQL
    1213: Fault.AGAIN,  # deadlock
    1205: Fault.AGAIN,  # innodb_lock_wait_timeout: the caller's budget decides
    1020: Fault.AGAIN,  # the row changed since the snapshot
    1062: Fault.TAKEN,
    1969: Fault.LATE,  # max_statement_time
    3024: Fault.LATE,  # max_execution_time
    1317: Fault.LATE,  # killed query
    1290: Fault.READ_ONLY,
    1792: Fault.READ_ONLY,
    1836: Fault.READ_ONLY,
    1021: Fault.FULL,
    1114: Fault.FULL,
    3: Fault.FULL,  # a file could not be written
    1030: Fault.FULL,  # the storage engine's own errors; InnoDB's 168 and 28 are about room
    1146: Fault.MISSING,
    1054: Fault.MISSING,
    1044: Fault.REFUSED,
    1045: Fault.REFUSED,
    1142: Fault.REFUSED,
    1698: Fault.REFUSED,
    1040: Fault.CROWDED,
    1203: Fault.CROWDED,
    1226: Fault.CROWDED,
    1927: Fault.LOST,  # the connection was killed
    2002: Fault.LOST,
    2003: Fault.LOST,
    2006: Fault.LOST,
    2013: Fault.LOST,
    2055: Fault.LOST,
    4031: Fault.LOST,
}


def fault_of(error: BaseException) -> Fault:
    """Tell what an error of a driver's, or SQLAlchemy's around it, means."""
    original: object = getattr(error, "orig", None) or error
    if isinstance(original, OSError):
        return Fault.LATE if isinstance(original, TimeoutError) else Fault.LOST
    number = original.args[0] if isinstance(original, Exception) and original.args else None
    if isinstance(number, int):
        return _NUMBERS.get(number, Fault.LOST if number == 0 else Fault.FAILED)
    sqlstate = getattr(original, "sqlstate", None)
    if isinstance(sqlstate, str):
        return _SQLSTATES.get(sqlstate) or _SQLSTATE_CLASSES.get(sqlstate[:2], Fault.FAILED)
    if type(original).__module__ == "sqlalchemy.exc":
        return Fault.LATE if type(original).__name__ == "TimeoutError" else Fault.FAILED
    # psycopg gives errors that the client library found itself no SQLSTATE: they are about the connection.
    return Fault.LOST if type(original).__name__ in ("OperationalError", "InterfaceError") else Fault.FAILED


def store_error(fault: Fault, names: Names = SESSIONS) -> StoreError:
    """Return what Sessile raises."""
    if fault is Fault.MISSING:
        return StoreSchema(f"the {names.tables} are not there; {names.mend}")
    sentence = _SENTENCES[fault].format(names.database)
    return StoreFull(sentence) if fault is Fault.FULL else StoreUnavailable(sentence)
