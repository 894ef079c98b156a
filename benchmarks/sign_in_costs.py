"""What each way to sign in costs: requests, round trips to session store and vault, hashes of passwords. Counted.

    python -m benchmarks.sign_in_costs            the tables, on the terminal
    python -m benchmarks.sign_in_costs --write    and into docs/explanation/signing-in-costs.md

Nothing here is a time, so every run counts the same, and a test fails if a number grows. What housekeeping does once a
minute (sweeping what has expired, looking at the signing keys) is left out.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any, Final, NamedTuple

import pyotp

from sessile import Sessions
from sessile.auth.codes import Codes
from sessile.auth.ground import Ground
from sessile.auth.passkeys import Passkeys
from sessile.auth.passwords import Passwords, Settings
from sessile.auth.recovery import Recovery
from sessile.auth.tokens import ProofMaker, Proofs, RefreshTokens, TokenPair, Tokens, Verifier, attach
from sessile.auth.totp import Totp
from sessile.auth.users import Account, VaultUsers
from sessile.auth.vaults.memory import MemoryVault
from sessile.core.bridge import drive
from sessile.core.keys import KeyRing
from sessile.core.policy import Policy
from sessile.core.requests import Facts
from sessile.stores.memory import MemoryStore
from tests.support.authenticator import Authenticator

HOST: Final = "id.example"
API: Final = "https://api.example"
ADA: Final = "ada@site.example"
PASSWORD: Final = "three mild herons over Lübeck"
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "signing-in-costs.md"
BEGIN, END = "<!-- tables of benchmarks/sign_in_costs.py -->", "<!-- end of the tables -->"
READS: Final = ("load", "of_user", "get")
WRITES: Final = ("create", "save", "touch", "end", "end_user", "write")
SETTLED: Final = 2 * Policy().grace + 1


class Cost(NamedTuple):
    """Hold what one flow costs."""

    flow: str
    requests: int
    store_reads: int
    store_writes: int
    vault_reads: int
    vault_writes: int
    hashes: int


def _counting(kind: type, prefix: str, counts: Counter[str]) -> Any:
    """Return a store or vault that counts its round trips."""

    def counted(name: str) -> Callable[..., Any]:
        verb = getattr(kind, name)
        what = f"{prefix} {'reads' if name in READS else 'writes'}"

        async def count(self: Any, *given: Any, **named: Any) -> Any:
            counts[what] += 1
            return await verb(self, *given, **named)

        return count

    verbs = {name: counted(name) for name in (*READS, *WRITES) if hasattr(kind, name)}
    return type(f"Counting{kind.__name__}", (kind,), verbs)()


class Application:
    """Hold an application with every way to sign in, and count."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.now = 1_800_000_000.0
        self.posted: Queue[str] = Queue()
        store, vault = _counting(MemoryStore, "store", self.counts), _counting(MemoryVault, "vault", self.counts)
        self.sessions = Sessions(store, keys=KeyRing({0: bytes(range(32))}), sinks=(), clock=lambda: self.now)
        self.ground = Ground(self.sessions, vault)
        self.users = VaultUsers(self.ground)
        self.passwords = Passwords(self.ground, self.users, settings=Settings(time=5, memory=7168, lanes=1))
        self.totp = Totp(self.ground, issuer="Example")
        self.recovery = Recovery(self.ground)
        self.passkeys = Passkeys(self.ground, rp_id=HOST, rp_name="Example", origins=[f"https://{HOST}"])
        self.codes = Codes(self.ground, self.users, self, site="Example", link="https://id.example/link/{token}")
        self.tokens = Tokens(self.ground, issuer=f"https://{HOST}")
        self.refreshing = RefreshTokens(self.tokens)
        self.proofs = Proofs(self.ground)
        attach(self.tokens, audience=API, proofs=self.proofs)
        self._count_hashes()
        account = drive(self.users.create(ADA))
        assert isinstance(account, Account)
        self.user = account.id
        assert self.passwords.set_first(self.user, PASSWORD) is None

    def _count_hashes(self) -> None:
        flow: Any = self.passwords.flow
        checks, makes = flow._is, flow._kept

        def checked(hashed: str, text: str) -> Any:
            self.counts["hashes"] += 1
            return checks(hashed, text)

        async def made(password: str) -> Any:
            self.counts["hashes"] += 1
            return await makes(password)

        flow._is, flow._kept = checked, made

    def send(self, to: str, subject: str, text: str) -> None:
        """Be the post."""
        self.posted.put(text)

    def measured(self, flow: str, run: Callable[[], object]) -> Cost:
        """Count what a flow costs once it is set up."""
        self.counts.clear()
        run()
        return Cost(
            flow,
            *(
                self.counts[name]
                for name in ("requests", "store reads", "store writes", "vault reads", "vault writes", "hashes")
            ),
        )


class Browser:
    """Hold a cookie, and make requests."""

    def __init__(self, app: Application) -> None:
        self.app, self.cookie = app, ""

    def facts(self, **headers: str) -> Facts:
        """Return the facts of a request."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return Facts("POST", "https", HOST, "/", "192.0.2.7", self.cookie, sent.get)

    def ask(self, view: Callable[[Any], Any], **headers: str) -> Any:
        """Make one request: open, view, commit."""
        self.app.counts["requests"] += 1
        session = self.app.sessions.open(self.facts(**headers))
        result = view(session)
        answer = self.app.sessions.commit(session)
        if answer.cookie:
            self.cookie = answer.cookie.partition(";")[0]
        return result

    def sign_in(self) -> Any:
        """Sign in with the password; return what came of it."""
        return self.ask(lambda session: self.app.passwords.sign_in(session, ADA, PASSWORD))


def signing_in() -> list[Cost]:
    """Count the ways to sign in."""
    costs: list[Cost] = []
    app = Application()
    user, passwords = app.user, app.passwords

    def signed_in(verb: Callable[..., Any], *given: Any) -> Browser:
        browser = Browser(app)
        outcome = browser.ask(lambda session: verb(session, *given))
        assert getattr(outcome, "user", None) == user, outcome
        return browser

    costs.append(app.measured("password", lambda: signed_in(passwords.sign_in, ADA, PASSWORD)))
    costs.append(
        app.measured("a wrong password", lambda: Browser(app).ask(lambda one: passwords.sign_in(one, ADA, "wrong")))
    )
    costs.append(
        app.measured(
            "a name that nobody has", lambda: Browser(app).ask(lambda one: passwords.sign_in(one, "x", "wrong"))
        )
    )

    def by_mail() -> None:
        browser = Browser(app)
        browser.ask(lambda session: app.codes.send(session, ADA))
        browser.ask(lambda session: app.codes.use(session, _code_in(app)))

    costs.append(app.measured("a code by e-mail", by_mail))
    key = Authenticator()
    enrolling = signed_in(passwords.sign_in, ADA, PASSWORD)
    options = enrolling.ask(lambda session: app.passkeys.begin_registration(session, name=ADA))
    made = key.create(options, origin=f"https://{HOST}")
    enrolling.ask(lambda session: app.passkeys.finish_registration(session, made))

    def by_passkey() -> None:
        browser = Browser(app)
        asked = browser.ask(app.passkeys.begin_sign_in)
        shown = key.get(asked, origin=f"https://{HOST}")
        browser.ask(lambda session: app.passkeys.finish_sign_in(session, shown))

    costs.append(app.measured("passkey", by_passkey))
    enrolling.ask(lambda session: session.add_factor("passkey"))
    shown = enrolling.ask(lambda session: app.totp.begin(session, account="ada"))
    totp = pyotp.totp.TOTP(shown.key.replace(" ", ""))
    enrolling.ask(lambda session: app.totp.confirm(session, totp.at(int(app.now))))
    app.now += 60
    assert enrolling.ask(lambda session: app.totp.verify(session, totp.at(int(app.now)))).complete
    codes = enrolling.ask(app.recovery.generate)

    def with_second(verb: Callable[..., Any], code: str) -> Browser:
        browser = signed_in(passwords.sign_in, ADA, PASSWORD)
        outcome = browser.ask(lambda session: verb(session, code))
        assert outcome.complete
        return browser

    app.now += 60
    costs.append(app.measured("password, then TOTP", lambda: with_second(app.totp.verify, totp.at(int(app.now)))))
    costs.append(app.measured("password, then a recovery code", lambda: with_second(app.recovery.use, codes[0])))
    app.now += 60
    browser = with_second(app.totp.verify, totp.at(int(app.now)))
    app.now += 60
    costs.append(
        app.measured("step-up by TOTP", lambda: browser.ask(lambda one: app.totp.verify(one, totp.at(int(app.now)))))
    )
    costs.append(
        app.measured(
            "another password", lambda: browser.ask(lambda one: passwords.change(one, "seven brisk otters below Ghent"))
        )
    )
    costs.append(app.measured("a page that asks who it is", lambda: browser.ask(lambda session: session.require())))
    costs.append(app.measured("sign-out", lambda: browser.ask(lambda session: session.logout())))
    return costs


def _code_in(app: Application) -> str:
    found = re.search(r"\d{4} \d{4}", app.posted.get(timeout=30))  # the sender has a thread of its own
    assert found is not None
    return found[0]


def using_tokens() -> list[Cost]:
    """Count what tokens cost."""
    costs: list[Cost] = []
    app = Application()
    browser = Browser(app)
    assert browser.sign_in().complete
    held: dict[str, Any] = {}

    def keep(name: str, verb: Callable[[Any], Any]) -> Callable[[], None]:
        def run() -> None:
            held[name] = browser.ask(verb)

        return run

    client: Any = {"audience": API, "client": "app"}
    browser.ask(lambda session: app.tokens.issue(session, **client))  # the first makes the key
    costs.append(app.measured("an access token", keep("access", lambda one: app.tokens.issue(one, **client))))
    costs.append(app.measured("a first refresh token", keep("pair", lambda one: app.refreshing.issue(one, **client))))
    program = Browser(app)

    def refresh(text: str) -> TokenPair:
        app.counts["requests"] += 1
        answer = app.refreshing.refresh(text, facts=program.facts(), client="app")
        assert isinstance(answer, TokenPair)
        return answer

    pair: TokenPair = held["pair"]
    costs.append(app.measured("refresh: the token is kept", lambda: refresh(str(pair.refresh))))
    app.now += SETTLED
    app.tokens.jwks()

    def rotate() -> None:
        held["next"] = refresh(str(pair.refresh))

    costs.append(app.measured("refresh: a new one comes", rotate))
    assert held["next"].refresh is not None
    access: str = held["next"].access

    def introspect() -> None:
        app.counts["requests"] += 1
        assert app.tokens.introspect(access)["active"]

    costs.append(app.measured("introspection", introspect))
    bearer = f"Bearer {access}"
    ask = lambda: program.ask(lambda session: session.require(), authorization=bearer)  # noqa: E731
    ask()
    costs.append(app.measured("an API request with a token of a refresh token", ask))
    plain = f"Bearer {held['access']}"
    ask_plain = lambda: program.ask(lambda session: session.require(), authorization=plain)  # noqa: E731
    ask_plain()
    costs.append(app.measured("an API request with a token of the session", ask_plain))
    maker = ProofMaker()
    bound: str = browser.ask(lambda session: app.tokens.issue(session, jkt=maker.jkt, **client))

    def prove() -> None:
        proof = maker.proof("POST", f"https://{HOST}/", now=app.now, token=bound)
        program.ask(lambda session: session.require(), authorization=f"DPoP {bound}", dpop=proof)

    costs.append(app.measured("an API request with DPoP", prove))
    verifier = Verifier(
        jwks=app.tokens.jwks,
        ended=lambda: app.tokens.ended().text,
        issuer=f"https://{HOST}",
        audience=API,
        clock=lambda: app.now,
    )
    assert verifier.verify(access) is not None

    def verify() -> None:
        app.counts["requests"] += 1
        assert verifier.verify(access) is not None

    costs.append(app.measured("verifying in another service", verify))

    def revoke() -> None:
        app.counts["requests"] += 1
        assert app.refreshing.revoke(str(held["next"].refresh), "app")

    costs.append(app.measured("revoking a refresh token", revoke))
    return costs


def as_markdown() -> str:
    """Return both tables."""
    head = ("store reads", "store writes", "vault reads", "vault writes")
    lines: list[str] = []
    for title, costs, last in (("signing in", signing_in(), ("argon2id",)), ("with tokens", using_tokens(), ())):
        columns = (title, "requests", *head, *last)
        lines += ["", "| " + " | ".join(columns) + " |", "|---" + "|--:" * (len(columns) - 1) + "|"]
        for cost in costs:
            cells = [cost.flow, *(str(number or "–") for number in cost[1 : len(columns)])]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines[1:])


def main() -> None:
    """Count, print, and write the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page")
    write: bool = parser.parse_args().write
    table = as_markdown()
    print(table)
    if write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    main()
