"""Signing out at an application: what ends first, where the browser goes, and what the page afterwards says."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("joserfc")

from sessile.auth.oidc.links import kept
from sessile.errors import StoreUnavailable
from tests.auth.oidc.logout_forge import CLIENT, ISSUER, Forge, base64url
from tests.auth.oidc.receiver_bench import ENDPOINT, Bench, bench, done
from tests.core.rig import facts
from tests.support.mounting import FRAMEWORKS, ORIGIN, PREFIX
from tests.support.requirements import requirement


@pytest.fixture(scope="module")
def forge() -> Forge:
    """Return one provider for all."""
    return Forge()


async def leave(app: Bench, cookie: str, **form: str) -> Any:
    """Press the button."""
    headers = {"cookie": cookie, "sec-fetch-site": "same-origin", "origin": ORIGIN}
    return await app.browser.post(f"{PREFIX}/logout", headers=headers, data=form)


async def come_back(app: Bench, state: str | None, cookie: str) -> Any:
    """Come back from the provider: another site has navigated the browser here."""
    query = "" if state is None else f"?state={state}"
    headers = {
        "cookie": cookie,
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    return await app.browser.get(f"{PREFIX}/logged-out{query}", headers=headers)


def asked(response: Any) -> dict[str, str]:
    """Return what the provider is asked."""
    assert response.status_code == 303
    parts = urlsplit(response.headers["location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == ENDPOINT.partition("?")[0]
    return {name: values[0] for name, values in parse_qs(parts.query).items()}


def cookie_of(response: Any) -> str:
    """Return the cookie that a response sets, as the next request carries it."""
    return str(response.headers["set-cookie"]).strip().partition(";")[0]


@requirement("R73", "R61")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_signing_out_ends_the_session_here_and_goes_to_the_provider(forge: Forge, framework: str) -> None:
    """With everything that the provider needs; the page afterwards says what is known, once."""
    async with bench(framework, forge=forge) as app:
        mine, cookie = await app.sign_in(id_token=forge.id_token())
        other, _ = await app.sign_in(sid="sid-2")
        response = await leave(app, cookie)
        query = asked(response)
        assert await app.alive(mine, other) == [False, True]
        assert query == {
            "tenant": "1",
            "client_id": CLIENT,
            "post_logout_redirect_uri": f"{ORIGIN}{PREFIX}/logged-out",
            "state": query["state"],
            "id_token_hint": query["id_token_hint"],
        }
        assert len(query["state"]) >= 32
        page = await come_back(app, query["state"], cookie_of(response))
        assert page.status_code == 200
        assert "You are signed out of this application." in page.text
        assert "Login has sent you back. It does not say whether" in page.text
        again = await come_back(app, query["state"], cookie_of(response))
        assert "There is no sign-out to report" in again.text


@requirement("R73")
async def test_the_state_belongs_to_one_browser_and_one_return(forge: Forge) -> None:
    """A guessed state, a stranger's, and none at all say nothing about a sign-out, and use nothing up."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in()
        response = await leave(app, cookie)
        state, new = asked(response)["state"], cookie_of(response)
        _, stranger = await app.sign_in("eve", sid="sid-9")
        for wrong, jar in (("x" * 32, new), (state, stranger), (state, ""), ("é", new), (None, new)):
            page = await come_back(app, wrong, jar)
            assert "There is no sign-out to report" in page.text, wrong
            assert page.status_code == (400 if jar == new else 200), wrong
        assert "signed out of this application" in (await come_back(app, state, new)).text


@requirement("R73")
async def test_a_return_after_ten_minutes_says_nothing(forge: Forge) -> None:
    """What was known then may be wrong by now."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in()
        response = await leave(app, cookie)
        app.clock.advance(600)
        page = await come_back(app, asked(response)["state"], cookie_of(response))
        assert "You are not signed in. There is no sign-out to report" in page.text


@requirement("R73")
async def test_nothing_is_left_of_the_session_that_carried_the_state(forge: Forge) -> None:
    """It began for the sign-out alone, and its cookie goes with it."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in()
        response = await leave(app, cookie)
        page = await come_back(app, asked(response)["state"], cookie_of(response))
        assert "max-age=0" in page.headers["set-cookie"].lower()
        assert (await app.door.stats()).live == 0


@requirement("R61")
async def test_signing_out_everywhere_ends_all_sessions_of_the_user_here(forge: Forge) -> None:
    """And nobody else's; then the provider's session of this browser."""
    async with bench(forge=forge) as app:
        mine, cookie = await app.sign_in()
        elsewhere, _ = await app.sign_in(sid="sid-2")
        other, _ = await app.sign_in("bob", sid="sid-3")
        response = await leave(app, cookie, everywhere="1")
        assert await app.alive(mine, elsewhere, other) == [False, False, True]
        page = await come_back(app, asked(response)["state"], cookie_of(response))
        assert "You are signed out of this application, in every browser." in page.text


@requirement("R73")
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("down", "Login could not be reached. Your session there may still be open"),
        ("without", "Login does not offer to end its session from here"),
        ("local", "You are signed out of this application.</p>"),
    ],
)
async def test_the_session_ends_here_whatever_is_wrong_elsewhere(forge: Forge, given: str, says: str) -> None:
    """And the page says what is not known to have ended."""
    async with bench(forge=forge) as app:
        mine, cookie = await app.sign_in()
        if given == "down":
            app.site.published.down = True
        elif given == "without":
            app.site.published.endpoint = None
        else:
            app.site._sign_out._providers.clear()
        response = await leave(app, cookie)
        assert response.status_code == 200
        assert says in response.text
        assert "You are signed out of this application." in response.text
        assert await app.alive(mine) == [False]
        assert "max-age=0" in response.headers["set-cookie"].lower()


@requirement("R73")
async def test_a_vault_that_fails_keeps_nobody_in(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session has ended, and the provider asks its user without the hint."""
    async with bench(forge=forge) as app:
        mine, cookie = await app.sign_in(id_token=forge.id_token())

        async def fails(_: str) -> None:
            raise StoreUnavailable("down")

        monkeypatch.setattr(app.site.ground.vault, "get", fails)
        assert "id_token_hint" not in asked(await leave(app, cookie))
        assert await app.alive(mine) == [False]


async def keeps(app: Bench) -> list[str]:
    """Return what is kept for sessions of the provider."""
    vault = app.site.ground.vault
    return [
        item.key.partition(":")[0]
        for one in ("oidc-hint:", "oidc-refresh:")
        for item in await vault.of_user("ada", one)
    ]


@requirement("R72")
@pytest.mark.parametrize("answer", [200, 503, 0], ids=["taken", "refused", "no answer"])
@pytest.mark.parametrize("endpoint", [ENDPOINT, None], ids=["", "no end there"])
@pytest.mark.parametrize("framework", ["asgi", "wsgi"])
async def test_the_refresh_token_of_the_session_is_given_back(
    forge: Forge, framework: str, answer: int, endpoint: str | None
) -> None:
    """And dropped here with its ID token, whatever the provider says; another session keeps its own."""
    async with bench(framework, forge=forge) as app:
        app.site.published.revoking, app.site.published.endpoint = answer, endpoint
        for sid in ("sid-1", "sid-2"):
            session_id, cookie = await app.sign_in(sid=sid)
            session = await done(app.door.open(facts(cookie=cookie)))
            await app.site.flow._keep_refresh(kept(session), f"refresh of {sid}", new=True)
        response = await leave(app, cookie)
        assert response.status_code == (200 if endpoint is None else 303)
        assert await app.alive(session_id) == [False]
        [posted] = app.site.published.posted
        assert (posted["token"], posted["token_type_hint"]) == ("refresh of sid-2", "refresh_token")
        assert await keeps(app) == ["oidc-hint", "oidc-refresh"]


@requirement("R72")
async def test_signing_out_everywhere_drops_what_was_kept_for_all_of_the_users_sessions(forge: Forge) -> None:
    """And nothing of anybody else; also while the provider is down."""
    async with bench(forge=forge) as app:
        await app.sign_in(sid="sid-1")
        _, cookie = await app.sign_in(sid="sid-2")
        await app.sign_in("bob", sid="sid-3")
        app.site.published.down = True
        await leave(app, cookie, everywhere="1")
        assert await keeps(app) == []
        assert len(await app.site.ground.vault.of_user("bob", "oidc-hint:")) == 1


@requirement("R51")
async def test_an_end_that_the_store_has_not_confirmed_is_said_to_be_unconfirmed(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the page after the return, too."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in()
        end = app.door.engine.store.end

        async def unsure(*about: Any) -> Any:
            return (await end(*about))._replace(confirmed=False)

        monkeypatch.setattr(app.door.engine.store, "end", unsure)
        response = await leave(app, cookie)
        page = await come_back(app, asked(response)["state"], cookie_of(response))
        assert "Not every copy of the store has confirmed it yet." in page.text


@requirement("R45", "R51")
async def test_a_store_that_fails_is_never_called_a_sign_out(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is 503, and nobody is sent anywhere."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in()

        async def fails(*_: Any) -> None:
            raise StoreUnavailable("down")

        monkeypatch.setattr(app.door.engine.store, "end", fails)
        response = await leave(app, cookie)
        assert response.status_code == 503
        assert "location" not in response.headers


@requirement("R22")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_no_other_site_signs_a_user_out(forge: Forge, framework: str) -> None:
    """Neither by a form nor by a link or an image."""
    async with bench(framework, forge=forge) as app:
        mine, cookie = await app.sign_in()
        foreign = {"cookie": cookie, "sec-fetch-site": "cross-site", "origin": "https://evil.example"}
        assert (await app.browser.post(f"{PREFIX}/logout", headers=foreign, data={})).status_code == 403
        page = await app.browser.get(f"{PREFIX}/logout", headers={"cookie": cookie, "sec-fetch-site": "cross-site"})
        assert page.status_code == 200
        assert await app.alive(mine) == [True]


@requirement("R73")
async def test_the_page_with_the_button_lets_its_form_end_at_the_provider(forge: Forge) -> None:
    """Browsers hold redirects of a form against form-action; everything else stays forbidden."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in()
        page = await app.browser.get(f"{PREFIX}/logout", headers={"cookie": cookie})
        assert f"form-action 'self' {ISSUER};" in page.headers["content-security-policy"]
        assert f'action="{PREFIX}/logout"' in page.text
        nobody = await app.browser.get(f"{PREFIX}/logout")
        assert "You are not signed in." in nobody.text
        assert "form-action 'self';" in nobody.headers["content-security-policy"]


@requirement("R67")
async def test_signing_out_twice_is_no_error(forge: Forge) -> None:
    """Nobody is signed in the second time, and the page says that nobody is."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in()
        assert (await leave(app, cookie)).status_code == 303
        second = await leave(app, cookie)
        assert second.status_code == 200
        assert "You are signed out of this application." in second.text


@requirement("R73")
async def test_a_hint_that_makes_the_address_too_long_is_left_out(forge: Forge) -> None:
    """The provider then asks the user; an address that its server refuses would end nothing."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in(id_token="x" * 7000)
        query = asked(await leave(app, cookie))
        assert "id_token_hint" not in query
        assert query["client_id"] == CLIENT


@pytest.mark.parametrize(("claim", "sent"), [("ada@example.org", True), ("", False), ("x" * 600, False), (7, False)])
async def test_what_entra_wants_back_as_a_hint_is_sent(forge: Forge, claim: object, sent: bool) -> None:
    """Its optional claim `login_hint` names the account, so that nobody is asked which one."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in(id_token=f"e30.{base64url(json.dumps({'login_hint': claim}).encode())}.e30")
        query = asked(await leave(app, cookie))
        assert query.get("logout_hint") == (claim if sent else None)


@requirement("R68")
async def test_signing_out_clears_what_the_browser_keeps_of_the_site(forge: Forge) -> None:
    """All but the cookies, while one of them carries the state to the provider and back."""
    async with bench(forge=forge) as app:
        _, cookie = await app.sign_in()
        response = await leave(app, cookie)
        assert response.headers["clear-site-data"] == '"cache", "storage"'
        app.site.published.endpoint = None
        _, cookie = await app.sign_in()
        assert (await leave(app, cookie)).headers["clear-site-data"] == '"cache", "cookies", "storage"'


async def test_a_wrong_method_is_refused(forge: Forge) -> None:
    """And says which ones there are."""
    async with bench(forge=forge) as app:
        assert (await app.browser.request("PUT", f"{PREFIX}/logout")).headers["allow"] == "GET, POST"
        assert (await app.browser.post(f"{PREFIX}/logged-out")).headers["allow"] == "GET"
