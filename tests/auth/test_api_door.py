"""The API door: an access token opens the session object that a cookie opens, behind every adapter, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from msgspec.structs import replace

from sessile.auth.ground import Ground
from sessile.auth.tokens import AsyncProofs, AsyncTokens, ProofMaker, Proofs, Tokens
from sessile.auth.tokens.apidoor import attach, require_scope
from sessile.auth.tokens.refresh import AsyncRefreshTokens, RefreshTokens, Refused, TokenPair
from sessile.auth.vaults.memory import MemoryVault
from sessile.core.keys import KeyRing
from sessile.core.policy import Policy
from sessile.errors import AccessRefused, ConfigurationError, NotByToken
from tests.auth.refresh_bench import RefreshBench
from tests.auth.token_bench import API, ISSUER, asked
from tests.core.rig import facts
from tests.invariants.harness import ADAPTERS, COOKIE, HOST, KEYS, Reply, Request, World, world
from tests.support.requirements import requirement

FOREIGN = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}


class Api:
    """Hold an application behind an adapter with an API door, and another node that gives out its tokens."""

    def __init__(self, opened: World, **proofs: Any) -> None:
        self.world = opened
        vault = MemoryVault()
        self.node = RefreshBench(
            opened.store.inner, vault, clock=opened.clock, keys=KeyRing.parse(KEYS), sessions={"policy": Policy()}
        )
        sessions: Any = opened.app._sessions  # type: ignore[attr-defined]
        self.engine = sessions.engine
        ground = Ground(sessions, vault)
        tokens: Any = (Tokens if opened.blocking else AsyncTokens)(ground, issuer=ISSUER)
        self.refreshing = (RefreshTokens if opened.blocking else AsyncRefreshTokens)(tokens)
        attach(tokens, audience=API, proofs=(Proofs if opened.blocking else AsyncProofs)(ground, **proofs))

    def ask(
        self,
        method: str = "GET",
        path: str = "/",
        authorization: str | None = None,
        headers: Mapping[str, str] | tuple[tuple[str, str], ...] = (),
        query: str = "",
        scheme: str = "https",
    ) -> Reply:
        """Send one request of an API client: no browser, so no Fetch Metadata."""
        pairs = tuple(headers.items()) if isinstance(headers, Mapping) else headers
        sent = (("host", HOST), ("user-agent", "api/1"), *pairs)
        if authorization is not None:
            sent = (*sent, ("authorization", authorization))
        return self.world.app.request(Request(method, path, query, sent, scheme))

    def told(self, code: str) -> list[Any]:
        """Return the events of the application of that code."""
        return [event for event in self.world.events if event.code == code]


@pytest.fixture(params=ADAPTERS)
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    """Return an API behind each adapter."""
    with world(request.param, "memory", tmp_path) as opened:
        yield Api(opened)


def assert_refused(reply: Reply, status: int = 401, error: str = "invalid_token", scheme: str = "Bearer") -> None:
    """Say that a request was refused as RFC 6750 says, and that no cache and no cookie has anything of it."""
    assert reply.status == status
    assert (reply.header("www-authenticate") or "").startswith(f'{scheme} error="{error}"')
    assert reply.json == {"error": error}
    assert reply.header("cache-control") == "no-store"
    assert not reply.all("set-cookie")


def assert_private(reply: Reply) -> None:
    """Say that an answer is for this token alone, and hands out nothing."""
    assert reply.header("cache-control") == "no-store"
    assert "authorization" in (reply.header("vary") or "").lower()
    assert not reply.all("set-cookie")
    assert reply.header("clear-site-data") is None


@requirement("R90")
def test_who_brings_no_token_is_told_what_to_bring(api: Api) -> None:
    """With no error in it, for there was no token to be wrong (RFC 6750 §3.1); DPoP with its algorithms."""
    reply = api.ask(path="/private")
    assert (reply.status, reply.json["error"]) == (401, "step-up-required")
    challenge = reply.header("www-authenticate") or ""
    assert len(reply.all("www-authenticate")) == 1
    assert challenge.startswith('DPoP algs="ES256 ')
    assert challenge.endswith('", Bearer')
    assert "error" not in challenge
    assert reply.header("cache-control") == "no-store"
    assert not reply.all("set-cookie")


def test_where_no_token_is_taken_none_is_asked_for(tmp_path: Path) -> None:
    for name in ADAPTERS:
        with world(name, "memory", tmp_path) as opened:
            sent = (("host", HOST),)
            reply = opened.app.request(Request("GET", "/private", "", sent))
            assert (reply.status, reply.header("www-authenticate")) == (401, None)
            Api(opened)
            assert opened.app.request(Request("GET", "/private", "", sent)).header("www-authenticate")


# -- what it opens -----------------------------------------------------------------------------------------------------


@requirement("R81", "R19")
async def test_a_token_opens_the_session_it_is_of(api: Api) -> None:
    """Of a browser, of a family that hangs on one, of a native client: who, what was proved, its own data."""
    session = await api.node.sign_in()
    own = await api.node.issue(session)
    child = (await api.node.begin(session)).access
    alone = (await api.node.begin_alone("bob")).access
    ids = set()
    for access, user in ((own, "ada"), (child, "ada"), (alone, "bob")):
        for scheme in ("Bearer", "bearer", "BEARER"):
            reply = api.ask(authorization=f"{scheme} {access}")
            assert (reply.status, reply.json["kind"], reply.json["user"]) == (200, "authenticated", user)
            assert_private(reply)
        assert api.ask(path="/private", authorization=f"Bearer {access}").json == {"user": user}
        assert api.ask(path="/secure", authorization=f"Bearer {access}").status == 403
        ids.add(reply.json["id"])
    assert session.id in ids
    assert len(ids) == 3


@requirement("R43")
async def test_what_a_request_changes_is_stored(api: Api) -> None:
    """By key, beside what the browser changes, also in what is nested; and a request that only reads costs one trip."""
    session = await api.node.sign_in()
    browser = api.world.browser(jar={COOKIE: str(api.node.cookie)})
    own = await api.node.issue(session)
    assert browser.post("/set", key="colour", value="blue").status == 200
    for item in ("a", "b"):
        reply = api.ask("POST", "/cart", f"Bearer {own}", query=f"item={item}")
        assert reply.status == 200
        assert_private(reply)
    seen = api.ask(authorization=f"Bearer {own}").json["data"]
    assert seen == {"colour": "blue", "cart": ["a", "b"]} == browser.get().json["data"]
    for access in (own, (await api.node.begin_alone()).access):
        api.world.store.calls.clear()
        assert api.ask(authorization=f"Bearer {access}").status == 200
        assert api.world.store.calls == ["load"]


@requirement("R29", "R44")
async def test_a_request_rotates_nothing_and_is_activity(api: Api) -> None:
    """However old the session's token is: the cookie goes on as it was; what is idle is not."""
    session = await api.node.sign_in()
    family = await api.node.begin(session)
    for _ in range(4):
        api.world.clock.advance(Policy().idle - 10)
        for access in (await api.node.issue(session), (await api.node.refresh(family.refresh)).access):  # type: ignore[union-attr]
            assert_private(api.ask("POST", "/set", f"Bearer {access}", query="key=a&value=b"))
            assert_private(api.ask(authorization=f"Bearer {access}"))
            assert_private(api.ask(path="/plain", authorization=f"Bearer {access}"))
    assert not api.told("token-rotated")
    browser = api.world.browser(jar={COOKIE: str(api.node.cookie)})
    assert browser.get().json["user"] == "ada"


@requirement("R61", "R62")
async def test_a_sign_out_ends_family_and_parent(api: Api) -> None:
    """By the view or by Sessile's own endpoint; what is written afterwards begins no session."""
    for path in ("/logout", "/.sessile/logout"):
        session = await api.node.sign_in()
        pair, other = await api.node.begin(session), await api.node.begin(session)
        reply = api.ask("POST", path, f"Bearer {pair.access}")
        assert reply.status in (200, 204)
        assert_private(reply)
        assert not await api.node.is_alive(session.id)
        for one in (pair, other):
            assert await api.node.refresh(one.refresh) is Refused.GRANT
            assert_refused(api.ask(authorization=f"Bearer {one.access}"))


@requirement("R25")
async def test_a_session_that_a_token_opened_gets_no_new_one(api: Api) -> None:
    """Signing in, a factor, a rotation, a user key: the application's own mistake, and nothing of it is stored."""
    session = await api.node.sign_in()
    for access in (await api.node.issue(session), (await api.node.begin(session)).access):
        for path, query in (
            ("/login", "user=eve"),
            ("/login", "user=ada"),
            ("/factor", "name=totp"),
            ("/rotate", ""),
            ("/userkey", "user=eve"),
        ):
            reply = api.ask("POST", path, f"Bearer {access}", query=query)
            assert reply.status == 500, path
            assert not reply.all("set-cookie")
        assert api.ask(authorization=f"Bearer {access}").json["user"] == "ada"
        assert api.ask(authorization=f"Bearer {access}").json["data"] == {}


@requirement("R84")
async def test_a_view_can_neither_see_nor_change_what_a_family_is_for(api: Api) -> None:
    """An application that stores under keys that people choose must not unbind their tokens."""
    session = await api.node.sign_in()
    pair = await api.node.begin(session)
    reply = api.ask("POST", "/set", f"Bearer {pair.access}", query="key=_sessile_family&value=x")
    assert reply.status == 200
    assert api.ask("POST", "/set", f"Bearer {pair.access}", query="key=a&value=b").status == 200
    assert api.ask(authorization=f"Bearer {pair.access}").json["data"] == {"a": "b"}
    assert isinstance(await api.node.refresh(pair.refresh), TokenPair)
    assert await api.node.refresh(pair.refresh, client="x") is Refused.GRANT


# -- what it refuses ---------------------------------------------------------------------------------------------------


@requirement("R79", "R81", "R83")
async def test_what_is_no_token_for_here_is_refused(api: Api) -> None:
    """Forged, over, for others, revoked, or of what has ended; a cookie beside it changes nothing."""
    session = await api.node.sign_in()
    good = await api.node.issue(session)
    cookie = {"cookie": f"{COOKIE}={api.node.cookie}"}
    pair = await api.node.begin(session)
    revoked = await api.node.issue(session)
    api.node.tokens.revoke(revoked, "web")
    other = await api.node.issue(session, audience="https://other.example")
    head, body, tag = good.split(".")
    wrong = (other, revoked, pair.refresh, api.node.cookie, f"{head}.{body}.", f"{head}.{tag}.{body}", "x", good + "A")
    for token in wrong:
        assert_refused(api.ask(authorization=f"Bearer {token}", headers=cookie))
        assert_refused(api.ask("POST", "/set", f"Bearer {token}", headers=cookie, query="key=a&value=b"))
    assert_refused(api.ask(authorization=f"Bearer {good}", scheme="http"))
    assert api.ask(authorization=f"Bearer {good}").status == 200
    api.world.clock.advance(301 + 5)
    assert_refused(api.ask(authorization=f"Bearer {good}", headers=cookie))
    assert {one.why for one in api.told("access-token-refused")} >= {"malformed", "audience", "revoked", "time"}
    assert api.ask(headers=cookie).json["data"] == {}


@requirement("R45")
async def test_two_headers_or_a_broken_one_are_a_bad_request(api: Api) -> None:
    """Which of two counts would be a matter of taste; neither does, and the cookie does not either."""
    session = await api.node.sign_in()
    good = await api.node.issue(session)
    cookie = ("cookie", f"{COOKIE}={api.node.cookie}")
    for first in (f"Bearer {good}", "Basic YTpi", "Bearer x", "DPoP x"):
        both = (("authorization", first), cookie)
        assert_refused(api.ask(authorization=f"Bearer {good}", headers=both), 400, "invalid_request")
    for broken in ("Bearer", "Bearer ", "bearer a b", f'Bearer "{good}"', f"Bearer {good},", "DPoP", "Bearer é"):
        assert_refused(api.ask(authorization=broken, headers=(cookie,)), 400, "invalid_request")


async def test_other_schemes_are_the_applications(api: Api) -> None:
    """Basic, Digest and what only begins like ours pass by, and the cookie counts."""
    await api.node.sign_in()
    cookie = {"cookie": f"{COOKIE}={api.node.cookie}"}
    for other in ("Basic YTpi", 'Digest username="bearer", realm="dpop x"', "Bearerish x", ""):
        assert api.ask(authorization=other, headers=cookie).json["user"] == "ada"
        assert api.ask(authorization=other).json["user"] is None


async def test_a_token_in_an_address_is_never_read(api: Api) -> None:
    """Addresses end up in logs, histories and Referer headers (RFC 6750 §5.3)."""
    good = await api.node.issue(await api.node.sign_in())
    for name in ("access_token", "token", "authorization"):
        assert api.ask(query=f"{name}={good}").json["user"] is None
        assert api.ask("POST", "/set", query=f"{name}={good}&key=a&value=b").status == 200
    assert not api.told("access-token-refused")


@requirement("R88")
async def test_a_pending_or_challenged_session_opens_nothing(api: Api) -> None:
    """Invariant 5 as an attack: a token from before the challenge, on every protected route and any other."""
    session = await api.node.sign_in()
    own, child = await api.node.issue(session), (await api.node.begin(session)).access
    store = api.world.store.inner

    record = await store.load(session.id)
    for state in ({"challenged": True}, {"pending": True}):
        store._held[session.id] = replace(record, control=replace(record.control, **state))
        for access in (own, child):
            for path in ("/private", "/secure", "/", "/plain", "/.sessile/status"):
                assert_refused(api.ask(path=path, authorization=f"Bearer {access}"))
            assert_refused(api.ask("POST", "/set", f"Bearer {access}", query="key=a&value=b"))
    store._held[session.id] = record
    assert api.ask(path="/private", authorization=f"Bearer {own}").status == 200


@requirement("R83", "R61")
@pytest.mark.parametrize("of", ["session", "family", "alone"])
async def test_an_end_counts_at_the_next_request(api: Api, of: str) -> None:
    """In whichever way: by an operator, for the user, for everybody, of the parent."""
    ends = [
        lambda sid: api.world.app.door("end", sid),
        lambda _: api.world.app.door("end_all", "ada"),
        lambda _: api.world.app.door("end_everything"),
    ]
    for end in ends:
        session = await api.node.sign_in()
        sid: Any = session.id
        match of:
            case "session":
                access = await api.node.issue(session)
            case "family":
                access = (await api.node.begin(session)).access
            case _:
                access = (await api.node.begin_alone()).access
                sid = await api.node.sid_of(access)
        assert api.ask(path="/private", authorization=f"Bearer {access}").status == 200
        end(sid)
        assert_refused(api.ask(path="/private", authorization=f"Bearer {access}"))
        api.world.clock.advance(1)


@requirement("R42")
async def test_what_is_written_after_the_end_is_dropped(api: Api) -> None:
    """A request that is under way when its session ends brings nothing back."""
    session = await api.node.sign_in()
    access = await api.node.issue(session)
    sent = (("host", HOST), ("authorization", f"Bearer {access}"))
    late = api.world.pool.submit(
        api.world.app.request, Request("POST", "/slow", "gate=late&key=a&value=b", sent, "https")
    )
    api.world.gates.wait_for("late")
    api.world.app.door("end", session.id)
    api.world.gates.open("late")
    reply = late.result(20)
    assert reply.status == 200
    assert_private(reply)
    assert not await api.node.is_alive(session.id)
    assert api.told("write-discarded")


@requirement("R45")
async def test_a_store_that_fails_opens_nothing(api: Api) -> None:
    """503, and nobody is taken for anonymous."""
    access = await api.node.issue(await api.node.sign_in())
    api.world.store.failing.add("load")
    assert api.ask(authorization=f"Bearer {access}").status == 503
    api.world.store.failing.clear()
    api.world.store.failing.add("save")
    assert api.ask("POST", "/set", f"Bearer {access}", query="key=a&value=b").status == 503


@requirement("R22")
async def test_the_guard_is_for_cookies_and_stays_so(api: Api) -> None:
    """A request with a token passes it, and uses no cookie; one with a cookie does not, whatever header it sets."""
    await api.node.sign_in()
    victim = {"cookie": f"{COOKIE}={api.node.cookie}", **FOREIGN}
    foreign = (await api.node.begin_alone("bob")).access
    reply = api.ask("POST", "/set", f"Bearer {foreign}", headers=victim, query="key=a&value=b")
    assert reply.status == 200
    assert api.ask(headers={"cookie": victim["cookie"]}).json["data"] == {}
    assert_refused(api.ask("POST", "/set", "Bearer x", headers=victim, query="key=a&value=b"))
    for header in (None, "Basic YTpi", "Digest a=b", ""):
        assert api.ask("POST", "/set", header, headers=victim, query="key=a&value=b").status == 403
    api.engine.bearer = None
    reply = api.ask("POST", "/set", f"Bearer {foreign}", headers=victim, query="key=a&value=b")
    assert reply.status == 403


async def test_without_the_door_the_header_is_the_applications() -> None:
    """No cost and no change for whoever attaches none."""
    with ExitStack() as stack:
        for adapter in ADAPTERS:
            opened = stack.enter_context(world(adapter, "memory", Path()))
            browser = opened.browser()
            browser.post("/login", user="ada")
            assert browser.get(headers={"authorization": "Bearer x"}).json["user"] == "ada"
            assert opened.browser().get(headers={"authorization": "Bearer x"}).json["user"] is None


# -- proofs ------------------------------------------------------------------------------------------------------------


def proof(maker: ProofMaker, api: Api, token: str, method: str = "GET", path: str = "/", **how: Any) -> dict[str, str]:
    """Return the DPoP header of a request."""
    return {"dpop": maker.proof(method, f"https://{HOST}{path}", now=api.world.clock(), token=token, **how)}


@requirement("R60")
async def test_a_bound_token_opens_with_its_proof_alone(api: Api) -> None:
    """Not as Bearer, not with another key, another request's proof, another token's, or one that was used."""
    maker, thief = ProofMaker(), ProofMaker()
    session = await api.node.sign_in()
    pair = await api.node.begin(session, jkt=maker.jkt)
    bound, unbound = pair.access, await api.node.issue(session)
    shown = proof(maker, api, bound, "POST", "/set")
    reply = api.ask("POST", "/set", f"DPoP {bound}", headers=shown, query="key=a&value=b")
    assert reply.status == 200
    assert_private(reply)
    again = api.ask("POST", "/set", f"DPoP {bound}", headers=shown, query="key=a&value=b")
    assert_refused(again, error="invalid_dpop_proof", scheme="DPoP")
    assert_refused(api.ask(authorization=f"Bearer {bound}"))
    assert_refused(api.ask(authorization=f"Bearer {bound}", headers=proof(maker, api, bound)))
    assert_refused(api.ask(authorization=f"DPoP {bound}", headers=proof(thief, api, bound)), scheme="DPoP")
    assert_refused(api.ask(authorization=f"DPoP {unbound}", headers=proof(maker, api, unbound)), scheme="DPoP")
    for wrong in (
        {},
        proof(maker, api, unbound),
        proof(maker, api, bound, "POST"),
        proof(maker, api, bound, path="/private"),
        {"dpop": "x"},
    ):
        reply = api.ask(authorization=f"DPoP {bound}", headers=wrong)
        assert_refused(reply, error="invalid_dpop_proof", scheme="DPoP")
    twice = tuple(("dpop", proof(maker, api, bound)["dpop"]) for _ in range(2))
    assert_refused(api.ask(authorization=f"DPoP {bound}", headers=twice), error="invalid_dpop_proof", scheme="DPoP")
    assert api.ask(authorization=f"dpop {bound}", headers=proof(maker, api, bound)).json["data"] == {"a": "b"}


@requirement("R60")
@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_proof_without_our_nonce_is_told_the_nonce(adapter: str, tmp_path: Path) -> None:
    """And passes with it (RFC 9449 §9)."""
    with world(adapter, "memory", tmp_path) as opened:
        api, maker = Api(opened, nonce=True), ProofMaker()
        bound = await api.node.issue(await api.node.sign_in(), jkt=maker.jkt)
        reply = api.ask(authorization=f"DPoP {bound}", headers=proof(maker, api, bound))
        assert_refused(reply, error="use_dpop_nonce", scheme="DPoP")
        nonce = reply.header("dpop-nonce")
        assert nonce is not None
        reply = api.ask(authorization=f"DPoP {bound}", headers=proof(maker, api, bound, nonce=nonce))
        assert reply.json["user"] == "ada"


@pytest.mark.parametrize("path", ["/a:b@c", "/caf%C3%A9", "/a%20b", "/~ada/x;y=1"])
@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_proof_names_the_path_as_clients_write_it(adapter: str, path: str, tmp_path: Path) -> None:
    """Servers tell it decoded; what is compared is the same address."""
    with world(adapter, "memory", tmp_path) as opened:
        api, maker = Api(opened), ProofMaker()
        bound = await api.node.issue(await api.node.sign_in(), jkt=maker.jkt)
        told = unquote(path) if not opened.blocking else unquote(path).encode().decode("latin-1")
        shown = proof(maker, api, bound, path=path)
        assert api.ask(path=told, authorization=f"DPoP {bound}", headers=shown).status == 404


# -- beyond the view ---------------------------------------------------------------------------------------------------


async def test_scopes_are_the_views_to_ask_for() -> None:
    """A token must grant them all; who came with a cookie is the user."""
    bench = RefreshBench()
    attach(bench.tokens, audience=API)
    session = await bench.sign_in()
    access = await bench.issue(session, scope="read write")
    opened = bench.sessions.open(asked(authorization=f"Bearer {access}"))
    assert opened.grant is not None
    assert (opened.grant.client, opened.grant.audience) == ("web", API)
    require_scope(opened, "read", "write")
    require_scope(bench.sessions.open(facts(bench.cookie)), "admin")
    with pytest.raises(AccessRefused, match="insufficient_scope") as refused:
        require_scope(opened, "read", "admin")
    assert refused.value.status == 403
    for verb in (lambda: opened.login("eve"), lambda: opened.add_factor("totp"), opened.rotate):
        with pytest.raises(NotByToken):
            verb()
    assert opened.user_id == "ada"


@requirement("R19")
async def test_a_request_with_a_token_never_gets_a_cookie() -> None:
    """Not even if its session is gone in its midst, and it goes on as nobody's and writes."""
    bench = RefreshBench()
    attach(bench.tokens, audience=API)
    session = await bench.sign_in()
    request = asked("POST", authorization=f"Bearer {await bench.issue(session)}")
    opened = bench.sessions.open(request)
    bench.sessions.end(session.id)
    again = await bench.sessions.engine.load_again(opened, request)
    assert again.base is None
    again["a"] = 1
    assert not bench.sessions.commit(again).sets_cookie
    assert again.id is None


async def test_the_door_is_attached_once_and_for_an_audience() -> None:
    """Two judges would each refuse what the other takes."""
    bench = RefreshBench()
    with pytest.raises(ConfigurationError, match="audience"):
        attach(bench.tokens, audience="")
    attach(bench.tokens, audience=API)
    with pytest.raises(ConfigurationError, match="already"):
        attach(bench.tokens, audience=API)


async def test_a_request_that_did_not_come_encrypted_is_refused_before_anything_is_read() -> None:
    """A token that was sent in the clear is everybody's."""
    bench = RefreshBench()
    attach(bench.tokens, audience=API)
    access = await bench.issue(await bench.sign_in())
    bench.events.clear()
    with pytest.raises(AccessRefused):
        bench.sessions.open(facts(scheme="http", authorization=f"Bearer {access}"))
    assert isinstance(await bench.begin_alone(), TokenPair)
