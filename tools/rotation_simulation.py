"""Simulate token rotation under four schemes, and write the table and the plot of docs/explanation/rotation.md.

    previous   the previous token is accepted for a grace time, and is theft later; the successor is handed out once, or
               (repeated) again to whoever comes with the previous token within the grace
    derived    every answer hands out the one successor that is derived from the token; the previous token is accepted
               until the successor is confirmed, and for a grace time after
    newcomer   every answer hands out its own sibling; the last newcomer wins at once
    settling   every answer hands out its own sibling, and they settle: sessile.core.rotation itself, not a copy

One browser: bursts of parallel requests, idle gaps, a network that delays and reorders, slow handlers, answers that are
lost. A thief copies the jar once and then behaves like another browser, polls, polls in step with a polling victim, or
comes only in the moment between an answer that rotates and its first use.

    python -m tools.rotation_simulation                     the table, on the terminal
    python -m tools.rotation_simulation --write             and into the documentation, with the plot
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

from sessile.core import rotation
from sessile.core.ids import Token
from sessile.core.record import SCHEMA, Control
from sessile.core.rotation import Standing

INTERVAL: Final = 900.0
GRACE: Final = 30.0
SPAN: Final = 20_000.0
DROPS: Final = (0.0, 0.01, 0.15)
PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "rotation.md"
BEGIN, END = "<!-- table of tools/rotation_simulation.py -->", "<!-- end of the table -->"

Value = tuple[int, int]  # generation, branch


class Scheme(Protocol):
    """Hold the server's state of one session under one scheme."""

    ended: bool

    def first(self) -> Value:
        """Return the token that the sign-in hands out."""
        ...

    def load(self, token: Value, now: float) -> bool:
        """Judge a token; tell whether it is served, and end the session if it says theft."""
        ...

    def commit(self, token: Value, loaded_at: float, now: float) -> Value | None:
        """Return the token that the answer hands out, if any."""
        ...


class Previous:
    """Accept the previous token for a grace time: the usual advice."""

    def __init__(self, *, repeated: bool = False) -> None:
        self.ended = False
        self.repeated = repeated
        self.present, self.rotated_at = 0, 0.0

    def first(self) -> Value:
        """Return the first token."""
        return 0, 0

    def load(self, token: Value, now: float) -> bool:
        """Accept the present token, and the previous one for the grace."""
        behind = self.present - token[0]
        if behind == 0 or (behind == 1 and now - self.rotated_at <= GRACE):
            return True
        self.ended = True
        return False

    def commit(self, token: Value, loaded_at: float, now: float) -> Value | None:
        """Rotate when due; if repeated, hand the present token to whoever came with the previous one."""
        if now - loaded_at > GRACE:
            return None
        if token[0] == self.present:
            if now - self.rotated_at < INTERVAL:
                return None
            self.present, self.rotated_at = self.present + 1, now
            return self.present, 0
        return (self.present, 0) if self.repeated else None


class Derived:
    """Hand out one successor that everybody can derive, until it is confirmed."""

    def __init__(self) -> None:
        self.ended = False
        self.present, self.rotated_at = 0, 0.0
        self.first_seen: float | None = 0.0

    def first(self) -> Value:
        """Return the first token."""
        return 0, 0

    def load(self, token: Value, now: float) -> bool:
        """Accept the present token, and the previous one until the grace after its confirmation."""
        behind = self.present - token[0]
        if behind == 0:
            if self.first_seen is None:
                self.first_seen = now
            return True
        if behind == 1 and (self.first_seen is None or now - self.first_seen <= GRACE):
            return True
        self.ended = True
        return False

    def commit(self, token: Value, loaded_at: float, now: float) -> Value | None:
        """Rotate when due and confirmed; hand the successor out while nobody has used it."""
        if now - loaded_at > GRACE:
            return None
        if token[0] == self.present:
            if self.first_seen is None or now - self.rotated_at < INTERVAL:
                return None
            self.present, self.rotated_at, self.first_seen = self.present + 1, now, None
            return self.present, 0
        return (self.present, 0) if self.first_seen is None and token[0] == self.present - 1 else None


class Newcomer:
    """Hand out siblings; the last one that was never seen before wins at once."""

    def __init__(self) -> None:
        self.ended = False
        self.generation, self.rotated_at = 0, 0.0
        self.head: int | None = 0
        self.first_seen = 0.0
        self.left: dict[Value, float] = {}
        self.branches = count(1)

    def first(self) -> Value:
        """Return the first token."""
        return 0, 0

    def load(self, token: Value, now: float) -> bool:
        """Accept the head and any newcomer; what was overtaken, for the grace."""
        generation, branch = token
        left = self.left.get(token)
        if generation == self.generation and left is None:
            if self.head is None:
                self.first_seen = now
            elif self.head != branch:
                self.left[generation, self.head] = now
            self.head = branch
            return True
        if left is None and generation == self.generation - 1:
            if self.head is None:
                return True
            left = self.first_seen
        if left is not None and generation >= self.generation - 1 and now - left <= GRACE:
            return True
        self.ended = True
        return False

    def commit(self, token: Value, loaded_at: float, now: float) -> Value | None:
        """Rotate when due; hand a sibling to whoever came with the previous token while nobody uses the new one."""
        if now - loaded_at > GRACE or token in self.left:
            return None
        if token[0] == self.generation:
            if self.head != token[1] or now - self.rotated_at < INTERVAL:
                return None
            self.generation, self.rotated_at, self.head = self.generation + 1, now, None
        elif self.head is not None or token[0] != self.generation - 1:
            return None
        return self.generation, next(self.branches)


class Settling:
    """Let siblings settle: the functions that the engine itself calls."""

    def __init__(self) -> None:
        self.ended = False
        self.branches = count(1)
        line = rotation.begun(_branch(0), now=0.0)
        self.control = Control(SCHEMA, 0.0, 0.0, 0.0, line=line)
        self.standings: dict[tuple[Value, float], Standing] = {}

    def first(self) -> Value:
        """Return the first token."""
        return 0, 0

    def load(self, token: Value, now: float) -> bool:
        """Ask the rule."""
        standing, self.control = rotation.judge(self.control, _token(token), now=now, grace=GRACE)
        self.standings[token, now] = standing
        self.ended = standing is Standing.REPLAY
        return not self.ended

    def commit(self, token: Value, loaded_at: float, now: float) -> Value | None:
        """Rotate when due; hand a sibling to whoever is owed one, as the engine does."""
        loaded = self.standings.get((token, loaded_at))
        if now - loaded_at > GRACE or loaded not in (Standing.LIVE, Standing.SUCCEEDED):
            return None
        standing = rotation.judge(self.control, _token(token), now=loaded_at, grace=GRACE).standing
        if standing is Standing.LIVE:
            if not rotation.is_due(self.control, loaded_at=loaded_at, interval=INTERVAL, grace=GRACE):
                return None
            self.control = rotation.rotated(self.control, now=now)
        elif standing is not Standing.SUCCEEDED:
            return None
        return self.control.generation, next(self.branches)


def _branch(number: int) -> bytes:
    return (number + 1).to_bytes(6, "big")


def _token(value: Value) -> Token:
    return Token(b"", value[0], _branch(value[1]))


@dataclass(slots=True)
class Round:
    """Run one session, from the sign-in to the end of the span or of the session."""

    scheme: Scheme
    draw: random.Random
    drop: float
    now: float = 0.0
    jars: dict[str, Value] = field(default_factory=dict)
    queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    order: Any = field(default_factory=count)
    handed: Callable[[], None] | None = None

    def run(self, *behaviours: Callable[[Round], None]) -> bool:
        """Run to the end; tell whether the session was ended."""
        self.jars["victim"] = self.scheme.first()
        for behaviour in behaviours:
            behaviour(self)
        while self.queue:
            self.now, _, what = heapq.heappop(self.queue)
            if self.now > SPAN:
                break
            what()
            if self.scheme.ended:
                return True
        return False

    def after(self, delay: float, what: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self.queue, (self.now + delay, next(self.order), what))

    def way(self) -> float:
        """Draw how long a message travels: some are held up for up to two seconds."""
        return self.draw.uniform(0.02, 0.15) if self.draw.random() < 0.85 else self.draw.uniform(0.15, 2.0)

    def ask(self, who: str, *, slow: bool = True) -> None:
        """Send a request with the jar's token of now."""
        token = self.jars[who]
        handler = 0.03
        if slow and self.draw.random() < 0.2:
            handler = 10 ** self.draw.uniform(-0.3, 2.3)
        self.after(self.way(), lambda: self._arrive(who, token, handler))

    def _arrive(self, who: str, token: Value, handler: float) -> None:
        if self.scheme.load(token, self.now):
            loaded_at = self.now
            self.after(handler, lambda: self._leave(who, token, loaded_at))

    def _leave(self, who: str, token: Value, loaded_at: float) -> None:
        successor = self.scheme.commit(token, loaded_at, self.now)
        if successor is None:
            return
        if who == "victim" and self.handed is not None:
            self.handed()
        if self.draw.random() >= self.drop:
            self.after(self.way(), lambda: self.jars.__setitem__(who, successor))


def browses(who: str) -> Callable[[Round], None]:
    """Behave like a person: bursts of 1-6 parallel requests, gaps of seconds to tens of minutes."""

    def behave(one: Round) -> None:
        def burst() -> None:
            for _ in range(one.draw.randint(1, 6)):
                one.ask(who)
            one.after(10 ** one.draw.uniform(0.3, 3.2) if one.draw.random() < 0.5 else one.draw.uniform(1, 20), burst)

        one.after(one.draw.uniform(0, 5), burst)

    return behave


def polls(who: str, every: float) -> Callable[[Round], None]:
    """Ask again and again."""

    def behave(one: Round) -> None:
        def poll() -> None:
            one.ask(who, slow=False)
            one.after(every, poll)

        one.after(0.0, poll)

    return behave


def comes_behind_rotations(who: str) -> Callable[[Round], None]:
    """Come once a rotation, just after the answer that rotates, when nobody has used the new token yet."""

    def behave(one: Round) -> None:
        one.handed = lambda: one.after(0.0, lambda: one.ask(who, slow=False)) if who in one.jars else None

    return behave


def steals(behaviour: Callable[[Round], None]) -> Callable[[Round], None]:
    """Copy the jar once, in the first half of the span, and then behave."""

    def behave(one: Round) -> None:
        def steal() -> None:
            one.jars["thief"] = one.jars["victim"]
            behaviour(one)

        one.after(one.draw.uniform(0, SPAN / 2), steal)

    return behave


SCHEMES: Final[dict[str, tuple[str, Callable[[], Scheme]]]] = {
    "previous": ("previous token accepted for a grace, then theft (the usual advice)", Previous),
    "repeated": ("the same, and the successor is handed out again meanwhile", partial(Previous, repeated=True)),
    "derived": ("one derived successor for everybody", Derived),
    "newcomer": ("siblings, the last newcomer wins at once", Newcomer),
    "settling": ("**siblings that settle (Sessile)**", Settling),
}
THIEVES: Final[dict[str, tuple[Callable[[Round], None], ...]]] = {
    "another browser": (browses("victim"), steals(browses("thief"))),
    "polls every second": (browses("victim"), steals(polls("thief", 1.0))),
    "both poll in step": (polls("victim", 5.0), steals(polls("thief", 5.0))),
    "comes behind rotations": (browses("victim"), steals(comes_behind_rotations("thief"))),
}


def simulate(rounds: int, thefts: int, seed: int) -> dict[str, dict[str, int]]:
    """Return, for each scheme, how many honest sessions were ended per drop rate, and how many thefts were not."""
    total = len(SCHEMES) * (len(DROPS) * rounds + len(THIEVES) * thefts)
    done, began = 0, time.monotonic()
    table: dict[str, dict[str, int]] = {}
    for name, (_, make) in SCHEMES.items():
        row = table[name] = {}
        for drop in DROPS:
            label = f"honest, {drop:.0%} lost"
            row[label] = 0
            for number in range(rounds):
                draw = random.Random(f"{seed} honest {drop} {number}")
                row[label] += Round(make(), draw, drop).run(browses("victim"))
                done += 1
                _progress(done, total, began, f"{name}: {label}")
        for label, behaviours in THIEVES.items():
            row[label] = 0
            for number in range(thefts):
                draw = random.Random(f"{seed} {label} {number}")
                row[label] += not Round(make(), draw, 0.01).run(*behaviours)
                done += 1
                _progress(done, total, began, f"{name}: {label}")
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return table


def _progress(done: int, total: int, began: float, what: str) -> None:
    if not sys.stderr.isatty():
        if done % max(1, total // 10) == 0:
            print(f"{done:,} of {total:,} rounds", file=sys.stderr)
    elif done % 10 == 0 or done == total:
        left = (time.monotonic() - began) / done * (total - done)
        print(f"\r{done / total:4.0%}  {what:<44} {left:4.0f} s left ", end="", file=sys.stderr, flush=True)


def as_markdown(table: dict[str, dict[str, int]], rounds: int, thefts: int) -> str:
    """Return the two tables of the page."""
    lost = [f"honest, {drop:.0%} lost" for drop in DROPS]
    lines = [
        f"Honest sessions that were ended, of {rounds:,} each, by how many of the answers get lost on the way:",
        "",
        "| scheme | " + " | ".join(f"{drop:.0%} lost" for drop in DROPS) + " |",
        "|---|" + "--:|" * len(DROPS),
        *(
            f"| {SCHEMES[name][0]} | " + " | ".join(f"{row[one]:,}" for one in lost) + " |"
            for name, row in table.items()
        ),
        "",
        f"Thefts that were **not** ended within {SPAN:,.0f} s, of {thefts:,} each, by what the thief does:",
        "",
        "| scheme | " + " | ".join(THIEVES) + " |",
        "|---|" + "--:|" * len(THIEVES),
        *(
            f"| {SCHEMES[name][0]} | " + " | ".join(f"{row[one]:,}" for one in THIEVES) + " |"
            for name, row in table.items()
        ),
    ]
    return "\n".join(lines)


def write(table: dict[str, dict[str, int]], rounds: int, thefts: int, seed: int) -> None:
    """Put the table into the page, the numbers beside it, and draw the plot."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{as_markdown(table, rounds, thefts)}\n{END}{after}")
    numbers = {"seed": seed, "rounds": rounds, "thefts": thefts, "table": table}
    PAGE.with_suffix(".json").write_text(json.dumps(numbers, indent=2) + "\n")
    plot(table, rounds, thefts, PAGE.with_suffix(".svg"))


def plot(table: dict[str, dict[str, int]], rounds: int, thefts: int, path: Path) -> None:
    """Draw both tables as bars, one panel each."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update(
        {"svg.hashsalt": "sessile", "font.family": "sans-serif", "font.size": 10, "svg.fonttype": "path"}
    )
    short = {
        "previous": "previous for a grace",
        "repeated": "the same, repeated",
        "derived": "derived successor",
        "newcomer": "newcomer wins",
        "settling": "settling (Sessile)",
    }
    colours = {
        "previous": "#c2410c",
        "repeated": "#e58a5c",
        "derived": "#d9a441",
        "newcomer": "#7b8fa6",
        "settling": "#0f766e",
    }
    panels = (
        ("Honest sessions logged out by rotation", [f"honest, {drop:.0%} lost" for drop in DROPS], rounds),
        ("Thefts that went on unnoticed", list(THIEVES), thefts),
    )
    figure, axes = plt.subplots(2, 1, figsize=(9.0, 7.4), facecolor="white")
    for axis, (title, labels, of) in zip(axes, panels, strict=True):
        for offset, (name, row) in enumerate(table.items()):
            shares = [100 * row[label] / of for label in labels]
            places = [position + (offset - 2) * 0.17 for position in range(len(labels))]
            bars = axis.bar(places, shares, 0.15, color=colours[name], label=short[name])
            axis.bar_label(bars, [_share(share) for share in shares], fontsize=8, padding=2)
        names = [label.replace("honest, ", "").replace("lost", "of answers lost") for label in labels]
        axis.set_xticks(range(len(labels)), names)
        axis.set_title(f"{title}, % of {of:,}", loc="left", fontsize=11, fontweight="bold")
        axis.set_ylim(0, 112)
        axis.set_yticks(range(0, 101, 25))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=5, loc="lower center", fontsize=9)
    figure.tight_layout(h_pad=2.0, rect=(0, 0.04, 1, 1))
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _share(percent: float) -> str:
    return "0" if not percent else "< 0.1" if percent < 0.1 else f"{percent:.2g}" if percent < 99.5 else "100"


def main() -> int:
    """Simulate, print the table, and say with the exit status whether our row is all zeros."""
    parser = argparse.ArgumentParser(description="Simulate token rotation under four schemes.")
    parser.add_argument("--rounds", type=int, default=1000, help="honest sessions per scheme and loss rate")
    parser.add_argument("--thefts", type=int, default=300, help="thefts per scheme and thief")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the page's table, its numbers and its plot")
    asked = parser.parse_args()
    table = simulate(asked.rounds, asked.thefts, asked.seed)
    print(as_markdown(table, asked.rounds, asked.thefts))
    if asked.write:
        write(table, asked.rounds, asked.thefts, asked.seed)
    return int(any(table["settling"].values()))


if __name__ == "__main__":
    sys.exit(main())
