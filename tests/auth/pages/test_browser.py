"""The account pages in a real Chromium: clicked through, with and without JavaScript, and judged by axe-core."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyotp
import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from sessile import AsyncSessions
from sessile.adapters.sites import asgi
from sessile.adapters.starlette import SessionMiddleware
from sessile.auth.accounts import AsyncAccounts
from sessile.auth.codes import FileMailer
from sessile.auth.pages import AccountPages
from tests.auth.pages.visiting import CHEAP, GOOD, mails_in
from tests.browser.conftest import chromium, context, page, serving  # noqa: F401
from tests.support.node import node_folder
from tests.support.requirements import requirement

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NODE = Path(__file__).parent / "node"
ADA = "ada@site.example"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


class Late:
    """Be an application that is made once its address is known."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve."""
        await self.app(scope, receive, send)


def application(url: str, folder: Path | None, **options: Any) -> Any:
    """Return a shop with account pages; with a folder, messages go there."""
    sessions = AsyncSessions("memory://")
    if folder is not None:
        options["mailer"] = FileMailer(folder)
    accounts = AsyncAccounts(sessions, "memory://", name="My shop", origin=url, password_rules=CHEAP, **options)
    return Starlette(
        routes=[
            Route("/", lambda _: HTMLResponse("<!doctype html><html lang=en><title>Shop</title><h1>The shop</h1>")),
            Mount("/account", asgi(AccountPages(accounts))),
        ],
        middleware=[Middleware(SessionMiddleware, sessions=sessions, login_url="/account/sign-in")],
    )


class Shop:
    """Hold a shop, a tab, and the authenticator of the tab."""

    def __init__(self, url: str, tab: Page, folder: Path) -> None:
        self.url, self.tab, self.folder = url + "/account", tab, folder
        self.tools = tab.context.new_cdp_session(tab)
        self.tools.send("WebAuthn.enable", {"enableUI": False})
        self.authenticator = self.tools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        self.violations: list[str] = []
        tab.on("console", lambda said: self.violations.append(said.text) if "Content Security" in said.text else None)
        tab.on("pageerror", lambda error: self.violations.append(str(error)))

    def go(self, path: str) -> None:
        """Go to a page."""
        self.tab.goto(self.url + path)

    def press(self, name: str) -> None:
        """Press a button or follow a link that looks like one."""
        self.tab.get_by_role("button", name=name, exact=True).or_(
            self.tab.get_by_role("link", name=name, exact=True)
        ).first.click()

    def fill(self, label: str, text: str) -> None:
        """Fill a field in."""
        self.tab.get_by_label(label, exact=True).fill(text)

    def at(self, title: str) -> None:
        """Expect to be on the page with this heading."""
        expect(self.tab.get_by_role("heading", level=1)).to_have_text(title)

    def verified(self, *, is_verified: bool) -> None:
        """Say whether the authenticator recognises its user."""
        named = {"authenticatorId": self.authenticator["authenticatorId"]}
        self.tools.send("WebAuthn.setUserVerified", {**named, "isUserVerified": is_verified})

    def present(self, *, is_present: bool) -> None:
        """Say whether somebody touches the authenticator."""
        named = {"authenticatorId": self.authenticator["authenticatorId"]}
        self.tools.send("WebAuthn.setAutomaticPresenceSimulation", {**named, "enabled": is_present})

    def code(self, count: int) -> str:
        """Return the code of the last of so many messages with one."""
        for _ in range(1000):
            found = [mail for mail in mails_in(self.folder) if "Your code" in mail["subject"]]
            if len(found) >= count:
                return re.search(r"\d{4} \d{4}", found[-1].get_payload())[0]
            self.tab.wait_for_timeout(10)
        raise AssertionError("no message came")

    def app(self) -> pyotp.TOTP:
        """Set an authenticator app up, by the key that the page shows."""
        self.go("/app/new")
        app = pyotp.TOTP(self.tab.locator("code.key").inner_text().replace(" ", ""))
        self.fill("Code from your authenticator app", app.now())
        self.press("Confirm")
        return app


@pytest.fixture
def shop(page: Page, tmp_path: Path) -> Iterator[Shop]:  # noqa: F811
    """Serve a shop where people sign up by name."""
    late = Late()
    with serving(late) as url:
        late.app = application(url, None)
        shop = Shop(url, page, tmp_path)
        yield shop
        assert shop.violations == []


@requirement("R93")
def test_sign_up_with_a_passkey_and_come_back(shop: Shop) -> None:
    """By the button, by what the browser offers beside the name, and not when the authenticator knows its user not."""
    shop.go("/sign-up")
    shop.fill("Name", "ada")
    shop.press("Create account with a passkey")
    shop.at("Add a passkey")
    shop.fill("Name of the passkey (optional)", "Laptop")
    shop.press("Make the passkey")
    expect(shop.tab).to_have_title("Shop")
    shop.go("/passkeys")
    expect(shop.tab.get_by_role("listitem")).to_contain_text("Laptop")

    shop.go("/")
    shop.press("Sign out")
    shop.at("You are signed out")
    shop.verified(is_verified=False)
    shop.present(is_present=False)
    shop.press("Sign in again")
    shop.at("Sign in")
    shop.present(is_present=True)
    shop.press("Sign in with a passkey")
    expect(shop.tab.get_by_role("status")).to_contain_text("Nothing happened")
    shop.verified(is_verified=True)
    shop.press("Sign in with a passkey")
    expect(shop.tab).to_have_title("Shop")

    shop.go("/")
    shop.at("Your account")
    shop.press("Sign out")
    shop.press("Sign in again")  # nobody presses anything more: the browser's own suggestion is taken
    expect(shop.tab).to_have_title("Shop")


def test_everything_but_passkeys_works_without_javascript(chromium: Browser, tmp_path: Path) -> None:  # noqa: F811
    """Sign up, set an app up, sign in with both, change the password, sign out."""
    context = chromium.new_context(java_script_enabled=False)  # noqa: F811
    late = Late()
    with serving(late) as url:
        late.app = application(url, None)
        shop = Shop(url, context.new_page(), tmp_path)
        shop.go("/sign-up")
        expect(shop.tab.get_by_role("button", name="Create account with a passkey")).to_have_count(0)
        shop.fill("Name", "ada")
        shop.fill("Password", GOOD)
        shop.press("Create account")
        shop.go("/")
        shop.at("Your account")
        app = shop.app()
        expect(shop.tab.get_by_role("status")).to_have_text("The authenticator app was added.")
        shop.press("Sign out")
        shop.go("/sign-in")
        shop.fill("Name", "ada")
        shop.fill("Password", "not the right one")
        shop.press("Sign in")
        expect(shop.tab.get_by_role("alert")).to_contain_text("do not belong together")
        expect(shop.tab.get_by_role("alert")).to_be_focused()
        shop.fill("Password", GOOD)
        shop.press("Sign in")
        shop.at("One more step")
        shop.fill("Code from your authenticator app", app.at(int(app.timecode(_now())) * 30 + 30))
        shop.press("Go on")
        shop.go("/password")
        shop.fill("New password", "another four quiet words")
        shop.press("Save the password")
        expect(shop.tab.get_by_role("status")).to_contain_text("The password was changed.")
        assert shop.violations == []
    context.close()


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


class Judge:
    """Look at a page as axe-core and as somebody with a narrow screen does; keep a picture, if asked to."""

    def __init__(self, tab: Page) -> None:
        self.tab = tab
        self.axe = (node_folder(NODE, "node-pages") / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
        self.pictures = os.environ.get("SESSILE_PICTURES")
        self.found: list[str] = []
        self.seen: list[str] = []

    def look(self, name: str) -> None:
        """Judge the page that is shown: light and dark, narrow and wide."""
        self.seen.append(name)
        self.tab.evaluate(self.axe)
        for scheme in ("light", "dark"):
            self.tab.emulate_media(color_scheme=scheme)
            for width in (360, 1280):
                self.tab.set_viewport_size({"width": width, "height": 800})
                where = f"{name}, {scheme}, {width}"
                result = self.tab.evaluate(_JUDGED, (scheme, width) == ("light", 360))
                self.found += [
                    f"{where}: {one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}"
                    for one in result["violations"]
                ]
                self.found += [f"{where}: {text}" for text in self.tab.evaluate(_MEASURED)]
                if self.pictures:
                    self.tab.screenshot(path=f"{self.pictures}/{name}-{scheme}-{width}.png", full_page=True)


# Looked at once more in other colours and at another width, only what depends on them can be different.
_JUDGED = """(isFirst) => axe.run({
  resultTypes: ["violations"], preload: false, iframes: false,
  ...(!isFirst && { runOnly: ["color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable"] }),
})"""

# What axe does not judge: a page that scrolls sideways, and what is too small for a finger.
_MEASURED = """() => {
  const root = document.documentElement, found = [];
  if (root.scrollWidth > root.clientWidth) found.push(`scrolls sideways: ${root.scrollWidth}`);
  for (const one of document.querySelectorAll("button, .button, input:not([type=hidden]), summary, nav a, .brand")) {
    const { height, width } = one.getBoundingClientRect();
    if (height && (height < 44 || width < 44)) found.push(`too small: ${one.outerHTML} ${width} x ${height}`);
  }
  return found;
}"""


def test_every_page_is_accessible_and_fits(chromium: Browser, tmp_path: Path) -> None:  # noqa: F811
    """No violation on any page, light and dark, 360 px and 1280 px."""
    context = chromium.new_context()  # noqa: F811
    context.set_default_timeout(15_000)
    late = Late()
    with serving(late) as url:
        late.app = application(url, tmp_path)
        tab = context.new_page()
        shop, judge = Shop(url, tab, tmp_path), Judge(tab)
        _walk(shop, judge)
        late.app = application(url, None)
        context.clear_cookies()
        _walk_by_name(shop, judge)
        assert shop.violations == []
        blind = Judge(tab)
        tab.goto(
            "data:text/html,<!doctype html><html lang=en><title>x</title><main><h1>x</h1><img src=x><button>x</button>"
            '<p style="color: gray; background: darkgray; width: 2000px">hardly to be read</p></main>'
        )
        blind.look("bad")
    context.close()
    # The judge sees, in every colour and at every width; so that it found nothing says something.
    for what in ("image-alt", "color-contrast", "scrolls sideways", "too small"):
        assert any(what in text for text in blind.found), blind.found
    assert sum("color-contrast" in text for text in blind.found) == 4
    assert judge.found == []
    assert len(judge.seen) == len(set(judge.seen)) >= 30


def _walk(shop: Shop, judge: Judge) -> None:
    """Make an account by mail, and show every page on the way."""
    shop.present(is_present=False)
    for path in ("sign-in", "sign-up", "forgotten", "code", "link", "sign-out", "signed-out?sure=no", "nothing"):
        shop.go("/" + path)
        judge.look(path.partition("?")[0])
    shop.go("/sign-up")
    shop.fill("E-mail address", ADA)
    shop.press("Send the code")
    shop.fill("Code from the e-mail", "1234 5678")
    shop.press("Go on")
    expect(shop.tab.get_by_role("alert")).to_be_focused()
    judge.look("code-wrong")
    shop.fill("Code from the e-mail", shop.code(1))
    shop.press("Go on")
    shop.at("Add a passkey")
    judge.look("passkey-first")
    shop.go("/")
    judge.look("home-new")
    shop.go("/password")
    judge.look("password-first")
    shop.fill("New password", "short")
    shop.press("Save the password")
    judge.look("password-short")
    shop.fill("New password", GOOD)
    shop.press("Save the password")
    shop.go("/app")
    judge.look("app-none")
    shop.go("/app/new")
    judge.look("app-new")
    shop.app()
    shop.at("Prove that it is you")  # an e-mail and an app are two of one kind: the password is due
    judge.look("step-up-password")
    shop.fill("Password", GOOD)
    shop.press("Go on")
    shop.at("Recovery codes")
    judge.look("recovery-none")
    shop.press("Make recovery codes")
    judge.look("recovery-codes")
    recovery = shop.tab.locator(".codes code").all_inner_texts()
    shop.go("/recovery")
    judge.look("recovery")
    shop.go("/app")
    judge.look("app")
    shop.press("Remove " + shop.tab.get_by_role("heading", level=2).first.inner_text())
    judge.look("app-remove")

    _second_device(shop, judge)
    _third_device(shop, judge, recovery)

    shop.go("/passkeys/new")
    shop.at("Add a passkey")
    judge.look("passkey-new")
    shop.fill("Name of the passkey (optional)", "A phone with a rather long name, by somebody who likes to write")
    shop.present(is_present=True)
    shop.press("Make the passkey")
    shop.at("Passkeys")
    judge.look("passkeys")
    shop.tab.get_by_role("link", name=re.compile("^Rename")).click()
    judge.look("passkey-rename")
    shop.go("/step-up?reason=age&next=/account/passkeys")
    judge.look("step-up")
    shop.press("Use a passkey")
    shop.at("Passkeys")
    shop.tab.get_by_role("link", name=re.compile("^Remove")).click()
    judge.look("passkey-remove")
    shop.go("/")
    judge.look("home")
    shop.go("/activity")
    judge.look("activity")


def _second_device(shop: Shop, judge: Judge) -> None:
    """Sign in on another device by a link, and leave it before the second factor."""
    other = shop.tab.context.browser.new_context(
        user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    )
    tab = other.new_page()
    second = Shop(shop.url.removesuffix("/account"), tab, shop.folder)
    second.go("/sign-in")
    second.fill("E-mail address", ADA)
    second.fill("Password", GOOD)
    second.press("Sign in")
    second.at("One more step")
    judge_there = Judge(tab)
    judge_there.look("challenge")
    judge.seen += judge_there.seen
    judge.found += judge_there.found
    shop.go("/devices")
    judge.look("devices")
    shop.tab.get_by_role("link", name=re.compile("^This wasn’t me")).click()
    judge.look("not-me")
    shop.go("/devices")
    shop.tab.get_by_role("link", name=re.compile("^Sign out Firefox")).click()
    judge.look("device-end")
    shop.press("Sign it out")
    expect(shop.tab.get_by_role("status")).to_have_text("Signed out: 1.")
    other.close()


def _third_device(shop: Shop, judge: Judge, recovery: list[str]) -> None:
    """Sign out, and come back by the link in a mail and a recovery code, for a new password."""
    shop.press("Sign out")
    shop.go("/forgotten")
    shop.fill("E-mail address", ADA)
    shop.press("Send the code")
    shop.code(2)
    mail = [mail for mail in mails_in(shop.folder) if "Your code" in mail["subject"]][-1]
    shop.tab.goto(re.search(r"http://\S+", mail.get_payload(decode=True).decode())[0])
    shop.at("Sign in to My shop")
    judge.look("link-here")
    shop.press("Go on")
    shop.at("One more step")
    shop.tab.get_by_text("Other ways").click()
    shop.fill("Recovery code", recovery[0])
    shop.tab.locator("form", has=shop.tab.get_by_label("Recovery code")).get_by_role("button").click()
    shop.at("Choose a new password")
    judge.look("reset")
    shop.fill("New password", "another four quiet words")
    shop.press("Set the new password")
    expect(shop.tab.get_by_role("status").first).to_contain_text("all devices are signed out")
    judge.look("sign-in-reset")
    shop.fill("E-mail address", ADA)
    shop.fill("Password", "another four quiet words")
    shop.press("Sign in")
    shop.tab.get_by_text("Other ways").click()
    shop.fill("Recovery code", recovery[1])
    shop.tab.locator("form", has=shop.tab.get_by_label("Recovery code")).get_by_role("button").click()
    expect(shop.tab).to_have_title("Shop")


def _walk_by_name(shop: Shop, judge: Judge) -> None:
    """Show what is different where accounts have names."""
    shop.go("/sign-in")
    judge.look("sign-in-by-name")
    shop.fill("Name", "ada")
    shop.fill("Password", "wrong")
    shop.press("Sign in")
    judge.look("sign-in-wrong")
    shop.go("/sign-up")
    judge.look("sign-up-by-name")
    shop.fill("Name", "ada")
    shop.fill("Password", GOOD)
    shop.press("Create account")
    shop.go("/step-up?reason=aal")
    judge.look("step-up-more")
