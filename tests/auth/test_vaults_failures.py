"""A vault in SQL when something breaks: it lets nobody in, keeps what it acknowledged, and comes back."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sessile.auth.passwords import Proved
from sessile.auth.vault import Write
from sessile.core.bridge import drive
from sessile.errors import StoreUnavailable
from sessile.testing.vault_contract import put, there
from tests.auth.factor_bench import GOOD, FactorBench
from tests.auth.vault_bench import lent, migrated, opened, run
from tests.stores.sql_databases import Database, Kind, doors, frozen, kinds
from tests.stores.test_sql_failures import Cutting, await_waiter, end_backends
from tests.stores.test_sql_transport import certificate
from tests.support.requirements import requirement
from tests.support.servers import Server, mariadb, postgres


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Start a server that may be stopped, and that keeps what it acknowledged (PostgreSQL only if it is asked to)."""
    with postgres() if request.param == "postgresql" else mariadb(durable=True) as server:
        yield server


@pytest.fixture
def own(own_server: Server) -> Iterator[Database]:
    """Lend a database of that server, which runs again when the test begins."""
    if not own_server.is_running:
        own_server.start()
    made = Database(own_server)
    migrated(made)
    yield made
    if own_server.is_running:
        made.drop()


@requirement("R45", "R91")
@doors
def test_a_server_that_is_gone_fails_every_verb_and_is_found_again(own: Database, blocking: bool) -> None:
    """Killed right after a code was used up: it stays used, although the server acknowledges sooner by default."""

    async def main() -> None:
        vault = opened(own, "timeout=2", blocking=blocking)
        code, count = await put(vault, "code", b"secret", "ada", 5.0), await put(vault, "count", b"1", "ada")
        assert await vault.write(Write("code", None, code.version), Write("count", b"2", count.version, "ada"))
        # At once, as a crash would: PostgreSQL's children end by themselves then.
        own.server.stop(signal.SIGQUIT if own.kind == "postgresql" else signal.SIGKILL)
        for verb in (
            lambda: vault.get("code"),
            lambda: vault.write(Write("code", None, code.version)),
            lambda: vault.of_user("ada"),
            lambda: vault.forget_user("ada"),
            lambda: vault.sweep(9.0, 1),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                await verb()
            said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
            assert not [word for word in ("ada", "127.0.0.1", "secret", "code") if word in said]
        own.server.start()
        assert await vault.get("code") is None
        assert [(item.key, item.value) for item in await vault.of_user("ada")] == [("count", b"2")]
        await put(vault, "code")
        await vault.close()

    run(blocking, main())


@requirement("R45")
@doors
def test_a_server_that_hangs_costs_each_verb_its_budget(own: Database, blocking: bool) -> None:
    """All its processes are stopped; connections stay open and nothing answers. Thawed, all or nothing was done."""

    async def main() -> None:
        vault = opened(own, "timeout=0.5", blocking=blocking)
        one, two = await put(vault, "one", b"old"), await put(vault, "two", b"old")
        with frozen(own.server):
            for verb in (
                lambda: vault.write(Write("one", b"new", one.version), Write("two", b"new", two.version)),
                lambda: vault.get("one"),
            ):
                start = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await verb()
                assert time.monotonic() - start < 20
        await vault.close()
        again = opened(own, blocking=blocking)
        found = [(await there(again, key)).value for key in ("one", "two")]
        assert found in ([b"old"] * 2, [b"new"] * 2)
        await again.close()

    run(blocking, main())


@kinds
@doors
@pytest.mark.parametrize("deliver", [False, True], ids=["lost", "delivered"])
@requirement("R45")
def test_a_commit_whose_answer_is_lost_is_an_error_and_never_half_done(
    kind: Kind, blocking: bool, deliver: bool
) -> None:
    """Nobody passes, and the write is not repeated: if it was done, the code is used up, and all else with it."""

    async def main(made: Database, cutting: Cutting) -> None:
        vault = opened(made, "timeout=5", blocking=blocking, port=cutting.port)
        code, count = await put(vault, "code"), await put(vault, "count", b"1")
        cutting.deliver, cutting.words = deliver, b"COMMIT\0" if kind == "postgresql" else b"\x03COMMIT"
        with pytest.raises(StoreUnavailable):
            await vault.write(Write("code", None, code.version), Write("count", b"2", count.version))
        assert cutting.cut == 1
        expected = (None, b"2") if deliver else (code, b"1")
        deadline = time.monotonic() + 30
        while True:  # the server may still be busy with what it was sent
            seen = await vault.get("code"), (await there(vault, "count")).value
            if seen == expected:
                break
            assert time.monotonic() < deadline, seen
        await vault.close()

    with lent(kind) as made, closing(Cutting(made.server.port)) as cutting:
        run(blocking, main(made, cutting))


@kinds
@doors
def test_a_write_that_loses_its_connection_before_its_commit_is_done_once(kind: Kind, blocking: bool) -> None:
    """The backend is ended while it waits for a row: nothing was committed, so the whole is done again."""

    async def main(made: Database) -> None:
        vault = opened(made, blocking=blocking)
        first, second = await put(vault, "a", b"0"), await put(vault, "b", b"0")
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT name FROM sessile_vault WHERE name = 'b' FOR UPDATE")

            def interrupt() -> None:
                waiter = await_waiter(made)
                made.run(f"SELECT pg_terminate_backend({waiter})" if kind == "postgresql" else f"KILL {waiter}")
                await_waiter(made, other_than=waiter)
                cursor.execute("ROLLBACK")

            thread = threading.Thread(target=interrupt)
            thread.start()
            assert await vault.write(Write("a", b"1", first.version), Write("b", b"1", second.version))
            thread.join()
        assert [(await there(vault, key)).value for key in "ab"] == [b"1", b"1"]
        assert end_backends(made) >= 1
        assert (await there(vault, "a")).value == b"1"  # found out before use
        await vault.close()

    with lent(kind) as made:
        run(blocking, main(made))


@kinds
def test_a_request_that_is_cancelled_leaves_nothing_of_its_write(kind: Kind) -> None:
    """The client went away while it waited for a row; what it had written by then is taken back."""

    async def main(made: Database) -> None:
        vault = opened(made, "pool=1&timeout=30", blocking=False)
        first, second = await put(vault, "a", b"0"), await put(vault, "b", b"0")
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT name FROM sessile_vault WHERE name = 'b' FOR UPDATE")
            writes = Write("a", b"1", first.version), Write("b", b"1", second.version)
            task = asyncio.create_task(vault.write(*writes))
            await asyncio.to_thread(await_waiter, made)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cursor.execute("ROLLBACK")
        assert await there(vault, "a") == first
        assert await vault.write(*writes)
        await vault.close()

    with lent(kind) as made:
        asyncio.run(main(made))


@requirement("R45", "R91")
@doors
def test_who_signs_in_while_the_vault_is_gone_is_let_in_nowhere(own: Database, blocking: bool) -> None:
    """With the right password and the right code; when the server is back, so is the vault."""

    async def main() -> None:
        bench = FactorBench("memory://", own.url(options="timeout=2"), blocking=blocking)
        user = await bench.account()
        browser = bench.browser()
        await browser.run(bench.passwords.sign_in, "ada@site.example", GOOD)
        key = await bench.enrol(browser)
        other = bench.browser()
        assert await other.run(bench.passwords.sign_in, "ada@site.example", GOOD) == Proved(user, False)
        own.server.stop(signal.SIGINT if own.kind == "postgresql" else signal.SIGTERM)
        with pytest.raises(StoreUnavailable):
            await other.run(bench.totp.verify, bench.code(key))
        with pytest.raises(StoreUnavailable):
            await bench.browser().run(bench.passwords.sign_in, "ada@site.example", GOOD)
        assert await other.user() is None
        own.server.start()
        assert (await other.run(bench.totp.verify, bench.code(key))).complete
        assert await other.user() == user
        await bench.close()

    run(blocking, main())


# -- the way to it


@kinds
@requirement("R45", "R48")
def test_the_servers_certificate_is_verified(kind: Kind) -> None:
    """With the right one, TLS; with another, no item is read and nothing is said of it."""
    with tempfile.TemporaryDirectory(prefix="sessile-tls-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        good, key = certificate(folder, "good")
        other, _ = certificate(folder, "other")
        if kind == "postgresql":
            server = postgres("ssl=on", f"ssl_cert_file={good}", f"ssl_key_file={key}")
        else:
            server = mariadb(f"--ssl-cert={good}", f"--ssl-key={key}")
        options = "migrate=auto&" + ("sslmode=verify-full&sslrootcert={}" if kind == "postgresql" else "ssl_ca={}")
        with server as running:
            made = Database(running)
            vault = opened(made, options.format(good))
            drive(put(vault, "k"))
            [transport] = [one for one in drive(vault.diagnose()) if one.code == "sql-transport"]
            assert (transport.severity, transport.found) == ("ok", "TLS")
            drive(vault.close())
            vault = opened(made, options.format(other))
            with pytest.raises(StoreUnavailable) as caught:
                drive(vault.get("k"))
            assert "certificate" not in str(caught.value)
            drive(vault.close())
