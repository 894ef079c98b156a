"""One process of people who use their sessions through the real engine: `python -m tests.moving.people` (see `drill`).

Each remembers what was promised to them: who they are, how often they clicked, that they signed out. What is not so is
a violation, and is printed at the end as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from sessile import AsyncSessions, Facts, KeyRing, Policy
from sessile.core.ids import TokenMint
from sessile.errors import StoreError
from tests.moving.crowd import AGENT, BRANCH, seed_of, user_of

CLIENTS = 8


class People:
    """Act as a share of the sessions, and as newcomers."""

    def __init__(self, settings: dict[str, Any]) -> None:
        ring = KeyRing.parse(settings["keys"])
        self.sessions = AsyncSessions(settings["url"], keys=ring, sinks=(), policy=Policy(touch=30))
        self.mint = TokenMint(ring)
        self.mine: list[int] = settings["numbers"]
        self.random = random.Random(settings["seed"])
        self.cookies: dict[int, str] = {}
        self.clicks: dict[int, int] = {}
        self.gone: list[tuple[int, str]] = []
        # Not tried before the end: whoever uses what a sign-in left behind is a thief, and ends what took its place.
        self.renewed: list[str] = []
        self.busy: set[int] = set()
        self.until = time.monotonic() + settings["seconds"]
        self.stop_file = Path(settings["stop"])
        self.pause: float = settings["pause"]
        self.seen: dict[str, int] = {
            "requests": 0, "errors": 0, "signed out of nowhere": 0, "clicks lost": 0, "revived": 0, "sign-outs": 0,
            "sign-ins": 0,
        }  # fmt: skip

    def cookie(self, number: int) -> str:
        """Return the cookie of a session as its browser has it now."""
        if number not in self.cookies:
            self.cookies[number] = f"__Host-id={self.mint.mint(seed_of(number), 0, BRANCH)}"
        return self.cookies[number]

    def facts(self, cookie: str) -> Facts:
        """Return a request."""
        return Facts("POST", "https", "shop.example", "/", "198.51.100.7", cookie, {"user-agent": AGENT}.get)

    def is_over(self) -> bool:
        """Tell whether the drill has asked everybody to stop."""
        return self.stop_file.exists()

    async def work(self) -> None:
        """Use one session after the other."""
        while time.monotonic() < self.until and not self.is_over():
            number = self.random.choice(self.mine)
            if number in self.busy:
                continue
            self.busy.add(number)
            try:
                await self.visit(number)
            except StoreError:
                self.seen["errors"] += 1
            finally:
                self.busy.discard(number)
            self.seen["requests"] += 1
            await asyncio.sleep(self.pause)

    async def visit(self, number: int) -> None:
        """Look, click, sign in anew or sign out."""
        chance = self.random.random()
        if chance < 0.15 and self.gone:
            number, cookie = self.random.choice(self.gone)
            session = await self.sessions.open(self.facts(cookie))
            if session.user_id is not None:
                self.seen["revived"] += 1
            return
        session = await self.sessions.open(self.facts(self.cookie(number)))
        if session.user_id != user_of(number):
            self.seen["signed out of nowhere"] += 1
            self.forget(number)
            return
        if session.get("clicks", 0) < self.clicks.get(number, 0):
            self.seen["clicks lost"] += 1
        if chance < 0.5:
            await self.sessions.commit(session)
        elif chance < 0.9:
            session["clicks"] = session.get("clicks", 0) + 1
            clicks = session["clicks"]
            self.keep(number, await self.sessions.commit(session))
            self.clicks[number] = clicks
        elif chance < 0.96:
            old = self.cookie(number)
            session.login(user_of(number))
            self.keep(number, await self.sessions.commit(session))
            self.renewed.append(old)
            self.seen["sign-ins"] += 1
        elif len(self.mine) > 50:
            old = self.cookie(number)
            session.logout()
            await self.sessions.commit(session)
            self.gone.append((number, old))
            self.forget(number)
            self.seen["sign-outs"] += 1

    def keep(self, number: int, answer: Any) -> None:
        """Keep the cookie of an answer."""
        if answer.cookie is not None:
            self.cookies[number] = answer.cookie.partition(";")[0]

    def forget(self, number: int) -> None:
        """Let a session be."""
        self.mine.remove(number)

    async def check(self) -> None:
        """Look at every session once more: those that live and those that ended."""
        for number in tuple(self.mine):
            session = await self.sessions.open(self.facts(self.cookie(number)))
            if session.user_id != user_of(number):
                self.seen["signed out of nowhere"] += 1
            elif session.get("clicks", 0) < self.clicks.get(number, 0):
                self.seen["clicks lost"] += 1
        for cookie in (*(cookie for _, cookie in self.gone), *self.renewed):
            if (await self.sessions.open(self.facts(cookie))).user_id is not None:
                self.seen["revived"] += 1


async def main() -> None:
    """Read the settings from standard input, work, check, and print what was seen."""
    people = People(json.loads(sys.stdin.read()))
    await asyncio.gather(*(people.work() for _ in range(CLIENTS)))
    await people.check()
    await people.sessions.close()
    print(json.dumps(people.seen))


if __name__ == "__main__":
    asyncio.run(main())
