"""What `sessile doctor` asks the server. Hosts, users and databases are never named."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from ...core.ports import Diagnosis
from ...errors import StoreSchema
from . import migrations
from .link import AnyLink
from .migrations import Plan

_CLOCKS: Final = 2.0  # seconds that clocks may be apart without a word
_OLDEST: Final = {"PostgreSQL": (13, 0), "MariaDB": (10, 6), "MySQL": (8, 0)}
_PACKET: Final = 4 * 2**20  # bytes

_POSTGRESQL: Final = """SELECT current_setting('server_version'), current_setting('default_transaction_isolation'),
    extract(epoch FROM clock_timestamp())::float8,
    coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), host(inet_client_addr()),
    current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
    current_setting('synchronous_standby_names'), pg_backend_pid(),
    (SELECT count(*) FROM pg_stat_replication), (SELECT count(state) FROM pg_stat_replication),
    (SELECT relpersistence::text FROM pg_class WHERE oid = to_regclass({table})),
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"""
_MYSQL: Final = """SELECT version(), @@session.{isolation}, unix_timestamp(now(6)), user(),
    @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog, @@max_allowed_packet, @@innodb_doublewrite,
    @@read_only"""
_MYSQL_TABLE: Final = """SELECT engine, row_format, table_collation FROM information_schema.tables
    WHERE table_schema = database() AND table_name = '{table}'"""


class Subject(NamedTuple):
    """Say what is kept in a database, in the words of findings, and what follows if some of it is lost.

    `confirmed`: whether standbys are asked before an end is called confirmed; None: nothing is ended.
    """

    plan: Plan
    table: str
    one: str
    held: str
    lost: str
    then: str
    emptied: str
    unreadable: str
    confirmed: bool | None


def sessions(*, replicas: bool) -> Subject:
    """Return the words for sessions."""
    return Subject(
        plan=migrations.SESSIONS,
        table="the session table",
        one="A session",
        held="sessions",
        lost="ends",
        then="",
        emptied="everybody is signed out, and tombstones are gone",
        unreadable="No session can be read.",
        confirmed=replicas,
    )


class _Server(NamedTuple):
    """Hold what is asked of either kind."""

    product: str
    version: str
    isolation: str
    clock: float
    tls: bool
    client: str | None


def look(link: AnyLink[Any], *, subject: Subject, pgbouncer: bool) -> tuple[Diagnosis, ...]:
    """Look at the server, table and way to them."""
    before = time.time()
    ask = _postgresql if link.queries.postgresql else _mysql
    found = list(ask(link, before, subject, pgbouncer))
    found.append(_schema(link, subject))
    return tuple(found)


def _postgresql(link: AnyLink[Any], before: float, subject: Subject, pgbouncer: bool) -> Iterator[Diagnosis]:  # noqa: FBT001
    table = f"'{link.queries.main.fullname}'"
    row = link.fetch_text(_POSTGRESQL.format(table=table))[0]
    version, isolation, clock, tls, client, fsync, pages, commit, standbys, backend, attached, seen, kind, mighty = row
    yield from _common(_Server("PostgreSQL", version, isolation, float(clock), bool(tls), client), before, subject)
    if fsync != "on":
        means = f"A power cut loses {subject.lost}, or the database.{subject.then}"
        yield _fail("sql-durability", "R51", "fsync is off", means, "fsync = on")
    elif pages != "on":
        means = "A power cut can leave half-written pages, which cannot be recovered."
        yield _fail("sql-durability", "R51", "full_page_writes is off", means, "full_page_writes = on")
    else:
        found = f"commits are flushed (synchronous_commit is {commit}, and at least on for {subject.lost})"
        yield Diagnosis("ok", "sql-durability", "R51", found)
    if kind == "u":
        means = f"A crash of the server empties it: {subject.emptied}."
        yield _fail("sql-unlogged", "R51", f"{subject.table} is unlogged", means, "ALTER TABLE … SET LOGGED")
    if attached and subject.confirmed is not False:
        yield from _replicas(int(attached), int(seen), standbys, subject)
    if backend != link.backend() and not pgbouncer:
        yield Diagnosis(
            "warn",
            "sql-pooler",
            "R45",
            "a pooler stands between the application and PostgreSQL",
            "If it lends connections by the transaction, prepared statements and limits of time get lost or mixed up.",
            "Give ?pgbouncer=yes, or let the pooler lend connections by the session.",
        )
    if mighty:
        yield Diagnosis(
            "warn",
            "sql-rights",
            "R48",
            "the application connects as a superuser",
            "Whoever gets hold of its password owns the server.",
            f"Give it a role that may SELECT, INSERT, UPDATE and DELETE on the {subject.plan.names.tables}, and owns"
            " nothing else.",
        )


def _replicas(attached: int, seen: int, standbys: str, subject: Subject) -> Iterator[Diagnosis]:
    if subject.confirmed and seen < attached:
        yield Diagnosis(
            "warn",
            "sql-replicas",
            "R51",
            "standbys are attached, and this role may not see how far they are",
            "Every end is reported as unconfirmed: a failover might lose it.",
            "GRANT pg_monitor TO the role; or give ?confirm=primary, and know that a failover may lose the last ends.",
        )
    elif not standbys:
        yield Diagnosis(
            "warn",
            "sql-replicas",
            "R51",
            "standbys are attached and none is synchronous",
            "A failover may lose the last writes."
            + (
                " Ends wait up to a second for every standby to have them, and are reported as unconfirmed if one is"
                " late."
                if subject.confirmed
                else subject.then
            ),
            "Set synchronous_standby_names, so that nothing that was acknowledged can be lost.",
        )
    else:
        yield Diagnosis("ok", "sql-replicas", "R51", "a synchronous standby has what is acknowledged")


def _mysql(link: AnyLink[Any], before: float, subject: Subject, _pgbouncer: bool) -> Iterator[Diagnosis]:  # noqa: FBT001
    isolation = "transaction_isolation"
    version = str(link.fetch_text("SELECT version()")[0][0])
    product = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    if product == "MariaDB" and _numbers(version) < (11, 1):
        isolation = "tx_isolation"
    row = link.fetch_text(_MYSQL.format(isolation=isolation))[0]
    _, level, clock, user, flush, binary_log, sync, packet, double_write, read_only = row
    cipher = link.fetch_text("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    client = str(user).rpartition("@")[2]
    yield from _common(
        _Server(product, version, str(level), float(clock), bool(cipher and cipher[0][1]), client),
        before,
        subject,
    )
    if int(flush) != 1:
        mend = "innodb_flush_log_at_trx_commit = 1"
        found = f"innodb_flush_log_at_trx_commit is {flush}"
        means = f"A power cut loses the {subject.lost} of the last second.{subject.then}"
        yield _fail("sql-durability", "R51", found, means, mend)
    elif int(binary_log) and int(sync) != 1:
        means = f"A power cut loses the last {subject.lost}: recovery undoes what the binary log has not.{subject.then}"
        yield _fail("sql-durability", "R51", f"sync_binlog is {sync}", means, "sync_binlog = 1")
    elif str(double_write) in ("0", "OFF"):
        means = "A power cut can leave half-written pages, which cannot be recovered."
        yield _fail("sql-durability", "R51", "innodb_doublewrite is off", means, "innodb_doublewrite = 1")
    else:
        yield Diagnosis("ok", "sql-durability", "R51", "commits are flushed")
    if int(packet) < _PACKET:
        found = f"max_allowed_packet is {int(packet):,} bytes"
        means = f"{subject.one} travels in hexadecimal: one of half that size cannot be stored."
        yield Diagnosis("warn", "sql-packet", "R45", found, means, "max_allowed_packet = 16M")
    if int(read_only):
        means = "A replica, or a primary that was demoted: nobody can sign in or out."
        yield _fail("sql-read-only", "R45", "the server is read-only", means, "Name the primary in the URL.")
    for engine, row_format, collation in link.fetch_text(_MYSQL_TABLE.format(table=link.queries.main.name)):
        if str(engine) != "InnoDB":
            means = f"It knows no transactions: {subject.lost} can be half done, or get lost."
            yield _fail("sql-engine", "R42", f"the engine of {subject.table} is {engine}", means, "ENGINE = InnoDB")
        if str(row_format).lower() != "dynamic":
            found = f"the row format of {subject.table} is {str(row_format).lower()}"
            means = "Large rows keep a part of their data beside the key; reads touch more pages."
            yield Diagnosis("warn", "sql-row-format", "R43", found, means, "ALTER TABLE … ROW_FORMAT = DYNAMIC")
        if not str(collation).startswith("utf8mb4"):
            found = f"the collation of {subject.table} is {collation}"
            yield Diagnosis("warn", "sql-charset", "R49", found, "Sessile's own is utf8mb4.", "CHARSET = utf8mb4")


def _common(server: _Server, before: float, subject: Subject) -> Iterator[Diagnosis]:
    oldest = _OLDEST[server.product]
    name = f"{server.product} {server.version[:40]!r}"
    if _numbers(server.version) < oldest:
        wanted = ".".join(map(str, oldest))
        means = "It lacks what is needed (SKIP LOCKED), or is no longer maintained."
        yield _fail("sql-version", "R45", f"the server is {name}", means, f"Use {wanted} or newer.")
    else:
        yield Diagnosis("ok", "sql-version", "R45", f"the server is {name}")
    isolation = server.isolation.lower().replace("-", " ")
    yield Diagnosis(
        "ok",
        "sql-isolation",
        "R43",
        f"sessions are {isolation}; transactions of the {subject.plan.names.thing}, read committed",
    )
    if not server.tls and not _is_loopback(server.client):
        yield Diagnosis(
            "warn",
            "sql-transport",
            "R48",
            "the database is reached over the network without TLS",
            f"Who can read that network reads {subject.held} and the password; who can write to it is everybody.",
            "PostgreSQL: ?sslmode=verify-full&sslrootcert=…; MariaDB: ?ssl_ca=….",
        )
    else:
        yield Diagnosis("ok", "sql-transport", "R48", "TLS" if server.tls else "the database is on this machine")
    after = time.time()
    apart = max(before - server.clock, server.clock - after, 0.0)
    if apart > _CLOCKS:
        found = f"the clocks of this machine and the database are {apart:.0f} s apart"
        means = (
            f"The {subject.plan.names.thing} does not use the server's, but one of the two is wrong; nodes that differ"
            " end sessions early."
        )
        yield Diagnosis("warn", "sql-clock", "R38", found, means, "Synchronise both (NTP).")


def _schema(link: AnyLink[Any], subject: Subject) -> Diagnosis:
    names = subject.plan.names
    try:
        migrations.check(link, subject.plan)
    except StoreSchema as error:
        return _fail("sql-schema", "R45", str(error), subject.unreadable, names.command)
    return Diagnosis("ok", "sql-schema", "R45", f"the {names.tables} have schema {subject.plan.latest}")


def _fail(code: str, requirement: str, found: str, means: str, mend: str) -> Diagnosis:
    return Diagnosis("fail", code, requirement, found, means, mend)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.removeprefix("5.5.5-"))[:2])


def _is_loopback(client: str | None) -> bool:
    if client is None:
        return True  # a unix socket
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return client == "localhost"
