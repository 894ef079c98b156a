"""What somebody does with their account by the pages: factors, devices, the forgotten password, on every framework."""

from __future__ import annotations

import re
from pathlib import Path

import pyotp
import pytest

from sessile.core.binding import Binding
from sessile.core.policy import Policy
from tests.auth.pages.visiting import ALL, GOOD, ORIGIN, OTHER, Visitor, visiting
from tests.support.authenticator import Authenticator
from tests.support.requirements import requirement

every_framework = pytest.mark.parametrize("framework", ALL)
ADA = "ada@site.example"


async def with_app(visitor: Visitor) -> pyotp.TOTP:
    """Set an authenticator app up, as its user does: by the key on the page."""
    await visitor.get("/app/new")
    key = re.search(r'<code class="key">([^<]+)<', visitor.text)
    assert key is not None
    app = pyotp.TOTP(key[1].replace(" ", ""))
    await visitor.send("/app/new", totp=app.at(visitor.clock()), label="My phone")
    assert visitor.place.startswith(("/recovery", "/app")), visitor.text
    visitor.clock.advance(30)
    return app


def code_of(visitor: Visitor, app: pyotp.TOTP) -> str:
    """Return the code that the app shows."""
    return app.at(visitor.clock())


@requirement("R88", "R91")
@every_framework
async def test_an_app_is_set_up_and_asked_for_after_the_password(framework: str, tmp_path: Path) -> None:
    """A wrong code keeps the secret on the page; a code works once; until then nothing opens."""
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        await visitor.get("/app/new")
        first = re.search(r'<code class="key">([^<]+)<', visitor.text)[1]
        await visitor.send("/app/new", totp="000000")
        assert visitor.reply.status_code == 422
        assert first in visitor.text
        assert "data:image/svg+xml;base64," in visitor.text
        app = await with_app(visitor)
        assert "The authenticator app was added" in (await visitor.follow()).text
        assert "My phone" in (await visitor.get("/app")).text
        other = visitor.another()
        await other.get("/sign-in?next=/cart")
        await other.send("/sign-in", login="ada", password=GOOD)
        assert other.place == "/challenge?next=%2Fcart"
        assert not await other.is_in()
        await (await other.get("/challenge?next=/cart")).send("/challenge", totp="123456")
        assert other.reply.status_code == 422
        assert "has been used" in other.text
        code = code_of(visitor, app)
        await other.send("/challenge", totp=code)
        assert other.place == "/cart"
        assert await other.is_in()
        page = (await visitor.get("/activity")).text
        assert "Somebody gave the right password, and a second factor was asked for." in page
        assert "Proved authenticator code." in page
        third = visitor.another()
        await (await third.sign_in()).follow()
        await third.send("/challenge", totp=code)
        assert third.reply.status_code == 422
        assert not await third.is_in()


@requirement("R92")
@every_framework
async def test_recovery_codes_are_shown_once_and_stand_for_the_app(framework: str, tmp_path: Path) -> None:
    """Few left are told on the overview."""
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        await with_app(visitor)
        await (await visitor.get("/recovery")).send("/recovery")
        codes = re.findall(r"<code>([0-9A-Z-]{19})</code>", visitor.text)
        assert len(codes) == 10
        assert codes[0] not in (await visitor.get("/recovery")).text
        assert "You have 10 left" in visitor.text
        other = visitor.another()
        for used, code in enumerate(codes[:7], 1):
            await (await other.sign_in()).follow()
            await other.send("/challenge", recovery=code.lower().replace("-", " "), way="recovery")
            assert other.place == "/", other.text
            assert await other.is_in()
            assert f"{10 - used} left" in (await other.get("/recovery")).text
            await other.sign_out()
        await (await other.sign_in()).follow()
        await other.send("/challenge", recovery=codes[0], way="recovery")
        assert other.reply.status_code == 422
        assert "You have 3 recovery codes left" in (await visitor.get("/")).text


@requirement("R93")
@every_framework
async def test_who_signs_up_with_a_passkey_needs_no_password(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path) as visitor:
        key = Authenticator()
        await (await visitor.get("/sign-up")).send("/sign-up", login="ada", way="passkey")
        assert visitor.place == "/passkeys/new?next=%2F&first=1"
        assert "sign in again" in (await visitor.follow()).text
        assert (await visitor.add_passkey(key, "My <b>phone</b>"))["next"] == "/account/passkeys?done=passkey-added"
        await visitor.get("/passkeys?done=passkey-added")
        assert "The passkey was added" in visitor.text
        assert "My &lt;b&gt;phone&lt;/b&gt;" in visitor.text
        assert "On this one device only" in visitor.text
        other = visitor.another()
        assert await other.use_passkey(key, next="/cart") == {"next": "/cart"}
        assert await other.is_in()
        assert "two factors" in (await other.get("/")).text
        stranger = visitor.another()
        await stranger.post("/sign-in/passkey", credential="{}")
        assert (stranger.reply.status_code, stranger.json()) == (400, {"error": "refused"})


@requirement("R88", "R93")
@every_framework
async def test_a_passkey_is_a_second_factor_after_the_password(framework: str, tmp_path: Path) -> None:
    """Of another user it is none, and a stale answer is told as one."""
    async with visiting(framework, tmp_path) as visitor:
        key, eves = Authenticator(), Authenticator()
        await visitor.sign_up()
        await visitor.add_passkey(key)
        eve = visitor.another()
        await eve.sign_up("eve", OTHER)
        await eve.add_passkey(eves)
        other = visitor.another()
        await other.sign_in()
        assert other.place == "/challenge?next=%2F"
        assert 'data-begin="/account/prove/passkey/begin"' in (await other.follow()).text
        assert await other.use_passkey(eves, "/prove/passkey", next="/cart") == {"error": "refused"}
        assert not await other.is_in()
        options = (await other.post("/prove/passkey/begin")).json()
        visitor.clock.advance(301)
        await other.post("/prove/passkey", credential=key.get(options, origin=ORIGIN))
        assert other.json() == {"error": "stale"}
        assert await other.use_passkey(key, "/prove/passkey", next="/cart") == {"next": "/cart"}
        assert await other.is_in()


@requirement("R63", "R90")
@every_framework
async def test_a_passkey_is_renamed_and_removed_but_never_the_last_way(framework: str, tmp_path: Path) -> None:
    """Removing asks first, needs a proof of the last minutes, and signs the other devices out."""
    async with visiting(framework, tmp_path) as visitor:
        key, second = Authenticator(), Authenticator()
        await (await visitor.get("/sign-up")).send("/sign-up", login="ada", way="passkey")
        await visitor.add_passkey(key, "One")
        page = (await visitor.get("/passkeys")).text
        rename, remove = (
            re.search(rf'"/account(/passkeys/{verb}\?id=[^"]+)"', page)[1] for verb in ("rename", "remove")
        )
        await (await visitor.get(rename)).send("/passkeys/rename", label="Uno")
        assert "Uno" in (await visitor.follow()).text
        await visitor.get(remove)
        assert visitor.place.startswith("/step-up?next=%2Faccount%2Fpasskeys%2Fremove%3Fid%3D")
        target = visitor.query()["next"]
        assert (await visitor.use_passkey(key, "/prove/passkey", next=target)) == {"next": target}
        await (await visitor.get(remove)).send("/passkeys/remove")
        assert visitor.reply.status_code == 422
        assert "your only way to sign in" in visitor.text
        await visitor.add_passkey(second, "Two")
        other = visitor.another()
        await other.use_passkey(second)
        await (await visitor.get(remove)).send("/passkeys/remove")
        assert "The passkey was removed" in (await visitor.follow()).text
        assert "Uno" not in visitor.text
        assert not await other.is_in()
        third = visitor.another()
        assert await third.use_passkey(key) == {"error": "refused"}
        assert "next" in await third.use_passkey(second)


@every_framework
async def test_a_password_is_changed_with_a_fresh_proof(framework: str, tmp_path: Path) -> None:
    """The old one and the other devices are over."""
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        other = visitor.another()
        await other.sign_in()
        visitor.clock.advance(400)
        await visitor.get("/password")
        assert visitor.place == "/step-up?next=%2Faccount%2Fpassword&reason=age"
        await visitor.follow()
        await visitor.send("/step-up", password=OTHER)
        assert (visitor.reply.status_code, "not your password" in visitor.text) == (422, True)
        await visitor.send("/step-up", password=GOOD)
        await (await visitor.follow()).send("/password", password="short")
        assert "at least 15 characters" in visitor.text
        await visitor.send("/password", password=OTHER)
        assert "The password was changed" in (await visitor.follow()).text
        assert await visitor.is_in()
        assert not await other.is_in()
        assert (await other.sign_in()).reply.status_code == 422
        await other.sign_in(password=OTHER)
        assert await other.is_in()


@requirement("R89", "R90")
async def test_only_what_raises_the_level_is_asked_for_where_the_level_is_too_low(tmp_path: Path) -> None:
    """The password once more would lead in circles; who has nothing else is told what to add."""
    async with visiting("asgi", tmp_path) as visitor:
        await visitor.sign_up()
        await visitor.get("/step-up?reason=aal&next=/vault")
        assert "you have none yet" in visitor.text
        assert 'name="password"' not in visitor.text
        await visitor.post("/step-up", reason="aal", way="password", password=GOOD, next="/vault")
        assert visitor.reply.status_code == 422
        assert 'name="password"' in (await visitor.get("/step-up?reason=age&next=/vault")).text


@requirement("R90")
async def test_a_form_that_was_open_for_long_asks_for_a_proof_first(tmp_path: Path) -> None:
    """Whatever it would do, it does nothing."""
    async with visiting("asgi", tmp_path) as visitor:
        await visitor.sign_up()
        await visitor.add_passkey(Authenticator(), "My key")
        other = visitor.another()
        await other.sign_in()
        visitor.clock.advance(400)
        user = (await visitor.accounts.users.find("ada")).id
        before = await visitor.accounts.ground.vault.of_user(user, "pass")
        sessions = await visitor.accounts.ground.sessions.of_user(user)
        for path in (
            "/devices/end",
            "/devices/others",
            "/devices/not-me",
            "/passkeys/remove",
            "/app/new",
            "/app/remove",
            "/recovery",
            "/password",
        ):
            for one in sessions:
                await visitor.post(path, id=one.id, password=OTHER)
                assert visitor.place.startswith("/step-up?next=%2Faccount%2F"), path
                assert visitor.query()["reason"] in ("age", "aal"), path
        await visitor.post("/password/reset", password=OTHER)
        assert visitor.place == "/forgotten"
        assert await visitor.accounts.ground.vault.of_user(user, "pass") == before
        assert len(await visitor.accounts.ground.sessions.of_user(user)) == 2


@requirement("R65")
@every_framework
async def test_devices_are_listed_and_ended(framework: str, tmp_path: Path) -> None:
    """One, and all others; who proved nothing for a while proves themselves first."""
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        others = [visitor.another() for _ in range(3)]
        for other in others:
            other.browser.agent = firefox
            await other.sign_in()
        page = (await visitor.get("/devices")).text
        assert page.count("This device") == 1
        assert page.count("Firefox on Linux</h2>") == 3
        assert "<h1>Devices</h1>" in page
        visitor.clock.advance(400)
        first = re.search(r'"/account(/devices/end\?id=[^"]+)"', page)[1]
        await visitor.get(first)
        assert "reason=age" in visitor.place
        await (await visitor.follow()).send("/step-up", password=GOOD)
        await (await visitor.follow()).send("/devices/end")
        assert "Signed out: 1." in (await visitor.follow()).text
        assert sum([await other.is_in() for other in others]) == 2
        await (await visitor.get("/devices/others")).send("/devices/others")
        assert "All other devices are signed out." in (await visitor.follow()).text
        assert not any([await other.is_in() for other in others])
        assert await visitor.is_in()


@every_framework
async def test_nobody_ends_the_sessions_of_somebody_else(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        eve, second = visitor.another(), visitor.another()
        await eve.sign_up("eve", OTHER)
        await second.sign_in()
        link = re.search(r"/devices/end\?id=([^\"]+)\"", (await visitor.get("/devices")).text)[1]
        assert (await eve.get(f"/devices/end?id={link}")).place == "/devices"
        await eve.post("/devices/end", id=link)
        assert eve.query()["n"] == "0"
        await eve.post("/devices/others")
        assert await second.is_in()
        assert await visitor.is_in()


@every_framework
async def test_this_was_not_me_ends_all_others_and_leads_to_the_password(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path) as visitor:
        await visitor.sign_up()
        thief, phone = visitor.another(), visitor.another()
        await thief.sign_in()
        await phone.sign_in()
        link = re.search(r'"/account(/devices/not-me\?id=[^"]+)"', (await visitor.get("/devices")).text)[1]
        await (await visitor.get(link)).send("/devices/not-me")
        assert visitor.place == "/step-up?next=%2Faccount%2Fpassword%3Fdone%3Dnot-me"
        assert not await thief.is_in()
        assert not await phone.is_in()
        await visitor.follow()
        await visitor.send("/step-up", password=GOOD)
        assert "Now choose a new password" in (await visitor.follow()).text
        await visitor.send("/password", password=OTHER)
        assert (await thief.sign_in()).reply.status_code == 422
        assert await visitor.is_in()


async def signed_up_by_mail(visitor: Visitor) -> None:
    """Make an account with an address and a password."""
    await (await visitor.get("/sign-up")).send("/sign-up", login=ADA)
    await (await visitor.follow()).send("/code", code=await visitor.code())
    await (await visitor.get("/password")).send("/password", password=GOOD)
    assert visitor.place == "/?done=password"


@every_framework
async def test_a_forgotten_password_is_replaced_by_who_reads_the_mail(framework: str, tmp_path: Path) -> None:
    """All sessions are over, and the second factor is still asked for; nobody else gets to the page."""
    async with visiting(framework, tmp_path, by_mail=True) as visitor:
        await signed_up_by_mail(visitor)
        assert (await visitor.get("/password/reset")).reply.status_code == 200  # the mail was proved at sign-up
        app = await with_app(visitor)
        other = visitor.another()
        assert (await other.get("/password/reset")).place.startswith("/sign-in?")
        await (await other.get("/forgotten")).send("/forgotten", login=ADA)
        await other.follow()
        await other.send("/code", code=await visitor.code(2))
        assert other.place == "/challenge?next=%2Faccount%2Fpassword%2Freset"
        assert (await other.get("/password/reset")).place.startswith("/challenge?")
        await other.follow()
        assert 'name="password"' not in other.text  # a mailbox and a password must not stand for the second factor
        await other.post("/challenge", way="password", password=GOOD)
        assert other.reply.status_code == 422
        await other.get("/challenge?next=/account/password/reset")
        await other.send("/challenge", totp=code_of(visitor, app))
        await (await other.follow()).send("/password/reset", password=OTHER)
        assert other.place == "/sign-in?done=reset"
        assert "all devices are signed out" in (await other.follow()).text
        assert not await other.is_in()
        assert not await visitor.is_in()
        assert (await other.sign_in(ADA, GOOD)).reply.status_code == 422
        assert (await other.sign_in(ADA, OTHER)).place.startswith("/challenge")


@requirement("R98")
@every_framework
async def test_a_change_is_told_by_mail_and_stands_in_the_activity(framework: str, tmp_path: Path) -> None:
    async with visiting(framework, tmp_path, by_mail=True) as visitor:
        visitor.browser.agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
        await signed_up_by_mail(visitor)
        mail = await visitor.mailed("has changed")
        assert "Added: password." in mail
        assert f"{ORIGIN}/account/devices" in mail
        eve = visitor.another()
        for _ in range(3):
            await eve.sign_in(ADA, OTHER)
        page = (await visitor.get("/activity")).text
        assert "Signed in with e-mail code." in page
        assert "on Firefox on Linux" in page
        assert "Added: password." in page
        assert "A wrong password was refused." in page
        assert re.search(r"3 times, last <time", page)
        assert ADA not in page


async def test_who_left_before_adding_a_passkey_begins_again(tmp_path: Path) -> None:
    """Nobody could ever sign in to such an account: it is removed, and its name is free."""
    async with visiting("asgi", tmp_path) as visitor:
        await (await visitor.get("/sign-up")).send("/sign-up", login="ada", way="passkey")
        visitor.clock.advance(400)
        assert (await visitor.get("/passkeys/new?first=1")).place.startswith("/step-up?")
        await visitor.follow()
        assert "no way to sign in yet" in visitor.text
        await visitor.send("/step-up", way="restart")
        assert visitor.place == "/sign-up"
        assert not await visitor.is_in()
        await visitor.sign_up()
        assert await visitor.is_in()
        await visitor.post("/step-up", way="restart")
        assert visitor.reply.status_code == 422
        assert await visitor.is_in()


@requirement("R53")
@every_framework
async def test_a_session_that_moved_proves_itself_and_goes_on(framework: str, tmp_path: Path) -> None:
    """With whatever its user has; until then it opens nothing."""
    policy = Policy(binding=Binding(agent="challenge"))
    chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
    async with visiting(framework, tmp_path, policy=policy) as visitor:
        visitor.browser.agent = chrome
        await visitor.sign_up()
        assert await visitor.is_in()
        visitor.browser.agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
        await visitor.get("/devices")
        assert visitor.place == "/challenge?next=%2Faccount%2Fdevices"
        assert "used from somewhere else" in (await visitor.follow()).text
        await visitor.send("/challenge", password=OTHER)
        assert visitor.reply.status_code == 422
        assert not await visitor.is_in()
        await visitor.get("/challenge?next=/account/devices")
        await visitor.send("/challenge", password=GOOD)
        assert visitor.place == "/devices"
        assert await visitor.is_in()


async def test_signing_out_everywhere_is_told_truthfully(tmp_path: Path) -> None:
    """What the store has not confirmed, the page does not either."""
    async with visiting("asgi", tmp_path) as visitor:
        await visitor.sign_up()
        other = visitor.another()
        await other.sign_in()
        await (await visitor.get("/sign-out")).send("/sign-out", where="everywhere")
        assert visitor.place == "/signed-out?where=everywhere"
        assert "All your devices are signed out." in (await visitor.follow()).text
        assert not await other.is_in()
        await visitor.sign_in()
        store = visitor.accounts.ground.engine.store
        end = store.end

        async def unsure(*given: object) -> object:
            return (await end(*given))._replace(confirmed=False)

        store.end = unsure
        await visitor.sign_out()
        assert visitor.place == "/signed-out?sure=no"
        assert "Not every server has confirmed it yet" in (await visitor.follow()).text
