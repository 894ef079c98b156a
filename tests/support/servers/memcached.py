"""memcached."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager

from tests.support.ports import free_port

from .process import Folder, Server, program


@contextmanager
def memcached_server(*arguments: str, megabytes: int = 64) -> Generator[Server]:
    """Run a memcached with so much memory."""
    port = free_port()

    def ready() -> bool:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"version\r\n")
            return connection.recv(64).startswith(b"VERSION")

    command = [program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", str(megabytes), *arguments]
    if os.geteuid() == 0:
        command += ["-u", "root"]
    with Folder("memcached") as folder:
        server = Server(command, port=port, folder=folder, url=f"memcached://127.0.0.1:{port}", ready=ready)
        server.start()
        try:
            yield server
        finally:
            server.kill()
