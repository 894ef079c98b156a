"""A thief and a victim never both live past the next rotation, whatever the thief does with copies and successors.

The bound, exactly. The thief copied a jar. A later generation is first used at F. After F + grace, each of them makes
a request; the later of these is at T. Past T + grace at most one of them is served. (Clocks that differ by s move each
of the two bounds by s.) A thief who never comes back is not told apart, and has nothing from it.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.properties.world import Action, Client, World
from tests.support.requirements import requirement

WAYS = st.sampled_from([0.0, 0.1, 2.0, 12.4, 45.0])
HANDLERS = st.sampled_from([0.0, 0.0, 0.1, 15.0, 29.9, 30.1, 200.0])
GAPS = st.sampled_from([0.01, 1.0, 5.0, 12.5, 25.0, 31.0, 36.0, 61.0, 300.0, 870.0, 901.0, 3600.0])
NODES = st.integers(0, 2)
ACTIONS: st.SearchStrategy[Action] = st.sampled_from(["read", "read", "write"])


class Thief(RuleBasedStateMachine):
    """Let a thief copy the jar at any time, keep every token ever handed out, and use any of them at any time."""

    @initialize(interval=st.sampled_from([60.0, 900.0]))
    def begin(self, interval: float) -> None:
        self.world = World(interval=interval, skews=(-2.5, 0.0, 2.5))
        self.ada, self.thief = Client("ada"), Client("thief")
        self.world.sign_in(self.ada)
        self.stolen_at = 0.0
        self.stolen_generation = -1

    @rule(node=NODES, up=WAYS, handler=HANDLERS, down=WAYS, dropped=st.booleans(), action=ACTIONS)
    def victim_asks(self, node: int, up: float, handler: float, down: float, dropped: bool, action: Action) -> None:
        self.world.send(self.ada, node=node, up=up, handler=handler, down=down, dropped=dropped, action=action)

    @rule()
    def thief_copies_the_jar(self) -> None:
        assert self.ada.jar is not None
        self.thief.take(self.ada.jar)
        self.stolen_at = self.world.now
        self.stolen_generation = self.world.read(self.ada.jar).generation

    @precondition(lambda self: self.thief.jar)
    @rule(
        node=NODES,
        up=WAYS,
        handler=HANDLERS,
        which=st.integers(0, 9),
        hoards=st.booleans(),
        dropped=st.booleans(),
        action=ACTIONS,
    )
    def thief_asks(
        self, node: int, up: float, handler: float, which: int, hoards: bool, dropped: bool, action: Action
    ) -> None:
        """Use the newest token (0), or one of the older ones; put what is handed out into the jar, or only keep it."""
        token = self.thief.kept[-1 - which % len(self.thief.kept)] if which else None
        self.world.send(
            self.thief,
            token=token,
            node=node,
            up=up,
            handler=handler,
            dropped=dropped,
            action=action,
            ignores_cookie=hoards,
        )

    @precondition(lambda self: self.thief.jar)
    @rule(times=st.integers(2, 8), pause=st.sampled_from([1.0, 5.0, 12.5, 31.0]), thief_first=st.booleans())
    def both_poll_in_step(self, times: int, pause: float, thief_first: bool) -> None:
        pair = (self.thief, self.ada) if thief_first else (self.ada, self.thief)
        for _ in range(times):
            for one in pair:
                self.world.send(one, up=0.05, down=0.05)
            self.world.advance(pause)

    @precondition(lambda self: self.thief.jar)
    @rule(times=st.integers(1, 3), pause=st.sampled_from([0.1, 5.0, 31.0]), rests=st.sampled_from([31.0, 901.0]))
    def thief_comes_behind_rotations(self, times: int, pause: float, rests: float) -> None:
        """Watch the victim, and come just between the answer that rotates and its first use."""
        for _ in range(times):
            self.world.settle()
            self.world.advance(901.0)
            before = self.world.generation(self.ada)
            self.world.send(self.ada, up=0.05, down=0.05)
            self.world.advance(pause)
            if self.world.generation(self.ada) > before:
                self.world.send(self.thief)
            self.world.advance(pause)
            self.world.send(self.ada, up=0.05, down=0.05)
            self.world.advance(rests)
            self.world.send(self.ada, up=0.05, down=0.05)

    @rule(who=st.sampled_from(["ada", "thief"]))
    def somebody_renews_the_session(self, who: str) -> None:
        client = self.ada if who == "ada" else self.thief
        if client.jar is not None:
            self.world.send(client, action="rotate")

    @rule(gap=GAPS)
    def wait(self, gap: float) -> None:
        self.world.advance(gap)

    @invariant()
    def never_both(self) -> None:
        """Hold both of them to the bound."""
        world = self.world
        slack = world.grace + world.spread
        for sid in {one.sid for one in world.served}:
            uses = [
                at
                for (of, generation), at in world.first_seen.items()
                if of == sid and generation > self.stolen_generation
            ]
            if not uses or self.stolen_generation < 0:
                continue
            told_apart = max(min(uses), self.stolen_at) + slack
            met = [one for one in world.served if one.sid == sid and one.at > told_apart]
            firsts = [next((one.at for one in met if one.who == name), None) for name in ("ada", "thief")]
            if None in firsts:
                continue
            over = max(at for at in firsts if at is not None) + slack
            living = {one.who for one in met if one.alive and one.at > over}
            assert len(living) < 2, "thief and victim live side by side"

    @invariant()
    def left_behind_is_dead(self) -> None:
        """No token of an older generation opens anything once its successor was in use for the grace."""
        world = self.world
        for one in world.served:
            used = [at for (sid, g), at in world.first_seen.items() if sid == one.sid and g > one.generation]
            if one.alive and used:
                assert one.at <= min(used) + world.grace + world.spread, "a token that was left behind opened a session"

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()
            self.never_both()
            self.left_behind_is_dead()


TestThief = Thief.TestCase
TestThief.settings = settings(max_examples=4 * settings().max_examples, stateful_step_count=30)
TestThief = requirement("R29", "R30", "R42")(TestThief)
