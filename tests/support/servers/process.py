"""One server process: started, frozen, killed and ended by its pid; it dies with the process that started it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class ServerMissing(RuntimeError):
    """Say that a server's program is not installed, and what installs it."""

    def __init__(self, program: str) -> None:
        super().__init__(f"{program} is not installed: run `make setup`, or `tools/system servers` as root")


def program(name: str, *, folders: Sequence[str] = ()) -> str:
    """Return the path of a program, looked for in `folders` first.

    Raises:
        ServerMissing: it is not there.
    """
    for folder in folders:
        found = sorted(Path("/").glob(f"{folder.lstrip('/')}/{name}"))
        if found:
            return str(found[-1])
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise ServerMissing(name)
    return path


def _dies_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """Hold a server process that can be killed, frozen and started again on the same port and directory."""

    host = "127.0.0.1"

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        folder: Path,
        url: str,
        ready: Callable[[], bool],
        patience: float = 30,
    ) -> None:
        self.command = list(command)
        self.port = port
        self.folder = folder
        self.url = url
        self._ready = ready
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "server.log"

    @property
    def pid(self) -> int:
        """Return the pid of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Tell whether the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the process, and wait until it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time; the message holds the end of its log.
        """
        # The death signal follows the thread that forks: only the main thread lives as long as the process.
        on_main = threading.current_thread() is threading.main_thread()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=_dies_with_parent if on_main else None,  # noqa: PLW1509 (the child makes one system call)
            )
        if wait:
            self.await_ready()

    def await_ready(self) -> None:
        """Wait until the server answers.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                if self._ready():
                    return
            except Exception as error:  # whatever its client raises while it is not there yet
                last: object = error
            else:
                last = "not ready"
            if not self.is_running or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-1500:]
                raise RuntimeError(f"{Path(self.command[0]).name} did not start ({last}):\n{tail}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, and end it after five seconds if it does not."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, number)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def freeze(self) -> None:
        """Stop it where it is: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """End it if it runs, and start it again."""
        self.stop()
        self.start()


class Folder:
    """Be a temporary directory that others may enter (a database does not run as root)."""

    def __init__(self, name: str) -> None:
        self._held = tempfile.TemporaryDirectory(prefix=f"sessile-{name}-", ignore_cleanup_errors=True)
        self.path = Path(self._held.name)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self._held.cleanup()
