"""The client script and the sockets, in a real Chromium with two tabs, under a strict Content-Security-Policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route as Path_
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import sessile.adapters
from sessile import AsyncSessions, Policy
from sessile.adapters.starlette import SessionMiddleware, requires
from sessile.core.events import Event
from tests.browser.conftest import Serve
from tests.support.requirements import requirement

CSP = "default-src 'none'; script-src 'self'; connect-src 'self' ws:; form-action 'self'; base-uri 'none'"
SECRET = "Ada's private page"
SHORT = Policy(idle=6, absolute=600, touch=1, clock_skew=0, grace=1, rotation=60)
SCRIPT = '<script src="/.sessile/session.js" defer data-after="/bye" data-warn="{warn}"></script>'
FILL = """async () => {
    localStorage.setItem("a", "1");
    sessionStorage.setItem("b", "2");
    await (await caches.open("c")).put("/cached", new Response("x"));
    await new Promise((done, failed) => {
        const request = indexedDB.open("d", 1);
        request.onupgradeneeded = () => request.result.createObjectStore("s");
        request.onsuccess = () => { request.result.close(); done(); };
        request.onerror = failed;
    });
}"""
LEFT = """async () => [localStorage.length, sessionStorage.length, (await caches.keys()).length,
    (await indexedDB.databases()).length]"""


def page_of(body: str, *, warn: float | None) -> HTMLResponse:
    """Return a page under a policy that lets no inline code run."""
    script = "" if warn is None else SCRIPT.format(warn=warn)
    html = f"<!doctype html><html lang=en><title>t</title>{script}<body>{body}"
    return HTMLResponse(html, headers={"content-security-policy": CSP})


def application(sessions: AsyncSessions, *, warn: float = 60) -> Starlette:
    """Return a small application with a private page and a socket."""

    async def login(request: Request) -> Response:
        request.session.login("ada")
        return RedirectResponse("/private", 303)

    @requires()
    async def private(_request: Request) -> Response:
        form = '<form data-sessile-logout method=post action="/.sessile/logout"><button>Leave</button></form>'
        return page_of(
            f"<h1>{SECRET}</h1><a href='/away'>away</a>{form}<button data-sessile-logout>Out</button>", warn=warn
        )

    async def bare(_request: Request) -> Response:
        return page_of("<h1>bare</h1>", warn=None)

    async def bye(_request: Request) -> Response:
        return page_of("<h1>bye</h1>", warn=None)

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect:
            pass

    routes = [
        Path_("/login", login),
        Path_("/private", private),
        Path_("/away", bye),
        Path_("/bare", bare),
        Path_("/bye", bye),
        Path_("/", bye),
        WebSocketRoute("/socket", socket),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(SessionMiddleware, sessions=sessions, login_url="/bye", after_logout="/bye", socket_check=0.5)
    return app


@dataclass
class Site:
    """Hold a site that is being served, and what happened on it."""

    url: str
    sessions: AsyncSessions
    events: list[Event]

    def codes(self) -> list[str]:
        """Return the codes of the events so far."""
        return [event.code for event in self.events]


@pytest.fixture(name="site")
def fixture_site(serve: Serve, request: pytest.FixtureRequest) -> Site:
    """Serve the application; a parameter gives it another policy and moment of the warning."""
    policy, warn = getattr(request, "param", (Policy(), 60))
    events: list[Event] = []
    sessions = AsyncSessions("memory://", policy=policy, sinks=(events.append,))
    return Site(serve(application(sessions, warn=warn)), sessions, events)


@pytest.fixture(autouse=True)
def fixture_watchful(context: BrowserContext) -> Iterator[None]:
    """Fail a test in which a page logged an error or violated the policy."""
    said: list[str] = []
    context.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: said.append(str(error.error)))
    yield
    assert [line for line in said if "Content Security Policy" in line or "Error:" in line] == []


def tab(context: BrowserContext, address: str) -> Page:
    """Open another tab, and wait until its script has asked how long the session lives."""
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("() => window.sessile")
    page.wait_for_load_state("networkidle")
    return page


@requirement("R67", "R68")
@pytest.mark.parametrize("button", ["Leave", "Out"])
def test_signing_out_in_one_tab_empties_the_browser_and_the_other_tab_leaves(
    context: BrowserContext, site: Site, button: str
) -> None:
    """At once, by message: the other tab's next poll is minutes away."""
    first = tab(context, f"{site.url}/login")
    second = tab(context, f"{site.url}/private")
    for page in (first, second):
        page.evaluate(FILL)
    [cookie] = context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"]) == ("__Host-id", True, True)
    with first.expect_response("**/.sessile/logout") as answered:
        first.get_by_role("button", name=button).click()
    assert answered.value.all_headers()["clear-site-data"] == '"cache", "cookies", "storage"'
    second.wait_for_url("**/bye", timeout=2000)
    first.wait_for_url("**/bye", timeout=2000)
    assert context.cookies() == []
    for page in (first, second):
        assert page.evaluate(LEFT) == [0, 0, 0, 0]
    assert "session-ended" in site.codes()


def test_without_clear_site_data_the_script_alone_empties_the_browser(context: BrowserContext, serve: Serve) -> None:
    """A browser that does not know the header is emptied all the same, in both tabs."""
    sessions = AsyncSessions("memory://", sinks=(), clear_site_data=())
    url = serve(application(sessions))
    first, second = tab(context, f"{url}/login"), tab(context, f"{url}/private")
    for page in (first, second):
        page.evaluate(FILL)
    with first.expect_response("**/.sessile/logout") as answered:
        first.get_by_role("button", name="Out").click()
    assert "clear-site-data" not in answered.value.all_headers()
    second.wait_for_url("**/bye")
    first.wait_for_url("**/bye")
    for page in (first, second):
        assert page.evaluate(LEFT) == [0, 0, 0, 0]


def test_browsers_without_broadcasts_are_told_through_storage(context: BrowserContext, site: Site) -> None:
    """The other tab leaves at once there too."""
    context.add_init_script("delete window.BroadcastChannel")
    first = tab(context, f"{site.url}/login")
    second = tab(context, f"{site.url}/private")
    first.get_by_role("button", name="Out").click()
    second.wait_for_url("**/bye", timeout=2000)


@requirement("R19")
def test_the_back_button_shows_nothing_private_after_a_sign_out(context: BrowserContext, site: Site) -> None:
    """The page was never stored, so going back asks the server, and the server knows nobody."""
    page = tab(context, f"{site.url}/login")
    page.get_by_text("away").click()
    page.wait_for_url("**/away")
    other = tab(context, f"{site.url}/private")
    other.get_by_role("button", name="Out").click()
    other.wait_for_url("**/bye")
    page.go_back()
    page.wait_for_url("**/bye?next=/private&reason=login")
    assert SECRET not in page.content()
    other.go_back()
    assert SECRET not in other.content()


def test_a_page_from_the_back_forward_cache_is_hidden_and_loaded_anew(context: BrowserContext, site: Site) -> None:
    """What the browser kept alive is not shown as it was."""
    page = tab(context, f"{site.url}/login")
    context.clear_cookies()
    hidden = page.evaluate(
        """() => {
            window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
            return document.documentElement.hidden;
        }"""
    )
    assert hidden
    page.wait_for_url("**/bye?next=/private&reason=login")


@requirement("R40")
@pytest.mark.parametrize("site", [(SHORT, 4)], indirect=True)
def test_the_user_is_warned_before_the_idle_limit_and_can_stay(context: BrowserContext, site: Site) -> None:
    """The dialog comes in both tabs; one click keeps the session, and the other tab's dialog goes too."""
    first = tab(context, f"{site.url}/login")
    second = tab(context, f"{site.url}/private")
    dialogs = [page.get_by_role("dialog") for page in (first, second)]
    for dialog in dialogs:
        expect(dialog).to_be_visible(timeout=6000)
        expect(dialog).to_contain_text("You will be signed out in")
    stay = dialogs[0].get_by_role("button", name="Stay signed in")
    expect(stay).to_be_focused()
    stay.click()
    for dialog in dialogs:
        expect(dialog).to_be_hidden(timeout=2000)
    first.wait_for_timeout(4500)  # past the limit that was extended: first use + 6 s + 1 s of tolerance
    assert first.evaluate("fetch('/private').then((reply) => reply.url)") == f"{site.url}/private"


@requirement("R33", "R40")
@pytest.mark.parametrize("site", [(SHORT, 4)], indirect=True)
def test_asking_for_the_status_keeps_no_session_alive(context: BrowserContext, site: Site) -> None:
    """The script polls, the user does nothing: the session ends at its idle limit, and the page is left."""
    page = tab(context, f"{site.url}/login")
    expect(page.get_by_role("dialog")).to_be_visible(timeout=6000)
    page.wait_for_url("**/bye", timeout=12000)
    reasons = [str(getattr(event, "reason", "")) for event in site.events]
    assert "idle" in reasons


@pytest.mark.parametrize("site", [(SHORT, 4)], indirect=True)
def test_an_application_can_warn_in_its_own_way(context: BrowserContext, site: Site) -> None:
    """The event says how many seconds are left; prevented, it shows no dialog."""
    context.add_init_script(
        """document.addEventListener("sessile:expiring", (event) => {
            event.preventDefault();
            window.left = event.detail;
        })"""
    )
    page = tab(context, f"{site.url}/login")
    page.wait_for_function("() => window.left > 0", timeout=6000)
    assert page.evaluate("window.left") <= 4
    page.wait_for_timeout(1500)
    expect(page.get_by_role("dialog")).to_be_hidden()


@requirement("R61")
def test_signing_out_works_when_fetch_does_not(context: BrowserContext, site: Site) -> None:
    """The page posts a form instead, and the session ends all the same."""

    def only_pages(route: Route) -> None:
        if route.request.resource_type == "fetch":
            route.abort()
        else:
            route.continue_()

    page = tab(context, f"{site.url}/login")
    page.evaluate(FILL)
    page.route("**/.sessile/logout", only_pages)
    page.get_by_role("button", name="Out").click()
    page.wait_for_url("**/bye")
    assert context.cookies() == []
    assert page.evaluate(LEFT) == [0, 0, 0, 0]
    assert "session-ended" in site.codes()


def socket_on(page: Page) -> None:
    """Open a socket in a page, and note how it ends."""
    page.evaluate(
        """() => new Promise((opened, failed) => {
            const socket = new WebSocket("/socket".replace(/^/, location.origin.replace("http", "ws")));
            socket.onopen = () => socket.send("hello");
            socket.onmessage = (event) => { window.echoed = event.data; opened(); };
            socket.onclose = (event) => { window.over = [event.code, event.reason]; failed(window.over); };
        })"""
    )
    assert page.evaluate("window.echoed") == "hello"


@requirement("R24")
def test_an_open_socket_is_closed_when_its_session_ends(context: BrowserContext, site: Site) -> None:
    """Chromium sees code 1008 at once, in a tab that runs no script of ours."""
    page = tab(context, f"{site.url}/login")
    other = context.new_page()
    other.goto(f"{site.url}/bare")
    socket_on(other)
    page.get_by_role("button", name="Out").click()
    other.wait_for_function("() => window.over", timeout=2000)
    assert other.evaluate("window.over") == [1008, "session ended"]


@requirement("R24")
@pytest.mark.parametrize("site", [(SHORT, 4)], indirect=True)
def test_an_open_socket_does_not_outlive_the_idle_limit(context: BrowserContext, site: Site) -> None:
    """Nobody ends the session, it runs out: the next check closes the socket."""
    page = context.new_page()
    page.goto(f"{site.url}/login")
    page.goto(f"{site.url}/bare")
    socket_on(page)
    page.wait_for_function("() => window.over", timeout=12000)
    assert page.evaluate("window.over") == [1008, "session ended"]


def test_the_script_is_small_and_depends_on_nothing() -> None:
    """It is served as it is written."""
    path = Path(str(sessile.adapters.__file__)).with_name("session.js")
    source = path.read_text(encoding="utf-8")
    assert len(source) <= 4096
    assert not any(word in source for word in ("import ", "require(", "eval(", "innerHTML", "http://", "https://"))
