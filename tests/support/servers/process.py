"""One server process: started, frozen, killed and ended by its pid; it dies with the process that started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

_SYSTEM_FOLDERS: Final = ":/usr/sbin:/usr/local/sbin"


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
    path = shutil.which(name, path=os.environ.get("PATH", "") + _SYSTEM_FOLDERS)
    if path is None:
        raise ServerMissing(name)
    return path


class _Starter(threading.Thread):
    """Start every process from one thread, which lives as long as this process.

    The system sends the death signal when the *thread* that started the process ends: a server that a test restarts
    from a thread of its own would end with that thread, or, without the signal, outlive a test run that was killed.
    """

    def __init__(self) -> None:
        super().__init__(name="servers", daemon=True)
        self._orders: SimpleQueue[tuple[list[str], dict[str, Any], Future[subprocess.Popen[bytes]]]] = SimpleQueue()
        self.start()

    def run(self) -> None:
        """Start what is ordered, for ever."""
        while True:
            command, options, answer = self._orders.get()
            try:
                answer.set_result(subprocess.Popen(command, **options))
            except Exception as error:
                answer.set_exception(error)

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process that dies with this one."""
        answer: Future[subprocess.Popen[bytes]] = Future()
        # Not by preexec_fn: between fork and exec of a process with threads, Python code may wait for a lock for ever.
        setpriv = shutil.which("setpriv")
        self._orders.put(([*([setpriv, "--pdeathsig=KILL"] if setpriv else []), *command], options, answer))
        return answer.result()


_STARTERS: Final[dict[int, _Starter]] = {}
_STARTERS_LOCK: Final = threading.Lock()


def _starter() -> _Starter:
    with _STARTERS_LOCK:
        pid = os.getpid()  # a forked child has none of its parent's threads
        if pid not in _STARTERS:
            _STARTERS[pid] = _Starter()
        return _STARTERS[pid]


def _children(pid: int) -> list[int]:
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [int(child) for children in lists for child in children.split()]


def _states(pid: int) -> set[str]:
    """Return the states of a process's threads, as one letter each; none if it is gone."""
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return set()
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


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
        with self._log.open("ab") as log:
            self._process = _starter().popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
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
        """End it and what it started at once, as `kill -9` does."""
        if self._process is None or self._process.poll() is not None:
            return
        family = self._stop_family()
        for pid in family:
            _signal(pid, signal.SIGKILL)
        self._process.wait()
        self._await(lambda: all(_states(pid) <= {"Z", "X"} for pid in family), "it is dead")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, and end it after five seconds if it does not."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self.thaw()
        os.kill(process.pid, number)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def freeze(self) -> None:
        """Stop it and what it started where they are: connections stay open and nothing answers from here on."""
        self._stop_family()

    def thaw(self) -> None:
        """Let it go on."""
        for pid in reversed([self.pid, *_children(self.pid)]):
            _signal(pid, signal.SIGCONT)

    def _stop_family(self) -> list[int]:
        """Stop the process, then its children: once it stands still, it starts no more of them."""
        os.kill(self.pid, signal.SIGSTOP)
        self._await(lambda: _states(self.pid) <= {"T", "Z", "X"}, "it stands still")
        children = _children(self.pid)
        for pid in children:
            _signal(pid, signal.SIGSTOP)
        self._await(lambda: all(_states(pid) <= {"T", "Z", "X"} for pid in children), "its children stand still")
        return [self.pid, *children]

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self._patience
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{Path(self.command[0]).name}: not in time: {what}")
            time.sleep(0.001)

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
