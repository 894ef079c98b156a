"""The demo of single sign-on, as a stranger meets it: two applications, one real provider, what each sign-out did."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.support.node import node_programs
from tests.support.ports import await_port, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PATIENCE = 30_000


class Urls(NamedTuple):
    """Hold where the page and the two applications are."""

    hub: str
    tides: str
    post: str


@pytest.fixture(scope="module", name="urls")
def fixture_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Urls]:
    """Start the demo by its command, which installs the provider first; end it as Ctrl-C does."""
    node_programs()
    port, folder = free_port(), tmp_path_factory.mktemp("sso")
    command = [sys.executable, "-m", "sessile", "demo", "--sso", "--no-browser", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--directory", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "Ctrl-C" in line:
                    break
            found = [re.search(name + r"\s+(http://\S+)", said) for name in ("sign-on", "Tables", "Post")]
            hub, tides, post = (one[1] if one else "" for one in found)
            assert hub, said
            for url in (hub, tides, post):
                parts = urlsplit(url)
                await_port(parts.port or 0, parts.hostname or "")
            yield Urls(hub, tides, post)
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said


@pytest.fixture(name="browser")
def fixture_browser(chromium: Browser) -> Iterator[BrowserContext]:
    """Return a browser of its own."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


def sign_in(context: BrowserContext, url: str, name: str) -> Page:
    """Sign in at an application; the provider asks only who it does not know."""
    page = context.new_page()
    page.goto(url)
    page.click("text=Sign in with the provider")
    page.locator("input[name=login]").or_(page.get_by_text("Signed in as")).first.wait_for()
    if page.locator("input[name=login]").count():
        page.fill("input[name=login]", name)
        page.fill("input[name=password]", "any")
        page.click("button[type=submit]")
    page.wait_for_selector(f"text=Signed in as {name}")
    return page


def test_signing_out_of_one_signs_out_of_both(browser: BrowserContext, urls: Urls) -> None:
    """The page shows both sessions, then none; the other tab finds itself signed out."""
    hub = browser.new_page()
    hub.goto(urls.hub)
    tides = sign_in(browser, urls.tides, "ada")
    post = sign_in(browser, urls.post, "ada")
    hub.wait_for_selector("#place-a .sessions >> text=ada")
    hub.wait_for_selector("#place-b .sessions >> text=ada")
    tides.click("button:text-is('Sign out')")
    tides.click("button >> nth=0")  # the provider asks once more
    tides.wait_for_selector("text=You are signed out of Tide Tables")
    hub.wait_for_selector("#place-b .sessions >> text=Nobody is signed in")
    hub.wait_for_selector("#story >> text=ended 1 session")
    post.reload()
    post.wait_for_selector("text=Sign in with the provider")


def test_leaving_one_leaves_the_other_alone(browser: BrowserContext, urls: Urls) -> None:
    tides = sign_in(browser, urls.tides, "grace")
    post = sign_in(browser, urls.post, "grace")
    tides.click("text=Leave here only")
    tides.wait_for_selector("text=Sign in with the provider")
    post.reload()
    post.wait_for_selector("text=Signed in as grace")


def test_a_receiver_that_is_down_is_shown_and_the_session_here_ends_all_the_same(
    browser: BrowserContext, urls: Urls
) -> None:
    hub = browser.new_page()
    hub.goto(urls.hub)
    hub.click("[data-down=b]")
    hub.wait_for_selector("[data-down=b][aria-pressed=true]")
    tides = sign_in(browser, urls.tides, "lise")
    sign_in(browser, urls.post, "lise")
    tides.click("button:text-is('Sign out')")
    tides.click("button >> nth=0")
    tides.wait_for_selector("text=You are signed out of Tide Tables")
    hub.wait_for_selector("#story .bad >> text=not taken")
    assert hub.locator("#place-b .sessions >> text=lise").count() == 1
    hub.click("[data-down=b]")
    hub.wait_for_selector("[data-down=b][aria-pressed=false]")
