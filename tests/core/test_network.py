"""Who is really asking: forged headers, chains of proxies, and how addresses are written."""

from __future__ import annotations

from typing import Any

import pytest

from sessile.core.network import MAX_HOPS, Client, Proxies, is_loopback_host, parse_address, prefix
from sessile.errors import ConfigurationError
from tests.core.rig import facts
from tests.support.requirements import requirement

ONE = Proxies(["10.0.0.1"])
TWO = Proxies(["10.0.0.0/8", "2001:db8:1::/48"])
RFC7239 = Proxies(["10.0.0.0/8"], header="forwarded")


def client(proxies: Proxies, peer: str = "10.0.0.1", **headers: str) -> Client:
    """Return who is asking, over a plain connection from `peer`."""
    return proxies.client(facts(peer=peer, scheme="http", host="inner", **headers))


def address(proxies: Proxies, forwarded: str, peer: str = "10.0.0.1") -> str:
    """Return the believed address for an X-Forwarded-For."""
    return client(proxies, peer, x_forwarded_for=forwarded).address


def test_nothing_is_believed_until_a_proxy_is_configured() -> None:
    """The default trusts nobody, whatever the headers say."""
    spoof = {
        "x_forwarded_for": "1.2.3.4",
        "x_forwarded_proto": "https",
        "x_forwarded_host": "evil",
        "forwarded": "for=1.2.3.4",
    }
    assert not Proxies()
    assert client(Proxies(), **spoof) == ("10.0.0.1", "http", "inner")
    for peer in ("10.0.0.2", "203.0.113.9", "", "unix", "garbage"):
        assert client(ONE, peer, **spoof) == (peer, "http", "inner")


@pytest.mark.parametrize(
    ("forwarded", "believed"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", "203.0.113.9"),  # what stands left was written by the client
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.7", "203.0.113.9"),  # an inner proxy of ours
        ("6.6.6.6, 203.0.113.9, 10.0.0.7, 10.0.0.8", "203.0.113.9"),
        ("10.0.0.7, 10.0.0.8", "10.0.0.7"),  # only ours: the outermost
        ("203.0.113.9:51234", "203.0.113.9"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8:1::5, 10.0.0.8", "2001:db8:1::5"),
        ("6.6.6.6, 2001:db8:1::5", "6.6.6.6"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", "10.0.0.1"),  # an unreadable hop: the last one known
        ("1.2.3.4, unknown, 10.0.0.8", "10.0.0.8"),
        ("1.2.3.4, , 10.0.0.8", "10.0.0.8"),
        ("203.0.113.9,", "10.0.0.1"),
        ("", "10.0.0.1"),
        ("  203.0.113.9  ", "203.0.113.9"),
        ("999.1.1.1", "10.0.0.1"),
        ("<script>", "10.0.0.1"),
    ],
)
def test_the_chain_is_walked_from_the_right(forwarded: str, believed: str) -> None:
    """The first address that is not ours is the client."""
    assert address(TWO, forwarded) == believed


@requirement("R53")
def test_a_spoofed_chain_never_reaches_past_the_first_stranger() -> None:
    """However the client fills the header, what our proxy appended decides."""
    for spoof in ("10.0.0.1", "10.0.0.1, 10.0.0.2", "127.0.0.1", "for=1.1.1.1", ", ,", "10.0.0.1," * 100):
        assert address(TWO, f"{spoof}, 203.0.113.9, 10.0.0.3") == "203.0.113.9"


def test_a_chain_of_a_thousand_hops_costs_no_more_than_the_last_ones() -> None:
    """The walk is bounded."""
    assert address(TWO, "1.1.1.1, " + "10.0.0.9, " * (MAX_HOPS * 30) + "10.0.0.9") == "10.0.0.9"


@pytest.mark.parametrize(
    ("headers", "believed"),
    [
        (
            {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "https", "x_forwarded_host": "shop.example"},
            ("203.0.113.9", "https", "shop.example"),
        ),
        ({"x_forwarded_proto": "https"}, ("10.0.0.1", "https", "inner")),
        ({"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "HTTPS"}, ("203.0.113.9", "https", "inner")),
        ({"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "javascript"}, ("203.0.113.9", "http", "inner")),
        # The client wrote https and our proxy appended http: it was http.
        (
            {"x_forwarded_for": "6.6.6.6, 203.0.113.9", "x_forwarded_proto": "https, http"},
            ("203.0.113.9", "http", "inner"),
        ),
        (
            {"x_forwarded_for": "6.6.6.6, 203.0.113.9", "x_forwarded_host": "evil.example, shop.example"},
            ("203.0.113.9", "http", "shop.example"),
        ),
        # One proxy of two writes the scheme: the edge's word stands for the hop that it saw.
        (
            {"x_forwarded_for": "203.0.113.9, 10.0.0.7", "x_forwarded_proto": "https, http"},
            ("203.0.113.9", "https", "inner"),
        ),
    ],
)
def test_scheme_and_host_belong_to_the_hop_that_they_were_written_for(
    headers: dict[str, str], believed: tuple[str, ...]
) -> None:
    """Lists are read from the right, aligned with the addresses."""
    assert client(TWO, **headers) == believed


@pytest.mark.parametrize(
    ("forwarded", "believed"),
    [
        ("for=203.0.113.9", ("203.0.113.9", "http", "inner")),
        ('for="203.0.113.9:4711";proto=https;host=shop.example', ("203.0.113.9", "https", "shop.example")),
        ('For="[2001:db8:cafe::17]:4711"; Proto=HTTPS', ("2001:db8:cafe::17", "https", "inner")),
        ("for=6.6.6.6, for=203.0.113.9;proto=https, for=10.0.0.8", ("203.0.113.9", "https", "inner")),
        ("for=6.6.6.6;proto=https, for=203.0.113.9;proto=http", ("203.0.113.9", "http", "inner")),
        ("for=unknown;proto=https", ("10.0.0.1", "https", "inner")),
        ("for=_hidden, for=10.0.0.8", ("10.0.0.8", "http", "inner")),
        ("by=10.0.0.1;proto=https", ("10.0.0.1", "https", "inner")),
        ("for", ("10.0.0.1", "http", "inner")),
        ('for="203.0.113.9', ("203.0.113.9", "http", "inner")),
        (";;=;,,", ("10.0.0.1", "http", "inner")),
    ],
)
def test_forwarded_is_read_as_rfc_7239_writes_it(forwarded: str, believed: tuple[str, ...]) -> None:
    """Quotes, brackets, ports, letter case, obfuscated and missing identifiers."""
    assert client(RFC7239, forwarded=forwarded) == believed


def test_quoted_separators_do_not_smuggle_a_hop() -> None:
    """A separator inside a quoted string that the client wrote never stands right of what our proxy appended."""
    for spoof in ('for="1.1.1.1, for=10.0.0.1"', 'host="a;for=1.1.1.1"', 'for="', 'host="x, for=1.1.1.1'):
        assert client(RFC7239, forwarded=f"{spoof}, for=203.0.113.9").address == "203.0.113.9"


def test_only_the_configured_kind_of_header_is_read() -> None:
    """The other kind passes through proxies as the client wrote it."""
    spoof = {"x_forwarded_for": "1.1.1.1", "x_forwarded_proto": "https"}
    assert client(RFC7239, **spoof) == ("10.0.0.1", "http", "inner")
    assert client(ONE, forwarded="for=1.1.1.1;proto=https") == ("10.0.0.1", "http", "inner")


def test_a_unix_socket_is_trusted_only_by_name() -> None:
    """It has no address; "unix" names it."""
    assert address(Proxies(["unix"]), "203.0.113.9", peer="") == "203.0.113.9"
    assert address(ONE, "203.0.113.9", peer="") == ""


@pytest.mark.parametrize("wrong", [["proxy.internal"], ["10.0.0.0/33"], ["*"], [""], ["10.0.0.1:80"]])
def test_what_is_no_network_is_an_error_at_start(wrong: list[str]) -> None:
    """Names are not resolved, patterns are not guessed."""
    with pytest.raises(ConfigurationError, match="neither an address nor a network"):
        Proxies(wrong)
    header: Any = "x-real-ip"
    with pytest.raises(ConfigurationError, match="header"):
        Proxies(["10.0.0.1"], header=header)


@requirement("R54", "R99")
def test_what_is_remembered_is_a_network() -> None:
    """A /24 or a /64: the last byte of an address, and the interface of an IPv6 host, are forgotten."""
    assert prefix("203.0.113.9") == prefix("203.0.113.200") == prefix("::ffff:203.0.113.1") == b"4\xcb\x00\x71"
    assert prefix("203.0.114.9") != prefix("203.0.113.9")
    assert prefix("2001:db8:1:2::1") == prefix("2001:db8:1:2:ffff:ffff:ffff:ffff")
    assert prefix("2001:db8:1:2::1") != prefix("2001:db8:1:3::1")
    assert len(prefix("2001:db8::1")) == 9
    assert prefix("") == prefix("unknown") == prefix("/run/app.sock") == b""


@pytest.mark.parametrize(
    "text", ["1.2.3.4", " 1.2.3.4 ", '"1.2.3.4"', "1.2.3.4:80", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:80"]
)
def test_addresses_are_read_in_every_spelling(text: str) -> None:
    """With ports, brackets, quotes, mapped."""
    assert str(parse_address(text)) == "1.2.3.4"


@requirement("R20")
@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9:1", True),
        ("[::1]", True),
        ("[::1]:8000", True),
        ("localhost.", False),
        ("localhost.example", False),
        ("xlocalhost", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("", False),
        ("[::]", False),
        ("127.0.0.1.example", False),
        ("::ffff:127.0.0.1", True),
        ("2130706433", False),
        ("127.1", False),
    ],
)
def test_loopback_is_what_browsers_take_for_it(host: str, said: bool) -> None:
    """Names that only look like it are not."""
    assert is_loopback_host(host) is said
