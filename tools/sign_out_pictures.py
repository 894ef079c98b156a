"""Draw the pictures of docs/explanation/single-sign-out.md: who tells whom, one picture for each way to sign out.

    python -m tools.sign_out_pictures          write them
    python -m tools.sign_out_pictures --check  fail if what stands there is something else

A picture brings its own background, so it reads the same on a light page and on a dark one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final, Literal, NamedTuple

PLACE: Final = Path(__file__).resolve().parent.parent / "docs" / "explanation"
WIDTH: Final = 760
TOP: Final = 62
STEP: Final = 40
INK, DIM, GOOD, BAD = "#1f2933", "#6b7785", "#0f766e", "#b42318"

Kind = Literal["plain", "end", "lost", "note"]


class Step(NamedTuple):
    """Hold one arrow, or, from an actor to itself, what happens there."""

    source: int
    target: int
    text: str
    kind: Kind = "plain"


class Picture(NamedTuple):
    """Hold a picture: what it shows in one sentence, who takes part, and what happens in which order."""

    name: str
    title: str
    actors: tuple[str, ...]
    steps: tuple[Step, ...]


PICTURES: Final = (
    Picture(
        "sign-out-rp-initiated",
        "RP-initiated: the user signs out at A, and through the provider everywhere",
        ("Browser", "A", "Provider", "B"),
        (
            Step(0, 1, "POST /logout"),
            Step(1, 1, "A’s session ends first, confirmed", "end"),
            Step(1, 0, "303 to the provider: id_token_hint, state"),
            Step(0, 2, "GET end_session_endpoint"),
            Step(2, 2, "asks the user; the provider’s session ends", "end"),
            Step(2, 3, "POST /backchannel: logout token (sid of B)"),
            Step(3, 3, "B’s session ends before B answers", "end"),
            Step(3, 2, "200, no-store"),
            Step(2, 1, "POST /backchannel: already out, 200"),
            Step(2, 0, "303 to A’s /logged-out with state"),
            Step(0, 1, "GET /logged-out: state checked, the truth shown"),
        ),
    ),
    Picture(
        "sign-out-back-channel",
        "Back-channel: the provider tells each application, without the browser",
        ("Provider", "/backchannel/<provider>", "Vault", "Sessions"),
        (
            Step(0, 1, "POST logout_token=eyJ…"),
            Step(1, 1, "form, size, typ, alg, key, signature, claims", "note"),
            Step(1, 2, "jti used before? which sessions have (iss, sid) or (iss, sub)?"),
            Step(1, 3, "end each of them"),
            Step(3, 1, "confirmed, or not", "end"),
            Step(1, 2, "remember the jti and the sign-out: one write"),
            Step(1, 0, "200; 400 refused; 503 not confirmed: send it again"),
        ),
    ),
    Picture(
        "sign-out-front-channel",
        "Front-channel: the provider’s page loads a frame of each application",
        ("Browser", "Provider", "B"),
        (
            Step(0, 1, "GET end_session_endpoint"),
            Step(1, 0, "page with <iframe src=B/frontchannel?iss=…&sid=…>"),
            Step(0, 2, "GET in a frame: browsers send no cookie of B", "lost"),
            Step(2, 2, "iss and sid name one session: it ends; otherwise nothing", "end"),
            Step(2, 0, "200, no-store; the old cookie stays in the jar, dead"),
        ),
    ),
    Picture(
        "sign-out-everywhere",
        "Sign out everywhere: all sessions of the user here, then the provider’s",
        ("Browser 1", "A", "Browser 2", "Provider"),
        (
            Step(0, 1, "POST /logout everywhere=1"),
            Step(1, 1, "all of the user’s sessions at A end, their tokens too", "end"),
            Step(2, 1, "next request of browser 2: signed out", "lost"),
            Step(1, 0, "303 to the provider"),
            Step(0, 3, "GET end_session_endpoint: browser 1’s session there ends"),
            Step(2, 3, "browser 2’s session at the provider lives on", "note"),
        ),
    ),
)


def drawn(picture: Picture) -> str:
    """Return a picture as SVG."""
    height = TOP + STEP * (len(picture.steps) + 1) + 6
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" aria-labelledby="t"><title id="t">{escape(picture.title)}</title>',
        "<style>text{font:13px system-ui,sans-serif}.h{font-weight:600;font-size:14px}</style>",
        *(_head(name, colour) for name, colour in (("plain", INK), ("lost", BAD))),
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff" stroke="#c9d1d9"/>',
        *_actors(picture.actors, height),
    ]
    for number, step in enumerate(picture.steps):
        lines += _step(step, TOP + STEP * (number + 1), len(picture.actors))
    return "\n".join([*lines, "</svg>", ""])


def _head(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
        f' orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{colour}"/></marker>'
    )


def _x(actor: int, actors: int) -> float:
    return WIDTH * (2 * actor + 1) / (2 * actors)


def _actors(names: tuple[str, ...], height: int) -> Iterator[str]:
    for number, name in enumerate(names):
        x = _x(number, len(names))
        wide = max(90, 9 * len(name) + 16)
        yield f'<line x1="{x:g}" y1="44" x2="{x:g}" y2="{height - 10}" stroke="#c9d1d9"/>'
        yield (
            f'<rect x="{x - wide / 2:g}" y="14" width="{wide}" height="30" rx="5" fill="#e6f4f1" stroke="{GOOD}"/>'
            f'<text class="h" x="{x:g}" y="34" text-anchor="middle" fill="{INK}">{escape(name)}</text>'
        )


def _step(step: Step, y: int, actors: int) -> Iterator[str]:
    colour = {"plain": INK, "end": GOOD, "lost": BAD, "note": DIM}[step.kind]
    left, right = _x(step.source, actors), _x(step.target, actors)
    if step.source == step.target:
        yield f'<circle cx="{left:g}" cy="{y - 4}" r="5" fill="{colour}"/>'
        yield _text(step.text, left, y - 14, colour)
        return
    head = "lost" if step.kind == "lost" else "plain"
    dash = ' stroke-dasharray="5 4"' if step.kind in ("lost", "note") else ""
    back = -1 if left > right else 1
    yield (
        f'<line x1="{left + 4 * back:g}" y1="{y - 4}" x2="{right - 4 * back:g}" y2="{y - 4}" stroke="{colour}"'
        f' stroke-width="1.5"{dash} marker-end="url(#{head})"/>'
    )
    yield _text(step.text, (left + right) / 2, y - 12, colour)


def _text(text: str, x: float, y: int, colour: str) -> str:
    """Write a text centred at x, moved so far that it stays inside the picture."""
    half = 3.5 * len(text) + 8
    x = min(max(x, half), WIDTH - half)
    halo = 'stroke="#ffffff" stroke-width="4" paint-order="stroke"'
    return f'<text x="{x:g}" y="{y}" text-anchor="middle" fill="{colour}" {halo}>{escape(text)}</text>'


def main() -> int:
    """Write the pictures, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true")
    check: bool = parser.parse_args().check
    stale = False
    for picture in PICTURES:
        path, text = PLACE / f"{picture.name}.svg", drawn(picture)
        if check:
            stale = stale or not path.is_file() or path.read_text() != text
        else:
            path.write_text(text)
    if stale:
        sys.stderr.write("the pictures are not what this tool draws: python -m tools.sign_out_pictures\n")
    return int(stale)


if __name__ == "__main__":
    raise SystemExit(main())
