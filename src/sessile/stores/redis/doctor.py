"""What a Redis or Valkey should be set to for sessions: looked at, judged, and how to mend it.

`look` asks each server; `judge` is pure; `acl` is the least that the store's user must be allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

from ...core.ports import Diagnosis
from .address import Settings
from .failures import is_denied
from .layout import Names
from .link import Command
from .standing import info
from .wire import Node, checked

OLDEST: Final = (7, 0)
_OPTIONS: Final = ("maxmemory-policy", "min-replicas-to-write", "min-replicas-max-lag", "save")
_NEARLY: Final = 0.9

# Each does nothing to a key that does not exist; what the user may not do is named in the reply.
_RIGHTS: Final = b"""
local denied = {}
for _, command in ipairs({{'GET'}, {'GETRANGE', 0, 0}, {'EXISTS'}, {'PTTL'}, {'PEXPIRE', 1}, {'DEL'},
    {'SETRANGE', 0, ''}, {'SET', '', 'XX'}, {'ZREM', 'x'}, {'ZRANGE', 0, 0}, {'ZADD', 'XX', 1, 'x'}}) do
  local name = table.remove(command, 1)
  local reply = redis.pcall(name, KEYS[1], unpack(command))
  if type(reply) == 'table' and reply.err then denied[#denied + 1] = name end
end
return denied
"""
_COMMANDS: Final = (
    *("mget", "get", "set", "getrange", "setrange", "exists", "del", "pexpire", "pttl", "zadd", "zrem", "zrange"),
    *("scan", "eval", "evalsha", "wait", "info", "ping", "config|get"),
)


class Facts(NamedTuple):
    """Hold what a server answered. An option that it would not tell is missing; `denied` are names of commands."""

    fields: Mapping[str, str]
    options: Mapping[str, str]
    denied: tuple[str, ...]


def acl(settings: Settings, *, name: str = "sessile") -> str:
    """Return the line of an ACL file that allows what the store needs and nothing else.

    The password is to be put in its place.
    """
    commands = list(_COMMANDS)
    if settings.database:
        commands.append("select")
    if settings.topology == "cluster":
        commands += ["cluster|nodes", "asking"]
    if settings.cache:
        commands += ["client|tracking", "hello"]
    prefix = re.sub(r"([*?\[\]\\])", r"\\\1", settings.prefix)
    allowed = " ".join(f"+{command}" for command in commands)
    return f"user {name} on >PASSWORD resetchannels ~{prefix}* -@all {allowed}"


def sentinel_acl(name: str = "sessile") -> str:
    """Return the same for the Sentinels."""
    allowed = "+sentinel|get-master-addr-by-name +sentinel|master +subscribe"
    return f"user {name} on >PASSWORD resetchannels &+switch-master &+promoted-slave -@all {allowed}"


async def look(node: Node, names: Names, key: bytes, deadline: float) -> Facts:
    """Ask one server. `key` is one that it holds and that does not exist.

    Raises:
        StoreError: it could not be reached.
    """
    commands: Sequence[Command] = (
        (b"INFO",),
        (b"CONFIG", b"GET", *_OPTIONS),
        (b"EVAL", _RIGHTS, 1, key),
        (b"MGET", key),
        (b"SCAN", 0, b"MATCH", names.pattern("s"), b"COUNT", 1),
        (b"EVALSHA", b"0" * 40, 0),
        (b"WAIT", 0, 1),
        (b"PING",),
    )
    said, options, denied, *others = await node.exchange(commands, deadline)
    missing = [
        cast("bytes", command[0]).decode()
        for command, reply in zip(commands[3:], others, strict=True)
        if is_denied(reply)
    ]
    if is_denied(said):
        return Facts({}, {}, ("INFO", *missing))
    found = cast("list[bytes]", options) if isinstance(options, list) else []
    words = [word.decode("utf-8", "replace") for word in found]
    inner = ["EVAL"] if is_denied(denied) else [word.decode() for word in checked(denied)]
    return Facts(info(checked(said)), dict(zip(words[::2], words[1::2], strict=False)), (*inner, *missing))


def judge(settings: Settings, facts: Facts) -> Iterator[Diagnosis]:
    """Say what was found at one server."""
    yield from _rights(settings, facts)
    yield from _transport(settings)
    if facts.fields:
        yield _version(facts.fields)
        yield from _memory(facts)
        yield from _durability(settings, facts)


def _rights(settings: Settings, facts: Facts) -> Iterator[Diagnosis]:
    if facts.denied:
        yield Diagnosis(
            "fail",
            "redis-rights",
            "R45",
            f"the store's user may not use {', '.join(sorted(set(facts.denied)))}",
            "Requests fail as soon as a session needs it.",
            f"Allow it in the ACL file: {acl(settings)}",
        )
    else:
        yield Diagnosis("ok", "redis-rights", "R45", "the store's user may do all that the store does")
    if not facts.options:
        yield Diagnosis(
            "warn",
            "redis-config",
            "R51",
            "the server does not tell its configuration",
            "What it does when memory is full, and when it writes to disk, is not known. Without replicas and without"
            " an append-only file, every end is reported as unconfirmed.",
            "Allow CONFIG GET to the store's user, or look at the provider's settings.",
        )


def _transport(settings: Settings) -> Iterator[Diagnosis]:
    local = all(one.path or _is_loopback(one.host) for one in settings.addresses)
    if settings.tls or local:
        found = "connections use TLS, and certificates are verified" if settings.tls else "Redis is on this machine"
        yield Diagnosis("ok", "redis-transport", "R48", found)
    else:
        yield Diagnosis(
            "warn",
            "redis-transport",
            "R48",
            "Redis is reached over the network without TLS",
            "Who can read that network reads sessions and the password; who can write to it is everybody.",
            "Use rediss:// (with ?ca=… for a certificate of your own).",
        )
    if not settings.password and not local:
        yield Diagnosis(
            "warn",
            "redis-password",
            "R48",
            "Redis is reached over the network without a password",
            "Whoever reaches its port can end, read and forge sessions.",
            f"Give the store a user of its own in the ACL file: {acl(settings)}",
        )


def _version(fields: Mapping[str, str]) -> Diagnosis:
    product = "Valkey" if "valkey_version" in fields else "Redis"
    version = fields.get("valkey_version") or fields.get("redis_version", "")
    numbers = tuple(int(part) for part in re.findall(r"\d+", fields.get("redis_version", ""))[:2])
    if numbers < OLDEST:
        return Diagnosis(
            "fail",
            "redis-version",
            "R45",
            f"the server is {product} {version[:20]}",
            "The store's scripts need Redis 7.0 or any Valkey.",
            "Upgrade the server.",
        )
    return Diagnosis("ok", "redis-version", "R45", f"the server is {product} {version[:20]}")


def _memory(facts: Facts) -> Iterator[Diagnosis]:
    fields, policy = facts.fields, facts.options.get("maxmemory-policy") or facts.fields.get("maxmemory_policy", "")
    limit, used = int(fields.get("maxmemory", "0")), int(fields.get("used_memory", "0"))
    if not limit or policy == "noeviction":
        yield Diagnosis("ok", "redis-eviction", "R45", "the server evicts nothing")
    elif policy.startswith("volatile-"):
        yield Diagnosis(
            "warn",
            "redis-eviction",
            "R45",
            f"when memory is full, sessions are evicted ({policy})",
            "Their users are signed out early, and tombstones are forgotten. Nobody is signed in by it.",
            "maxmemory-policy noeviction, and an alarm well before memory is full.",
        )
    else:
        yield Diagnosis(
            "fail",
            "redis-eviction",
            "R45",
            f"when memory is full, any key is evicted ({policy})",
            "Among the keys are the epochs: each that goes signs out every 256th user.",
            "maxmemory-policy noeviction; or volatile-ttl, if early sign-outs are better than refused sign-ins.",
        )
    if limit and used > limit * _NEARLY:
        yield Diagnosis(
            "warn",
            "redis-memory",
            "R45",
            f"{used / limit:.0%} of maxmemory is in use",
            "When it is full, nobody can sign in. Signing out goes on.",
            "Raise maxmemory.",
        )


def _durability(settings: Settings, facts: Facts) -> Iterator[Diagnosis]:
    fields, options = facts.fields, facts.options
    replicas = max(int(fields.get("connected_slaves", "0")), settings.replicas)
    if fields.get("aof_enabled") == "1":
        yield Diagnosis("ok", "redis-persistence", "R51", "the server appends to a file what it acknowledges")
    elif options.get("save", "unknown") == "":
        yield Diagnosis(
            "warn",
            "redis-persistence",
            "R51",
            "the server keeps nothing on disk",
            "A restart signs everybody out. It brings no ended session back.",
            "appendonly yes",
        )
    else:
        yield Diagnosis(
            "warn",
            "redis-persistence",
            "R51",
            "the server keeps snapshots alone",
            "A restart brings back what ended after the last one. Without replicas, ends are reported as unconfirmed"
            " until the next snapshot.",
            "appendonly yes",
        )
    if not replicas:
        return
    wanted, lag = options.get("min-replicas-to-write"), options.get("min-replicas-max-lag", "10")
    if wanted is not None and (wanted == "0" or int(lag) > 1):
        yield Diagnosis(
            "warn",
            "redis-replicas",
            "R51",
            "a primary that is cut off from its replicas goes on accepting writes",
            "What it acknowledges meanwhile is lost when another takes over. Ends are reported as unconfirmed and made"
            " again; sign-ins are lost.",
            "min-replicas-to-write 1 and min-replicas-max-lag 1",
        )
    elif wanted is not None:
        yield Diagnosis("ok", "redis-replicas", "R51", "a primary that is cut off stops accepting writes")


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
