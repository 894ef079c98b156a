"""Attacks on the account pages: half a sign-in, forged forms, other people's texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sessile.auth.accounts import Accounts
from sessile.auth.changes import enrolled
from sessile.auth.codes import FileMailer
from sessile.auth.pages.site import PAGES, Access
from sessile.auth.tokens import AsyncTokens, Tokens
from sessile.auth.tokens.apidoor import attach
from tests.auth.pages.test_account import code_of, signed_up_by_mail, with_app
from tests.auth.pages.visiting import ALL, GOOD, OTHER, Visitor, mails_in, visiting
from tests.support.authenticator import Authenticator
from tests.support.mounting import GUARDED, OPEN
from tests.support.requirements import requirement

every_framework = pytest.mark.parametrize("framework", ALL)
ADA = "ada@site.example"
# What belongs to the user, and must stand on no page that half a sign-in reaches.
PRIVATE = (ADA, "My phone", "My key", "Signed in with", "recovery codes left", "Sign out all other devices")


async def walk(visitor: Visitor, refusal: str) -> None:
    """Ask for every page of the site, in every way, as often as there are ids; each sends us to `refusal`."""
    for path, page in PAGES.items():
        if page.access is not Access.SIGNED_IN:
            continue
        for method in ("GET", "POST"):
            if (page.get if method == "GET" else page.post) is None:
                continue
            fields = {
                "id": "x",
                "password": OTHER,
                "label": "x",
                "totp": "000000",
                "way": "restart",
                "credential": "{}",
            }
            sent: dict[str, Any] = {"params": fields} if method == "GET" else {"data": fields}
            reply = await visitor.browser.request(method, "/account" + path, **sent)
            if page.script and method == "POST":
                assert reply.status_code == 401, path
                assert reply.json()["next"].startswith(f"/account{refusal}?"), path
            else:
                assert reply.status_code == 303, path
                assert reply.headers["location"].startswith(f"/account{refusal}?"), path
            assert not any(text in reply.text for text in PRIVATE)


async def state(visitor: Visitor, user: str) -> Any:
    """Return what the vault and the store hold of a user, but for counts of attempts."""
    items = await visitor.accounts.ground.vault.of_user(user)
    sessions = await visitor.accounts.ground.engine.index.of_user(user)
    return (
        [item for item in items if not item.key.startswith(("throttle", "activity"))],
        {sid for sid, record in sessions if not record.control.pending},
        await enrolled(visitor.accounts.ground, user),
    )


@requirement("R88")
@every_framework
async def test_half_a_sign_in_opens_nothing(framework: str, tmp_path: Path) -> None:
    """Every page of the site and the application's own guarded one, with a pending session and with none."""
    async with visiting(framework, tmp_path, by_mail=True) as visitor:
        await signed_up_by_mail(visitor)
        await visitor.add_passkey(Authenticator(), "My key")
        account = await visitor.accounts.doors.users.find(ADA)
        assert account is not None
        guarded = [GUARDED, "/fast" + GUARDED] if framework == "starlette" else [GUARDED]

        nobody, half = visitor.another(), visitor.another()
        await half.sign_in(ADA)
        assert half.place.startswith("/challenge")
        before = await state(visitor, account.id)
        await walk(nobody, "/sign-in")
        await walk(half, "/challenge")
        for path in guarded:
            assert OPEN in (await visitor.browser.get(path)).text
            for other in (nobody, half):
                reply = await other.browser.get(path)
                assert reply.status_code in (302, 303, 401)
                assert OPEN not in reply.text
        # The pages that half a sign-in may reach say nothing of the user, and nothing there stands for the factor.
        for path, page in PAGES.items():
            if page.access is not Access.SIGNED_IN and page.get is not None:
                reply = await half.browser.get("/account" + path)
                assert not any(text in reply.text for text in PRIVATE), path
        for way in ("password", "email", "passkey", "restart", "", "none"):
            await half.post("/challenge", way=way, password=GOOD, next="/account/")
            assert half.reply.status_code == 422
        assert not await half.is_in()
        await half.post("/sign-out", where="everywhere")
        assert await visitor.is_in()
        assert await state(visitor, account.id) == before


@every_framework
async def test_an_old_token_of_half_a_sign_in_is_dead_after_the_second_factor(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        app = await with_app(visitor)
        other, thief = visitor.another(), visitor.another()
        await other.sign_in()
        thief.browser.jar.update(other.browser.jar)
        await (await other.follow()).send("/challenge", totp=code_of(visitor, app))
        assert await other.is_in()
        assert not await thief.is_in()


NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{7*7}}{% raw %}",
    "{name} {0} {x.__class__}",
    "</title><svg/onload=alert(1)>",
]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
async def test_no_text_of_a_user_becomes_markup(text: str, tmp_path: Path) -> None:
    """Names, labels, devices, addresses, tokens, targets: on every page that shows them."""
    async with visiting("starlette", tmp_path) as visitor:
        login = text.replace(" ", "")
        visitor.browser.agent = f"Mozilla/5.0 ({text}) Firefox/140.0 {text}"
        await visitor.sign_up(login)
        assert await visitor.is_in()
        await visitor.add_passkey(Authenticator(), text)
        await visitor.get("/step-up")
        pages = [visitor.text]
        other = visitor.another()
        await other.sign_in(login, OTHER)
        pages.append(other.text)
        await other.sign_up(login, OTHER)
        pages.append(other.text)
        await (await other.get("/sign-in")).post("/sign-in", login=login, password="x", next="/" + text)
        pages.append(other.text)
        for path in ("/", "/devices", "/activity", "/passkeys", "/recovery", "/password", "/app/new"):
            pages.append((await visitor.get(path)).text)
        for query in ("done", "n", "next", "reason", "token", "id", "where", "sure"):
            pages.append((await other.get("/sign-in", params={query: text})).text)
            pages.append((await visitor.get("/step-up", params={query: text})).text)
        remove = re.search(r'"/account(/passkeys/rename\?id=[^"]+)"', (await visitor.get("/passkeys")).text)
        assert remove is not None or "/passkeys" in visitor.place
        for page in pages:
            assert text not in page or not set(text) & set("<>\"'")
            assert "<img src=x" not in page
            assert "<svg" not in page
            assert "49{" not in page


@pytest.mark.parametrize(
    "address",
    [
        "ada@site.example\r\nBcc: eve@evil.example",
        "ada@site.example\nSubject: x",
        "a@b\x00c",
        "ada@site.example,eve@evil.example x",
    ],
    ids=range(4),
)
async def test_an_address_puts_nothing_into_a_message_of_its_own(address: str, tmp_path: Path) -> None:
    async with visiting("asgi", tmp_path, by_mail=True) as visitor:
        for path in ("/sign-up", "/sign-in", "/forgotten"):
            await visitor.post(path, login=address, way="email")
            assert visitor.reply.status_code == 422
        await visitor.post("/sign-up", login="fine@site.example")
        await visitor.code()
        assert [(mail["to"], mail["bcc"]) for mail in mails_in(tmp_path)] == [("fine@site.example", None)]


@pytest.mark.parametrize("name", ["Shop\r\nBcc: eve@evil.example", "Shop\nX", "", "x" * 65], ids=range(4))
async def test_a_name_of_several_lines_is_refused_at_start(name: str, tmp_path: Path) -> None:
    from sessile import Sessions
    from sessile.auth.accounts import Accounts
    from sessile.errors import ConfigurationError

    with pytest.raises(ConfigurationError):
        Accounts(Sessions(), "memory://", name=name, origin="https://shop.example", mailer=FileMailer(tmp_path))


@every_framework
async def test_forms_that_are_sent_again_do_nothing_again(framework: str, tmp_path: Path) -> None:
    """A sign-up, a code, a removal, a reset."""
    async with visiting(framework, tmp_path, by_mail=True) as visitor:
        await (await visitor.get("/sign-up")).send("/sign-up", login=ADA)
        code = await visitor.code()
        await visitor.post("/code", code=code)
        assert visitor.reply.status_code == 303
        await visitor.post("/code", code=code)
        assert visitor.reply.status_code == 422
        await visitor.add_passkey(Authenticator(), "One")
        options = (await visitor.post("/passkeys/new/begin")).json()
        assert options.get("error") == "step-up-required"  # the session proved an e-mail alone, and has a passkey now
        credential = Authenticator().create(
            {"user": {"id": "AA"}, "challenge": "AAAA", "rp": {"id": "shop.example"}}, origin="https://shop.example"
        )
        await visitor.post("/passkeys/new", credential=credential, label="Two")
        assert visitor.reply.status_code == 403
        await visitor.get("/passkeys")
        assert visitor.text.count('<li class="card">') == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(method: str, tmp_path: Path) -> None:
    async with visiting("asgi", tmp_path) as visitor:
        await visitor.sign_up()
        for path in ("/", "/sign-out", "/devices/others", "/sign-in"):
            reply = await visitor.browser.request(method, "/account" + path)
            assert reply.status_code == 405
        assert await visitor.is_in()


async def test_bodies_of_other_kinds_are_no_forms(tmp_path: Path) -> None:
    """JSON, text, half a form, too much: nobody is signed in by them, and nothing breaks."""
    async with visiting("asgi", tmp_path) as visitor:
        await visitor.sign_up()
        other = visitor.another()
        for kind, body in (
            ("application/json", b'{"login": "ada", "password": "x"}'),
            ("text/plain", b"login=ada"),
            ("application/x-www-form-urlencoded", b"\xff\xfe=%ff&login=%ff%00"),
            ("application/x-www-form-urlencoded", b"login=" + b"a" * 70_000),
            ("application/x-www-form-urlencoded", b"login=" + b"a" * 60_000 + b"&password=" + b"b" * 4000),
        ):
            headers = {"content-type": kind, "sec-fetch-site": "same-origin", "accept": "text/html"}
            reply = await other.browser.post("/account/sign-in", content=body, headers=headers)
            assert reply.status_code in (413, 422)
            assert not await other.is_in()


async def test_who_signs_up_in_bulk_must_wait(tmp_path: Path) -> None:
    """A sign-up by name tells which names are taken, so it is counted by network."""
    async with visiting("asgi", tmp_path) as visitor:
        statuses = []
        for number in range(102):
            other = visitor.another()
            await other.post("/sign-up", login=f"user{number}", way="passkey")
            statuses.append(other.reply.status_code)
        assert statuses == [303] * 100 + [429] * 2


@requirement("R87")
@every_framework
async def test_an_access_token_manages_no_account(framework: str, tmp_path: Path) -> None:
    """A session that was proved just now gave it, for another purpose: it changes nothing, and shows nothing."""
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        await visitor.add_passkey(Authenticator(), "My key")
        accounts = visitor.accounts
        blocking = isinstance(accounts, Accounts)
        tokens: Any = (Tokens if blocking else AsyncTokens)(accounts.ground, issuer="https://shop.example")
        attach(tokens, audience="https://api.example")
        account = await accounts.users.find("ada")
        assert account is not None
        [(sid, _)] = await accounts.ground.engine.index.of_user(account.id)
        issuing = tokens.issue(sid, user=account.id, audience="https://api.example", client="app")
        headers = {"authorization": f"Bearer {issuing if blocking else await issuing}", "accept": "text/html"}
        before = await state(visitor, account.id)
        client = visitor.another().browser
        assert OPEN in (await client.get(GUARDED, headers=headers)).text  # it is a good one
        for path, page in PAGES.items():
            for method in ("GET", "POST"):
                if (page.get if method == "GET" else page.post) is None:
                    continue
                sent = {} if method == "GET" else {"data": {"password": OTHER, "login": "ada", "where": "everywhere"}}
                reply = await client.request(method, "/account" + path, headers=headers, **sent)
                assert reply.status_code in (403, 404), (method, path)
                assert not any(text in reply.text for text in PRIVATE)
        assert await state(visitor, account.id) == before
        assert await visitor.is_in()
