"""The attacks: real HTTP against this very server, by a thief and a victim that the demo plays itself.

Each attack is a generator of steps. A step says who did what, and what came back; the last one says whether the attack
was refused, and why. The victim is a throwaway browser of a demo user, so that the visitor is not signed out.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ..core.ids import TOKEN_CHARS
from ..core.sessions import AsyncSessions
from .panel import COOKIE as VISITOR_COOKIE
from .users import SEEDED

Who = Literal["victim", "attacker", "shop", "verdict"]
FLOOD: Final = 300
FLOOD_IN_PROCESS: Final = 10_000
# Threads of their own: the shop that answers these clients works on the loop's, and must never wait for them.
CLIENTS: Final = ThreadPoolExecutor(max_workers=6, thread_name_prefix="attacker")
AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Step(NamedTuple):
    """Hold one line of the story; `good` tells, for a verdict, that the attack was refused."""

    who: Who
    says: str
    good: bool | None = None
    requirement: str = ""

    def line(self) -> bytes:
        """Return the step as a line of JSON."""
        return json.dumps(self._asdict()).encode() + b"\n"


@dataclass
class Ground:
    """Hold what an attack needs: where the shop listens, its sessions, the calls its store has had, whose panel."""

    address: tuple[str, int]
    sessions: AsyncSessions
    store_calls: Callable[[], int]
    visitor: str

    @property
    def cookie_name(self) -> str:
        """Return the session cookie's name."""
        return self.sessions.engine.cookie.name


class Reply(NamedTuple):
    """Hold one answer."""

    status: int
    token: str | None
    body: bytes

    @property
    def who(self) -> str | None:
        """Return who the shop thinks this is."""
        found: dict[str, str | None] = json.loads(self.body)
        return found["user"]


class Client:
    """Be a browser with a jar of one cookie."""

    def __init__(self, ground: Ground, token: str | None = None) -> None:
        self._ground = ground
        self.token = token

    def copied(self) -> Client:
        """Return a thief's client with a copy of the jar."""
        return Client(self._ground, self.token)

    async def get(self, path: str) -> Reply:
        """Fetch a page."""
        return await self._on_a_thread("GET", path, "", {})

    async def post(self, path: str, body: str = "", **headers: str) -> Reply:
        """Post a form."""
        return await self._on_a_thread("POST", path, body, headers)

    async def whoami(self) -> str | None:
        """Return who the shop thinks this is."""
        return (await self.get("/whoami")).who

    async def sign_in(self) -> None:
        """Sign in as the first demo user."""
        name, password = SEEDED[0]
        await self.post("/account/sign-in", f"login={name}&password={password}")

    async def _on_a_thread(self, method: str, path: str, body: str, headers: dict[str, str]) -> Reply:
        return await asyncio.get_running_loop().run_in_executor(CLIENTS, self._send, method, path, body, headers)

    def _send(self, method: str, path: str, body: str, headers: dict[str, str]) -> Reply:
        host, port = self._ground.address
        cookies = [f"{VISITOR_COOKIE}={self._ground.visitor}"]
        if self.token is not None:
            cookies.append(f"{self._ground.cookie_name}={self.token}")
        sent = {
            "Host": f"localhost:{port}",
            "User-Agent": AGENT,
            "Sec-Fetch-Site": "same-origin",
            "Cookie": "; ".join(cookies),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection = http.client.HTTPConnection(host, port, timeout=20)
        try:
            connection.request(method, path, body or None, sent)
            response = connection.getresponse()
            payload = response.read()
            token: str | None = None
            for value in response.headers.get_all("set-cookie") or ():
                name, _, rest = value.partition("=")
                if name == self._ground.cookie_name:
                    token = rest.partition(";")[0]
                    self.token = token or None
            return Reply(response.status, token, payload)
        finally:
            connection.close()


Story = AsyncIterator[Step]


async def fixate(ground: Ground) -> Story:
    """Plant a known token before the victim signs in."""
    attacker = Client(ground)
    await attacker.post("/cart", "sku=barnacle")
    yield Step("attacker", "Visits the shop and puts a barnacle into a cart. Now I hold a genuine token.")
    victim = attacker.copied()
    yield Step("attacker", "Plants that token in the victim's browser.")
    await victim.sign_in()
    yield Step("victim", "Signs in. The browser still sends the planted token with the form.")
    yield Step("shop", "Signing in gives a new token and a new id; the planted one is dead in the same step.")
    found = await attacker.whoami()
    yield Step("attacker", f"Comes back with the planted token. The shop sees: {found or 'nobody'}.")
    kept = await victim.whoami() == SEEDED[0][0]
    yield _verdict(found is None and kept, "The token you plant is never the one that gets signed in.", "R25")


async def replay_left_behind(ground: Ground) -> Story:
    """Use a copied token after the original has moved on."""
    policy = ground.sessions.engine.policy
    victim = Client(ground)
    await victim.sign_in()
    yield Step("victim", "Signs in and shops.")
    thief = victim.copied()
    yield Step("attacker", f"Copies the cookie, and it works: the shop sees {await thief.whoami()}. Now I wait.")
    async for step in _wait(policy.rotation, "until the token is due for rotation"):
        yield step
    await victim.get("/whoami")
    yield Step("victim", "Goes on shopping. This answer brought the next generation of the token.")
    await victim.get("/whoami")
    yield Step(
        "shop", "The new one was used, so the old one is left behind. It works a moment longer, for late requests."
    )
    async for step in _wait(policy.grace + 1, "until the grace is over"):
        yield step
    found = await thief.whoami()
    yield Step("attacker", f"Uses the copy. The shop sees: {found or 'nobody'}.")
    after = await victim.whoami()
    yield Step("shop", "Somebody holds a copy, and it cannot know who: it ended the session for both.")
    yield _verdict(
        found is None and after is None,
        "A stolen token gives itself away; the victim signs in again, the thief cannot.",
        "R30",
    )


async def replay_after_logout(ground: Ground) -> Story:
    """Use a copied token after the victim signed out."""
    victim = Client(ground)
    await victim.sign_in()
    yield Step("victim", "Signs in.")
    thief = victim.copied()
    yield Step("attacker", "Copies the cookie, and keeps it for later.")
    await victim.post("/sign-out")
    yield Step("victim", "Signs out.")
    found = await thief.whoami()
    yield Step("attacker", f"Uses the copy. The shop sees: {found or 'nobody'}.")
    late = thief.copied()
    reply = await late.post("/cart", "sku=coral")
    yield Step("attacker", f"Tries to write with it. New cookie for me: {'yes' if reply.token else 'no'}.")
    yield _verdict(
        found is None and reply.token is None, "Signed out means signed out, for every copy of the token.", "R61"
    )


async def garbage(ground: Ground) -> Story:
    """Flood the shop with tokens that nobody issued."""
    forged = [f"{number:x}".rjust(TOKEN_CHARS - 1, "A") + "A" for number in range(1, FLOOD + 1)]
    before = ground.store_calls()
    yield Step("attacker", f"Sends {FLOOD} requests, each with another invented token.")
    seen = {await Client(ground, token).whoami() for token in forged}
    calls = ground.store_calls() - before
    yield Step("shop", f"Refused all {FLOOD} by their tag. Calls to the session store: {calls}.")
    read = ground.sessions.engine.is_ours
    start = time.perf_counter()
    accepted = sum(read(forged[number % FLOOD]) for number in range(FLOOD_IN_PROCESS))
    each = (time.perf_counter() - start) / FLOOD_IN_PROCESS * 1e6
    yield Step(
        "shop", f"{FLOOD_IN_PROCESS:,} more, measured without the network: {each:.1f} µs each, {accepted} accepted."
    )
    refused = seen == {None} and calls == 0 and accepted == 0
    yield _verdict(refused, "Guessing costs you the network, and the shop next to nothing.", "R6")


async def cross_site(ground: Ground) -> Story:
    """Make the victim's browser post from another site."""
    victim = Client(ground)
    await victim.sign_in()
    yield Step("victim", "Is signed in, and opens a page of the attacker's.")
    yield Step("attacker", "That page posts a form to the shop, from the victim's browser, cookie and all.")
    reply = await victim.post("/cart", "sku=coral", Sec_Fetch_Site="cross-site", Origin="https://evil.example")
    yield Step("shop", f"The browser itself says where the post came from. Answer: {reply.status}.")
    again = await Client(ground).post("/account/sign-in", "login=mallory&password=x", Sec_Fetch_Site="cross-site")
    yield Step("attacker", f"Then signs the victim in as me, unnoticed? Answer: {again.status}.")
    yield _verdict(
        reply.status == 403 == again.status, "Other sites cannot act here, not even sign somebody in.", "R22"
    )


async def toss(ground: Ground) -> Story:
    """Send a second cookie of the same name."""
    attacker = Client(ground)
    await attacker.post("/cart", "sku=sponge")
    victim = Client(ground)
    await victim.sign_in()
    yield Step("attacker", "Holds a token of my own, and slips it in as a second cookie of the same name.")
    both = Client(ground, f"{attacker.token}; {ground.cookie_name}={victim.token}")
    found = await both.whoami()
    yield Step("shop", f"Two cookies where there can be one: both refused. The shop sees: {found or 'nobody'}.")
    alive = await victim.whoami() == SEEDED[0][0]
    yield Step("victim", "With the one real cookie, still signed in.")
    yield _verdict(found is None and alive, "A planted twin gets nobody's session; a real one is not harmed.", "R21")


class Attack(NamedTuple):
    """Hold an attack as the page lists it."""

    name: str
    title: str
    line: str
    run: Callable[[Ground], Story]


ATTACKS: Final = (
    Attack("fixate", "Fixation", "Plant a token, wait for the sign-in.", fixate),
    Attack(
        "replay",
        "Replay a left-behind token",
        "Copy the cookie, use it after it moved on. Takes half a minute.",
        replay_left_behind,
    ),
    Attack("logout", "Replay after sign-out", "Keep a copy, use it when the victim has left.", replay_after_logout),
    Attack("garbage", "Garbage flood", "Guess tokens, thousands of them.", garbage),
    Attack("cross-site", "Cross-site post", "Let another site's page act here.", cross_site),
    Attack("toss", "Cookie tossing", "Slip in a second cookie.", toss),
)
BY_NAME: Final = {attack.name: attack for attack in ATTACKS}


def _verdict(refused: bool, why: str, requirement: str) -> Step:  # noqa: FBT001
    return Step("verdict", f"Refused. {why}" if refused else f"It worked. That is a bug. {why}", refused, requirement)


async def _wait(seconds: float, what: str) -> Story:
    left = seconds
    while left > 0:
        yield Step("shop", f"Waiting {left:.0f} s {what} …")
        await asyncio.sleep(min(1.0, left))
        left -= 1
