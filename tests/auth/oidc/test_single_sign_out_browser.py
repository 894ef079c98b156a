"""Signing out in a real Chromium: what the user sees, and why the front channel cannot go by cookies."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest

pytest.importorskip("playwright")
pytest.importorskip("joserfc")

from playwright.sync_api import expect

from sessile.auth.oidc.links import link_of
from sessile.core.bridge import drive
from tests.auth.oidc.sign_on_app import HOME, OP, SSO, Shops, applications
from tests.browser.conftest import chromium, context, page, serving  # noqa: F401
from tests.support.requirements import requirement

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COOKIES: Final = (
    "lax=1; Path=/; SameSite=Lax; HttpOnly",
    "strict=1; Path=/; SameSite=Strict",
    "none=1; Path=/; SameSite=None; Secure",
    "__Host-none=1; Path=/; SameSite=None; Secure",
    "partitioned=1; Path=/; SameSite=None; Secure; Partitioned",
    "bare=1; Path=/",
)


def answering(html: str, *cookies: str, asked: list[dict[str, str]] | None = None) -> Any:
    """Return an application that answers everything with one page, and keeps the headers of what it was asked."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] == "/favicon.ico":
            return
        if asked is not None:
            asked.append({name.decode(): value.decode() for name, value in scope["headers"]})
        lines = [("content-type", "text/html"), *(("set-cookie", cookie) for cookie in cookies)]
        headers = [(name.encode(), value.encode()) for name, value in lines]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": html.encode()})

    return app


@requirement("R74")
def test_no_cookie_of_an_application_reaches_a_frame_on_the_providers_page(page: Page) -> None:  # noqa: F811
    """Each kind of cookie is sent to the application itself, and none of them into the provider's frame."""
    asked: list[dict[str, str]] = []
    with serving(answering("<p>signed out</p>", *COOKIES, asked=asked), "127.0.0.2") as application:
        frame = f'<!doctype html><iframe src="{application}/frontchannel?iss=x&amp;sid=y"></iframe>'
        with serving(answering(frame), "127.0.0.3") as provider:
            page.goto(application)
            page.goto(application)
            sent = asked[-1]["cookie"]
            assert all(cookie.partition(";")[0] in sent for cookie in COOKIES)
            page.goto(provider)
            expect(page.frame_locator("iframe").locator("p")).to_have_text("signed out")
    framed = asked[-1]
    assert framed["sec-fetch-dest"] == "iframe"
    assert framed["sec-fetch-site"] == "cross-site"
    assert "cookie" not in framed


# -- the whole way -----------------------------------------------------------------------------------------------------


ADDRESSES: Final = {
    "a": ("starlette", "127.0.0.2"),
    "b": ("flask", "127.0.0.3"),
    "c": ("wsgi", "127.0.0.4"),
}


class Window:
    """Hold a browser's profile and one tab, in front of the applications."""

    def __init__(self, browser: Any, shops: Shops) -> None:
        self.shops = shops
        self.profile = browser.new_context()
        self.profile.set_default_timeout(30_000)
        # The provider's pages name a font elsewhere; nothing is fetched from there.
        self.profile.route(lambda url: "127.0.0." not in url, lambda route: route.abort())
        self.tab = self.profile.new_page()

    def sign_in(self, name: str, user: str | None = None) -> None:
        """Follow the link; without a user, the provider must know who it is."""
        self.tab.goto(self.shops.apps[name].origin + HOME)
        self.tab.get_by_role("link", name="Sign in").click()
        if user is not None:
            self.tab.get_by_placeholder("Enter any login").fill(user)
            self.tab.get_by_placeholder("and password").fill("anything")
            self.tab.get_by_role("button", name="Sign-in").click()
        expect(self.tab).to_have_title(name)
        expect(self.tab.locator("#who")).not_to_have_text("nobody")

    def is_in(self, *names: str) -> list[bool]:
        """Tell at which applications somebody is signed in."""
        found: list[bool] = []
        for name in names:
            self.tab.goto(self.shops.apps[name].origin + HOME)
            found.append(self.tab.locator("#who").inner_text() != "nobody")
        return found

    def sign_out(self, name: str, answer: str, at: str = HOME) -> str:
        """Press the button on a page, answer the provider, and return what the application says then."""
        self.tab.goto(self.shops.apps[name].origin + at)
        self.tab.get_by_role("button", name="Sign out", exact=True).click()
        self.tab.get_by_role("button", name=answer).click()
        expect(self.tab).to_have_title("Signed out")
        return self.tab.locator("body").inner_text()


@pytest.fixture(scope="module")
def shops() -> Iterator[Shops]:
    """Serve three applications and their provider."""
    with applications(ADDRESSES) as shops:
        yield shops


@requirement("R69", "R72", "R73")
def test_a_click_at_one_application_signs_this_browser_out_everywhere(chromium: Any, shops: Shops) -> None:  # noqa: F811
    """Browser 1 at A, B and C; browser 2 at A and B: first "No, stay signed in", then "Yes"."""
    first, second = Window(chromium, shops), Window(chromium, shops)
    first.sign_in("a", "ada")
    first.sign_in("b")
    first.sign_in("c")
    second.sign_in("a", "ada")
    second.sign_in("b")
    said = first.sign_out("a", "No, stay signed in")
    assert "You are signed out of this application." in said
    assert "It does not say whether your session there has ended" in said
    assert first.is_in("a", "b", "c") == [False, True, True]
    first.sign_in("a")
    # The ready-made page has a policy for what its form may lead to, which Chromium applies to redirects, too.
    said = first.sign_out("a", "Yes, sign me out", f"{SSO}/logout")
    assert "You are signed out of this application." in said
    assert first.is_in("a", "b", "c") == [False, False, False]
    assert second.is_in("a", "b") == [True, True]
    assert [cookie["name"] for cookie in first.profile.cookies(shops.apps["a"].origin)] == []
    for window in (first, second):
        window.profile.close()


def test_a_policy_that_lets_forms_end_here_only_stops_the_way_to_the_provider(chromium: Any, shops: Shops) -> None:  # noqa: F811
    """The session has ended, and the browser goes nowhere: `form-action` must name the provider, as our page's does."""
    window = Window(chromium, shops)
    window.sign_in("c", "cyd")
    refused: list[str] = []
    window.tab.on("console", lambda said: refused.append(said.text) if "form-action" in said.text else None)
    policy = "<meta http-equiv=Content-Security-Policy content=\"form-action 'self'\">"
    window.tab.route(
        shops.apps["c"].origin + HOME,
        lambda route: route.fulfill(
            content_type="text/html",
            body=f'{policy}<form method=post action="{SSO}/logout"><button>Sign out</button></form>',
        ),
    )
    window.tab.goto(shops.apps["c"].origin + HOME)
    window.tab.get_by_role("button").click()
    for _ in range(300):
        if refused:
            break
        window.tab.wait_for_timeout(100)
    assert "The request has been blocked" in refused[0]
    window.tab.unroute_all()
    assert window.is_in("c") == [False]
    window.profile.close()


@requirement("R74")
def test_the_front_channel_ends_the_session_that_it_names_and_only_in_the_store(
    chromium: Any,  # noqa: F811
    shops: Shops,
) -> None:
    """A frame brings no cookie; issuer and sid find the session, and the next visit is nobody's."""
    window = Window(chromium, shops)
    window.sign_in("b", "bob")
    application = shops.apps["b"]
    [(_, record)] = drive(application.sessions.engine.index.of_user(window.tab.locator("#who").inner_text()))
    link = link_of(record)
    assert link is not None
    query = urlencode({"iss": link.issuer, "sid": link.sid or ""})
    address = f"{application.origin}{SSO}/frontchannel/{OP}?{query}"
    with serving(answering(f'<!doctype html><iframe src="{escape(address)}"></iframe>'), "127.0.0.8") as stranger:
        window.tab.goto(stranger)
        expect(window.tab.locator("iframe")).to_have_count(1)
        # The policy shows the answer to the provider's pages alone; what was asked for has happened before that.
        assert all("Signed out" not in frame.title() for frame in window.tab.frames)
    assert window.is_in("b") == [False]
    window.profile.close()
