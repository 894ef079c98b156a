"""What happens when a provider says that somebody signed out: exact answers, and which sessions live afterwards."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from urllib.parse import urlencode

import pytest
from msgspec.structs import replace

pytest.importorskip("joserfc")

from sessile.auth.oidc.links import Link
from sessile.auth.oidc.logout_tokens import EVENT, MAX_CHARS
from sessile.auth.tokens import AsyncRefreshTokens, AsyncTokens, RefreshTokens, Refused, Tokens
from sessile.errors import StoreUnavailable
from tests.auth.oidc.logout_attacks import ATTACKS
from tests.auth.oidc.logout_forge import ABSENT, NOW, Forge
from tests.auth.oidc.receiver_bench import NAME, Bench, bench, done
from tests.core.rig import facts
from tests.support.mounting import FRAMEWORKS, PREFIX
from tests.support.requirements import requirement

OUT = (200, "no-store", b"")


@pytest.fixture(scope="module")
def forge() -> Forge:
    """Return one provider for all."""
    return Forge()


def answer_of(response: Any) -> tuple[int, str, bytes]:
    """Return what a provider looks at."""
    return response.status_code, response.headers["cache-control"], response.content


@requirement("R70", "R72")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_logout_token_ends_its_session_in_every_framework(forge: Forge, framework: str) -> None:
    """And no other; the answer is 200 without a body, never cached, and sets no cookie."""
    async with bench(framework, forge=forge) as app:
        mine, cookie = await app.sign_in()
        other, _ = await app.sign_in(sid="sid-2")
        response = await app.post(app.token())
        assert answer_of(response) == OUT
        assert "set-cookie" not in response.headers
        assert await app.alive(mine, other) == [False, True]
        page = await app.browser.get(f"{PREFIX}/logout", headers={"cookie": cookie})
        assert "You are not signed in." in page.text


@requirement("R70", "R71")
async def test_every_attack_is_answered_by_400_and_no_session_is_touched(forge: Forge) -> None:
    """The whole table, posted as a provider posts; the answer is exact, and so is what operators are told."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in()
        for name, (why, attack) in ATTACKS.items():
            app.events.clear()
            response = await app.post(attack(forge))
            assert (response.status_code, response.headers["cache-control"]) == (400, "no-store"), name
            assert response.json()["error"] == "invalid_request", name
            told = "request" if name == "oversize" else str(why)  # nothing large is looked at
            assert [event.why for event in app.told("logout-token-refused")] == [told], name
            assert [event.code for event in app.events] == ["logout-token-refused"], name
        assert await app.alive(mine) == [True]
        assert not await app.site.links.is_out(Link(NAME, forge.issuer, "ada", "sid-1", 0.5, "ada"))


@requirement("R70")
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("", "application/x-www-form-urlencoded"),
        ("other=1", "application/x-www-form-urlencoded"),
        ("TOKEN", "application/json"),
        ("TOKEN", "text/plain"),
        ("TOKEN", "multipart/form-data; boundary=x"),
        ("TOKEN", ""),
        ("TOKEN&TOKEN", "application/x-www-form-urlencoded"),
        ("TOKEN" + "&x=1" * 20, "application/x-www-form-urlencoded"),
        ("TOKEN&x=" + "x" * 2 * MAX_CHARS, "application/x-www-form-urlencoded"),
        ("logout_token=\u00e9", "application/x-www-form-urlencoded"),
    ],
    ids=["empty", "no token", "json", "text", "multipart", "no type", "twice", "many fields", "oversize", "no ascii"],
)
async def test_what_is_no_form_with_one_token_is_refused(forge: Forge, content: str, kind: str) -> None:
    """A good token in a request that is not as the specification says changes nothing."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in()
        body = content.replace("TOKEN", urlencode({"logout_token": forge.token()})).encode()
        response = await app.post(None, content=body, headers={"content-type": kind})
        assert (response.status_code, response.headers["cache-control"]) == (400, "no-store")
        assert [event.why for event in app.told("logout-token-refused")] == ["request"]
        assert await app.alive(mine) == [True]


@requirement("R70")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_only_a_post_to_a_known_provider_is_looked_at(forge: Forge, framework: str) -> None:
    """A link, an image or another provider's path signs nobody out."""
    async with bench(framework, forge=forge) as app:
        mine, _ = await app.sign_in()
        query = urlencode({"logout_token": forge.token()})
        response = await app.browser.get(f"{PREFIX}/backchannel/{NAME}?{query}")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert (await app.post(forge.token(), name="other")).status_code == 404
        assert (await app.post(None, content="x" * 100_000)).status_code in (400, 413)
        assert await app.alive(mine) == [True]


@requirement("R69")
async def test_a_sid_ends_one_session_and_a_sub_alone_ends_all_of_the_users(forge: Forge) -> None:
    """Of other users, none."""
    async with bench(forge=forge) as app:
        first, _ = await app.sign_in(sid="sid-1")
        again, _ = await app.sign_in(sid="sid-1")
        second, _ = await app.sign_in(sid="sid-2")
        other, _ = await app.sign_in("bob", sid="sid-3")
        assert answer_of(await app.post(forge.token(forge.claims(sub=ABSENT)))) == OUT
        assert await app.alive(first, again, second, other) == [False, False, True, True]
        assert answer_of(await app.post(forge.token(forge.claims(sid=ABSENT)))) == OUT
        assert await app.alive(second, other) == [False, True]
        told = app.told("provider-signed-out")
        assert [(event.sessions, event.channel, event.confirmed) for event in told] == [
            (2, "back", True),
            (1, "back", True),
        ]
        assert {event.reason for event in app.told("session-ended")} == {"provider"}


@requirement("R72")
async def test_a_session_that_has_ended_already_is_no_error(forge: Forge) -> None:
    """The application that asked for the sign-out gets a token, too, with nothing left to end."""
    async with bench(forge=forge) as app:
        assert answer_of(await app.post(forge.token(forge.claims(sid="never heard of")))) == OUT
        mine, _ = await app.sign_in()
        assert answer_of(await app.post(forge.token())) == OUT
        assert answer_of(await app.post(forge.token())) == OUT
        assert await app.alive(mine) == [False]


@requirement("R71")
@pytest.mark.parametrize("framework", ["asgi", "wsgi"])
async def test_a_token_is_good_once(forge: Forge, framework: str, tmp_path: Any) -> None:
    """A replay ends nothing: not in this process, not in the next one, not a minute later."""
    vault, store = f"sqlite:///{tmp_path}/vault.db", f"sqlite:///{tmp_path}/sessions.db"
    text = forge.token(forge.claims(sid=ABSENT))
    async with bench(framework, forge=forge, vault=vault, store=store) as app:
        assert answer_of(await app.post(text)) == OUT
        mine, _ = await app.sign_in(issued_at=NOW + 1)
        assert (await app.post(text)).status_code == 400
        await done_closing(app)
    async with bench(framework, forge=forge, vault=vault, store=store) as app:
        app.clock.advance(60)
        assert (await app.post(text)).status_code == 400
        assert [event.why for event in app.told("logout-token-refused")] == ["replay"]
        assert app.told("provider-signed-out") == [], "a replay does not even look for sessions"
        assert await app.alive(mine) == [True]
        await done_closing(app)


async def done_closing(app: Bench) -> None:
    """Close the vault; the framework closes the sessions."""
    await app.site.ground.close()


@requirement("R71")
async def test_the_name_of_another_clients_token_is_not_taken(forge: Forge) -> None:
    """Names of tokens are unique for a provider's client; a stranger's does not use ours up."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in()
        assert (await app.post(forge.token(forge.claims(jti="j", aud="another-client")))).status_code == 400
        assert answer_of(await app.post(forge.token(forge.claims(jti="j")))) == OUT
        assert await app.alive(mine) == [False]


@requirement("R71")
async def test_used_names_are_forgotten_when_nobody_would_take_them(forge: Forge) -> None:
    """The vault does not grow: a name goes a while after its token is over."""
    async with bench(forge=forge) as app:
        await app.post(forge.token(forge.claims(jti="j")))
        vault = app.site.ground.vault
        assert await vault.sweep(NOW + 184, 10) == 0
        assert await vault.sweep(NOW + 186, 10) == 1
        assert await vault.sweep(NOW + 86_400 + 3601, 10) == 1  # the mark goes when no session of then can live


@requirement("R71")
async def test_a_new_key_is_fetched_and_a_stranger_cannot_make_us_fetch_for_ever(forge: Forge) -> None:
    """A key that was rotated just now is found; a name that nobody has costs one question, and is refused."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in()
        turned = Forge()
        for key in turned.keys.values():
            key.dict_value["kid"] = f"next-{key.kid}"
        published = app.site.published
        assert answer_of(await app.post(forge.token(forge.claims(sid="sid-9")))) == OUT
        published.keys = turned.public
        app.clock.advance(11)
        assert answer_of(await app.post(turned.token())) == OUT
        assert published.fetched == 2
        assert await app.alive(mine) == [False]
        for _ in range(20):
            assert (await app.post(turned.token(kid="nobody"))).status_code == 400
        assert published.fetched == 2


@requirement("R72")
@pytest.mark.parametrize("framework", ["asgi", "wsgi"])
async def test_an_end_that_is_not_confirmed_is_answered_by_503_and_may_be_sent_again(
    forge: Forge, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails, or has not confirmed, does not use the token up; when it is well again the token works."""
    async with bench(framework, forge=forge) as app:
        mine, _ = await app.sign_in()
        text = forge.token()
        store = app.door.engine.store
        with monkeypatch.context() as patch:

            async def fails(*_: Any) -> None:
                raise StoreUnavailable("down")

            patch.setattr(store, "end", fails)
            response = await app.post(text)
            assert (response.status_code, response.headers["cache-control"]) == (503, "no-store")
            assert response.headers["retry-after"] == "5"
        assert await app.alive(mine) == [True]
        with monkeypatch.context() as patch:
            end = store.end

            async def unsure(*about: Any) -> Any:
                return (await end(*about))._replace(confirmed=False)

            patch.setattr(store, "end", unsure)
            assert (await app.post(text)).status_code == 503
            assert [event.confirmed for event in app.told("provider-signed-out")] == [False]
        assert await app.alive(mine) == [False]
        assert answer_of(await app.post(text)) == OUT
        assert (await app.post(text)).status_code == 400


@requirement("R72")
async def test_a_provider_whose_keys_cannot_be_fetched_is_answered_by_503(forge: Forge) -> None:
    """Nobody can tell whether the token is good: it is neither taken nor called wrong."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in()
        app.site.published.down = True
        assert (await app.post(forge.token())).status_code == 503
        assert await app.alive(mine) == [True]


@requirement("R72")
async def test_a_slow_store_is_answered_in_time_and_the_session_ends_nevertheless(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind an event loop: 503 while the store takes its time, and then the session has ended."""
    async with bench(forge=forge, patience=0.05) as app:
        mine, _ = await app.sign_in()
        store, gate, ended = app.door.engine.store, asyncio.Event(), asyncio.Event()
        end = store.end

        async def slowly(*about: Any) -> Any:
            await gate.wait()
            found = await end(*about)
            ended.set()
            return found

        monkeypatch.setattr(store, "end", slowly)
        text = forge.token()
        assert (await app.post(text)).status_code == 503
        assert await app.alive(mine) == [True]
        gate.set()
        await asyncio.wait_for(ended.wait(), 10)
        assert await app.alive(mine) == [False]


@requirement("R72")
async def test_a_slow_store_is_answered_in_time_by_code_that_blocks(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an event loop the same: the end goes on in a thread of its own."""
    async with bench("wsgi", forge=forge, patience=0.05) as app:
        mine, _ = await app.sign_in()
        store, gate, ended = app.door.engine.store, threading.Event(), threading.Event()
        end = store.end

        async def slowly(*about: Any) -> Any:
            gate.wait(10)
            found = await end(*about)
            ended.set()
            return found

        monkeypatch.setattr(store, "end", slowly)
        assert (await app.post(forge.token())).status_code == 503
        assert await app.alive(mine) == [True]
        gate.set()
        assert ended.wait(10)
        assert await app.alive(mine) == [False]


async def test_of_two_deliveries_at_once_one_is_a_replay(forge: Forge) -> None:
    """Both ask for the same end, and it happens; one of them is told that the token was used."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in()
        text = forge.token()
        answers = await asyncio.gather(*(app.post(text) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
        assert await app.alive(mine) == [False]


async def test_the_mark_is_left_before_the_sessions_are_looked_up(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a sign-in that is on its way either is found or meets the mark."""
    async with bench(forge=forge) as app:
        link = Link(NAME, forge.issuer, "ada", "sid-1", NOW, "ada")
        seen: list[bool] = []
        find = app.site.links.find

        async def finding(issuer: str, **who: Any) -> Any:
            seen.append(await app.site.links.is_out(link))
            return await find(issuer, **who)

        monkeypatch.setattr(app.site.links, "find", finding)
        await app.post(forge.token())
        assert seen == [True]


async def test_keycloaks_event_is_taken(forge: Forge) -> None:
    """What Keycloak puts beside the event does not make the token a wrong one."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in()
        events = {EVENT: {}, "revoke_offline_access": True}
        assert answer_of(await app.post(forge.token(forge.claims(events=events)))) == OUT
        assert await app.alive(mine) == [False]


@requirement("R62", "R72")
@pytest.mark.parametrize("framework", ["asgi", "wsgi"])
async def test_what_grew_from_the_session_ends_with_it(forge: Forge, framework: str) -> None:
    """Its access tokens and refresh tokens, and what the provider gave for it; those of another session live on."""
    async with bench(framework, forge=forge) as app:
        blocking = app.site.blocking
        tokens: Any = (Tokens if blocking else AsyncTokens)(app.site.ground, issuer="https://shop.example")
        refreshing: Any = (RefreshTokens if blocking else AsyncRefreshTokens)(tokens)
        pairs: list[Any] = []
        for sid in ("sid-1", "sid-2"):
            _, cookie = await app.sign_in(sid=sid)
            session = await done(app.door.open(facts(cookie=cookie)))
            pairs.append(await done(refreshing.issue(session, audience="https://api.example", client="web")))
        assert answer_of(await app.post(app.token())) == OUT
        for pair, lives in zip(pairs, (False, True), strict=True):
            admitted = await done(tokens.admit(pair.access, "https://api.example"))
            renewed = await done(refreshing.refresh(pair.refresh, facts=facts(), client="web"))
            assert (admitted is not None, not isinstance(renewed, Refused)) == (lives, lives)
        kept = await app.site.ground.vault.of_user("ada", "oidc-hint:")
        assert len(kept) == 1, "the ID token of the session that lives"


# -- signing in meanwhile ----------------------------------------------------------------------------------------------


@requirement("R69")
async def test_a_sign_out_that_comes_late_ends_nothing_that_began_after_it(forge: Forge) -> None:
    """Of one session at the provider or of all of a user's: what counts is the provider's own time of both."""
    async with bench(forge=forge) as app:
        before, _ = await app.sign_in(sid="sid-1", issued_at=NOW - 30)
        after, _ = await app.sign_in(sid="sid-2", issued_at=NOW - 10)
        assert answer_of(await app.post(app.token(iat=NOW - 20, sid=ABSENT))) == OUT
        assert await app.alive(before, after) == [False, True]
        assert answer_of(await app.post(app.token(iat=NOW - 20, sid="sid-2"))) == OUT
        assert await app.alive(after) == [True]


@requirement("R69")
@pytest.mark.parametrize("sid", ["sid-1", None], ids=["of a session", "of a user"])
async def test_a_sign_out_wins_over_a_sign_in_that_is_on_its_way(forge: Forge, sid: str | None) -> None:
    """Whether it comes before the sign-in is written down or after; a later sign-in is welcome."""
    async with bench(forge=forge) as app:
        links = app.site.links
        link = Link(NAME, forge.issuer, "ada", "sid-1", NOW - 5, "ada")
        begun = await links.begin(link, "e30.e30.e30")
        assert begun is not None
        assert not await links.is_out(begun)
        assert answer_of(await app.post(app.token(sid=ABSENT if sid is None else sid))) == OUT
        assert await links.is_out(begun)
        assert await links.begin(link, "e30.e30.e30") is None
        later = await links.begin(replace(link, issued_at=NOW + 1), "e30.e30.e30")
        assert later is not None
        assert not await links.is_out(later)
        assert await links.begin(replace(link, issued_at=NOW), "e30.e30.e30") is None, "the same second is too early"
        assert answer_of(await app.post(app.token(sid=ABSENT if sid is None else sid, iat=NOW - 60))) == OUT
        assert await links.begin(replace(link, issued_at=NOW), "e30.e30.e30") is None, (
            "an older token takes nothing back"
        )
        other = await links.begin(replace(link, subject="bob", sid="sid-7", user="bob"), "e30.e30.e30")
        assert other is not None


# -- front-channel -----------------------------------------------------------------------------------------------------


async def framed(app: Bench, method: str = "GET", **query: str) -> Any:
    """Ask as a frame on the provider's page does."""
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe", "sec-fetch-mode": "navigate"}
    return await app.browser.request(method, f"{PREFIX}/frontchannel/{NAME}?{urlencode(query)}", headers=headers)


@requirement("R74")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_frame_ends_the_session_that_issuer_and_sid_name(forge: Forge, framework: str) -> None:
    """Without any cookie; nobody but the provider may frame the page, and nobody keeps it."""
    async with bench(framework, forge=forge) as app:
        mine, _ = await app.sign_in()
        other, _ = await app.sign_in(sid="sid-2")
        response = await framed(app, iss=forge.issuer, sid="sid-1")
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
        assert f"frame-ancestors {forge.issuer}" in response.headers["content-security-policy"]
        assert await app.alive(mine, other) == [False, True]


@requirement("R74")
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"iss": "https://login.example"},
        {"sid": "sid-1"},
        {"iss": "https://evil.example", "sid": "sid-1"},
        {"iss": "https://login.example/", "sid": "sid-1"},
        {"iss": "https://login.example", "sid": "sid-9"},
        {"iss": "https://login.example", "sid": ""},
        {"iss": "https://login.example", "sub": "ada"},
    ],
    ids=["nothing", "iss alone", "sid alone", "another iss", "iss with a slash", "unknown sid", "empty sid", "sub"],
)
async def test_a_frame_without_the_right_pair_does_nothing(forge: Forge, query: dict[str, str]) -> None:
    """The answer is the same as if it had: a page learns nothing by framing us."""
    async with bench(forge=forge) as app:
        mine, cookie = await app.sign_in()
        response = await framed(app, **query)
        assert app.told("provider-signed-out") == []
        right = await framed(app, iss=forge.issuer, sid="sid-nobody")
        assert (response.status_code, response.content) == (right.status_code, right.content)
        assert dict(response.headers) == dict(right.headers)
        headers = {"cookie": cookie, "sec-fetch-site": "cross-site"}
        await app.browser.get(f"{PREFIX}/frontchannel/{NAME}?{urlencode(query)}", headers=headers)
        assert await app.alive(mine) == [True]
        assert app.told("provider-signed-out") == []


@requirement("R74")
async def test_a_frame_ends_nothing_of_another_provider(forge: Forge) -> None:
    """Each provider has a path of its own, and speaks for itself there."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in(issuer="https://other.example")
        assert (await framed(app, iss="https://other.example", sid="sid-1")).status_code == 200
        assert await app.alive(mine) == [True]


@requirement("R74")
async def test_a_head_request_and_a_post_end_nothing_through_the_front_channel(forge: Forge) -> None:
    """Only a page that is loaded does."""
    async with bench(forge=forge) as app:
        mine, _ = await app.sign_in()
        assert (await framed(app, "HEAD", iss=forge.issuer, sid="sid-1")).status_code == 200
        posted = await app.browser.post(f"{PREFIX}/frontchannel/{NAME}", data={"iss": forge.issuer, "sid": "sid-1"})
        assert posted.status_code == 405
        assert (await app.browser.get(f"{PREFIX}/frontchannel/other?iss=x&sid=y")).status_code == 404
        assert await app.alive(mine) == [True]
