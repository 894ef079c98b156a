"""The account pages on every framework, and a visitor who reads pages and sends the forms that stand on them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx

from sessile import Sessions
from sessile.auth.accounts import Accounts, AsyncAccounts
from sessile.auth.codes import FileMailer
from sessile.auth.pages import AccountPages
from sessile.auth.passwords import Settings
from sessile.core.policy import Policy
from sessile.testing.clock import FrozenClock
from tests.support.authenticator import Authenticator
from tests.support.mounting import FRAMEWORKS, ORIGIN, PREFIX, Browser, served

CHEAP: Final = Settings(time=5, memory=7168, lanes=1)
GOOD: Final = "three mild herons over Lübeck"
OTHER: Final = "seven brisk otters below Ghent"
ALL: Final = FRAMEWORKS


class _Forms(HTMLParser):
    """Collect the forms, links and headings of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({**given, "fields": {}})
        elif tag in ("input", "button") and self.forms and given.get("name"):
            if tag == "input":
                self.forms[-1]["fields"][given["name"]] = given.get("value", "")
        elif tag == "a":
            self.links.append(given.get("href", ""))


class Visitor:
    """Hold one browser: it remembers the page it is on."""

    def __init__(self, browser: Browser, accounts: Any, site: AccountPages, mail: Path, clock: FrozenClock) -> None:
        self.browser, self.accounts, self.site, self.mail, self.clock = browser, accounts, site, mail, clock
        self.reply: httpx.Response | None = None

    @property
    def text(self) -> str:
        """Return the page."""
        assert self.reply is not None
        return self.reply.text

    @property
    def place(self) -> str:
        """Return where the last answer leads, below the mount, or else its address."""
        assert self.reply is not None
        where = self.reply.headers.get("location") or str(self.reply.url)
        parts = urlsplit(where)
        path = parts.path.removeprefix(PREFIX) or "/"
        return path + (f"?{parts.query}" if parts.query else "")

    async def get(self, path: str, **more: Any) -> Visitor:
        """Go to a page of the site, without following where it leads."""
        self.reply = await self.browser.get(PREFIX + path, **more)
        return self

    async def follow(self, times: int = 5) -> Visitor:
        """Go where the last answer leads."""
        for _ in range(times):
            assert self.reply is not None
            where = self.reply.headers.get("location")
            if where is None:
                return self
            assert where.startswith("/"), where
            if not where.startswith(PREFIX):
                return self
            self.reply = await self.browser.get(where)
        return self

    async def send(self, action: str, **fields: str) -> Visitor:
        """Send the form with this action from the page that we are on; hidden fields come along."""
        found = _Forms()
        found.feed(self.text)
        actions = [form.get("action", "") for form in found.forms]
        assert PREFIX + action in actions, (action, actions, self.reply)
        # Several proofs go to one address: the form is the one that has what is sent.
        fitting = [form for form in found.forms if form.get("action") == PREFIX + action]
        form = next((form for form in fitting if fields.keys() - {"way"} <= form["fields"].keys()), fitting[0])
        unknown = fields.keys() - form["fields"].keys() - {"way", "where", "credential"}
        assert not unknown, (unknown, form)
        return await self.post(action, **{**form["fields"], **fields})

    async def post(self, path: str, **fields: str) -> Visitor:
        """Send any form."""
        self.reply = await self.browser.post(PREFIX + path, data=fields)
        return self

    async def sign_up(self, login: str = "ada", password: str = GOOD) -> Visitor:
        """Make an account by name and password."""
        await self.get("/sign-up")
        return await self.send("/sign-up", login=login, password=password)

    async def sign_in(self, login: str = "ada", password: str = GOOD) -> Visitor:
        """Sign in by password."""
        await self.get("/sign-in")
        return await self.send("/sign-in", login=login, password=password)

    async def sign_out(self) -> Visitor:
        """Sign out here."""
        await self.get("/sign-out")
        return await self.send("/sign-out", where="here")

    async def add_passkey(self, key: Authenticator, label: str = "") -> Any:
        """Add a passkey, as the page's script does; return what the site said."""
        options = (await self.post("/passkeys/new/begin")).json()
        await self.post("/passkeys/new", credential=key.create(options, origin=ORIGIN), label=label)
        return self.json()

    async def use_passkey(self, key: Authenticator, path: str = "/sign-in/passkey", **fields: str) -> Any:
        """Sign in or prove once more with a passkey."""
        options = (await self.post(path + "/begin", **fields)).json()
        await self.post(path, credential=key.get(options, origin=ORIGIN), **fields)
        return self.json()

    def json(self) -> Any:
        """Return what the site said to the script."""
        assert self.reply is not None
        return self.reply.json()

    async def is_in(self) -> bool:
        """Tell whether this browser is signed in completely."""
        reply = await self.browser.get(PREFIX + "/activity")
        return reply.status_code == 200

    def forget(self) -> None:
        """Lose the cookies."""
        self.browser.jar.clear()

    def query(self) -> dict[str, str]:
        """Return the query of where the last answer leads."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.place).query).items()}

    def another(self) -> Visitor:
        """Return another browser on the same site."""
        return Visitor(self.browser.another(), self.accounts, self.site, self.mail, self.clock)

    async def mailed(self, subject: str, count: int = 1) -> str:
        """Wait until so many messages with this in their subject came, and return the last one's text."""
        found: list[Any] = []
        for _ in range(2000):
            found = [mail for mail in mails_in(self.mail) if subject in mail["subject"]]
            if len(found) >= count:
                return found[-1].get_payload(decode=True).decode()  # type: ignore[no-any-return]
            await anyio.sleep(0.01)
        raise AssertionError(f"{len(found)} messages came, not {count}")

    async def code(self, count: int = 1) -> str:
        """Return the code of the last message with a code, of so many."""
        found = re.search(r"\d{4} \d{4}", await self.mailed("Your code", count))
        assert found is not None
        return found[0]


def mails_in(folder: Path) -> list[Any]:
    """Return the messages in a folder, the oldest first."""
    return [message_from_bytes(path.read_bytes()) for path in sorted(folder.glob("*.eml"))]


@asynccontextmanager
async def visiting(
    framework: str,
    folder: Path,
    *,
    by_mail: bool = False,
    pages: dict[str, Any] | None = None,
    store: str = "memory://",
    policy: Policy | None = None,
    **options: Any,
) -> AsyncIterator[Visitor]:
    """Serve the pages by a framework; with `by_mail`, messages go to files in `folder`."""
    clock, made = FrozenClock(), {}
    options.setdefault("password_rules", CHEAP)
    if by_mail:
        options["mailer"] = FileMailer(folder)

    def site(door: Any) -> AccountPages:
        kind: Any = Accounts if isinstance(door, Sessions) else AsyncAccounts
        made["accounts"] = kind(door, "memory://", name="Example", origin=ORIGIN, **options)
        made["site"] = AccountPages(made["accounts"], **(pages or {}))
        return made["site"]

    async with served(framework, site, store=store, clock=clock, policy=policy or Policy()) as browser:
        yield Visitor(browser, made["accounts"], made["site"], folder, clock)
