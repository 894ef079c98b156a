"""What remembers the ends of sessions that live in cookies: one contract, for memory, SQLite and Redis, both doors."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from sessile.core.bridge import drive
from sessile.core.ports import Claim, Gone, Marks, Revocations
from sessile.core.record import EndReason, Tombstone
from sessile.errors import ConfigurationError, StoreError, StoreSchema, StoreUnavailable
from sessile.stores.cookie import open_revocations
from sessile.testing.store_contract import new_id
from tests.support.requirements import requirement
from tests.support.servers import redis_sentinel_set, redis_server, shared
from tests.support.servers.replicated import until

T = TypeVar("T")
NOW = 1_800_000_000.0


def tombstone(reason: EndReason = EndReason.LOGOUT, at: float = NOW, kept: float = 3600.0) -> Tombstone:
    """Return a mark."""
    return Tombstone(reason, at, at + kept, None)


class Contract:
    """Say what every backend must do."""

    blocking: ClassVar[bool]

    def url(self) -> str:
        """Return the URL of an empty place."""
        raise NotImplementedError

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end, through the door that is tested."""
        return drive(coroutine) if self.blocking else self._runner.run(coroutine)

    @pytest.fixture(autouse=True)
    def _opened(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        self.ends: Revocations
        with asyncio.Runner() as self._runner:
            self.where = self.url()
            self.ends = open_revocations(self.where, blocking=self.blocking)
            yield
            self.run(self.ends.close())

    def issued(self, user: str | None = None) -> Claim:
        """Return a session that was issued now."""
        marks = self.run(self.ends.begin(user))
        assert isinstance(marks, Marks)
        return Claim(new_id(), user, *marks)

    def alive(self, claim: Claim) -> bool:
        """Tell whether a session lives."""
        return self.run(self.ends.check(claim)) is None

    @requirement("R61")
    def test_a_session_lives_until_its_mark(self) -> None:
        """The mark says why; the first one stays; the second end tells that there was nothing to end."""
        mine, other = self.issued("ada"), self.issued("ada")
        assert self.alive(mine)
        assert self.run(self.ends.end(mine.session_id, tombstone(), mine)) == (((mine.session_id, None),), True)
        assert self.run(self.ends.end(mine.session_id, tombstone(EndReason.ADMIN), mine)).ended == ()
        found = self.run(self.ends.check(mine))
        assert found is not None
        assert found.reason is EndReason.LOGOUT
        assert self.alive(other)

    @requirement("R61", "R64")
    def test_a_user_s_sessions_end_together_and_the_next_sign_in_is_in(self) -> None:
        """No clock decides: in the same instant, what was issued before is out and what comes after is in."""
        before, bob, nobody = self.issued("ada"), self.issued("bob"), self.issued()
        for _ in range(3):
            self.run(self.ends.end_user("ada", tombstone(EndReason.USER)))
            after = self.issued("ada")
            assert not self.alive(before)
            assert self.alive(after)
            before = after
        found = self.run(self.ends.check(before._replace(number=0)))
        assert found is not None
        assert found.reason is EndReason.USER
        assert self.alive(bob)
        assert self.alive(nobody)

    @requirement("R61", "R64")
    def test_clocks_that_disagree_change_nothing(self) -> None:
        """One node's clock is an hour behind, another's an hour ahead: the order of the calls counts."""
        ahead = self.issued("ada")
        self.run(self.ends.end_user("ada", tombstone(at=NOW - 3600)))
        behind = self.issued("ada")
        assert (self.alive(ahead), self.alive(behind)) == (False, True)
        self.run(self.ends.end_user("ada", tombstone(at=NOW - 7200)))
        last = self.issued("ada")
        assert (self.alive(ahead), self.alive(behind), self.alive(last)) == (False, False, True)

    @requirement("R64")
    def test_a_session_can_be_kept_and_none_is_brought_back_so(self) -> None:
        """`keep` spares what lives; a session that had ended before stays ended whoever asks to keep it."""
        ended = self.issued("ada")
        self.run(self.ends.end_user("ada", tombstone()))
        mine, other = self.issued("ada"), self.issued("ada")
        for _ in range(3):
            self.run(self.ends.end_user("ada", tombstone(), frozenset({mine.session_id, ended.session_id})))
            assert (self.alive(mine), self.alive(other), self.alive(ended)) == (True, False, False)
        self.run(self.ends.end_user("ada", tombstone()))
        assert not self.alive(mine)

    @requirement("R64")
    def test_everything_ends_in_one_step(self) -> None:
        """Whoever it is of; and the next session is in."""
        claims = [self.issued(), self.issued("ada"), self.issued("bob")]
        self.run(self.ends.end_everything(NOW))
        assert [self.alive(claim) for claim in claims] == [False] * 3
        found = self.run(self.ends.check(claims[0]))
        assert found is not None
        assert found.reason is EndReason.EVERYTHING
        assert self.alive(self.issued("ada"))

    @requirement("R25")
    def test_what_is_replaced_has_ended_in_the_same_step(self) -> None:
        """A renewal needs a live one; of two renewals one succeeds; a sign-in takes over from a dead one, too."""
        old = self.issued("ada")
        renewed = self.run(self.ends.begin("ada", old, tombstone(EndReason.RENEWED), required=True))
        assert isinstance(renewed, Marks)
        assert not self.alive(old)
        again = self.run(self.ends.begin("ada", old, tombstone(EndReason.RENEWED), required=True))
        assert isinstance(again, Gone)
        assert again.tombstone is not None
        assert again.tombstone.reason is EndReason.RENEWED
        assert isinstance(self.run(self.ends.begin("bob", old, tombstone(), required=False)), Marks)
        assert not self.alive(old)

    @requirement("R49")
    def test_nothing_that_has_ended_together_can_be_renewed(self) -> None:
        """Neither a session of a user, nor one of everybody."""
        mine, nobody = self.issued("ada"), self.issued()
        self.run(self.ends.end_user("ada", tombstone()))
        assert isinstance(self.run(self.ends.begin("ada", mine, tombstone(), required=True)), Gone)
        self.run(self.ends.end_everything(NOW))
        assert isinstance(self.run(self.ends.begin(None, nobody, tombstone(), required=True)), Gone)

    def test_what_ended_together_is_not_ended_again(self) -> None:
        """An end of one's own session knows that it came too late, so that it deletes no newer cookie."""
        mine = self.issued("ada")
        self.run(self.ends.end_user("ada", tombstone()))
        assert self.run(self.ends.end(mine.session_id, tombstone(), mine)).ended == ()

    @requirement("R50")
    def test_marks_go_when_nobody_needs_them_and_not_before(self) -> None:
        """Past its time a mark is forgotten; the number of everything never is."""
        gone, kept = self.issued("ada"), self.issued("bob")
        self.run(self.ends.end(gone.session_id, tombstone(kept=1.0), gone))
        self.run(self.ends.end(kept.session_id, tombstone(kept=9999.0), kept))
        self.run(self.ends.sweep(NOW + 0.5, 100))
        assert (self.alive(gone), self.alive(kept)) == (False, False)
        self.forgets(1.0)
        assert (self.alive(gone), self.alive(kept)) == (True, False)

    def forgets(self, after: float) -> None:
        """Let the marks go whose time it is."""
        assert self.run(self.ends.sweep(NOW + after, 100)) == 1
        assert self.run(self.ends.sweep(NOW + after, 100)) == 0

    def test_strange_names_are_names(self) -> None:
        """Users of any text, ids of any text."""
        for name in ("", " ", "ä\u2028", "x" * 5000, "a:b*c{d}", "\x00"):
            mine = self.issued(name)
            assert self.alive(mine)
            self.run(self.ends.end_user(name, tombstone()))
            assert not self.alive(mine)
            self.run(self.ends.end(f"id {name}", tombstone()))

    @requirement("R45")
    def test_closed_it_fails_and_does_not_say_yes(self) -> None:
        """After `close`, every verb is an error."""
        mine = self.issued("ada")
        self.run(self.ends.close())
        for verb in (
            lambda: self.ends.check(mine),
            lambda: self.ends.begin("ada"),
            lambda: self.ends.end(mine.session_id, tombstone()),
            lambda: self.ends.end_user("ada", tombstone()),
            lambda: self.ends.end_everything(NOW),
        ):
            with pytest.raises(StoreError):
                self.run(verb())

    @requirement("R42", "R49")
    def test_a_renewal_that_races_an_end_of_all_leaves_no_survivor(self) -> None:
        """Fifty times: either the renewal came first and its session is out, or it was refused."""
        if self.blocking:
            together: Callable[..., list[Any]] = _in_threads
        else:

            def together(*starts: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
                async def all_of_them() -> list[Any]:
                    return list(await asyncio.gather(*(start() for start in starts)))

                return self._runner.run(all_of_them())

        for _ in range(50):
            old = self.issued("ada")
            renewed, _, again = together(
                lambda old=old: self.ends.begin("ada", old, tombstone(), required=True),
                lambda: self.ends.end_user("ada", tombstone()),
                lambda old=old: self.ends.begin("ada", old, tombstone(), required=True),
            )
            assert not self.alive(old)
            survivors = [one for one in (renewed, again) if isinstance(one, Marks)]
            assert len(survivors) <= 1
            for marks in survivors:
                assert not self.alive(Claim(new_id(), "ada", *marks))


def _in_threads(*starts: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    results: list[Any] = [None] * len(starts)
    gate = threading.Barrier(len(starts))

    def work(place: int, start: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        gate.wait(timeout=30)
        results[place] = drive(start())

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(starts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class _Memory(Contract):
    def url(self) -> str:
        return "memory://"


class TestMemoryBlocking(_Memory):
    """In this process, blocking."""

    blocking = True


class TestMemoryAsync(_Memory):
    """In this process, on an event loop."""

    blocking = False


class _Sqlite(Contract):
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'ends.db'}"

    def test_another_process_sees_every_end(self) -> None:
        """What is opened anew knows what was ended; so does what was open."""
        mine, bob = self.issued("ada"), self.issued("bob")
        second = open_revocations(self.where, blocking=True)
        self.run(self.ends.end(mine.session_id, tombstone(), mine))
        assert drive(second.check(mine)) is not None
        drive(second.end_everything(NOW))
        assert not self.alive(bob)
        drive(second.close())

    @requirement("R45", "R46")
    @pytest.mark.parametrize("table", ["ended", "user"])
    def test_a_damaged_mark_lets_nobody_in(self, table: str) -> None:
        """It may be the end that is asked for."""
        mine = self.issued("ada")
        self.run(self.ends.end(mine.session_id, tombstone(), mine))
        self.run(self.ends.end_user("ada", tombstone()))
        column = "tombstone" if table == "ended" else "mark"
        with closing(sqlite3.connect(self.folder / "ends.db", isolation_level=None, timeout=10)) as connection:
            for nonsense in (b"\xc1", 5, "text"):
                connection.execute(f"UPDATE {table} SET {column} = ?", (nonsense,))
                with pytest.raises(StoreSchema):
                    self.alive(mine)

    @requirement("R61")
    def test_a_lost_file_ends_every_session_instead_of_reviving_the_ended(self) -> None:
        """The number of everything begins anew, as another one."""
        ended, alive = self.issued("ada"), self.issued("bob")
        self.run(self.ends.end(ended.session_id, tombstone(), ended))
        self.run(self.ends.close())
        for file in self.folder.glob("ends.db*"):
            file.unlink()
        self.ends = open_revocations(self.where, blocking=self.blocking)
        assert (self.alive(ended), self.alive(alive)) == (False, False)
        assert self.alive(self.issued("ada"))

    def test_a_database_of_sessions_is_none_of_ends(self) -> None:
        """Each has a file of its own; neither touches the other's."""
        other = f"sqlite:///{self.folder / 'sessions.db'}"
        from sessile.stores import open_store

        store = open_store(other, blocking=True)
        drive(store.load(new_id()))
        ends = open_revocations(other, blocking=True)
        with pytest.raises(StoreSchema):
            drive(ends.begin("ada"))
        drive(ends.close())
        drive(store.close())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_fork_goes_on_with_files_of_its_own(self) -> None:
        """A child ends a session, and its parent sees it."""
        mine = self.issued("ada")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if self.blocking:
                    drive(self.ends.end(mine.session_id, tombstone(), mine))
                else:
                    asyncio.run(self.ends.end(mine.session_id, tombstone(), mine))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert not self.alive(mine)


class TestSqliteBlocking(_Sqlite):
    """In a file, blocking."""

    blocking = True


class TestSqliteAsync(_Sqlite):
    """In a file, on an event loop."""

    blocking = False


class _Redis(Contract):
    kind: ClassVar[str] = "redis"

    def url(self) -> str:
        self.prefix = f"{new_id()}:"
        return f"redis://127.0.0.1:{shared(self.kind).port}?prefix={self.prefix}"

    def forgets(self, after: float) -> None:
        """Wait until the server has forgotten the mark: it counts by its own clock, and so does this."""
        import redis

        with closing(redis.Redis(port=shared(self.kind).port)) as client:
            [short] = [key for key in client.keys(f"{self.prefix}*:e:*") if client.pttl(key) <= 1000]
            client.pexpire(short, 1)
            while client.exists(short):
                pass

    def test_only_numbers_have_no_end(self) -> None:
        """Every mark has a lifetime, so that Redis forgets it by itself; the number of everything has none."""
        import redis

        mine = self.issued("ada")
        self.run(self.ends.end(mine.session_id, tombstone(), mine))
        self.run(self.ends.end_user("ada", tombstone()))
        with closing(redis.Redis(port=shared(self.kind).port)) as client:
            lives = {key.rpartition(b"}:")[2][:1]: client.pttl(key) for key in client.keys(f"{self.prefix}*")}
        assert lives.pop(b"n") == -1
        assert sorted(lives) == [b"e", b"u"]
        assert all(3_500_000 < life <= 3_600_000 for life in lives.values())

    @requirement("R45", "R46")
    def test_a_damaged_mark_lets_nobody_in(self) -> None:
        """It may be the end that is asked for."""
        import redis

        mine = self.issued("ada")
        self.run(self.ends.end(mine.session_id, tombstone(), mine))
        with closing(redis.Redis(port=shared(self.kind).port)) as client:
            for key in client.keys(f"{self.prefix}*:e:*"):
                client.set(key, b"\xc1")
        with pytest.raises(StoreSchema):
            self.alive(mine)

    @requirement("R64")
    def test_an_end_of_everything_that_was_lost_is_not_taken_for_the_next_one(self) -> None:
        """A primary died with it; what was issued under it meanwhile must not come back under the number after."""
        import redis

        with closing(redis.Redis(port=shared(self.kind).port)) as client:
            self.issued()
            [key] = client.keys(f"{self.prefix}*:n")
            for _ in range(5):
                number = client.get(key)
                self.run(self.ends.end_everything(NOW))
                meanwhile = self.issued("ada")
                client.set(key, number)  # the replica that took over had not heard of it
                assert not self.alive(meanwhile)
                self.run(self.ends.end_everything(NOW))
                assert not self.alive(meanwhile)
                assert int(number) < int(client.get(key)) < 2**53

    @requirement("R45", "R46")
    def test_nothing_that_stands_there_is_more_than_a_refusal(self) -> None:
        """Nested without end, or a number of thousands of digits."""
        import redis

        mine = self.issued("ada")
        deep = b"\x91" * 100_000
        self.run(self.ends.end_user("ada", tombstone()))
        with closing(redis.Redis(port=shared(self.kind).port)) as client:
            [key] = client.keys(f"{self.prefix}*:u:*")
            whole = client.get(key)
            client.set(key, whole + deep)
            with pytest.raises(StoreSchema):
                self.alive(mine)
            client.set(key, whole[:8] + deep)
            with pytest.raises(StoreSchema):
                self.alive(mine)
            client.set(key, whole)
            assert not self.alive(mine)
            [number] = client.keys(f"{self.prefix}*:n")
            client.set(number, b"9" * 5000)
            for verb in (self.ends.check(mine), self.ends.begin("ada"), self.ends.end_everything(NOW)):
                with pytest.raises(StoreSchema):
                    self.run(verb)

    @requirement("R45", "R61")
    def test_a_server_that_lost_everything_revives_nobody_and_one_that_is_gone_fails(self) -> None:
        """Flushed: every session is over. Down: an error, not a yes."""
        with redis_server() as server:
            ends = open_revocations(f"redis://127.0.0.1:{server.port}?timeout=0.5", blocking=self.blocking)
            marks = self.run(ends.begin("ada"))
            assert isinstance(marks, Marks)
            mine = Claim(new_id(), "ada", *marks)
            assert self.run(ends.check(mine)) is None
            import redis

            with closing(redis.Redis(port=server.port)) as client:
                client.flushall()
            assert self.run(ends.check(mine)) is not None
        with pytest.raises(StoreUnavailable):
            self.run(ends.check(mine))
        self.run(ends.close())


@pytest.mark.slow
class TestRedisBlocking(_Redis):
    """On a Redis, blocking."""

    blocking = True


@pytest.mark.slow
class TestRedisAsync(_Redis):
    """On a Redis, on an event loop."""

    blocking = False


class _Cluster(Contract):
    def url(self) -> str:
        self.prefix = f"{new_id()}:"
        return f"{shared('cluster').url}?prefix={self.prefix}"

    def forgets(self, after: float) -> None:
        """Wait until the server that holds the marks has forgotten the short one."""
        import redis

        for server in shared("cluster").primaries():
            with closing(redis.Redis(port=server.port)) as client:
                for key in client.keys(f"{self.prefix}*:e:*"):
                    if client.pttl(key) <= 1000:
                        client.pexpire(key, 1)
                        while client.exists(key):
                            pass


@pytest.mark.slow
class TestClusterBlocking(_Cluster):
    """On a cluster of three shards, blocking."""

    blocking = True


@pytest.mark.slow
class TestClusterAsync(_Cluster):
    """On a cluster of three shards, on an event loop."""

    blocking = False


@pytest.mark.slow
@requirement("R51", "R64")
def test_an_end_that_is_repeated_after_a_loss_revives_nobody_whom_another_ended_meanwhile() -> None:
    """A server took over that had not heard of it, and others ended the same there, on a clock that is behind."""
    import redis

    with redis_server(enable_debug_command="yes") as server:
        client: Any = redis.Redis(port=server.port)
        first, second = (open_revocations(f"redis://127.0.0.1:{server.port}?timeout=5", blocking=True) for _ in "ab")

        def issued() -> Claim:
            return Claim(new_id(), "ada", *drive(first.begin("ada")))  # type: ignore[misc]

        def lost(key: bytes, before: bytes) -> None:
            assert client.get(key) != before
            client.set(key, before)

        issued()
        drive(first.end_user("ada", tombstone(at=NOW - 60)))
        number, user = (client.keys(f"*{kind}*")[0] for kind in (":n", ":u:"))
        everything, mark = client.get(number), client.get(user)
        mine = issued()
        drive(first.end_user("ada", tombstone(at=NOW + 60), frozenset({mine.session_id})))
        theirs = issued()
        lost(user, mark)
        drive(second.end_user("ada", tombstone(at=NOW)))
        drive(first.end_everything(NOW))
        other = issued()
        lost(number, b"%d" % (int(everything) - (1 << 30)))
        drive(second.end_everything(NOW))
        claims = [mine, theirs, other]

        def check() -> list[bool]:
            found = [drive(second.check(claim)) is None for claim in claims]
            # As far as the user alone is concerned: the number of everything must not hide it.
            now = int(client.get(number))
            return found + [drive(second.check(claim._replace(everything=now))) is None for claim in claims[:2]]

        assert check() == [False] * 5
        drive(first.end(witness := new_id(), tombstone()))
        client.delete(*client.keys(f"*:e:{witness}"))
        client.execute_command("DEBUG", "CHANGE-REPL-ID")
        until(lambda: client.keys(f"*:e:{witness}") != [], "what was lost is repeated", 30.0)
        assert check() == [False] * 5
        latest = issued()
        assert drive(second.check(latest)) is None
        for ends in (first, second):
            drive(ends.close())
        client.close()


@pytest.mark.slow
@requirement("R51")
@pytest.mark.parametrize("blocking", [True, False])
def test_an_end_is_confirmed_when_the_replica_has_it_and_repeated_until_then(blocking: bool) -> None:
    """A frozen replica confirms nothing; once it runs again, the end is sent again, and both have it."""
    import redis

    with redis_server() as primary, redis_server(replicaof=f"127.0.0.1 {primary.port}") as replica:
        first, second = redis.Redis(port=primary.port), redis.Redis(port=replica.port)
        with closing(first), closing(second), asyncio.Runner() as runner:
            while first.execute_command("ROLE")[0] != b"master" or not _is_online(first):
                pass
            run: Callable[[Any], Any] = drive if blocking else runner.run
            ends = open_revocations(f"redis://127.0.0.1:{primary.port}?timeout=2", blocking=blocking)
            marks = run(ends.begin("ada"))
            mine, other = Claim(new_id(), "ada", *marks), Claim(new_id(), "ada", *marks)
            assert run(ends.end(mine.session_id, tombstone(), mine)).confirmed
            assert run(ends.end_user("bob", tombstone())).confirmed
            replica.freeze()
            try:
                assert not run(ends.end(other.session_id, tombstone(), other)).confirmed
                assert not run(ends.end_user("ada", tombstone())).confirmed
            finally:
                replica.thaw()

            def pause() -> None:
                if blocking:
                    time.sleep(0.02)
                else:
                    runner.run(asyncio.sleep(0.02))

            until(lambda: pause() or len(second.keys("*:e:*")) == len(second.keys("*:u:*")) == 2, "the replica has all")
            until(lambda: pause() or not ends._keeper.uncertain, "all is certain")
            run(ends.close())


@requirement("R51", "R61")
@pytest.mark.slow
def test_an_end_that_was_confirmed_survives_the_loss_of_the_primary() -> None:
    """Killed in the midst of ends: what was confirmed is dead at once, the rest when the set is whole again."""
    with redis_sentinel_set() as servers:
        ends = open_revocations(f"{servers.url}?timeout=0.5", blocking=True)
        marks = drive(ends.begin("ada"))
        claims = [Claim(new_id(), "ada", *marks) for _ in range(300)]
        confirmed: list[Claim] = []
        others: list[Claim] = []
        for number, claim in enumerate(claims):
            if number == 150:
                servers.primary().kill()
            try:
                ending = drive(ends.end(claim.session_id, tombstone(), claim))
            except StoreError:
                others.append(claim)
            else:
                (confirmed if ending.confirmed else others).append(claim)
        assert len(confirmed) >= 150

        def is_dead(claim: Claim) -> bool:
            try:
                return drive(ends.check(claim)) is not None
            except StoreError:
                return False

        until(lambda: _answers(ends, marks), "somebody took over")
        alive = [claim for claim in confirmed if not is_dead(claim)]
        assert alive == []
        until(lambda: all(is_dead(claim) for claim in others), "what was not confirmed is dead, too", 10.0)
        drive(ends.close())


def _answers(ends: Revocations, marks: Marks) -> bool:
    try:
        return drive(ends.check(Claim(new_id(), "bob", *marks))) is None
    except StoreError:
        return False


def _is_online(client: Any) -> bool:
    return bool(client.execute_command("WAIT", 1, 100))


@pytest.mark.parametrize(
    "url", ["postgresql://host/db", "nonsense", "sqlite://", "sqlite:///:memory:", "memory://host", "memory://?a=b"]
)
def test_what_can_keep_no_ends_is_refused_at_start(url: str) -> None:
    """The error names what can, and repeats nothing that might be secret."""
    with pytest.raises(ConfigurationError):
        open_revocations(url, blocking=True)
