"""What reads headers takes any text: no parser of cookies, addresses, origins or agents ever raises."""

from __future__ import annotations

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from sessile.core import binding, cookies
from sessile.core.crosssite import CrossSiteGuard
from sessile.core.network import Client, Proxies, is_loopback_host, parse_address, prefix
from sessile.core.requests import Facts
from tests.support.requirements import requirement

TEXT = st.text(max_size=120)
CHARACTERS = st.text(alphabet=';, ="\\[]:%./@#?\t\r\n\x00-_*abcHost019é\ud800', max_size=80)
ANY = TEXT | CHARACTERS
FORWARDED = st.text(alphabet='for=proto;host,"[]:._ 0192abcdefx\\', max_size=120)
GUARD = CrossSiteGuard(trusted_origins=["https://admin.example.org"], exempt_paths=["/hook"])


def facts(method: str = "POST", peer: str = "10.0.0.1", host: str = "app.example", **headers: str) -> Facts:
    """Return the facts of a request with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Facts(method, "http", host, "/", peer, "", named.get)


@requirement("R6", "R21")
@given(ANY, st.sampled_from(["__Host-id", "id", "a"]))
@example("__Host-id", "__Host-id")
@example("__Host-id=", "__Host-id")
@example(";__Host-id=x", "__Host-id")
def test_reading_cookies_takes_any_text(header: str, name: str) -> None:
    """A header is read into a value that stands in it, None, or the mark of a duplicate."""
    value = cookies.read(header, name)
    if isinstance(value, str):
        assert f"{name}={value}" in header or value == ""
        assert ";" not in value


@requirement("R21")
@given(ANY, ANY, ANY)
def test_a_cookie_is_found_among_any_others_and_never_chosen_among_two(before: str, value: str, after: str) -> None:
    """A pair between semicolons is found exactly, unless the rest of the header holds the name as well."""
    value = value.replace(";", "").strip(" \t")
    header = f"{before}; __Host-id={value}; {after}"
    others = [part.strip(" \t") for part in f"{before};{after}".split(";")]
    read = cookies.read(header, "__Host-id")
    if any(part.startswith("__Host-id=") for part in others):
        assert read is cookies.DUPLICATE
    else:
        assert read == value


@given(ANY)
def test_header_merging_takes_any_text(text: str) -> None:
    """What an application has put into Vary and Cache-Control never breaks the answer, nor loses its meaning."""
    vary = cookies.vary_on("Cookie", text)
    assert vary == "*" or "cookie" in vary.lower()
    assert "no-store" in cookies.uncacheable(text, sets_cookie=True)
    kept = cookies.uncacheable(text, sets_cookie=False).lower()
    assert "no-store" in kept or "private" in kept


@requirement("R22")
@given(ANY, ANY, ANY, ANY)
def test_the_guard_takes_any_text(site: str, origin: str, host: str, method: str) -> None:
    """Any headers are judged, and only what proves to be ours passes as unsafe."""
    asked = facts(method, host=host, sec_fetch_site=site, origin=origin)
    client = Client("10.0.0.1", "https", host)
    GUARD.refuses(asked, client)
    if site.lower() not in ("same-origin", "none") and "admin.example.org" not in origin.lower():
        assert GUARD.refuses_handshake(asked, client)


@given(FORWARDED | ANY, FORWARDED | ANY, ANY, ANY, st.sampled_from(["x-forwarded", "forwarded"]))
def test_proxies_take_any_text(forwarded: str, proto: str, host: str, peer: str, header: str) -> None:
    """Whatever is forwarded, there is a client: an address or the peer, and a scheme that is http or https."""
    proxies = Proxies(["10.0.0.0/8", "unix"], header=header)  # type: ignore[arg-type]
    headers = {
        "x_forwarded_for": forwarded,
        "x_forwarded_proto": proto,
        "x_forwarded_host": host,
        "forwarded": forwarded,
    }
    for connected in ("10.0.0.1", "", peer):
        client = proxies.client(facts(peer=connected, **headers))
        assert client.scheme in ("http", "https")
        assert client.address == connected or ipaddress.ip_address(client.address)


@given(ANY)
def test_addresses_and_hosts_take_any_text(text: str) -> None:
    """A text is an address or is not; the network that is remembered has a fixed size."""
    parse_address(text)
    is_loopback_host(text)
    assert len(prefix(text)) in (0, 4, 9)


@given(ANY, ANY)
def test_agents_take_any_text(agent: str, hint: str) -> None:
    """Families come from a closed list: nothing of a header is ever repeated."""
    browser, platform = binding.family(agent, hint)
    known = {name for _, name in binding._AGENTS} | {"Other", ""}
    assert browser in known
    assert platform in {name for _, name in binding._PLATFORMS} | {""}
