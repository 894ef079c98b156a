"""Vaults in memory and in files, held to the contract through both doors; which URLs name a vault."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from sessile.auth.vault import Vault, Write
from sessile.auth.vaults import open_vault
from sessile.core.bridge import drive
from sessile.errors import ConfigurationError, StoreError, StoreSchema, StoreUnavailable
from sessile.testing import VaultContract
from tests.support.requirements import requirement


class TestMemoryBlocking(VaultContract):
    """The contract in memory, driven by threads."""

    blocking = True

    def open_vault(self) -> Vault:
        """Open an empty one."""
        return open_vault("memory://", blocking=self.blocking)


class TestMemoryAsync(TestMemoryBlocking):
    """The contract in memory, driven by an event loop."""

    blocking = False


class TestSqliteBlocking(VaultContract):
    """The contract on SQLite, driven by threads."""

    blocking = True

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path

    def open_vault(self) -> Vault:
        """Open an empty one."""
        return open_vault(f"sqlite:///{self.place}/v.db?wait=30", blocking=self.blocking)


class TestSqliteAsync(TestSqliteBlocking):
    """The contract on SQLite, driven by an event loop."""

    blocking = False


# -- files and memory


@requirement("R45")
def test_a_file_that_is_damaged_fails(tmp_path: Path) -> None:
    """Never "there is no such item"."""
    (tmp_path / "other.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError):
        drive(open_vault(f"sqlite:///{tmp_path}/other.db", blocking=True).get("k"))


def test_a_file_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    """Of sessions, too."""
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE users (name TEXT)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises((StoreSchema, ConfigurationError)):
        drive(open_vault(f"sqlite:///{path}", blocking=True).get("k"))
    assert path.read_bytes() == before


@requirement("R45", "R91")
def test_a_forked_child_does_not_take_its_copy_of_the_memory_for_the_vault() -> None:
    """A code that its parent has taken would be good there: every verb fails, and the parent goes on."""
    vault = open_vault("memory://", blocking=True)
    drive(vault.write(Write("k", b"", 0)))

    def child() -> None:
        for verb in (vault.get("k"), vault.write(Write("k", None, 1)), vault.of_user("ada"), vault.forget_user("ada")):
            with pytest.raises(StoreUnavailable, match="of one process"):
                drive(verb)

    one = multiprocessing.get_context("fork").Process(target=child)
    one.start()
    one.join(30)
    assert one.exitcode == 0
    assert drive(vault.get("k")) is not None


# -- URLs

WRONG = [
    *("redis://host", "no url", "postgres://host/db", "postgresql+psycopg://host/db"),
    *("memory://?a=b", "memory://host", "memory:///path"),
    *("sqlite://", "sqlite://host/x", "sqlite:///v.db?nothing=1", "sqlite:///:memory:", "sqlite:///"),
    *("postgresql://host", "postgresql://host/", "mariadb:///db", "mysql://a,b/db", "postgresql://host:0/db"),
    *("postgresql://host/db?confirm=primary", "postgresql://host/db?timeout=0", "mariadb://host/db?pgbouncer=yes"),
    *("postgresql://host/db?prefix=a;b", "mariadb://host/db?sslmode=require", "postgresql://host/db?ssl_ca=x"),
]


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
def test_wrong_urls_are_refused(url: str, blocking: bool) -> None:
    """When the vault is opened, and not when somebody signs in."""
    with pytest.raises(ConfigurationError):
        open_vault(url, blocking=blocking)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hunter1:hunter2@host:hunter3/db",
        "mariadb://hunter1:hunter2@host/hunter3?nothing=hunter4",
        "mysql://hunter1:hunter2@host/",
        "nothing://hunter1:hunter2@host/hunter3",
    ],
)
def test_an_error_shows_nothing_of_the_url(url: str) -> None:
    """Passwords are in it."""
    with pytest.raises(ConfigurationError) as caught:
        open_vault(url, blocking=True)
    assert "hunter" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb", "mysql"])
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
@requirement("R45")
def test_opening_waits_for_nobody_and_the_first_verb_says_who_is_missing(scheme: str, blocking: bool) -> None:
    """Of the vault, and without its address."""
    import asyncio

    vault = open_vault(f"{scheme}://hunter1:hunter2@127.0.0.1:1/hunter3?timeout=2", blocking=blocking)
    assert getattr(vault, "blocking", None) is blocking
    with pytest.raises(StoreUnavailable, match="vault's database") as caught:
        drive(vault.get("k")) if blocking else asyncio.run(vault.get("k"))  # type: ignore[func-returns-value]
    said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "hunter" not in said
    assert "127.0.0.1" not in said
