"""Signing in, up and out by the account pages, on every framework."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.auth.pages.visiting import ALL, GOOD, OTHER, visiting
from tests.support.requirements import requirement

every_framework = pytest.mark.parametrize("framework", ALL)


@every_framework
async def test_who_signs_up_by_name_is_signed_in_and_can_sign_in_again(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        assert visitor.reply.status_code == 303
        assert visitor.reply.headers["location"] == "/"
        assert await visitor.is_in()
        await visitor.sign_out()
        assert visitor.place == "/signed-out"
        assert "This device is signed out." in (await visitor.follow()).text
        assert not await visitor.is_in()
        await visitor.sign_in()
        assert (visitor.reply.status_code, visitor.reply.headers["location"]) == (303, "/")
        assert await visitor.is_in()


@every_framework
async def test_an_unknown_name_and_a_wrong_password_get_one_answer(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        answers = []
        for login, password in (("ada", OTHER), ("bob", GOOD)):
            other = visitor.another()
            await other.sign_in(login, password)
            assert other.reply.status_code == 422
            assert not await other.is_in()
            answers.append(other.text.replace(login, "…"))
        assert answers[0] == answers[1]
        assert "Name and password do not belong together" in answers[0]


@requirement("R6")
@every_framework
async def test_by_mail_a_known_address_and_a_new_one_get_one_answer(framework: str, tmp_path: Path) -> None:
    """At sign-up, sign-in and for a forgotten password; who has an account learns it from their mail alone."""
    async with visiting(framework, tmp_path, by_mail=True) as visitor:
        await (await visitor.get("/sign-up")).send("/sign-up", login="ada@site.example")
        await visitor.follow()
        await visitor.send("/code", code=await visitor.code())
        assert visitor.place == "/passkeys/new?next=%2F&first=1"
        assert await visitor.is_in()
        for path, fields in (
            ("/sign-up", {}),
            ("/sign-in", {"way": "email"}),
            ("/forgotten", {}),
        ):
            answers = []
            for login in ("ada@site.example", "new@site.example"):
                other = visitor.another()
                await (await other.get(path)).send(path, login=login, **fields)
                first = (other.reply.status_code, other.place)
                await other.follow()
                second = other.text
                await other.send("/code", code="0000 0000")
                answers.append((first, second, other.reply.status_code, other.text))
            assert answers[0] == answers[1]
            assert answers[0][0] == (303, "/code")
            assert answers[0][2] == 422


@every_framework
async def test_an_account_by_mail_signs_in_by_code_and_by_link(framework: str, tmp_path: Path) -> None:
    """A link shows a button first: what only follows it signs nobody in and uses nothing up."""
    async with visiting(framework, tmp_path, by_mail=True) as visitor:
        await (await visitor.get("/sign-up")).send("/sign-up", login="ada@site.example")
        await (await visitor.follow()).send("/code", code=await visitor.code())
        await visitor.sign_out()
        await (await visitor.get("/sign-in?next=/cart")).send("/sign-in", login="ada@site.example", way="email")
        mail = await visitor.mailed("Your code", 2)
        path = mail.split("https://shop.example/account")[1].split()[0]
        scanner = visitor.another()
        assert "does not work here" in (await scanner.get(path)).text
        for _ in range(2):
            assert "Press the button" in (await visitor.get(path)).text
        assert not await visitor.is_in()
        await scanner.post("/link", token=path.partition("=")[2])
        assert scanner.reply.status_code == 422
        await visitor.send("/link")
        assert visitor.reply.headers["location"] == "/cart"
        assert await visitor.is_in()


@every_framework
async def test_a_name_that_is_taken_or_a_weak_password_makes_no_account(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        other = visitor.another()
        for login, password, said in (
            ("Ada", OTHER, "This name is taken"),
            ("bob", "short", "at least 15 characters"),
            ("bob", "passwordpassword", "first that are guessed"),
            ("bob bob", OTHER, "without spaces"),
        ):
            await other.sign_up(login, password)
            assert other.reply.status_code == 422
            assert said in other.text
            assert not await other.is_in()
        await other.sign_up("bob", OTHER)
        assert await other.is_in()


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
async def test_a_closed_sign_up_makes_no_accounts(closed: bool, tmp_path: Path) -> None:
    async with visiting("asgi", tmp_path, sign_up=not closed) as visitor:
        await visitor.get("/sign-in")
        assert ("Create an account" in visitor.text) != closed
        assert (await visitor.get("/sign-up")).reply.status_code == (404 if closed else 200)
        await visitor.post("/sign-up", login="ada", password=GOOD)
        assert visitor.reply.status_code == (404 if closed else 303)
        assert await visitor.is_in() != closed


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "\\\\evil",
    ],
    ids=lambda one: one.encode("unicode_escape").decode(),
)
@every_framework
async def test_nobody_is_led_to_another_site(framework: str, target: str, tmp_path: Path) -> None:
    """By sign-in, sign-up, or the passkey's script."""
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        await visitor.get("/sign-in", params={"next": target})
        assert visitor.reply.headers["location"] == "/"
        other = visitor.another()
        await other.post("/sign-in", login="ada", password=GOOD, next=target)
        assert other.reply.headers["location"] == "/"
        another = visitor.another()
        await another.get("/sign-in", params={"next": target})
        assert 'name="next" value="/"' in another.text
        await another.post("/sign-up", login="bob", password=OTHER, next=target)
        assert another.reply.headers["location"] == "/"


@every_framework
async def test_attempts_run_out(framework: str, tmp_path: Path) -> None:
    """The page says how long to wait, and the right password does not help meanwhile."""
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        other = visitor.another()
        for _ in range(5):
            await other.sign_in(password=OTHER)
            assert other.reply.status_code == 422
        await other.sign_in()
        assert (other.reply.status_code, other.reply.headers["retry-after"]) == (429, "1")
        assert "Try again in 1 s." in other.text
        visitor.clock.advance(2)
        await other.sign_in()
        assert await other.is_in()


@requirement("R22")
@every_framework
async def test_another_site_sends_no_form(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "accept": "text/html"}
        for path in ("/sign-out", "/sign-in", "/sign-up"):
            reply = await visitor.browser.post("/account" + path, data={"login": "eve"}, headers=foreign)
            assert reply.status_code == 403
        assert await visitor.is_in()


@every_framework
async def test_pages_run_nothing_inline_and_are_not_kept(framework: str, tmp_path: Path) -> None:
    """Their own files are kept for ever, under addresses that name their version."""
    async with visiting(framework, tmp_path, by_mail=True) as visitor:
        for path in (
            "/sign-in",
            "/sign-up",
            "/forgotten",
            "/code",
            "/link?token=x",
            "/sign-out",
            "/signed-out",
            "/none",
        ):
            reply = (await visitor.get(path)).reply
            assert "script-src 'self'" in reply.headers["content-security-policy"]
            assert "no-store" in reply.headers["cache-control"]
            assert " style=" not in reply.text
            assert "<script>" not in reply.text
            assert " on" not in reply.text.split("<body>")[1].split("<main")[0]
        static = (await visitor.get("/sign-in")).text.split('<link rel="stylesheet" href="/account')[1].split('"')[0]
        reply = (await visitor.get(static)).reply
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert "set-cookie" not in reply.headers
        assert reply.headers["content-type"].startswith("text/css")
        assert (await visitor.get("/static/x/../../secret")).reply.status_code == 404
        assert (await visitor.get("/static/old/account.css")).reply.headers["cache-control"] == "no-cache"
