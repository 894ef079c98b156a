"""What is done to a set of servers while sessions are created, read, written and ended on it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import redis

from sessile.core.bridge import drive
from sessile.core.ports import Store
from sessile.stores import open_store
from tests.failure.audit import audit, until_dead
from tests.failure.naive import NaiveMemcached, NaiveRedis
from tests.failure.proxy import CLIENTS, Proxies
from tests.failure.traffic import Memory, run_async, run_blocking
from tests.support.servers import Server, memcached_server, redis_cluster, redis_sentinel_set
from tests.support.servers.replicated import SERVICE, until

Fault = Callable[["Lab"], None]
Open = Callable[..., Any]
CLIENTS_AT_ONCE: Final = 60  # on one event loop; most of them wait for copies that are behind
THREADS: Final = 4
PAUSE: Final = 0.02  # seconds between two operations of a client
WARM: Final = 150  # ends that must have been confirmed before anything breaks
AGAIN: Final = 50  # ends that must be confirmed when all is whole again
PATIENCE: Final = 60.0  # seconds for either
STALE: Final = 2.0  # seconds after which nobody may read what is no longer true


@dataclass
class Lab:
    """Hold the servers, the proxies before them, which primary is one no longer, and since when."""

    servers: Any
    proxies: Proxies
    old: Any = None
    since: float = 0.0

    def elected(self, other_than: Any, seconds: float = 30) -> None:
        """Wait until another primary was elected; from then on the old one must not be read."""
        until(lambda: self.servers.primary() is not other_than, "another primary was elected", seconds)
        self.old, self.since = other_than, time.monotonic()

    @property
    def stale_reads(self) -> int:
        """Return how often clients read from the old primary although another one was there for two seconds."""
        if self.old is None:
            return 0
        return sum(at > self.since + STALE for at in self.proxies.proxies[self.old.port].reads)


@dataclass(frozen=True)
class Scenario:
    """Hold one thing that happens. `lag`: seconds by which copies are behind."""

    name: str
    topology: str
    lag: float
    fault: Fault
    options: str = "timeout=2"


@dataclass
class Outcome:
    """Hold what one run showed."""

    scenario: str
    acknowledged: int
    confirmed: int
    unconfirmed: int
    failed: int
    revived: int  # read alive, at any time, after an end that was reported as confirmed
    late: int  # unconfirmed, and alive five seconds after all was whole again
    made_up: float  # seconds until all unconfirmed ends were carried out
    stale: int  # reads from the old primary more than two seconds after another one was elected
    lost: int  # sessions that nobody ended and that are gone: somebody signs in again
    errors: int
    longest: float
    of_users: int  # sessions that the end of their user ended, together with others
    late_saves: int  # saves after the end, of what had been read before it
    per_second: float  # operations that were acknowledged
    at_stake: int  # ends that were confirmed so shortly before the fault that the copies' lag spans it
    again: float  # seconds after all was whole until an end was confirmed

    @property
    def is_kept(self) -> bool:
        """Tell whether everything that was promised was kept."""
        return not (self.revived or self.late or self.stale)


def killed(lab: Lab) -> None:
    """Kill the primary; bring it back when another one was elected."""
    first = lab.servers.primary()
    first.kill()
    lab.elected(first)
    time.sleep(1)
    first.start()


def killed_twice(lab: Lab) -> None:
    """Kill the primary, and then the one that took its place."""
    first = lab.servers.primary()
    first.kill()
    lab.elected(first)
    second = lab.servers.primary()
    second.kill()
    until(lambda: lab.servers.primary() not in (first, second), "a third primary was elected", 60)
    first.start()
    second.start()


def cut_off(lab: Lab) -> None:
    """Cut the primary off from its replicas and the Sentinels for eight seconds; its clients still reach it."""
    first = lab.servers.primary()
    lab.proxies.cut(first.port)
    healed = time.monotonic() + 8
    lab.elected(first)
    time.sleep(max(0, healed - time.monotonic()))
    lab.proxies.heal()


def cut_off_with_clients(lab: Lab) -> None:
    """Cut primary and clients off from everything else for eight seconds: nobody tells them of the new primary."""
    first = lab.servers.primary()
    lab.proxies.cut(first.port)
    for sentinel in lab.servers.sentinels:
        lab.proxies.cut(sentinel.port, kinds=CLIENTS)
    for node in lab.servers.nodes:
        if node is not first:
            lab.proxies.cut(node.port, kinds=CLIENTS)
    healed = time.monotonic() + 8
    lab.elected(first)
    time.sleep(max(0, healed - time.monotonic()))
    lab.proxies.heal()


def planned(lab: Lab) -> None:
    """Ask the Sentinels for another primary."""
    first = lab.servers.primary()
    with redis.Redis(port=lab.servers.sentinels[0].port) as client:
        client.execute_command("SENTINEL", "failover", SERVICE)
    lab.elected(first)
    time.sleep(3)


def frozen(lab: Lab) -> None:
    """Freeze the primary until another one was elected, and a while longer; then let it go on."""
    first = lab.servers.primary()
    first.freeze()
    lab.elected(first)
    time.sleep(2)
    first.thaw()
    time.sleep(3)


def shard_killed(lab: Lab) -> None:
    """Kill the primary of one shard; bring it back when its replica took over."""
    first = lab.servers.primaries()[0]
    first.kill()
    until(lambda: first not in lab.servers.primaries(), "the replica took over", 30)
    lab.old, lab.since = first, time.monotonic()
    time.sleep(1)
    first.start()


def node_frozen(lab: Lab) -> None:
    """Freeze one of the memcacheds for a while, as a machine that swaps or is moved does; then let it go on."""
    lab.servers.nodes[1].freeze()
    time.sleep(3)
    lab.servers.nodes[1].thaw()


SCENARIOS: Final = (
    Scenario("nothing happens", "sentinel", 0.1, lambda _: time.sleep(2)),
    Scenario("kill -9, lag 100 ms", "sentinel", 0.1, killed),
    Scenario("kill -9, lag 500 ms", "sentinel", 0.5, killed),
    Scenario("partition of 8 s", "sentinel", 0.1, cut_off),
    Scenario("partition of 8 s, clients on the old side", "sentinel", 0.1, cut_off_with_clients),
    Scenario("planned failover", "sentinel", 0.1, planned),
    Scenario("primary frozen and thawed", "sentinel", 0.1, frozen),
    Scenario("primary killed, and the next one too", "sentinel", 0.1, killed_twice),
    Scenario("cluster: a shard's primary killed, lag 100 ms", "cluster", 0.1, shard_killed),
    Scenario("cluster: a shard's primary killed, lag 500 ms", "cluster", 0.5, shard_killed),
    # Who ends all sessions of a user while a node is frozen waits for the lease, which is half a minute by default.
    Scenario("memcached: a node frozen for 3 s (lease 3 s)", "memcached", 0, node_frozen, "timeout=0.5&lease=3"),
)


def sessile(url: str, *, blocking: bool) -> Store:
    """Open Sessile's own store."""
    return open_store(url, blocking=blocking)


def naive(url: str, *, blocking: bool) -> Any:
    """Open a naive store, which has one door: None behind the other."""
    kind = NaiveMemcached if url.startswith("memcached") else NaiveRedis
    return kind(url) if blocking is (kind is NaiveMemcached) else None


@dataclass
class Memcacheds:
    """Hold three memcacheds that know nothing of each other."""

    nodes: list[Server] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return what a store is opened with."""
        return "memcached://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def await_whole(self) -> None:
        """Wait until each answers."""
        for node in self.nodes:
            node.await_ready()


@contextmanager
def _started(topology: str, proxies: Proxies) -> Generator[Any]:
    if topology == "memcached":
        with ExitStack() as stack:
            yield Memcacheds([stack.enter_context(memcached_server()) for _ in range(3)])
        return
    start: Any = redis_sentinel_set if topology == "sentinel" else redis_cluster
    with start(through=proxies.before, appendonly="yes", appendfsync="everysec") as servers:
        yield servers


def run(
    scenario: Scenario,
    opened: Open = sessile,
    *,
    clients: int = CLIENTS_AT_ONCE,
    threads: int = THREADS,
    slow: bool = True,
) -> Outcome:
    """Run traffic through the fault, and audit every answer when all is whole again.

    `slow`: some requests save, after an end, what they had read before it.
    """
    proxies = Proxies()
    try:
        with _started(scenario.topology, proxies) as servers:
            return asyncio.run(_run(scenario, opened, Lab(servers, proxies), clients, threads, slow))
    finally:
        proxies.close()


@asynccontextmanager
async def _opened(opened: Open, url: str, pool: ThreadPoolExecutor) -> AsyncGenerator[tuple[Any, Any, Any]]:
    """Open the store for either door and for the audit, and close all three whatever happens."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        store, blocking = opened(url, blocking=False), opened(url, blocking=True)
        # A naive store of the blocking door alone blocks the loop, on which nothing else runs by then.
        auditor = opened(url, blocking=False) or opened(url, blocking=True)
        stack.push_async_callback(auditor.close)
        if blocking is not None:
            stack.push_async_callback(loop.run_in_executor, pool, lambda: drive(blocking.close()))
        if store is not None:
            stack.push_async_callback(store.close)
        yield store, blocking, auditor


async def _run(scenario: Scenario, opened: Open, lab: Lab, clients: int, threads: int, slow: bool) -> Outcome:
    memory, over, loop = Memory(), threading.Event(), asyncio.get_running_loop()
    url = f"{lab.servers.url}?{scenario.options}"
    started = time.monotonic()
    with ThreadPoolExecutor(threads + 1) as pool:
        async with _opened(opened, url, pool) as (store, blocking, auditor):
            work: list[Any] = []
            if blocking is not None:
                work = [
                    loop.run_in_executor(
                        pool, partial(run_blocking, blocking, memory, over, seed=1000 + seed, pause=PAUSE, slow=slow)
                    )
                    for seed in range(threads)
                ]
            if store is not None:
                work.append(
                    asyncio.ensure_future(run_async(store, memory, over, clients=clients, pause=PAUSE, slow=slow))
                )
            lab.proxies.lag(scenario.lag)
            try:
                if not await loop.run_in_executor(pool, memory.await_confirmed, WARM, PATIENCE):
                    raise AssertionError("hardly an end is confirmed although nothing is broken")
                fault_at = time.monotonic()
                await loop.run_in_executor(pool, scenario.fault, lab)
                lab.proxies.lag(0)
                await loop.run_in_executor(pool, lab.servers.await_whole)
                whole_at = time.monotonic()
                made_up = asyncio.ensure_future(until_dead(auditor, memory.unconfirmed(), whole_at))
                if not await loop.run_in_executor(pool, memory.await_confirmed, AGAIN, PATIENCE):
                    raise AssertionError("ends are not confirmed again although all is whole")
                late, made_up_after = await made_up
            finally:
                over.set()
                await asyncio.gather(*work, return_exceptions=True)
            await asyncio.gather(*work)
            over_at = time.monotonic()
            found = await audit(auditor, memory, over_at)
    return Outcome(
        scenario.name,
        memory.acknowledged,
        memory.confirmed,
        len(memory.ends) - memory.confirmed,
        len(memory.failed),
        len(memory.revived),
        len(late | found.late),
        made_up_after,
        lab.stale_reads,
        found.lost,
        memory.errors,
        memory.longest,
        memory.of_users,
        memory.late_saves,
        memory.acknowledged / (over_at - started),
        len(memory.confirmed_between(fault_at - max(scenario.lag, 0.1), fault_at)),
        memory.confirmed_between(whole_at, over_at)[0] - whole_at,
    )
