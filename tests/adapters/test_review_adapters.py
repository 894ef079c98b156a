"""What adapters share, attacked: where a redirect may lead, and what a long header may cost."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import pytest

from sessile.adapters.replies import Pages, refusal
from sessile.core import cookies
from sessile.core.requests import Facts
from sessile.errors import StepUpRequired
from tests.support.requirements import requirement


def target(path: str) -> str:
    """Return where the sign-in page is told to go afterwards, for a guarded page at this path."""
    facts = Facts("GET", "https", "app.example", path, "", "", lambda name: "text/html" if name == "accept" else None)
    reply = refusal(StepUpRequired("login"), facts, Pages(login_url="/sign-in"))
    assert reply is not None
    return parse_qs(urlsplit(dict(reply.headers)["location"]).query)["next"][0]


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil.example", "/\r\\evil.example", "/a\\..\\b", ""],
)
def test_a_guarded_path_that_browsers_read_as_another_host_is_not_returned_to(path: str) -> None:
    """`next` is a path of this very host, also as browsers read it: they take a backslash for a slash and drop tabs."""
    assert target(path) == "/"


@pytest.mark.parametrize("path", ["/", "/private", "/a b/ü", "/x/https://evil.example", "/%2f/evil"])
def test_a_path_of_this_host_is_returned_to_as_it_is(path: str) -> None:
    """What names a page of ours survives the way through the sign-in page."""
    assert target(path) == path


@requirement("R6")
def test_a_long_cookie_header_full_of_names_costs_time_in_proportion() -> None:
    """A header that repeats the cookie's name in the midst of other values is refused in one pass over it."""

    def seconds(count: int) -> float:
        header = "x__Host-id=" * count
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            assert cookies.read(header, "__Host-id") is None
            best = min(best, time.perf_counter() - start)
        return best

    # Sixteen times as long: some 16 times as slow, and 256 times if each name copies what stands before it.
    assert seconds(64_000) < 64 * seconds(4_000)
