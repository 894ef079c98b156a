"""What a provider's sign-out costs with a thousand live sessions and with a million: the whole back-channel request.

    python -m benchmarks.sign_out_cells            the table, on the terminal
    python -m benchmarks.sign_out_cells --write    and into docs/explanation/single-sign-out.md

A request is a form with a logout token signed with RS256: parsed, verified, looked up, ended, remembered and answered.
Every user has five sessions, each from a session of its own at the provider.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from joserfc.jwk import KeySet, RSAKey
from joserfc.jws import serialize_compact

from benchmarks.asgi_cells import run
from sessile import Sessions
from sessile.auth.exchange import FORM, Ask
from sessile.auth.ground import Ground, name_of
from sessile.auth.oidc.links import DATA, Known, Link, Links
from sessile.auth.oidc.logout_tokens import EVENT, Expected
from sessile.auth.oidc.receivers import Receivers
from sessile.auth.stored import written
from sessile.auth.vault import Write
from sessile.core import values
from sessile.core.ids import session_id
from sessile.core.record import SCHEMA, Control, Record
from sessile.core.session import Session

ISSUER, CLIENT = "https://login.example", "shop"
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
PER_USER: Final = 5
STEP: Final = 5_000
SAMPLES: Final = 200
NOW: Final = 1_800_000_000.0
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "single-sign-out.md"
BEGIN, END = "<!-- table of benchmarks/sign_out_cells.py -->", "<!-- end of the table -->"


class Published:
    """Be the provider as the receiver knows it."""

    expected = Expected(ISSUER, CLIENT)
    origins = (ISSUER,)

    def __init__(self, key: RSAKey) -> None:
        self._keys = KeySet([RSAKey.import_key(key.as_dict(private=False))])

    async def keys(self, *, again: bool = False) -> KeySet:
        """Return its keys."""
        return self._keys


class Cell:
    """Hold one store with its vault, filled step by step."""

    def __init__(self, kind: str, folder: str) -> None:
        urls = {
            "memory": (f"memory://?capacity={max(SIZES) + 10_000}", "memory://"),
            "sqlite": (f"sqlite:///{folder}/sessions.db", f"sqlite:///{folder}/vault.db"),
        }
        store, vault = urls[kind]
        self.sessions = Sessions(store, clock=lambda: NOW, sinks=())
        self.ground = Ground(self.sessions, vault)
        self.key = RSAKey.generate_key(2048, {"kid": "1", "alg": "RS256", "use": "sig"})
        self.receivers = Receivers(self.ground, {"login": Published(self.key)}, Links(self.ground), patience=60)
        self.filled = 0
        self.named = 0

    def fill(self, size: int) -> None:
        """Put sessions in until there are so many, each with what a sign-in writes down."""
        store, vault = self.sessions.engine.store, self.ground.vault
        for start in range(self.filled, size, STEP):
            writes: list[Write] = []
            for number in range(start, min(size, start + STEP)):
                user = f"user-{number // PER_USER}"
                link = Link("login", ISSUER, user, f"sid-{number}", NOW - 60, user)
                data = {DATA: msgspec.Raw(values.encode(DATA, list(msgspec.to_builtins(link))))}
                control = Control(SCHEMA, NOW, NOW, NOW, user=user)
                record = Record(control, data, NOW, NOW + 3600)
                run(store.create(session_id(number.to_bytes(20, "big")), record))
                known = written(Known(users=(user,)))
                names = [f"oidc-sid:{name_of(f'{ISSUER}{chr(10)}sid-{number}')}"]
                if number % PER_USER == 0:
                    names.append(f"oidc-sub:{name_of(f'{ISSUER}{chr(10)}{user}')}")
                writes += [Write(name, known, 0, None, NOW + 90_000) for name in names]
            assert run(vault.write(*writes))
        self.filled = size

    def token(self, **who: str) -> bytes:
        """Return the body of a request."""
        self.named += 1
        claims = {
            "iss": ISSUER,
            "aud": CLIENT,
            "iat": NOW,
            "exp": NOW + 120,
            "jti": str(self.named),
            "events": {EVENT: {}},
        }
        header = {"alg": "RS256", "kid": "1", "typ": "logout+jwt"}
        text = serialize_compact(header, json.dumps({**claims, **who}), self.key, algorithms=["RS256"])
        return urlencode({"logout_token": text}).encode()

    def cost(self, bodies: list[bytes], ends: int) -> float:
        """Return the median milliseconds of the requests, each of which must end so many sessions."""
        samples: list[float] = []
        for body in bodies:
            before = self.sessions.stats().live if len(samples) % 50 == 0 and self.filled <= 10_000 else None
            ask = Ask(
                "POST", "", "/backchannel/login", Session(self.sessions.engine.rules), {}, {"content-type": FORM}, body
            )
            start = time.perf_counter()
            reply = run(self.receivers.back(ask, "login"))
            samples.append((time.perf_counter() - start) * 1e3)
            assert reply.status == 200, reply
            assert before is None or self.sessions.stats().live == before - ends
        return statistics.median(samples)

    def measure(self, size: int) -> dict[str, Any]:
        """Fill up to `size`, and measure both kinds of sign-out, of users spread over those who came last."""
        first = self.filled // PER_USER
        self.fill(size)
        users = range(first, size // PER_USER)
        users = users[:: max(1, len(users) // (2 * SAMPLES))]
        half = len(users) // 2
        by_sid = [self.token(sub=f"user-{user}", sid=f"sid-{user * PER_USER}") for user in users[:half]]
        by_sub = [self.token(sub=f"user-{user}") for user in users[half:]]
        return {"sessions": size, "sid": self.cost(by_sid, 1), "sub": self.cost(by_sub, PER_USER)}

    def close(self) -> None:
        """Release everything."""
        run(self.ground.close())
        self.sessions.close()


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Return the measurements as a table."""
    lines = [
        "| live sessions | memory: one ends | memory: five of a user | SQLite: one ends | SQLite: five of a user |",
        "|---|---|---|---|---|",
    ]
    for memory, sqlite in zip(rows["memory"], rows["sqlite"], strict=True):
        cells = [f"{row[way]:.2f} ms" for row in (memory, sqlite) for way in ("sid", "sub")]
        lines.append(f"| {memory['sessions']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--most", type=int, default=max(SIZES), help="the largest number of sessions")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {}
    for kind in ("memory", "sqlite"):
        with tempfile.TemporaryDirectory() as folder:
            cell = Cell(kind, folder)
            rows[kind] = []
            for size in SIZES:
                if size <= options.most:
                    rows[kind].append(cell.measure(size))
                    print(kind, rows[kind][-1], flush=True)
            cell.close()
    text = table(rows)
    print(text)
    if options.write:
        page = PAGE.read_text()
        head, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
