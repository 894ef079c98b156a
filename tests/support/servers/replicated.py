"""Redis with copies: one primary, two replicas and three Sentinels; or three shards with a replica each."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from tests.support.ports import free_port

from .process import Folder, Server
from .redises import redis_process

SERVICE = "sessions"


def until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until a condition holds; what its client raises meanwhile counts as no.

    Raises:
        AssertionError: it does not in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")


Through = Callable[[int], int]  # a port to the port at which the server is announced instead


class SentinelSet:
    """Hold the nodes and the Sentinels; `url` is what a store is opened with.

    `announced` maps the port at which a node is announced to the node: a proxy's, if there are proxies.
    """

    def __init__(self, announced: dict[int, Server], sentinels: list[Server], doors: list[int]) -> None:
        self.announced = announced
        self.nodes = list(announced.values())
        self.sentinels = sentinels
        hosts = ",".join(f"127.0.0.1:{port}" for port in doors)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"

    def primary(self) -> Server:
        """Return the node that the Sentinels call the primary."""
        for sentinel in self.sentinels:
            try:
                with redis.Redis(port=sentinel.port, socket_timeout=1) as client:
                    _, port = client.execute_command("SENTINEL", "get-master-addr-by-name", SERVICE)
            except redis.RedisError:
                continue
            return self.announced[int(port)]
        raise AssertionError("no Sentinel answers")

    def await_whole(self, seconds: float = 60.0) -> None:
        """Wait until every running node follows one primary, which has all others attached."""

        def whole() -> bool:
            primary = self.primary()
            with redis.Redis(port=primary.port, socket_timeout=1) as client:
                found: dict[str, Any] = client.info("replication")
            attached = [found[f"slave{number}"]["state"] for number in range(found.get("connected_slaves", 0))]
            running = sum(node.is_running for node in self.nodes)
            return found["role"] == "master" and attached == ["online"] * (running - 1)

        until(whole, "the set is whole", seconds)


@contextmanager
def redis_sentinel_set(
    *, replicas: int = 2, sentinels: int = 3, through: Through | None = None, silence: float = 1.0, **config: Any
) -> Generator[SentinelSet]:
    """Run a primary with replicas, and Sentinels that take over after `silence` (seconds)."""
    with ExitStack() as stack:
        announced: dict[int, Server] = {}
        for _ in range(replicas + 1):
            folder = stack.enter_context(Folder("redis"))
            port = free_port()
            door = port if through is None else through(port)
            more = {"replicaof": f"127.0.0.1 {next(iter(announced))}"} if announced else {}
            settings = {"repl_diskless_sync_delay": 0, "repl_ping_replica_period": 1, "repl_timeout": 5, **config}
            announce = {"replica_announce_ip": "127.0.0.1", "replica_announce_port": door}
            node = redis_process(folder, port, **settings, **announce, **more)
            node.start()
            stack.callback(node.kill)
            announced[door] = node
        watchers: list[Server] = []
        for _ in range(sentinels):
            folder = stack.enter_context(Folder("sentinel"))
            watch = [
                f"monitor {SERVICE} 127.0.0.1 {next(iter(announced))} {sentinels // 2 + 1}",
                f"down-after-milliseconds {SERVICE} {round(silence * 1000)}",
                f"failover-timeout {SERVICE} 5000",
                f"parallel-syncs {SERVICE} 2",
            ]
            watcher = redis_process(folder, arguments=("--sentinel",), sentinel=watch)
            watcher.start()
            stack.callback(watcher.kill)
            watchers.append(watcher)
        doors = [one.port if through is None else through(one.port) for one in watchers]
        made = SentinelSet(announced, watchers, doors)

        def know_each_other() -> bool:
            for watcher in watchers:
                with redis.Redis(port=watcher.port, socket_timeout=1) as client:
                    state = client.sentinel_master(SERVICE)
                if (state["num-slaves"], state["num-other-sentinels"]) != (replicas, sentinels - 1):
                    return False
            return True

        made.await_whole()
        until(know_each_other, "the Sentinels know each other and the replicas")
        yield made


class RedisCluster:
    """Hold the nodes of a cluster; the first half were made primaries. `announced` is as in `SentinelSet`."""

    def __init__(self, announced: dict[int, Server]) -> None:
        self.announced = announced
        self.nodes = list(announced.values())
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in list(announced)[: len(announced) // 2])

    def primaries(self) -> list[Server]:
        """Return the nodes that serve slots now, by what a running node says."""
        for node in self.nodes:
            if not node.is_running:
                continue
            try:
                with redis.Redis(port=node.port, socket_timeout=1) as client:
                    listed: list[Any] = client.execute_command("CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            return [self.announced[port] for port in sorted({int(entry[2][1]) for entry in listed})]
        raise AssertionError("no node answers")

    def await_whole(self, seconds: float = 60.0) -> None:
        """Wait until every running node says that the cluster is well, and every running replica follows."""

        def whole() -> bool:
            for node in self.nodes:
                if not node.is_running:
                    continue
                with redis.Redis(port=node.port, socket_timeout=1) as client:
                    state: Any = client.execute_command("CLUSTER", "INFO")
                    found: dict[str, Any] = client.info("replication")
                text = (
                    state
                    if isinstance(state, dict)
                    else dict(line.split(":", 1) for line in state.decode().split("\r\n") if ":" in line)
                )
                if text["cluster_state"] != "ok":
                    return False
                if found["role"] == "slave" and found["master_link_status"] != "up":
                    return False
            return True

        until(whole, "the cluster is whole", seconds)


@contextmanager
def redis_cluster(
    *, shards: int = 3, through: Through | None = None, silence: float = 1.0, **config: Any
) -> Generator[RedisCluster]:
    """Run a cluster of shards with one replica each, which takes over after `silence` (seconds)."""
    with ExitStack() as stack:
        announced: dict[int, Server] = {}
        for _ in range(2 * shards):
            folder = stack.enter_context(Folder("cluster"))
            port = free_port()
            door = port if through is None else through(port)
            # The bus listens on a port of its own, which must be below 32768 too.
            node = redis_process(
                folder,
                port,
                **{
                    "cluster_enabled": "yes",
                    "cluster_announce_ip": "127.0.0.1",
                    "cluster_announce_port": door,
                    "cluster_node_timeout": round(silence * 1000),
                    "cluster_port": free_port(),
                    "cluster_replica_validity_factor": 0,
                    "repl_diskless_sync_delay": 0,
                    "repl_ping_replica_period": 1,
                    **config,
                },
            )
            node.start()
            stack.callback(node.kill)
            announced[door] = node
        nodes = list(announced.values())
        clients = [stack.enter_context(redis.Redis(port=node.port)) for node in nodes]
        for number, client in enumerate(clients[:shards]):
            first, last = number * 16384 // shards, (number + 1) * 16384 // shards - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, client in enumerate(clients):
            bus = int(client.config_get("cluster-port")["cluster-port"])
            for other in clients:
                if other is not client:
                    other.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[number].port, bus)
        names = [bytes(client.execute_command("CLUSTER", "MYID")).decode() for client in clients]

        def all_met() -> bool:
            return all(_known(client) >= 2 * shards for client in clients)

        until(all_met, "the nodes of the cluster know each other")
        for number in range(shards):
            replica = clients[shards + number]

            def follows(replica: Any = replica, name: str = names[number]) -> bool:
                replica.execute_command("CLUSTER", "REPLICATE", name)
                return True

            until(follows, "a replica follows")
        made = RedisCluster(announced)
        made.await_whole()
        yield made


def _known(client: Any) -> int:
    listed = client.execute_command("CLUSTER", "NODES")
    if isinstance(listed, dict):
        return sum("handshake" not in str(one.get("flags", "")) for one in listed.values())
    return sum(b"handshake" not in line for line in listed.splitlines())
