"""The site of shared signals in every framework: pushed to, polled, asked for its metadata (R77)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from sessile import AsyncSessions
from sessile.auth.ground import Ground
from sessile.auth.signals import AsyncSignals, Receiver, Signals, Transmitter, same_ids
from sessile.errors import ConfigurationError
from tests.auth.signals.signal_bench import RING, App, Network
from tests.auth.signals.signal_forge import AUDIENCE, ISSUER, Idp, claims, signed
from tests.support.mounting import FRAMEWORKS, ORIGIN, PREFIX, served
from tests.support.requirements import requirement

pytestmark = requirement("R77")
SECRET = "Bearer idp-tells-b-0123456789"
TOKEN = "rx-token-0123456789"


def _site(door: Any) -> Any:
    """Return the site of an application that listens to the provider, and tells one that polls."""
    network = Network()
    kind: Any = AsyncSignals if isinstance(door, AsyncSessions) else Signals
    signals = kind(
        Ground(door, "memory://"),
        url=ORIGIN + PREFIX,
        receivers=[Receiver("rx", "https://rx.example", poll=True, token=TOKEN)],
        transmitters=[
            Transmitter(
                "idp",
                ISSUER,
                AUDIENCE,
                same_ids,
                push_authorization=SECRET,
                jwks="https://idp.example/signals/jwks.json",
                tolerance=300,
            )
        ],
    )
    Idp(network)
    signals.flow.reception.known["idp"]._http = network
    return signals.site


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_it_works_in_every_framework(framework: str) -> None:
    """As another server asks: with no cookie and no Origin; the body arrives as it was sent."""
    async with served(framework, _site) as browser:
        door: Any = browser.door
        maker = App("x", Network(), clock=door.engine.clock)
        text = signed(claims(maker))
        headers = {"content-type": "application/secevent+jwt", "authorization": SECRET}
        path = f"{PREFIX}/push/idp"
        taken = await browser.request("POST", path, headers=headers, content=text.encode())
        assert (taken.status_code, taken.content) == (202, b"")
        refused = await browser.request("POST", path, headers=headers, content=text[:-4].encode() + b"AAAA")
        assert refused.status_code == 400
        assert refused.json()["err"] == "invalid_key"
        stranger = await browser.request("POST", path, headers={**headers, "authorization": "Bearer x"}, content=b"")
        assert stranger.status_code == 401
        huge = await browser.request("POST", path, headers=headers, content=b"x" * 70_000)
        assert huge.status_code in (400, 413)
        assert (await browser.request("GET", path, headers=headers)).status_code == 405
        metadata = await browser.request("GET", f"{PREFIX}/.well-known/ssf-configuration", headers={})
        assert metadata.json()["jwks_uri"] == f"{ORIGIN}{PREFIX}/jwks.json"
        keys = await browser.request("GET", f"{PREFIX}/jwks.json", headers={})
        assert len(keys.json()["keys"]) == 1
        bearer = {"authorization": f"Bearer {TOKEN}"}
        polled = await browser.request("POST", f"{PREFIX}/poll/rx", headers=bearer, json={"returnImmediately": True})
        assert polled.json() == {"sets": {}}
        assert "set-cookie" not in polled.headers
        assert (await browser.request("GET", f"{PREFIX}/nothing", headers={})).status_code == 404


WRONG: dict[str, Any] = {
    "not-https": {"url": "http://a.example/signals"},
    "option": {"url": "https://a.example", "colour": "red"},
    "two-of-one-name": {"url": "https://a.example", "receivers": [Receiver("b", "b", token="x" * 16)] * 2},
    "lease-too-short": {"url": "https://a.example", "leased": 5.0},
    "addresses-missing": {
        "url": "https://a.example",
        "receivers": [Receiver("b", "b", push="https://b.example", naming="email")],
    },
    "issuer-with-query": {"url": "https://a.example", "issuer": "https://a.example/?x"},
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_settings_that_cannot_work_are_refused(wrong: str) -> None:
    """At the start, in one sentence."""
    with pytest.raises(ConfigurationError):
        AsyncSignals(Ground(AsyncSessions("memory://"), "memory://"), **WRONG[wrong])


def test_sessions_in_cookies_share_no_signals() -> None:
    """Nobody can ask whether one has ended."""
    with pytest.raises(ConfigurationError, match="cookies"):
        AsyncSignals(Ground(AsyncSessions("cookie://", keys=RING), "memory://"), url="https://a.example")


def test_one_application_shares_its_signals_once() -> None:
    """A second outbox would be told of nothing."""
    ground = Ground(AsyncSessions("memory://"), "memory://")
    AsyncSignals(ground, url="https://a.example")
    with pytest.raises(ConfigurationError, match="already"):
        AsyncSignals(ground, url="https://a.example")


PEERS: dict[str, Any] = {
    "name": lambda: Receiver("B!", "b"),
    "audience": lambda: Receiver("b", ""),
    "both-ways": lambda: Receiver("b", "b", push="https://b.example", poll=True, token="x" * 16),
    "poll-without-token": lambda: Receiver("b", "b", poll=True),
    "short-token": lambda: Receiver("b", "b", token="short"),
    "split-header": lambda: Receiver("b", "b", push="https://b.example", push_authorization="a\r\nb: c"),
    "http": lambda: Receiver("b", "b", push="http://b.example"),
    "origin-with-path": lambda: Receiver("b", "b", origins=("https://b.example/x",)),
    "algorithm": lambda: Receiver("b", "b", algorithm="none"),  # type: ignore[arg-type]
    "events": lambda: Receiver("b", "b", events=("urn:x",)),
    "transmitter-algorithm": lambda: Transmitter("b", "https://b.example", "a", same_ids, algorithms=("HS256",)),
    "transmitter-none": lambda: Transmitter("b", "https://b.example", "a", same_ids, algorithms=("none",)),
    "transmitter-short-secret": lambda: Transmitter("b", "https://b.example", "a", same_ids, push_authorization="x"),
    "transmitter-poll": lambda: Transmitter("b", "https://b.example", "a", same_ids, poll="https://b.example/p"),
    "transmitter-users": lambda: Transmitter("b", "https://b.example", "a", None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("peer", list(PEERS))
def test_peers_that_cannot_work_are_refused(peer: str) -> None:
    """At the start, in one sentence."""
    with pytest.raises(ConfigurationError):
        PEERS[peer]()
    assert "x" * 16 not in repr(Receiver("b", "b", token="x" * 16))


@pytest.mark.parametrize("package", ["httpx", "joserfc", "cryptography"])
def test_what_is_not_installed_is_named(package: str) -> None:
    """One sentence with the line that installs it, at the import of signals and of nothing else."""
    program = f"""
import sys
sys.modules["{package}"] = None
import sessile, sessile.auth.exchange
try:
    import sessile.auth.signals
except sessile.errors.ExtraMissing as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'sessile[signals]'" in done.stdout, done.stderr
