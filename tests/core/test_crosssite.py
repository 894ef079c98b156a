"""The cross-site guard: its table row by row, and what attackers send."""

from __future__ import annotations

from typing import Any

import pytest

from sessile.core.crosssite import CrossSiteGuard
from sessile.core.network import Client
from sessile.errors import ConfigurationError
from tests.core.rig import facts
from tests.support.requirements import requirement

OURS = Client("192.0.2.7", "https", "app.example")
GUARD = CrossSiteGuard(
    trusted_origins=["https://admin.example.org", "http://tool.example:8080"], exempt_paths=["/sso/"]
)


def refused(method: str = "POST", client: Client = OURS, guard: CrossSiteGuard = GUARD, **headers: str) -> bool:
    """Tell whether a request with these headers is refused."""
    return guard.refuses(facts(method=method, **headers), client)


@requirement("R22")
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_safe_methods_pass_from_anywhere(method: str) -> None:
    """They must not act; links from other sites work."""
    assert not refused(method, sec_fetch_site="cross-site", origin="https://evil.example")


@requirement("R22")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "get", "Post", "PURGE", ""])
@pytest.mark.parametrize(
    "site", ["cross-site", "same-site", "Cross-Site", "", "anything", "same-origin, cross-site", "none "]
)
def test_unsafe_methods_from_elsewhere_are_refused(method: str, site: str) -> None:
    """Also from a sibling subdomain, by a method that nobody knows, or with a value that nobody knows."""
    for origin in ({}, {"origin": "https://evil.example"}, {"origin": "https://app.example"}, {"origin": "null"}):
        assert refused(method, sec_fetch_site=site, **origin)


@requirement("R22")
@pytest.mark.parametrize("site", ["same-origin", "none", "Same-Origin", "NONE"])
def test_our_own_pages_and_the_user_pass(site: str) -> None:
    """Browsers say so themselves, and pages cannot set the header."""
    assert not refused(sec_fetch_site=site, origin="https://evil.example")


@requirement("R22")
@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
def test_trusted_origins_pass(site: str | None) -> None:
    """Whole origins, with their ports; letter case of scheme and host does not matter."""
    headers: dict[str, Any] = {} if site is None else {"sec_fetch_site": site}
    for origin in (
        "https://admin.example.org",
        "https://admin.example.org:443",
        "HTTPS://ADMIN.example.org",
        "http://tool.example:8080",
    ):
        assert not refused(origin=origin, **headers)


@requirement("R22")
@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("https://app.example", True),
        ("https://app.example:443", True),
        ("HTTPS://APP.EXAMPLE", True),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://app.example.evil.example", False),
        ("https://evil.example/https://app.example", False),
        ("https://evilapp.example", False),
        ("https://sub.app.example", False),
        ("https://admin.example.org.evil.example", False),
        ("http://admin.example.org", False),
        ("https://tool.example:8080", False),
        ("null", False),
        ("", False),
        ("app.example", False),
        ("//app.example", False),
        ("javascript://app.example", False),
        ("https://", False),
        ("https://[", False),
        ("https://app.example:99999", False),
        ("https://app.example, https://evil.example", False),
        ("https://evil.example\\@app.example", False),
    ],
)
def test_without_fetch_metadata_the_origin_decides(origin: str, passes: bool) -> None:
    """Older browsers send Origin: our own passes, another, a broken one, or "null" does not."""
    assert refused(origin=origin) is not passes


@requirement("R22")
def test_without_either_header_it_is_no_browser() -> None:
    """Every browser sends one of the two with an unsafe method; a script needs no protection from itself."""
    assert not refused()


@requirement("R22")
def test_our_own_origin_is_what_the_client_used() -> None:
    """Host and scheme as they are believed: behind a proxy the public ones."""
    local = Client("127.0.0.1", "http", "localhost:8000")
    assert not refused(client=local, origin="http://localhost:8000")
    assert refused(client=local, origin="http://localhost:3000")
    assert refused(client=Client("", "https", ""), origin="https://")


@requirement("R24")
def test_a_handshake_is_judged_as_unsafe_although_it_is_a_get() -> None:
    """A WebSocket from another site would act with the user's cookie."""
    for headers, passes in (
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://app.example"}, True),
        ({"origin": "null"}, False),
        ({"origin": "https://app.example", "sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({}, True),
    ):
        assert GUARD.refuses_handshake(facts(method="GET", **headers), OURS) is not passes


def test_exempt_paths_take_posts_from_elsewhere_and_nothing_else_does() -> None:
    """By prefix of the path."""
    there = facts(method="POST", sec_fetch_site="cross-site")
    for path, passes in (("/sso/callback", True), ("/sso", False), ("/x/sso/", False), ("/SSO/", False)):
        asked = type(there)(**{name: getattr(there, name) for name in there.__struct_fields__} | {"path": path})
        assert GUARD.refuses(asked, OURS) is not passes


@pytest.mark.parametrize(
    "origin",
    [
        "admin.example.org",
        "https://a.example/path",
        "*",
        "",
        "https://*.example.org/x",
        "ftp://a.example",
        "https://a:99999",
    ],
)
def test_what_is_no_whole_origin_is_an_error_at_start(origin: str) -> None:
    """So that nobody believes that a pattern or a path was listed."""
    with pytest.raises(ConfigurationError, match="no origin"):
        CrossSiteGuard(trusted_origins=[origin])
    with pytest.raises(ConfigurationError, match="begin with /"):
        CrossSiteGuard(exempt_paths=["hook"])
