"""How commands reach the server that holds a key: one class a topology, one node a server."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol

from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, TryAgainError

from .address import Place, Settings
from .failures import wrapped
from .link import Command
from .scripts import TEXTS
from .standing import Assurance
from .tasks import LoopedNode
from .threads import BlockingNode

MOVED: Final = (MovedError, AskError, TryAgainError, ClusterDownError)  # a cluster says: not here, or not now


class Node(Protocol):
    """Be one server."""

    @property
    def assurance(self) -> Assurance:
        """Return what is known of it."""
        ...

    def ask(self, command: Command, deadline: float) -> Awaitable[Any]:
        """Send one command and return its reply; an error that Redis replied is returned, not raised.

        Raises:
            StoreUnavailable: there was no reply before the deadline (seconds of the monotonic clock).
        """
        ...

    async def exchange(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send several commands on one connection that nobody else uses meanwhile, and return their replies."""
        ...

    def drop(self) -> None:
        """Give up all connections, and what is being read through them."""
        ...

    async def close(self) -> None:
        """Close the connections; later calls raise `StoreUnavailable`."""
        ...

    def forget(self) -> object:
        """Begin anew in a forked child and return what belongs to the parent."""
        ...


class Wire(Protocol):
    """Reach the servers of one topology. `together`: all keys are on one server, so that one script may use several."""

    @property
    def together(self) -> bool:
        """Tell whether all keys are on one server."""
        ...

    def ask(self, key: bytes, command: Command, deadline: float) -> Awaitable[Any]:
        """Send a command to the server of `key` and return its reply.

        Raises:
            StoreError: there was none, or it is an error.
        """
        ...

    async def many(self, commands: Sequence[tuple[bytes, Command]], deadline: float) -> list[Any]:
        """Send commands, each to the server of its key, and return their replies."""
        ...

    async def primaries(self, deadline: float) -> Sequence[Node]:
        """Return the servers that hold the keys, each with a part of them, in an order that stays."""
        ...

    async def home(self, key: bytes, deadline: float) -> Node:
        """Return the server of `key`."""
        ...

    def doubt(self) -> None:
        """Find out anew which server holds what, before the next command."""
        ...

    async def close(self) -> None:
        """Close the connections; later calls raise `StoreUnavailable`."""
        ...

    def forget(self) -> object:
        """Begin anew in a forked child and return what belongs to the parent."""
        ...


def whole(command: Command) -> Command:
    """Return the command with the script's text in place of its digest."""
    digest = command[1]
    assert isinstance(digest, bytes)
    return (b"EVAL", TEXTS[digest], *command[2:])


def checked(reply: Any) -> Any:
    """Return a reply, or raise the error that it is."""
    if isinstance(reply, Exception):
        raise wrapped(reply) from None
    return reply


async def ask(node: Node, command: Command, deadline: float) -> Any:
    """Ask a node, with the script's text if it does not know the digest."""
    reply = await node.ask(command, deadline)
    if isinstance(reply, Exception):
        if isinstance(reply, NoScriptError):
            reply = await node.ask(whole(command), deadline)
        return checked(reply)
    return reply


class Single:
    """Reach the one server there is."""

    def __init__(self, settings: Settings, *, blocking: bool) -> None:
        address = settings.addresses[0]
        kind = BlockingNode if blocking else LoopedNode
        self._place: Final = Place(address)
        self._node: Final[Node] = kind(settings, lambda: address, Assurance(lambda: settings.replicas))

    @property
    def together(self) -> bool:
        """Return True: there is one server."""
        return True

    def ask(self, key: bytes, command: Command, deadline: float) -> Awaitable[Any]:
        """Send a command to the server."""
        return ask(self._node, command, deadline)

    async def many(self, commands: Sequence[tuple[bytes, Command]], deadline: float) -> list[Any]:
        """Send commands in one write."""
        replies = await self._node.exchange([command for _, command in commands], deadline)
        for place, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                replies[place] = await self._node.ask(whole(commands[place][1]), deadline)
        return [checked(reply) for reply in replies]

    def place(self, key: bytes) -> Place:
        """Return where the server is."""
        return self._place

    async def primaries(self, deadline: float) -> Sequence[Node]:
        """Return the server."""
        return (self._node,)

    async def home(self, key: bytes, deadline: float) -> Node:
        """Return the server."""
        return self._node

    def doubt(self) -> None:
        """Do nothing: there is no other server."""

    async def close(self) -> None:
        """Close the connections."""
        await self._node.close()

    def forget(self) -> object:
        """Begin anew in a forked child."""
        return self._node.forget()
