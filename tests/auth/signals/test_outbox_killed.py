"""`kill -9` at any point between the intent and the delivery: nothing is lost, nothing is invented (R78)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sessile import Sessions
from sessile.auth.ground import Ground
from sessile.auth.signals import Receiver, ReceiverPolicy, Signals
from sessile.auth.signals.outbox import PATIENCE
from sessile.core.bridge import drive
from tests.auth.racers import Line, race, shared_vault
from tests.auth.signals.signal_bench import RING, SECRET, App, Network, ask, transmitter
from tests.core.rig import facts, token_of
from tests.support.requirements import requirement

pytestmark = [pytest.mark.slow, requirement("R78")]
LATER = 120.0  # seconds: every lease and every grace is over then

# Where the process is killed, whether the session has ended then, and how often its receiver has heard of it by then.
POINTS = {
    "before-the-intent": (False, 0),
    "after-the-intent": (False, 0),
    "after-the-end": (True, 0),
    "before-it-is-due": (True, 0),
    "when-it-is-due": (True, 0),
    "in-the-lease": (True, 0),
    "after-it-was-sent": (True, 1),
    "when-it-is-done": (True, 1),
}


class Made(NamedTuple):
    """Hold one application on files."""

    sessions: Sessions
    ground: Ground
    signals: Signals


def made(store: str, vault: str, port: int, *, later: float = 0.0) -> Made:
    """Return the application that ends sessions."""
    sessions = Sessions(store, keys=RING, sinks=(), clock=lambda: time.time() + later)
    ground = Ground(sessions, vault)
    told = Receiver(
        "b", "https://b.example", push=f"http://127.0.0.1:{port}/push", push_authorization=SECRET.format("a", "b")
    )
    return Made(sessions, ground, Signals(ground, url="https://a.example/signals", receivers=[told]))


def die(*_: Any, **__: Any) -> Any:
    """Be killed, as by the system: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


async def die_later(*_: Any, **__: Any) -> Any:
    """Be killed where a coroutine is awaited."""
    die()


def run(store: str, vault: str, port: int, token: str, point: str) -> None:
    """Sign out, deliver, and be killed at a point of that."""
    app = made(store, vault, port)
    flow = app.signals.flow
    kept = app.ground.vault.write
    writes = 0

    async def after_write(*given: Any) -> bool:
        nonlocal writes
        written = await kept(*given)
        writes += 1
        if writes == {"after-the-intent": 1, "when-it-is-due": 2}.get(point, 0):
            die()
        return written

    app.ground.vault.write = after_write  # type: ignore[method-assign]
    if point == "before-the-intent":
        app.ground.vault.write = die_later  # type: ignore[method-assign]
    elif point == "after-the-end":
        flow.outbox.after = die_later  # type: ignore[method-assign]
    elif point == "before-it-is-due":
        flow.outbox._due = die_later  # type: ignore[method-assign]
    session = app.sessions.open(facts(token))
    session.logout()
    app.sessions.commit(session)
    if point == "in-the-lease":
        flow.http.send = die_later  # type: ignore[method-assign]
    elif point == "after-it-was-sent":
        flow.delivery._done = die_later  # type: ignore[method-assign]
    elif point == "when-it-is-done":
        flow.delivery._leave = die_later  # type: ignore[method-assign]
    app.signals.deliver()


def _nothing(*_: Any, **__: Any) -> None:
    return None


@contextmanager
def serving(app: App) -> Generator[tuple[int, list[int]]]:
    """Serve an application's receiver on a port; return that and the statuses of its answers."""
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = drive(app.signals.site.answer(ask("POST", "/push/a", None, headers, body)))
            answers.append(reply.status)
            self.send_response(reply.status)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        log_request: Any = _nothing

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port, answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("point", list(POINTS))
async def test_a_process_that_is_killed_loses_no_signal_and_invents_none(point: str, tmp_path: Path) -> None:
    """The session ended if and only if its user is signed out at the other application, once, in the end."""
    with shared_vault("sqlite", tmp_path) as vault:
        await _killed(point, f"sqlite:///{tmp_path}/s.db?wait=60", vault)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
@pytest.mark.parametrize("point", ["after-the-end", "when-it-is-due"])
async def test_so_it_is_with_a_vault_in_sql(kind: str, point: str, tmp_path: Path) -> None:
    """Servers keep what they have said is written, too."""
    with shared_vault(kind, tmp_path) as vault:
        await _killed(point, f"sqlite:///{tmp_path}/s.db?wait=60", vault)


async def _killed(point: str, store: str, vault: str) -> None:
    ends, heard = POINTS[point]
    # Its clock is ahead, as theirs will be who look for what was left behind.
    b = App(
        "b",
        Network(),
        door="blocking",
        clock=lambda: time.time() + 2 * PATIENCE,
        transmitters=(transmitter("a", "b"),),
        policy=ReceiverPolicy(keep_newer=False),
    )
    with serving(b) as (port, answers):
        app = made(store, vault, port)
        b.network.sites["a.example"] = app.signals.site
        await b.signals.flow.reception.known["a"].keys()
        opened = app.sessions.open(facts(None))
        opened.login("ada", factor="password")
        token = token_of(app.sessions.commit(opened))
        assert token is not None
        there = await b.login()
        await _end(app)

        child = multiprocessing.get_context("spawn").Process(target=run, args=(store, vault, port, token, point))
        child.start()
        child.join(120)
        assert child.exitcode == -signal.SIGKILL, point
        assert len(answers) == heard

        found = made(store, vault, port, later=LATER)
        alive = found.sessions.open(facts(token)).user_id == "ada"
        assert alive is not ends
        for _ in range(3):
            found.signals.deliver()
        late = made(store, vault, port, later=LATER + PATIENCE)
        await _end(found)
        late.signals.deliver()
        assert drive(late.ground.vault.of_user("", "signals:out:")) == ()
        assert drive(late.ground.vault.of_user("", "signals:intent:")) == ()
        await _end(late)
    assert (await b.user(there) is None) is ends
    assert len(b.told("signal-received")) == int(ends)
    assert set(answers) <= {202}


def deliver_all(line: Line, store: str, vault: str, port: int) -> None:
    """Deliver with others at the same moment, until nothing waits; tell how many were delivered here."""
    app = made(store, vault, port)
    drive(app.ground.vault.get("k"))
    line.wait()
    delivered = 0
    until = time.monotonic() + 100
    while time.monotonic() < until:
        done = app.signals.deliver()
        delivered += done.delivered
        if not done.waiting and not done.delivered:
            break
    line.tell(delivered)
    app.signals.close()
    app.sessions.close()
    drive(app.ground.close())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
async def test_of_several_processes_each_signal_is_sent_by_one(kind: str, tmp_path: Path) -> None:
    """A dozen signals, three processes: a dozen requests, none of them a replay."""
    store, users = f"sqlite:///{tmp_path}/s.db?wait=60", [f"u{number}" for number in range(12)]
    b = App("b", Network(), door="blocking", clock=time.time, transmitters=(transmitter("a", "b"),))
    with shared_vault(kind, tmp_path) as vault, serving(b) as (port, answers):
        app = made(store, vault, port)
        b.network.sites["a.example"] = app.signals.site
        await b.signals.flow.reception.known["a"].keys()
        there = [await b.login(user) for user in users]
        for user in users:
            session = app.sessions.open(facts(None))
            session.login(user, factor="password")
            token = token_of(app.sessions.commit(session))
            session = app.sessions.open(facts(token))
            session.logout()
            app.sessions.commit(session)
        await _end(app)
        with race(deliver_all, *[(store, vault, port)] * 3) as running:
            assert sum(running.turn()) == len(users)
        assert answers == [202] * len(users)
    assert [await b.user(cookie) for cookie in there] == [None] * len(users)
    assert b.told("signal-ignored") == []


async def _end(app: Made) -> None:
    app.signals.close()
    app.sessions.close()
    drive(app.ground.close())
