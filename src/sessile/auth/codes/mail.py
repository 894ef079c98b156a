"""Who delivers: a port, and two senders for development."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol


class Mailer(Protocol):
    """Deliver a message. It is called in a thread of its own, so that nobody can tell by the clock whether it was."""

    def send(self, to: str, subject: str, text: str) -> None:
        """Deliver, or raise: an exception is told to the sinks as "not delivered", and its text to nobody."""
        ...


class ConsoleMailer:
    """Print messages: for development. `write` takes the text (standard error)."""

    def __init__(self, write: Callable[[str], object] = sys.stderr.write) -> None:
        self._write = write

    def send(self, to: str, subject: str, text: str) -> None:
        """Print the message."""
        self._write(f"--- to {to}: {subject}\n{text}\n---\n")


class FileMailer:
    """Write each message to a file of its own in a folder, readable by its owner alone: for development and tests."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def send(self, to: str, subject: str, text: str) -> None:
        """Write the message."""
        message = EmailMessage()
        message["To"], message["Subject"] = to, subject
        message.set_content(text)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{time.time_ns()}-{secrets.token_hex(4)}.eml"
        part = path.with_suffix(".part")  # who watches the folder must not read half a message
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(message))
        part.rename(path)
