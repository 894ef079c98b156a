"""PostgreSQL and MariaDB, with durability switched off where no test needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

from .process import Folder, Server, program

_POSTGRES = ("/usr/lib/postgresql/*/bin",)


def _as_somebody(folder: Path) -> list[str]:
    """Return the words that run a program as somebody else than root, who then owns the folder."""
    if os.geteuid() != 0:
        return []
    import pwd

    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [program("setpriv"), *ids, "--pdeathsig=KILL"]


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[-1]).name} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


@contextmanager
def postgres(*settings: str, durable: bool = False) -> Generator[Server]:
    """Run a PostgreSQL with the database `sessile`; `settings` are `name=value` of postgresql.conf."""
    with Folder("postgres") as folder:
        prefix = _as_somebody(folder)
        data, port = folder / "data", free_port()
        initdb = program("initdb", folders=_POSTGRES)
        setup = ["--username=sessile", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", str(data)]
        _run([*prefix, initdb, *setup], folder)
        quick = () if durable else ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
        chosen = [
            f"port={port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
            "max_connections=200",
            "shared_buffers=64MB",
            *quick,
            *settings,
        ]
        command = [*prefix, program("postgres", folders=_POSTGRES), "-D", str(data)]
        for one in chosen:
            command += ["-c", one]

        def ready() -> bool:
            import psycopg

            with psycopg.connect(
                host="127.0.0.1", port=port, user="sessile", dbname="postgres", autocommit=True, connect_timeout=2
            ) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'sessile'").fetchone()
                if found is None:
                    connection.execute("CREATE DATABASE sessile")
            return True

        url = f"postgresql://sessile@127.0.0.1:{port}/sessile"
        server = Server(command, port=port, folder=folder, url=url, ready=ready)
        server.start()
        try:
            yield server
        finally:
            server.stop(2)  # SIGINT: fast shutdown, its children end with it
            server.kill()


@contextmanager
def mariadb(*settings: str, durable: bool = False) -> Generator[Server]:
    """Run a MariaDB with the database `sessile`; `settings` are options of mariadbd."""
    with Folder("mariadb") as folder:
        data, port = folder / "data", free_port()
        root = ["--user=root"] if os.geteuid() == 0 else []
        installer = program("mariadb-install-db")
        made = [
            "--no-defaults",
            f"--datadir={data}",
            f"--tmpdir={folder}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        _run([installer, *made, *root], folder)
        quick = [] if durable else ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"]
        command = [
            program("mariadbd"),
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={folder / 's'}",
            f"--tmpdir={folder}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--max-connections=200",
            "--innodb-buffer-pool-size=64M",
            "--skip-log-bin",
            *root,
            *quick,
            *settings,
        ]

        def ready() -> bool:
            with _connected(port) as connection, connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE IF NOT EXISTS sessile CHARACTER SET utf8mb4")
                cursor.execute("CREATE USER IF NOT EXISTS 'sessile'@'127.0.0.1' IDENTIFIED BY 'sessile'")
                cursor.execute("GRANT ALL ON *.* TO 'sessile'@'127.0.0.1'")
            return True

        url = f"mariadb://sessile:sessile@127.0.0.1:{port}/sessile"
        server = Server(command, port=port, folder=folder, url=url, ready=ready, patience=60)
        server.start()
        try:
            yield server
        finally:
            server.kill()
            shutil.rmtree(data, ignore_errors=True)


def _connected(port: int) -> Any:
    import pymysql

    return pymysql.connect(host="127.0.0.1", port=port, user="root", connect_timeout=2, autocommit=True)
