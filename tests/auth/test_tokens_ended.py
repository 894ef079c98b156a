"""The list of what has ended, and those who verify with it and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile import Sessions
from sessile.auth.ground import Ground
from sessile.auth.tokens import AsyncVerifier, EndedList, ProofMaker, Proofs, Proved, Verifier
from sessile.auth.tokens.access import Why
from sessile.auth.tokens.ended import Ends, list_of, read, session_mark, token_mark
from sessile.auth.tokens.jose import PrivateKey, PublicKeys, base64url, private_key, signed, unbase64url
from sessile.auth.vaults.memory import MemoryVault
from sessile.core.bridge import drive
from sessile.errors import ConfigurationError, StoreUnavailable
from tests.auth.token_bench import API, ISSUER, Bench, done
from tests.support.requirements import requirement

INTERVAL = 30
KEY = private_key("ES256", b"\x07" * 32)
KEYS = PublicKeys({KEY.public.thumbprint: KEY.public})


class Service:
    """Be another service: it fetches two documents, and can be cut off."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        self.bench, self.fetched, self.is_cut, self.why = bench, list[str](), False, list[str]()
        self.replayed: Any = None
        kind = Verifier if bench.blocking else AsyncVerifier
        both = {"jwks": self._fetch("jwks"), "ended": self._fetch("ended")}
        self.verifier: Any = kind(
            **{**both, "issuer": ISSUER, "audience": API, "clock": bench.clock, "tell": self.why.append, **options}
        )

    def _fetch(self, name: str) -> Callable[[], Any]:
        def fetch() -> Any:
            self.fetched.append(name)
            if self.is_cut:
                raise ConnectionError("cut")
            if name == "ended" and self.replayed is not None:
                return self.replayed
            return getattr(self.bench.tokens, name)()

        async def wait() -> Any:
            return text(await done(fetch()))

        def text(document: Any) -> Any:
            return getattr(document, "text", document)

        return (lambda: text(fetch())) if self.bench.blocking else wait

    async def passes(self, token: Any, **how: Any) -> bool:
        """Tell whether a token passes."""
        return await done(self.verifier.verify(token, **how)) is not None


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Return a bench behind each door."""
    made = Bench(blocking=request.param)
    yield made
    await made.close()


@requirement("R83")
async def test_it_does_not_matter_how_a_session_ended(bench: Bench) -> None:
    """Sign-out, idle limit, challenge, everything at once, one revoked token: what is listed is looked up."""
    service = Service(bench)
    sessions = [await bench.sign_in(f"u{number}") for number in range(3)]
    texts = [await bench.issue(session) for session in sessions]
    assert [await service.passes(text) for text in texts] == [True] * 3
    assert await done(bench.tokens.revoke(texts[0], "web"))
    await done(bench.sessions.end_all("u1"))
    bench.clock.advance(INTERVAL)
    assert [await service.passes(text) for text in texts] == [False, False, True]
    assert await service.passes(await bench.issue(sessions[0]))
    await done(bench.sessions.end_everything())
    bench.clock.advance(INTERVAL)
    assert [await service.passes(text) for text in texts] == [False] * 3


async def test_the_list_stays_small(bench: Bench) -> None:
    """It names what has ended only while a token of it may live, and tells nobody a session's id."""
    session = await bench.sign_in()
    await bench.issue(session)
    await done(bench.sessions.end(session.id))
    made = await done(bench.tokens.ended())
    claims = json.loads(unbase64url(made.text.split(".")[1]))
    assert unbase64url(claims["ended"]) == session_mark(session.id or "")
    assert (session.id or "") not in made.text
    bench.clock.advance(1.5 * 300 + 60)
    claims = json.loads(unbase64url((await done(bench.tokens.ended())).text.split(".")[1]))
    assert claims["ended"] == ""


async def test_a_note_outlives_every_token_that_it_stands_for() -> None:
    """Written at most once in half a lifetime, whenever tokens are issued."""
    vault = MemoryVault()
    bench = Bench(vault=vault)
    session = await bench.sign_in()
    written = 0
    key = f"issued:{session.id}"
    version = None
    for _ in range(20):
        token = await bench.verify(await bench.issue(session))
        item = vault._items[key]
        assert item.expires_at is not None
        assert item.expires_at >= token.expires_at + 5 + INTERVAL
        written += item.version != version
        version = item.version
        bench.clock.advance(60)
        session = await bench.open(bench.cookie)
        await done(bench.sessions.commit(session))
    assert written == 7  # every third minute: the first one after half a lifetime


async def test_nodes_share_one_list(bench: Bench) -> None:
    """Whoever is asked first when two thirds of the interval have passed makes the next one."""
    vault = bench.ground.vault
    other = Bench(bench.sessions.engine.store, vault, blocking=bench.blocking, clock=bench.clock)
    first = await done(bench.tokens.ended())
    bench.clock.advance(INTERVAL * 2 / 3 - 1)
    assert await done(other.tokens.ended()) == first
    bench.clock.advance(1)
    second = await done(other.tokens.ended())
    assert second.at == bench.clock()
    assert await done(bench.tokens.ended()) == second


async def test_one_makes_the_list_while_the_others_are_served_the_present_one() -> None:
    """A hundred thousand sessions are looked up once, not once for every request that comes meanwhile."""
    bench = Bench(blocking=False)
    session = await bench.sign_in()
    await bench.issue(session)
    first = await bench.tokens.ended()
    await bench.sessions.end(session.id)
    store, loads = bench.sessions.engine.store, 0
    load = store.load

    async def slow(sid: str) -> Any:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.02)
        return await load(sid)

    store.load = slow
    bench.clock.advance(25)
    made = await asyncio.gather(*(bench.tokens.ended() for _ in range(10)))
    assert loads == 1
    assert [one.at for one in made].count(bench.clock()) == 1
    assert [one == first for one in made].count(True) == 9
    # Who claimed it and died holds nobody up for longer than the interval.
    bench.clock.advance(20)
    claimed = asyncio.ensure_future(bench.tokens.ended())
    await asyncio.sleep(0.005)
    claimed.cancel()
    assert (await bench.tokens.ended()).at < bench.clock()
    bench.clock.advance(10)
    assert (await bench.tokens.ended()).at == bench.clock()


async def test_a_list_that_cannot_be_made_is_an_error(bench: Bench) -> None:
    """An empty one would bring everybody back."""
    session = await bench.sign_in()
    await bench.issue(session)

    async def failing(*_: Any) -> Any:
        raise StoreUnavailable("down")

    bench.sessions.engine.store.load = failing
    with pytest.raises(StoreUnavailable):
        await done(bench.tokens.ended())


@requirement("R45", "R83")
async def test_a_stale_list_refuses_everybody_unless_told_otherwise(bench: Bench) -> None:
    """Who holds the list back must not let an ended session live on."""
    strict, lax = Service(bench), Service(bench, ends=EndedList(when_stale="pass"))
    text = await bench.issue(await bench.sign_in())
    assert await strict.passes(text)
    assert await lax.passes(text)
    strict.is_cut = lax.is_cut = True
    bench.clock.advance(90)
    assert await strict.passes(text)
    bench.clock.advance(1)
    with pytest.raises(StoreUnavailable):
        await strict.passes(text)
    assert await lax.passes(text)
    strict.is_cut = False
    bench.clock.advance(1)
    assert await strict.passes(text)


async def test_a_list_that_was_kept_back_and_replayed_brings_nobody_back(bench: Bench) -> None:
    """An older one does not replace a newer one; an old one alone is stale."""
    service = Service(bench)
    session = await bench.sign_in()
    text = await bench.issue(session)
    old = (await done(bench.tokens.ended())).text
    await done(bench.sessions.end(session.id))
    bench.clock.advance(INTERVAL)
    assert not await service.passes(text)
    service.replayed = old
    bench.clock.advance(INTERVAL)
    assert not await service.passes(text)
    late = Service(bench)
    late.replayed = old
    bench.clock.advance(91)
    with pytest.raises(StoreUnavailable):
        await late.passes(text)


@pytest.mark.parametrize("document", ["", "x", "a.b.c", b"\xff", '{"ended":""}'], ids=repr)
async def test_what_is_no_list_is_not_taken(bench: Bench, document: Any) -> None:
    """And there is none then: nobody passes."""
    service = Service(bench)
    service.replayed = document
    with pytest.raises(StoreUnavailable):
        await service.passes(await bench.issue(await bench.sign_in()))


async def test_an_access_token_is_no_list_and_a_list_is_no_access_token(bench: Bench) -> None:
    """The type says which."""
    service = Service(bench)
    text = await bench.issue(await bench.sign_in())
    service.replayed = text
    with pytest.raises(StoreUnavailable):
        await service.passes(text)
    assert await bench.verify((await done(bench.tokens.ended())).text) is None


def listed(key: PrivateKey = KEY, **changed: Any) -> str:
    """Sign the claims of a list."""
    claims = {"iss": ISSUER, "iat": 1000, "interval": 30, "lag": 60, "ended": ""}
    return signed(json.dumps({**claims, **changed}).encode(), key, "sessile-ended+jwt")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (listed(iss="https://evil.example"), Why.ISSUER),
        (listed(iat=1006), Why.TIME),
        (listed(iat="now"), Why.CLAIMS),
        (listed(iat=True), Why.CLAIMS),
        (listed(interval=0), Why.CLAIMS),
        (listed(ended="AAAA"), Why.CLAIMS),
        (listed(ended="AA=="), Why.CLAIMS),
        (listed(ended=None), Why.CLAIMS),
        (listed(ended=["x"]), Why.CLAIMS),
        (signed(b"{}", KEY, "sessile-ended+jwt"), Why.CLAIMS),
        (signed(b"{}", KEY, "at+jwt"), Why.CLAIMS),
        ("x", Why.MALFORMED),
        (listed()[:-4] + "AAAA", Why.SIGNATURE),
    ],
    ids=lambda given: given if given in {*Why} else "",  # a signature is another one in each process
)
def test_a_list_is_judged_like_a_token(text: str, why: Why) -> None:
    """Signature, type, issuer, time, form."""
    assert isinstance(read(listed(), KEYS, issuer=ISSUER, now=1000, tolerance=5), Ends)
    assert read(text, KEYS, issuer=ISSUER, now=1000, tolerance=5) == why


@given(st.sets(st.text(max_size=8), max_size=30), st.text(max_size=8))
def test_a_list_holds_what_was_put_in_and_nothing_else(ids: set[str], other: str) -> None:
    """Sessions and tokens apart."""
    text = list_of((session_mark(sid) for sid in ids), KEY, issuer=ISSUER, at=1000.5, interval=30)
    ends = read(text, KEYS, issuer=ISSUER, now=1001, tolerance=5)
    assert isinstance(ends, Ends)
    known = EndedList()
    assert not known.holds(other, other)
    assert known.take(ends)
    assert all(known.holds(sid, "x") for sid in ids)
    assert known.holds(other, "x") == (other in ids)
    assert not any(known.holds("longer than any of them", sid) for sid in ids)
    assert token_mark(other) != session_mark(other)
    assert not known.take(Ends(1000.4, frozenset()))
    assert repr(known) == f"<EndedList <Ends at 1000, {len(ids)}>>"


# -- the verifier's keys -----------------------------------------------------------------------------------------------


@requirement("R80")
async def test_a_new_key_is_fetched_once_and_a_strangers_never_again(bench: Bench) -> None:
    """A token with an unknown kid asks at most once in ten seconds."""
    service = Service(bench, ended=None)
    text = await bench.issue(await bench.sign_in())
    assert await service.passes(text)
    other = Bench(blocking=bench.blocking)
    strange = await other.issue(await other.sign_in())
    for _ in range(20):
        assert not await service.passes(strange)
    assert service.fetched == ["jwks"]
    bench.clock.advance(11)
    await done(bench.tokens.rotate(at_once=True))
    for _ in range(20):
        assert not await service.passes(strange)
    assert service.fetched == ["jwks"] * 2
    assert await service.passes(await bench.issue(await bench.sign_in()))
    assert await service.passes(text)
    assert service.fetched == ["jwks"] * 2
    assert set(service.why) == {Why.KEY}


async def test_a_discarded_key_leaves_other_services_too(bench: Bench) -> None:
    """When they fetch the keys again."""
    service = Service(bench, ended=None)
    text = await bench.issue(await bench.sign_in())
    assert await service.passes(text)
    await done(bench.tokens.discard((await bench.signer()).public.thumbprint))
    bench.clock.advance(290)
    assert await service.passes(text)
    bench.clock.advance(11)
    assert not await service.passes(text)


@requirement("R45")
async def test_keys_that_cannot_be_fetched_serve_on_for_an_hour(bench: Bench) -> None:
    """Not for ever, and without any there is no answer."""
    service = Service(bench, ended=None)
    service.is_cut = True
    session = await bench.sign_in()
    with pytest.raises(StoreUnavailable):
        await service.passes(await bench.issue(session))
    service.is_cut = False
    bench.clock.advance(1)
    assert await service.passes(await bench.issue(session))
    service.is_cut = True
    for _ in range(11):
        bench.clock.advance(300)
        session = await bench.sign_in()
        assert await service.passes(await bench.issue(session))
    bench.clock.advance(301)
    with pytest.raises(StoreUnavailable):
        await service.passes(await bench.issue(await bench.sign_in()))


async def test_requests_that_come_first_together_all_pass() -> None:
    """Nobody is turned away because somebody else is fetching already; later, one fetches for all."""
    bench = Bench(blocking=False)
    text = await bench.issue(await bench.sign_in())
    fetched: list[str] = []

    async def jwks() -> bytes:
        fetched.append("jwks")
        await asyncio.sleep(0.01)
        return await bench.tokens.jwks()  # type: ignore[no-any-return]

    async def ended() -> str:
        fetched.append("ended")
        await asyncio.sleep(0.01)
        return (await bench.tokens.ended()).text  # type: ignore[no-any-return]

    verifier = AsyncVerifier(jwks=jwks, ended=ended, issuer=ISSUER, audience=API, clock=bench.clock)
    for wait in (0, 100):  # at the start, and when the list has become too old
        bench.clock.advance(wait)
        assert all(await asyncio.gather(*(verifier.verify(text) for _ in range(10))))
    bench.clock.advance(40)
    fetched.clear()
    assert all(await asyncio.gather(*(verifier.verify(text) for _ in range(10))))
    assert fetched == ["ended"]


async def test_who_cannot_fetch_does_not_try_with_every_request(bench: Bench) -> None:
    """An issuer that is down is not hammered, neither for keys nor for the list."""
    text = await bench.issue(await bench.sign_in())
    cut, half = Service(bench), Service(bench)
    cut.is_cut = True
    half.replayed = "no list"
    for service, asked in ((cut, ["jwks"]), (half, ["jwks", "ended"])):
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await service.passes(text)
        assert service.fetched == asked
        bench.clock.advance(1)
        with pytest.raises(StoreUnavailable):
            await service.passes(text)
        assert service.fetched == [*asked, asked[-1]]
    served = Service(bench, ended=None)
    assert await served.passes(text)
    served.is_cut = True
    bench.clock.advance(290)
    for waited, count in ((0, 1), (11, 2), (9, 2), (1, 3)):
        bench.clock.advance(waited)
        for _ in range(5):
            await served.passes(text)
        assert len(served.fetched) == count


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[7,null,{"kty":"oct","k":"AAAA","kid":"x"}]}',
        json.dumps({"keys": [{**KEY.jwk, "kid": "x", "d": "AAAA"}]}).encode(),
        json.dumps({"keys": [{**KEY.jwk, "kid": "x", "use": "enc"}]}).encode(),
        json.dumps({"keys": [{**KEY.jwk}]}).encode(),
        json.dumps({"keys": [{**KEY.jwk, "kid": "x"}], "pad": "a" * 300_000}).encode(),
        b"\xff" * 100,
        b"[" * 100_000,
    ],
    ids=lambda document: repr(document[:60]),
)
def test_what_is_no_jwks_is_no_key(document: bytes) -> None:
    """Too large, not JSON, other keys, private keys: nobody passes."""
    verifier = Verifier(jwks=lambda: document, issuer=ISSUER, audience=API, clock=lambda: 1000.0)
    with pytest.raises(StoreUnavailable):
        verifier.verify(signed(b"{}", KEY, "at+jwt"))


@requirement("R80", "R81")
async def test_another_issuer_and_another_audience_are_refused_offline(bench: Bench) -> None:
    """With the same keys."""
    text = await bench.issue(await bench.sign_in())
    for options, why in (
        ({"issuer": "https://evil.example"}, Why.ISSUER),
        ({"audience": "https://x.example"}, Why.AUDIENCE),
    ):
        service = Service(bench, ended=None, **options)
        assert not await service.passes(text)
        assert service.why == [why]
    with pytest.raises(ConfigurationError):
        Service(bench, audience="")


@requirement("R60")
async def test_a_bound_token_needs_its_proof_offline_too(bench: Bench) -> None:
    """The service has checked the proof; the verifier holds the two together."""
    maker, service = ProofMaker(), Service(bench)
    text = await bench.issue(await bench.sign_in(), jkt=maker.jkt)
    assert await service.passes(text, proved=Proved(maker.jkt, "x", 0))
    assert not await service.passes(text)
    assert not await service.passes(text, proved=Proved(base64url(b"x" * 32), "x", 0))
    assert service.why == [Why.PROOF] * 2


@requirement("R60")
def test_a_service_without_sessions_takes_proofs_with_a_vault_of_its_own(tmp_path: Path) -> None:
    """As the page says."""
    url, maker = "https://api.example/things", ProofMaker()
    issuer = Bench()
    session = drive(issuer.sign_in())
    text = issuer.tokens.issue(session, audience=API, client="web", jkt=maker.jkt)
    ground = Ground(Sessions(clock=issuer.clock), f"sqlite:///{tmp_path}/proofs.db")
    proof = maker.proof("GET", url, now=issuer.clock(), token=text)
    verifier = Verifier(jwks=issuer.tokens.jwks, issuer=ISSUER, audience=API, clock=issuer.clock)
    shown = Proofs(ground).prove(proof, method="GET", url=url, token=text)
    assert isinstance(shown, Proved)
    assert verifier.verify(text, proved=shown) is not None
    assert not isinstance(Proofs(ground).prove(proof, method="GET", url=url, token=text), Proved)
    drive(ground.close())
