"""What every vault must do: all writes or none, each over what was read, once."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sessile.auth.vault import Item, Vault, Write, living, settle
from sessile.auth.vaults import open_vault
from sessile.core.bridge import drive
from sessile.errors import ConfigurationError, StoreError, StoreSchema, StoreUnavailable
from tests.support.requirements import requirement

T = TypeVar("T")
DOORS = [(kind, blocking) for kind in ("memory", "sqlite") for blocking in (True, False)]


class Bench:
    """Hold a vault, and run its verbs through its door."""

    def __init__(self, url: str, *, blocking: bool) -> None:
        self.vault: Vault = open_vault(url, blocking=blocking)
        self._runner = None if blocking else asyncio.Runner()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end."""
        return drive(coroutine) if self._runner is None else self._runner.run(coroutine)

    def get(self, key: str) -> Item | None:
        """Return what stands there."""
        return self.run(self.vault.get(key))

    def put(self, key: str, value: bytes | None, version: int = 0, user: str | None = None, **more: Any) -> bool:
        """Write one item."""
        return self.run(self.vault.write(Write(key, value, version, user, **more)))

    def close(self) -> None:
        """Close it, and the loop."""
        self.run(self.vault.close())
        if self._runner is not None:
            self._runner.close()


@pytest.fixture(params=DOORS, ids=lambda one: f"{one[0]}-{'blocking' if one[1] else 'async'}")
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Return each vault, behind each door."""
    kind, blocking = request.param
    made = Bench("memory://" if kind == "memory" else f"sqlite:///{tmp_path}/v.db", blocking=blocking)
    yield made
    made.close()


def test_an_item_is_what_was_written_last(bench: Bench) -> None:
    """With its user and its time; gone when it was removed."""
    assert bench.get("k") is None
    assert bench.put("k", b"\x00\xff", user="ada", expires_at=5.0)
    first = bench.get("k")
    assert first is not None
    assert first._replace(version=0) == Item("k", b"\x00\xff", 0, "ada", 5.0)
    assert first.version != 0
    assert bench.put("k", b"", first.version)
    second = bench.get("k")
    assert second is not None
    assert (second.value, second.user, second.expires_at) == (b"", None, None)
    assert bench.put("k", None, second.version)
    assert bench.get("k") is None


def test_a_write_over_what_was_not_read_does_nothing(bench: Bench) -> None:
    """Neither over another version, nor over something where nothing was read, nor over nothing."""
    bench.put("k", b"1")
    item = bench.get("k")
    assert item is not None
    assert not bench.put("k", b"2")
    assert not bench.put("k", b"2", item.version + 1)
    assert not bench.put("k", None, item.version + 1)
    assert not bench.put("other", b"2", item.version)
    assert not bench.put("other", None, item.version)
    assert bench.get("k") == item
    assert bench.get("other") is None


def test_what_was_removed_and_put_again_is_not_what_was_read(bench: Bench) -> None:
    """Whoever read the first one must not take the second one for it."""
    bench.put("k", b"same")
    first = bench.get("k")
    assert first is not None
    bench.put("k", None, first.version)
    bench.put("k", b"same")
    assert not bench.put("k", b"stale", first.version)
    second = bench.get("k")
    assert second is not None
    assert (second.value, second.version == first.version) == (b"same", False)


def test_all_writes_are_carried_out_or_none(bench: Bench) -> None:
    bench.put("b", b"there")
    assert not bench.run(bench.vault.write(Write("a", b"1", 0), Write("b", b"2", 0), Write("c", b"3", 0)))
    assert (bench.get("a"), bench.get("c")) == (None, None)
    present = bench.get("b")
    assert present is not None
    assert bench.run(bench.vault.write(Write("a", b"1", 0), Write("b", None, present.version), Write("c", b"3", 0)))
    assert [bench.get(key) is not None for key in "abc"] == [True, False, True]


@requirement("R99")
def test_a_users_items_are_found_and_forgotten(bench: Bench) -> None:
    """By their beginning, whatever signs are in it; another user's stay."""
    ada, odd = "ada", "a%da_\N{SNOWMAN}"
    for key in ("key:1", "key:2", "keys:3", "k_y:4"):
        bench.put(key, b"", user=ada)
    bench.put("key:9", b"", user=odd)
    assert [item.key for item in bench.run(bench.vault.of_user(ada, "key:"))] == ["key:1", "key:2"]
    assert [item.key for item in bench.run(bench.vault.of_user(ada, "k_y"))] == ["k_y:4"]
    assert len(bench.run(bench.vault.of_user(ada))) == 4
    assert bench.run(bench.vault.of_user("a%")) == ()
    assert bench.run(bench.vault.forget_user(ada)) == 4
    assert bench.run(bench.vault.of_user(ada)) == ()
    assert [item.key for item in bench.run(bench.vault.of_user(odd))] == ["key:9"]


def test_what_has_expired_is_there_until_it_is_swept_and_counts_as_gone(bench: Bench) -> None:
    for number in range(5):
        bench.put(f"k{number}", b"", expires_at=float(number))
    bench.put("stays", b"")
    old = bench.get("k1")
    assert (living(old, 1.0), living(old, 0.5)) == (None, old)
    assert bench.run(bench.vault.sweep(2.0, 2)) == 2
    assert bench.run(bench.vault.sweep(2.0, 10)) == 1
    assert bench.run(bench.vault.sweep(2.0, 10)) == 0
    assert [bench.get(f"k{number}") is None for number in range(5)] == [True, True, True, False, False]
    assert bench.get("stays") is not None


def test_a_decision_goes_over_what_has_expired(bench: Bench) -> None:
    bench.put("k", b"old", expires_at=1.0)
    seen, _ = bench.run(settle(bench.vault, "k", lambda item: (item, Write("k", b"new", 0)), now=2.0))
    assert seen is None
    item = bench.get("k")
    assert item is not None
    assert item.value == b"new"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_of_many_threads_one_takes_an_item(kind: str, tmp_path: Path) -> None:
    """Twenty items, eight takers each: twenty successes; and a counter loses no step."""
    vault = open_vault("memory://" if kind == "memory" else f"sqlite:///{tmp_path}/v.db", blocking=True)
    for number in range(20):
        drive(vault.write(Write(f"k{number}", b"", 0)))
    start = threading.Barrier(8)

    def take(_: int) -> int:
        start.wait()
        taken = 0
        for number in range(20):
            item = drive(vault.get(f"k{number}"))
            taken += item is not None and drive(vault.write(Write(item.key, None, item.version)))

            def one_more(found: Item | None) -> tuple[None, Write]:
                return None, Write("count", str(int(found.value if found else b"0") + 1).encode(), 0)

            drive(settle(vault, "count", one_more, now=0.0))
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 20
    counted = drive(vault.get("count"))
    assert counted is not None
    assert counted.value == b"160"
    drive(vault.close())


TAKER = """
import sys
from sessile.auth.vault import Write
from sessile.auth.vaults import open_vault
from sessile.core.bridge import drive
vault = open_vault(sys.argv[1], blocking=True)
print("ready", flush=True)
sys.stdin.readline()
taken = 0
for number in range(50):
    item = drive(vault.get(f"k{number}"))
    taken += item is not None and drive(vault.write(Write(item.key, None, item.version)))
print(taken)
"""


@pytest.mark.slow
def test_of_several_processes_one_takes_an_item(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/v.db"
    vault = open_vault(url, blocking=True)
    for number in range(50):
        drive(vault.write(Write(f"k{number}", b"", 0)))
    command = [sys.executable, "-c", TAKER, url]
    takers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for taker in takers:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "ready\n"
    done = 0
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("\n")
        taker.stdin.flush()
    for taker in takers:
        done += int(taker.communicate(timeout=60)[0])
    assert done == 50
    drive(vault.close())


@requirement("R45")
def test_a_vault_that_is_closed_or_damaged_fails_and_says_no_more(tmp_path: Path) -> None:
    """Never "there is no such item"."""
    for url in ("memory://", f"sqlite:///{tmp_path}/v.db"):
        vault = open_vault(url, blocking=True)
        drive(vault.write(Write("k", b"secret", 0)))
        drive(vault.close())
        drive(vault.close())
        for verb in (vault.get("k"), vault.write(Write("k", None, 1)), vault.of_user("ada"), vault.sweep(0, 1)):
            with pytest.raises(StoreUnavailable):
                drive(verb)
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


@pytest.mark.parametrize(
    "url", ["redis://host", "sqlite://", "sqlite://host/x", "sqlite:///v.db?nothing=1", "memory://?a=b", "no url"]
)
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_vault(url, blocking=True)
