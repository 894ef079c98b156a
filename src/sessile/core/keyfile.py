"""Where token keys come from: the argument, the environment, or, in development only, a file made at first start.

given as        production or shared store     development on an embedded store
argument        used                           used
SESSILE_KEYS    used                           used
nothing         KeyMissing at start            <database>.key, mode 0600, made if absent; memory: a key for this process
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError, KeyMissing
from .keys import KeyRing, generate

ENVIRONMENT: Final = "SESSILE_KEYS"


def ring_for(
    keys: KeyRing | str | None,
    *,
    production: bool,
    key_file: Path | None,
    embedded: bool,
    environ: Mapping[str, str] = os.environ,
) -> KeyRing:
    """Return the ring to use; `key_file` is where a development key may live, None for one that dies with the process.

    Raises:
        KeyMissing: none is configured and this is no place for a development key.
        ConfigurationError: what is configured is no ring, or the key file is not what it should be.
    """
    if isinstance(keys, KeyRing):
        return keys
    written = keys if keys is not None else environ.get(ENVIRONMENT, "")
    if written.strip():
        return KeyRing.parse(written)
    if production or not embedded:
        where = "with production=True" if production else "with a store that other machines share"
        raise KeyMissing(
            f"{where} a token key must be given: run `sessile keygen`, then set {ENVIRONMENT} or pass keys=…"
        )
    return KeyRing.parse(generate(), development=True) if key_file is None else _development_ring(key_file)


def _development_ring(path: Path) -> KeyRing:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise ConfigurationError(f"the development key file {path.name!r} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(generate() + "\n")
    return _read(path)


def _read(path: Path) -> KeyRing:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigurationError(
                f"the key file {path.name!r} can be read by others: chmod 600 it, and make a new key"
            )
        text = _patiently_read(path)
    except OSError as error:
        raise ConfigurationError(f"the key file {path.name!r} cannot be read: {error.strerror}") from error
    if not text.strip():
        raise ConfigurationError(
            f"the key file {path.name!r} is empty: delete it, or put a key from `sessile keygen` into it"
        )
    return KeyRing.parse(text, development=True)


def _patiently_read(path: Path) -> str:
    """Read the file; several processes may start at once, and the one that made it has not yet written into it."""
    for _ in range(20):
        text = path.read_text(errors="replace")
        if text.strip():
            return text
        time.sleep(0.05)
    return ""
