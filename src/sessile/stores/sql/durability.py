"""What `Ending.confirmed` claims, and how it is found out.

    PostgreSQL   the commit was flushed to the primary's disk (`synchronous_commit` is raised to `on` for ends, and
                 `fsync` is on), to every synchronous standby's, and, with `confirm=replicas`, to the disk of every
                 standby that streams from it now. A standby that is not attached is not waited for
    MariaDB,     the commit was flushed to the primary's disk (`innodb_flush_log_at_trx_commit=1`, and `sync_binlog=1`
    MySQL        if there is a binary log), and, with `confirm=replicas`, no replica is attached, or semi-synchronous
                 replication is working: at least one replica has it, the one that a failover must choose

`confirm=primary` leaves the replicas out: an end may then be lost by a failover to a replica that lags, and is still
called confirmed. Only what was looked at is claimed: what may not be looked at makes an end unconfirmed. PostgreSQL
shows how far standbys are to members of `pg_monitor` alone.
"""

from __future__ import annotations

from typing import Final

from .link import Link

PATIENCE: Final = 1.0  # seconds that an end waits for replicas

# Logical replication feeds other systems; nobody fails over to them.
_POSTGRESQL: Final = """SELECT current_setting('fsync'), pg_current_wal_insert_lsn()::text, (
    SELECT count(*) FROM pg_stat_replication AS standby
    WHERE (state IS NULL OR state IN ('streaming', 'catchup'))
    AND (flush_lsn IS NULL OR flush_lsn < coalesce({target}::pg_lsn, pg_current_wal_insert_lsn()))
    AND NOT EXISTS (SELECT 1 FROM pg_replication_slots AS slot
        WHERE slot.active_pid = standby.pid AND slot.slot_type = 'logical'))"""
_MYSQL: Final = "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog"
_MYSQL_REPLICAS: Final = """SHOW GLOBAL STATUS WHERE Variable_name IN
    ('Slaves_connected', 'Rpl_semi_sync_master_status', 'Rpl_semi_sync_source_status')"""


def look(link: Link, target: str | None, *, replicas: bool) -> tuple[bool | None, str | None]:
    """Tell whether what was committed is as durable as it can be: yes, no, or not yet (None).

    `target` is the position in the log that replicas must have reached: what an earlier look returned beside it.
    """
    if link.queries.postgresql:
        return _look_postgresql(link, target, replicas=replicas)
    return _look_mysql(link, replicas=replicas), None


def _look_postgresql(link: Link, target: str | None, *, replicas: bool) -> tuple[bool | None, str | None]:
    # The position comes from the server itself: hexadecimal digits and a slash.
    literal = "NULL" if target is None or set(target) - set("0123456789ABCDEF/") else f"'{target}'"
    fsync, position, behind = link.fetch_text(_POSTGRESQL.format(target=literal))[0]
    if fsync != "on":
        return False, None
    return (None if replicas and behind else True), target or position


def _look_mysql(link: Link, *, replicas: bool) -> bool:
    flush, binary_log, sync_binary_log = link.fetch_text(_MYSQL)[0]
    if int(flush) != 1 or (int(binary_log) and int(sync_binary_log) != 1):
        return False
    if not (replicas and int(binary_log)):
        return True
    status = dict(tuple(row) for row in link.fetch_text(_MYSQL_REPLICAS))
    if "ON" in (status.get("Rpl_semi_sync_master_status"), status.get("Rpl_semi_sync_source_status")):
        return True
    return status.get("Slaves_connected") == "0"
