"""The demo, as a stranger meets it: started by its command, clicked through in Chromium, looked at in screenshots.

Screenshots are written to the folder that SESSILE_SHOTS names, if it is set, for people to look at.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyotp
import pytest

from tests.support.ports import await_port, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

ADA, GRACE = ("ada", "analytical-engine"), ("grace", "nanoseconds-matter")
Visit = Callable[..., "Page"]


@pytest.fixture(scope="module", name="url")
def fixture_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the demo by its command; end it as Ctrl-C does."""
    port, folder = free_port(), tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "sessile", "demo", "--no-browser", "--port", str(port), "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            await_port(port)
            yield f"http://localhost:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=15)
    assert process.returncode == 0, said
    assert ADA[1] in said
    assert f"http://localhost:{port}" in said


@pytest.fixture(name="visit")
def fixture_visit(chromium: Browser, url: str) -> Iterator[Visit]:
    """Return what opens a browser of its own at a page; the consoles must have stayed silent."""
    said: list[str] = []
    contexts = []

    def visit(path: str = "/", *, scheme: str = "light", width: int = 1280) -> Page:
        context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url + path)
        return page

    yield visit
    for context in contexts:
        context.close()
    # A refused sign-in is a 401, which Chromium reports as an error of the page.
    assert [line for line in said if "401" not in line and "422" not in line] == []


def sign_in(page: Page, url: str, who: tuple[str, str] = ADA) -> None:
    """Fill in the form."""
    page.goto(f"{url}/account/sign-in")
    page.fill("input[name=login]", who[0])
    page.fill("input[name=password]", who[1])
    page.click("main form:not(.passkey) button")
    page.wait_for_selector(f"text=Signed in as {who[0]}")


def test_a_stranger_signs_up_with_a_cart_that_survives(visit: Visit, url: str) -> None:
    """Put something into the cart, make an account: the cart came along, and the panel tells the story."""
    page = visit()
    page.wait_for_selector("text=No session")
    page.click("text=Add to cart >> nth=1")
    page.wait_for_selector("#events >> text=session created")
    page.goto(f"{url}/account/sign-up")
    page.fill("input[name=login]", "marie")
    page.fill("input[name=password]", "polonium and radium")
    page.click("main form button[value=password]")
    page.wait_for_selector("text=Signed in as marie")
    page.wait_for_selector("#events >> text=session renewed")
    page.goto(url)
    assert "Together" in page.inner_text("main")
    page.wait_for_selector("#state >> text=Signed in: marie")


def test_one_device_ends_the_other(visit: Visit, url: str) -> None:
    """Two browsers of one user see each other, and one ends the other."""
    here, there = visit(), visit()
    sign_in(here, url)
    sign_in(there, url)
    here.goto(f"{url}/account/devices")
    here.wait_for_selector("text=This device")
    assert here.locator("main .list li").count() >= 2
    here.click("main .row >> text=Sign out")
    here.click("main form button")
    here.wait_for_selector("[role=status]")
    there.goto(f"{url}/account/devices")
    there.wait_for_selector("h1 >> text=Sign in")


def test_a_passkey_is_all_that_somebody_needs(visit: Visit, url: str) -> None:
    """Sign up with a passkey alone, sign out, sign in with it; the vault asks again and takes it."""
    page = visit()
    touch = with_authenticator(page)
    page.goto(f"{url}/account/sign-up")
    page.fill("input[name=login]", "rosalind")
    page.click("main button[value=passkey]")
    page.wait_for_selector("main form[data-sessile-passkey=create] button")
    page.click("main form[data-sessile-passkey=create] button")
    page.wait_for_selector("text=passkey was added")
    page.click("header >> text=Sign out")
    page.wait_for_selector("text=You are signed out")
    touch(False)  # by itself, the page asks for any passkey beside the name, and would take it before it is clicked
    with page.expect_response(lambda response: response.request.method == "POST"):
        page.goto(f"{url}/account/sign-in")

    def reach_out(route: Route) -> None:
        """Touch it from now on: what the page asked for by itself is given up, and nothing else is asked yet."""
        touch(True)
        route.continue_()

    page.route("**/account/**", reach_out)
    page.click("main form[data-sessile-passkey=get] button")
    page.wait_for_selector("text=Signed in as rosalind")
    page.unroute("**/account/**")
    page.wait_for_selector("#events >> text=signed in")
    page.goto(f"{url}/vault")
    page.wait_for_selector("text=Open, because")


def test_a_password_and_a_code_are_two_factors(visit: Visit, url: str) -> None:
    """Add an authenticator app; from then on the password alone opens nothing."""
    page = visit()
    page.goto(f"{url}/account/sign-up")
    page.fill("input[name=login]", "lise")
    page.fill("input[name=password]", "uranium splits in two")
    page.click("main form button[value=password]")
    page.wait_for_selector("text=Signed in as lise")
    page.goto(f"{url}/account/app/new")
    secret = "".join(page.inner_text("main code").split())
    page.fill("input[name=totp], input[name=code]", pyotp.TOTP(secret).now())
    page.click("main form button >> nth=0")
    page.wait_for_selector("[role=status]")
    page.click("header >> text=Sign out")
    page.wait_for_selector("text=You are signed out")
    page.goto(f"{url}/account/sign-in?next=/vault")
    page.fill("input[name=login]", "lise")
    page.fill("input[name=password]", "uranium splits in two")
    page.click("main form:not(.passkey) button")
    page.wait_for_selector("text=One more step")
    page.goto(f"{url}/vault")
    page.wait_for_selector("text=One more step")
    page.wait_for_selector("#state >> text=Sign-in not complete")


def with_authenticator(page: Page) -> Callable[[bool], None]:
    """Plug a virtual authenticator into the browser; return what says whether it is touched when it asks."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})

    def touch(enabled: bool) -> None:
        """Let it be touched whenever it asks, or never."""
        session.send(
            "WebAuthn.setAutomaticPresenceSimulation",
            {"authenticatorId": made["authenticatorId"], "enabled": enabled},
        )

    return touch


def test_the_vault_asks_again(visit: Visit, url: str) -> None:
    """A wrong password at the step-up is refused, the right one opens the door and renews the token."""
    page = visit()
    sign_in(page, url, GRACE)
    page.goto(f"{url}/account/step-up?next=/vault")
    page.fill("input[name=password]", "wrong")
    page.click("main form button >> nth=0")
    page.wait_for_selector("[role=alert]")
    page.fill("input[name=password]", GRACE[1])
    page.click("main form button >> nth=0")
    page.wait_for_selector("text=Open, because")
    page.wait_for_selector("#events >> text=factor added")


def test_signing_out_everywhere_signs_out_everywhere(visit: Visit, url: str) -> None:
    """Both browsers are nobody afterwards, and the back button shows nothing private."""
    here, there = visit(), visit()
    sign_in(here, url, GRACE)
    sign_in(there, url, GRACE)
    here.goto(f"{url}/account/")
    here.click("main >> text=Sign out on all devices")
    here.wait_for_selector("h1 >> text=signed out")
    here.go_back()
    here.wait_for_selector("text=Sign in")
    assert here.locator("text=Recovery codes").count() == 0
    there.goto(f"{url}/account/devices")
    there.wait_for_selector("h1 >> text=Sign in")


def test_a_token_dies_on_the_page_when_its_session_ends(visit: Visit, url: str) -> None:
    """Sign out in another tab, and watch three judges change their minds."""
    page = visit()
    sign_in(page, url)
    page.goto(f"{url}/tokens")
    page.click("text=Give an application tokens")
    for judge in ("introspection", "api", "offline"):
        page.wait_for_selector(f"[data-judge={judge}] >> text=accepted")
    page.click("#use-refresh")
    page.wait_for_selector("text=a new access token")
    other = page.context.new_page()
    other.goto(f"{url}/account/")
    other.click("header >> text=Sign out")
    other.wait_for_selector("text=You are signed out")
    other.close()
    for judge in ("introspection", "api", "offline"):
        page.wait_for_selector(f"[data-judge={judge}].refuses", timeout=60_000)
    page.click("#use-refresh")
    page.wait_for_selector("text=invalid_grant")


def test_attacks_are_told_step_by_step_and_refused(visit: Visit) -> None:
    """Every attack that does not have to wait ends with its verdict on the page."""
    page = visit("/attacks")
    for name in ("fixate", "logout", "garbage", "cross-site", "toss"):
        page.click(f"[data-attack={name}] button")
        page.wait_for_selector(f"[data-attack={name}] .verdict:not(.failed)")
    assert page.locator(".verdict.failed").count() == 0
    page.wait_for_selector("#events >> text=cross site refused")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_overflows_in_any_width_or_scheme(visit: Visit, url: str, scheme: str, width: int) -> None:
    """No page scrolls sideways, every page has one h1, and both schemes are what the system asks for."""
    page = visit("/", scheme=scheme, width=width)
    sign_in(page, url)
    shots = os.environ.get("SESSILE_SHOTS")
    for path in ("/", "/account/", "/account/devices", "/account/activity", "/vault", "/attacks", "/tokens"):
        page.goto(url + path)
        page.wait_for_selector("#state strong", state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("h1").count() == 1, path
        if shots:
            page.screenshot(path=Path(shots) / f"{scheme}-{width}-{path.strip('/').replace('/', '-') or 'home'}.png")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(part) for part in background.removeprefix("rgb(").rstrip(")").split(",")]
    assert (sum(channels) > 600) == (scheme == "light")
