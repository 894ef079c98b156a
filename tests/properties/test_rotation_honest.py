"""The honest user is never logged out by rotation, whatever tabs, networks, handlers and clocks do.

The bound, exactly: way there + way back + difference between clocks < grace. And one thing no cookie can survive: an
answer that hands out a successor, and is overtaken on its way by the answer that renews the session (sign-in, explicit
rotate). Then the browser itself puts the old cookie over the new one.
"""

from __future__ import annotations

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sessile.core.events import ReplayDetected
from tests.properties.world import Action, Client, World
from tests.support.requirements import requirement

# 12.4 s each way and clocks that differ by 5 s: just below the grace of 30 s.
WAYS = st.sampled_from([0.01, 0.1, 0.5, 2.0, 5.0, 12.4])
HANDLERS = st.sampled_from([0.0, 0.0, 0.1, 1.0, 15.0, 29.9, 30.1, 60.0, 200.0])
GAPS = st.sampled_from([0.01, 0.1, 1.0, 5.0, 12.5, 25.0, 30.1, 61.0, 300.0, 870.0, 901.0, 3600.0])
NODES = st.integers(0, 2)


class HonestBrowser(RuleBasedStateMachine):
    """Drive one browser through everything that networks and servers do to it."""

    @initialize(interval=st.sampled_from([60.0, 900.0]))
    def begin(self, interval: float) -> None:
        self.world = World(interval=interval, skews=(-2.5, 0.0, 2.5))
        self.ada = Client("ada")
        self.world.sign_in(self.ada)
        self.world.advance(1.0)
        self.checked = 0

    def request(self, node: int, up: float, handler: float, down: float, dropped: bool, action: Action) -> None:
        self.world.send(self.ada, node=node, up=up, handler=handler, down=down, dropped=dropped, action=action)

    @rule(
        node=NODES,
        up=WAYS,
        handler=HANDLERS,
        down=WAYS,
        dropped=st.booleans(),
        action=st.sampled_from(["read", "write"]),
    )
    def one(self, node: int, up: float, handler: float, down: float, dropped: bool, action: Action) -> None:
        self.request(node, up, handler, down, dropped, action)

    @rule(
        parallel=st.lists(
            st.tuples(NODES, WAYS, HANDLERS, WAYS, st.booleans(), st.sampled_from(["read", "write"])),
            min_size=2,
            max_size=6,
        )
    )
    def burst(self, parallel: list[tuple[int, float, float, float, bool, Action]]) -> None:
        for node, up, handler, down, dropped, action in parallel:
            self.request(node, up, handler, down, dropped, action)

    @rule(size=st.sampled_from([7, 20, 50, 90]), step=st.sampled_from([0.0, 0.05, 0.4]), down=WAYS)
    def storm(self, size: int, step: float, down: float) -> None:
        for index in range(size):
            self.request(index % 3, 0.1, index * step, down, index % 7 == 0, "read")

    @rule(
        asked=st.lists(
            st.tuples(st.sampled_from([0.0, 0.0, 0.1, 1.0, 3.0, 11.0]), WAYS, WAYS, st.integers(0, 3)),
            min_size=4,
            max_size=12,
        )
    )
    def around_a_rotation(self, asked: list[tuple[float, float, float, int]]) -> None:
        """Ask again and again around a rotation: many siblings are on their way at once, and overtake each other."""
        self.world.advance(901.0)
        for pause, up, down, kind in asked:
            self.request(kind % 3, up, 0.0 if kind else 0.2, down, kind == 3, "write" if kind == 2 else "read")
            self.world.advance(pause)
        self.request(0, 0.1, 0.0, 0.1, False, "read")
        self.world.advance(36.0)
        self.request(1, 0.1, 0.0, 0.1, False, "read")

    @rule(gap=GAPS)
    def wait(self, gap: float) -> None:
        self.world.advance(gap)

    @rule(node=NODES)
    def renew(self, node: int) -> None:
        """Rotate explicitly, with nothing under way that could be overtaken."""
        self.world.settle()
        self.request(node, 0.1, 0.0, 0.1, False, "rotate")
        self.world.settle()

    @rule(node=NODES, handler=HANDLERS)
    def renew_among_others(self, node: int, handler: float) -> None:
        """Rotate explicitly while slow requests with the old token are running; their answers must set nothing."""
        self.world.settle()
        self.request(node, 0.1, handler, 0.1, False, "write")
        self.request(node, 0.1, handler, 0.1, False, "read")
        self.request(node, 0.3, handler, 0.1, False, "write")  # arrives when the old token is dead already
        self.request(node, 0.2, 0.0, 0.1, False, "rotate")
        self.world.settle()

    @invariant()
    def served(self) -> None:
        """Every request lives, but one whose session was renewed while it was on its way."""
        for one in self.world.served[self.checked :]:
            left = self.world.renewed.get(one.sid)
            assert one.alive or left is not None, "an honest request was refused"
        self.checked = len(self.world.served)
        assert not any(isinstance(event, ReplayDetected) for event in self.world.events), "a false alarm"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.settle()
        self.served()
        for _ in range(3):
            note(f"generation {self.world.generation(self.ada)}")
            assert self.world.ask(self.ada, up=0.1, down=0.1), "the browser was left with a token that is dead"
            self.world.advance(901.0)
        self.world.ask(self.ada, up=0.1, down=0.1)
        self.served()
        assert self.ada.jar is not None
        assert self.world.read(self.ada.jar).generation == self.world.generation(self.ada) > 0, "no successor arrived"


TestHonestBrowser = HonestBrowser.TestCase
TestHonestBrowser.settings = settings(max_examples=3 * settings().max_examples, stateful_step_count=40)
TestHonestBrowser = requirement("R29", "R30", "R31")(TestHonestBrowser)
