"""The drivers: how connections are opened, bounded in time, looked at before use, and let go.

    kind             blocking    asynchronous
    postgresql       psycopg     psycopg
    mysql, mariadb   pymysql     aiomysql

Every connection of the store's own is set, as it is opened, to autocommit, READ COMMITTED and the server's own limits
for statements and locks, so that a client that dies or hangs holds nothing for longer than a verb may take.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, Final

from ...errors import ConfigurationError
from .address import POSTGRESQL, Address

_TICK: Final = 0.1  # seconds between looks at the clock while the server is silent
_STRICT: Final = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"


def driver_name(address: Address, *, blocking: bool) -> str:
    """Return SQLAlchemy's name of the dialect and driver."""
    if address.kind == POSTGRESQL:
        return "postgresql+psycopg"
    return f"{address.kind}+{'pymysql' if blocking else 'aiomysql'}"


def arguments(address: Address, *, blocking: bool, timeout: float, pgbouncer: bool) -> dict[str, Any]:
    """Return what the driver's `connect` takes.

    Raises:
        ConfigurationError: the TLS files cannot be read.
    """
    if address.kind == POSTGRESQL:
        return _for_psycopg(address, blocking=blocking, timeout=timeout, pgbouncer=pgbouncer)
    return _for_mysql(address, blocking=blocking, timeout=timeout)


def _for_psycopg(address: Address, *, blocking: bool, timeout: float, pgbouncer: bool) -> dict[str, Any]:
    import psycopg

    given: dict[str, Any] = {
        **address.extra,
        "dbname": address.database,
        "connect_timeout": max(2, math.ceil(timeout)),
        "target_session_attrs": "read-write",  # a standby that is read would show ended sessions as alive
        "tcp_user_timeout": round(timeout * 1000),
        "fallback_application_name": "sessile",
        "autocommit": True,
    }
    if address.hosts:
        given["host"] = ",".join(host for host, _ in address.hosts)
        given["port"] = ",".join(str(port) for _, port in address.hosts)
    if address.user is not None:
        given["user"] = address.user
    if address.password is not None:
        given["password"] = address.password
    if pgbouncer:
        # A pooler that lends connections by the transaction keeps neither settings nor prepared statements.
        given["prepare_threshold"] = None
    else:
        limit = round(timeout * 1000)
        given["options"] = (
            f"-c statement_timeout={limit} -c lock_timeout={limit} -c idle_in_transaction_session_timeout={2 * limit}"
        )
    if not blocking:
        given["async_creator_fn"] = _bounded_async(psycopg)
    return given


def _for_mysql(address: Address, *, blocking: bool, timeout: float) -> dict[str, Any]:
    given: dict[str, Any] = {
        "db" if not blocking else "database": address.database,
        "connect_timeout": math.ceil(timeout),
        "charset": "utf8mb4",
        "autocommit": True,
        "init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    }
    for host, port in address.hosts:
        given |= {"host": host, "port": port}
    if "unix_socket" in address.extra:
        given["unix_socket"] = address.extra["unix_socket"]
    if address.user is not None:
        given["user"] = address.user
    if address.password is not None:
        given["password"] = address.password
    if blocking:
        given |= {"read_timeout": math.ceil(timeout), "write_timeout": math.ceil(timeout)}
    if any(name.startswith("ssl_") for name in address.extra):
        given["ssl"] = _tls(address)
    return given


def _tls(address: Address) -> Any:
    import ssl

    try:
        context = ssl.create_default_context(cafile=address.extra.get("ssl_ca"), capath=address.extra.get("ssl_capath"))
        if "ssl_cert" in address.extra:
            context.load_cert_chain(address.extra["ssl_cert"], address.extra.get("ssl_key"))
    except (OSError, ValueError):
        raise ConfigurationError("the TLS files that the store's URL names cannot be read") from None
    return context


def settings(timeout: float) -> str:
    """Return the statement that gives a connection to MariaDB or MySQL the server's own limits."""
    return (
        f"SET SESSION sql_mode='{_STRICT}', innodb_lock_wait_timeout={math.ceil(timeout)}"
        f" /*M!, max_statement_time={timeout:f} */ /*!80000, max_execution_time={round(timeout * 1000)} */"
    )


def bounded() -> Callable[..., Any]:
    """Return psycopg's `connect` for connections whose `deadline` (of time.monotonic) ends every wait.

    libpq has no time limit of its own once it is connected: a server that is frozen would hold the thread forever.
    """
    import psycopg

    class Bounded(psycopg.Connection[Any]):
        deadline = math.inf

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            return super().wait(_until(gen, self), *args, **kwargs)

    return Bounded.connect


def _until(gen: Generator[Any, Any, Any], connection: Any) -> Generator[Any, Any, Any]:
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > connection.deadline:
                raise TimeoutError
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value


def _bounded_async(psycopg: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    base: Any = psycopg.AsyncConnection
    wait_async: Callable[..., Coroutine[Any, Any, Any]] = psycopg.waiting.wait_async

    class Bounded(base):  # type: ignore[misc]
        async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            # psycopg's own asks the server to cancel, and waits for that: a frozen server would exceed the budget. Here
            # the connection is thrown away, and the server's own limit ends the statement.
            return await wait_async(gen, self.pgconn.socket, *args, **kwargs)

    connect: Callable[..., Coroutine[Any, Any, Any]] = Bounded.connect
    return connect


def limit(connection: Any, deadline: float) -> None:
    """Tell a blocking connection until when it may wait."""
    if hasattr(connection, "deadline"):
        connection.deadline = deadline
    elif hasattr(connection, "_read_timeout"):
        # pymysql takes its timeouts at connect alone, but looks at them before each read and write.
        connection._read_timeout = connection._write_timeout = max(deadline - time.monotonic(), 0.001)


@contextmanager
def limited(connection: Any, deadline: float) -> Generator[None]:
    """Bound the waits of a connection that is not ours, and give it back as it was."""
    names = [name for name in ("deadline", "_read_timeout", "_write_timeout") if hasattr(connection, name)]
    before = {name: getattr(connection, name) for name in names}
    limit(connection, deadline)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(connection, name, value)


def is_silent(driver_connection: Any) -> bool:
    """Tell whether an idle connection has nothing to read: what is readable was closed by the server, or is odd.

    This costs no round trip, and finds what a server that was restarted, or a backend that was ended, left behind.
    """
    descriptor = _descriptor(driver_connection)
    if descriptor < 0:
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLPRI)
        return not poll.poll(0)
    return not select.select([descriptor], [], [], 0)[0]


def _descriptor(driver_connection: Any) -> int:
    try:
        pgconn = getattr(driver_connection, "pgconn", None)
        if pgconn is not None:
            return int(pgconn.socket)
        writer = getattr(driver_connection, "_writer", None)  # aiomysql
        if writer is not None:
            return -1 if writer.transport.is_closing() else int(writer.get_extra_info("socket").fileno())
        return int(driver_connection._sock.fileno())  # pymysql
    except Exception:  # noqa: BLE001 - psycopg raises its own error for a closed connection; it is gone, whatever it is
        return -1


def kill(driver_connection: Any) -> bool:
    """Close a connection whose event loop is closed, without one; tell whether nothing of it is left."""
    pgconn = getattr(driver_connection, "pgconn", None)
    if pgconn is not None:
        pgconn.finish()
        return True
    writer = getattr(driver_connection, "_writer", None)
    if writer is None:
        return True
    transport = writer.transport
    with suppress(RuntimeError):
        transport.abort()  # marks it as closing; then it misses its loop
    with suppress(Exception):
        transport._sock.close()
        transport._sock = None
        driver_connection._writer = None
        return True
    return False
