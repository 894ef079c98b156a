"""Signing out in a real Chromium: what the user sees, and why the front channel cannot go by cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

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
