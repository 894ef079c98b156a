"""Checks of what is kept: keys, sessions, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...core.policy import duration
from ..deployment import Deployment, FileFacts, StoreFacts
from .finding import Finding

_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
_STICKY: Final = 0o1000
_NETWORKED: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4"}
    | {"smb3", "smbfs", "vboxsf"}
)
_RING_IS_LONG: Final = 3


def keys(deployment: Deployment) -> Iterator[Finding]:
    """Look at where the token keys come from."""
    keys = deployment.keys
    if keys is None:
        yield Finding(
            "fail",
            "key-missing",
            "R10",
            "no token key is configured",
            "With production on, or a store that machines share, the application refuses to start.",
            "Run `sessile keygen`, and set SESSILE_KEYS.",
        )
        return
    if keys.development:
        yield Finding(
            "fail" if deployment.production else "warn",
            "development-key",
            "R10",
            "the token key is a development key",
            "Nobody configured it: other processes may not have it, and a restart may lose it.",
            "Run `sessile keygen`, and set SESSILE_KEYS.",
        )
    else:
        yield Finding("ok", "key", "R10", "a token key is configured")
    if keys.file is not None:
        yield from _private(keys.file, "key-file", "R10", "can sign session tokens", "and make a new key")
    if len(keys.ids) > _RING_IS_LONG:
        yield Finding(
            "warn",
            "old-keys",
            "R10",
            f"the ring holds {len(keys.ids)} keys",
            "All of them verify; whoever still has an old one can use it.",
            f"Drop keys that were replaced more than {duration(deployment.policy.absolute)} ago.",
        )


def store(deployment: Deployment) -> Iterator[Finding]:
    """Look at where sessions are kept."""
    store = deployment.store
    if store.kind == "memory":
        yield from _memory(deployment)
    elif store.kind == "sqlite":
        yield from _sqlite(store)
    yield from (Finding(*one) for one in store.diagnoses)
    powers = (
        ("index", "user-index", "R62", "an index of users", "Nobody can be signed out everywhere."),
        ("epochs", "epochs", "R64", "a way to end everything", "After a break-in, nothing ends all sessions."),
        ("census", "census", "R64", "a listing", "Operators cannot find a session."),
    )
    for power, code, requirement, what, means in powers:
        if power in store.lacks:
            yield Finding("warn", code, requirement, f"the store has not {what}", means, "Choose a store that has it.")


def _private(file: FileFacts, code: str, requirement: str, power: str, then: str = "") -> Iterator[Finding]:
    if file.mode is None:
        return
    if file.mode & _OTHERS:
        yield Finding(
            "fail",
            f"{code}-mode",
            requirement,
            f"{file.name} has mode {file.mode & 0o777:04o}",
            f"Other users of this machine can read it; whoever does {power}.",
            " ".join(filter(None, [f"chmod 600 {file.name}", then])) + ".",
        )
    elif not file.owner_is_us:
        yield Finding(
            "warn",
            f"{code}-owner",
            requirement,
            f"{file.name} belongs to another user",
            f"Its owner {power}.",
            "Let the user that runs the application own it.",
        )
    else:
        yield Finding("ok", f"{code}-mode", requirement, f"{file.name} is private")


def _memory(deployment: Deployment) -> Iterator[Finding]:
    several = (deployment.workers or 1) > 1
    if deployment.production or several:
        found = f"sessions are in memory, and there are {deployment.workers} workers" if several else ""
        yield Finding(
            "fail",
            "memory-store",
            "R61",
            found or "sessions are in the memory of one process",
            "A restart signs everybody out; another worker knows neither a sign-in nor an end.",
            "Use sqlite:///sessions.db on one machine, redis:// or postgresql:// on several.",
        )
    else:
        yield Finding("ok", "memory-store", "R61", "sessions are in the memory of one process, for development")


def _sqlite(store: StoreFacts) -> Iterator[Finding]:
    yield from _database(store, "database", "can read what sessions hold", "an ended session may come back")
    if store.journal not in ("", "wal"):
        yield Finding(
            "warn",
            "database-journal",
            "R43",
            f"the database is in journal mode {store.journal}",
            "Readers wait for writers until the application has opened it, which switches WAL mode on.",
            "Start the application once; if this stays, the file system does not support WAL.",
        )


def vault(store: StoreFacts) -> Iterator[Finding]:
    """Look at where what belongs to users is kept."""
    if store.kind == "memory":
        yield Finding(
            "warn",
            "vault-memory",
            "R91",
            "the vault is in the memory of one process",
            "A restart forgets every password and key, and another worker knows none of them.",
            "Use sqlite:///accounts.db on one machine, postgresql:// or mariadb:// on several.",
        )
    elif store.kind == "sqlite":
        reads = "can read who has an account and how they sign in"
        yield from _database(store, "vault", reads, "a code that was used may be good again")
    for one in store.diagnoses:
        yield Finding(*one._replace(code=f"vault-{one.code}"))


def _database(store: StoreFacts, code: str, reads: str, again: str) -> Iterator[Finding]:
    for file in store.files:
        yield from _private(file, code, "R99", reads)
    database = store.files[0] if store.files else None
    if database is not None:
        folder = database.folder_mode
        if folder is not None and folder & _OTHERS_WRITE and not folder & _STICKY:
            yield Finding(
                "fail",
                f"{code}-folder",
                "R46",
                f"others can write to the folder of {database.name}",
                "They can put another database in its place, with what they like in it.",
                "Give the database a folder with mode 700.",
            )
        if database.filesystem in _NETWORKED:
            yield Finding(
                "fail",
                f"{code}-network",
                "R42",
                f"{database.name} is on a network share ({database.filesystem})",
                f"SQLite cannot lock it reliably: {again}, the file may be damaged.",
                "Keep it on a local disk.",
            )
