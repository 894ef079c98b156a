"""What applications decide: which ways are on, words, looks, templates, and what is refused at start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessile import AsyncSessions, Sessions
from sessile.adapters.sites import asgi
from sessile.auth.accounts import Accounts, AsyncAccounts
from sessile.auth.activity import KEPT, Entry, after
from sessile.auth.codes import ConsoleMailer
from sessile.auth.pages import AccountPages, Theme
from sessile.auth.texts import ENGLISH, Texts
from sessile.auth.users import Account
from sessile.errors import ConfigurationError
from tests.auth.pages.visiting import CHEAP, GOOD, OTHER, visiting
from tests.support.authenticator import Authenticator
from tests.support.mounting import BLOCKING, FRAMEWORKS

SHOP: dict[str, Any] = {"name": "Shop", "origin": "https://shop.example", "password_rules": CHEAP}


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "shop.example"},
        {"origin": "https://shop.example/"},
        {"origin": []},
        {"origin": "https://eve@shop.example"},
        {"ways": ["totp"]},
        {"ways": ["password", "carrier pigeon"]},
        {"ways": ["email"]},
        {"address": "account"},
        {"colour": "red"},
        {"rp_id": "other.example"},
        {"texts": {"sign-in.titel": "Anmelden"}},
        {"texts": {"sign-in.title": "Sign in to {shop}"}},
        {"texts": {"sign-in.title": "{name.__class__}"}},
        {"texts": {"sign-in.title": "{"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
def test_what_cannot_work_is_refused_at_start(wrong: dict[str, Any], blocking: bool) -> None:
    kind: Any = Accounts if blocking else AsyncAccounts
    sessions: Any = Sessions() if blocking else AsyncSessions()
    with pytest.raises(ConfigurationError):
        kind(sessions, "memory://", **{**SHOP, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"home": "https://evil.example"},
        {"home": "//evil.example"},
        {"templates": "/nowhere/at/all"},
        {"theme": ("light", {"accent": "red; } body { display: none"})},
        {"theme": ("light", {"accent": "URL(https://evil.example)"})},
        {"theme": ("light", {"accent": "URL(//evil.example/x)"})},
        {"theme": ("dark", {"Accent": "red"})},
        {"theme": ("font", "x\ny")},
        {"theme": ("logo", Path("logo.exe"))},
        {"theme": ("logo", Path("/nowhere/logo.png"))},
    ],
    ids=str,
)
def test_looks_that_cannot_work_are_refused_at_start(wrong: dict[str, Any]) -> None:
    accounts = Accounts(Sessions(), "memory://", **SHOP)

    def theme() -> dict[str, Any]:
        return {"theme": Theme(**dict([wrong["theme"]]))} if "theme" in wrong else wrong

    with pytest.raises(ConfigurationError):
        AccountPages(accounts, **theme())


def test_a_door_that_is_off_says_so() -> None:
    accounts = AsyncAccounts(AsyncSessions(), "memory://", **SHOP, ways=["passkey"])
    assert accounts.passkeys
    for name in ("passwords", "totp", "recovery", "codes"):
        with pytest.raises(ConfigurationError, match="is off"):
            getattr(accounts, name)


def test_pages_of_one_door_are_not_mounted_by_the_other() -> None:
    with pytest.raises(ConfigurationError):
        asgi(AccountPages(Accounts(Sessions(), "memory://", **SHOP)))


WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
from sessile import Sessions
from sessile.auth.accounts import Accounts
from sessile.errors import ExtraMissing
try:
    accounts = Accounts(Sessions(), "memory://", name="Shop", origin="https://shop.example", ways={ways!r})
    from sessile.auth.pages import AccountPages
    AccountPages(accounts)
except ExtraMissing as error:
    print(error)
else:
    print("fine")
"""


@pytest.mark.parametrize(
    ("missing", "ways", "said"),
    [
        (["webauthn"], ["passkey"], "sessile[passkeys]"),
        (["webauthn"], ["password", "totp", "recovery"], "fine"),
        (["argon2"], ["password"], "sessile[passwords]"),
        (["argon2", "pyotp", "segno"], ["passkey"], "fine"),
        (["pyotp"], ["password", "totp"], "sessile[mfa]"),
        (["jinja2"], ["passkey"], "sessile[auth]"),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, list) else one,
)
def test_a_package_is_missed_only_by_the_way_that_needs_it(missing: list[str], ways: list[str], said: str) -> None:
    code = WITHOUT.format(missing=missing, ways=ways)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said in done.stdout, done.stderr


@pytest.mark.parametrize("way", ["password", "passkey", "totp", "recovery"])
async def test_a_way_that_is_off_has_no_pages(way: str, tmp_path: Path) -> None:
    """Neither shown nor reached."""
    places = {
        "password": ["/password", "/password/reset"],
        "passkey": ["/passkeys", "/passkeys/new", "/sign-in/passkey", "/prove/passkey"],
        "totp": ["/app", "/app/new", "/app/remove"],
        "recovery": ["/recovery"],
    }[way]
    ways = {"password", "passkey", "totp", "recovery", "email"} - {way}
    async with visiting("asgi", tmp_path, by_mail=True, ways=ways) as visitor:
        await visitor.get("/sign-in")
        assert ('name="password"' in visitor.text) == (way != "password")
        assert ("passkey" in visitor.text.replace("passkeys.js", "")) == (way != "passkey")
        await (await visitor.get("/sign-up")).send("/sign-up", login="ada@site.example")
        await (await visitor.follow()).send("/code", code=await visitor.code())
        assert (await visitor.get("/")).reply.status_code == 200
        assert places[0] not in visitor.text
        for place in places:
            assert (await visitor.get(place)).reply.status_code == 404
            assert (await visitor.post(place)).reply.status_code == 404


async def test_codes_alone_are_enough(tmp_path: Path) -> None:
    async with visiting("asgi", tmp_path, by_mail=True, ways=["email"]) as visitor:
        await (await visitor.get("/sign-up?next=/cart")).send("/sign-up", login="ada@site.example")
        await (await visitor.follow()).send("/code", code=await visitor.code())
        assert visitor.place == "/?done=welcome"
        assert "Welcome." in (await visitor.follow()).text
        await visitor.sign_out()
        await (await visitor.get("/sign-in")).send("/sign-in", login="ada@site.example")
        await (await visitor.follow()).send("/code", code=await visitor.code(2))
        assert await visitor.is_in()
        visitor.clock.advance(400)
        await visitor.get("/devices/others")
        await (await visitor.follow()).send("/step-up", way="email")
        await (await visitor.follow()).send("/code", code=await visitor.code(3))
        assert visitor.place == "/devices/others"


async def test_other_words_and_looks_are_shown(tmp_path: Path) -> None:
    """And a template of the application extends ours."""
    folder = tmp_path / "templates"
    folder.mkdir()
    mine = '{% extends "sessile/sign_in.html" %}{% block main %}{{ super() }}<p>Ours, {{ name }}</p>{% endblock %}'
    (folder / "sign_in.html").write_text(mine, "utf-8")
    (tmp_path / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', "utf-8")
    theme = Theme(light={"accent": "#7c3aed"}, dark={"accent": "#c4b5fd"}, radius="4px", logo=tmp_path / "logo.svg")
    pages = {"theme": theme, "templates": folder, "home": "/start"}
    texts = {"lang": "de", "sign-in.title": "Anmelden bei {name}", "wrong.login": "Name und Passwort <passen> nicht."}
    async with visiting("starlette", tmp_path, pages=pages, texts=texts) as visitor:
        page = (await visitor.get("/sign-in")).text
        assert "<h1>Anmelden bei Example</h1>" in page
        assert '<html lang="de">' in page
        assert "Ours, Example" in page
        assert 'href="/start"' in page
        sheet = page.split('href="/account/static/')[2].split('"')[0]
        css = (await visitor.get("/static/" + sheet)).text
        assert "--accent: #7c3aed" in css
        assert "--radius: 4px" in css
        assert "prefers-color-scheme: dark" in css
        logo = page.split('<img src="/account')[1].split('"')[0]
        assert (await visitor.get(logo)).reply.headers["content-type"] == "image/svg+xml"
        await visitor.sign_in("ada", "wrong")
        assert "&lt;passen&gt;" in visitor.text
        await visitor.sign_up()
        assert visitor.reply.headers["location"] == "/start"


def test_every_text_can_be_filled_and_every_template_knows_its_texts() -> None:
    """No template names a text that is not there, and no text stands there for nobody."""
    folder = Path(__import__("sessile.auth.pages", fromlist=["x"]).__file__).parent
    sources = [path.read_text("utf-8") for path in [*folder.glob("**/*.html"), *folder.glob("*.py")]]
    sources.append((folder.parent / "activity.py").read_text("utf-8"))
    everything = "\n".join(sources)
    # Ids that are put together: of what went wrong, of events, of confirmations.
    families = ("log.", "way.", "wrong.", "passkey.", "home.level.", "signed-out.")
    for key in ENGLISH:
        family, _, last = key.rpartition(".")
        put_together = key.startswith(families) or (last in ("title", "text", "button") and f'"{family}"' in everything)
        assert f'"{key}"' in everything or put_together or (family == "done" and f'"{last}"' in everything), key
    for key in re.findall(r'\bt\("([a-z0-9.-]+)"[,)]', everything):
        assert key in ENGLISH, key
    assert Texts({})("devices.end.of", label="{x}") == "Sign out {x}"


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_users_of_the_application_sign_in_with_a_closed_sign_up(framework: str, tmp_path: Path) -> None:
    """The port has two methods; what they return is who signs in."""

    class Mine:
        async def find(self, login: str) -> Account | None:
            return Account("7", "ada") if login.lower() == "ada" else None

        async def get(self, user_id: str) -> Account | None:
            return Account("7", "ada") if user_id == "7" else None

    async with visiting(framework, tmp_path, users=Mine()) as visitor:
        setting = visitor.accounts.passwords.set_first("7", GOOD)
        assert (setting if framework in BLOCKING else await setting) is None
        assert (await visitor.get("/sign-up")).reply.status_code == 404
        await visitor.sign_in()
        assert await visitor.is_in()
        assert "Signed in as ada" in (await visitor.get("/")).text


def test_an_open_sign_up_needs_users_that_can_be_made() -> None:
    class Mine:
        async def find(self, login: str) -> Account | None: ...
        async def get(self, user_id: str) -> Account | None: ...

    with pytest.raises(ConfigurationError, match="create"):
        Accounts(Sessions(), "memory://", **SHOP, users=Mine(), sign_up=True)


async def test_where_sessions_live_in_cookies_all_others_are_ended_together(tmp_path: Path) -> None:
    async with visiting("asgi", tmp_path, store="cookie://?revocations=memory://") as visitor:
        await visitor.sign_up()
        other = visitor.another()
        await other.sign_in()
        assert "Sign out all others." in (await visitor.get("/")).text
        assert "cannot be listed" in (await visitor.get("/devices")).text
        await (await visitor.get("/devices/others")).send("/devices/others")
        assert "All other devices are signed out." in (await visitor.follow()).text
        assert await visitor.is_in()
        assert not await other.is_in()


def test_what_happens_often_is_one_entry() -> None:
    """Who fails on purpose pushes nothing out."""
    entries: tuple[Entry, ...] = (Entry("signed-in", "passkey", "", 0.0),)
    for number in range(10_000):
        code = ("failed", "limited")[number % 2]
        entries = after(entries, Entry(code, "password", "", float(number)))
    assert [(one.code, one.times) for one in entries] == [("limited", 5000), ("failed", 5000), ("signed-in", 1)]
    for number in range(200):
        entries = after(entries, Entry("signed-in", f"way {number}", "", 20_000.0))
    assert len(entries) == KEPT


async def test_a_user_who_was_removed_leaves_no_activity(tmp_path: Path) -> None:
    """Their sessions end afterwards, and nothing of them comes back (R99)."""
    async with visiting("asgi", tmp_path) as visitor:
        await visitor.sign_up()
        account = await visitor.accounts.users.find("ada")
        await visitor.accounts.users.remove(account.id)
        await visitor.accounts.ground.sessions.end_all(account.id)
        assert await visitor.accounts.activity.of(account.id) == ()
        assert await visitor.accounts.ground.vault.of_user(account.id) == ()


async def test_a_mailer_that_fails_stops_nobody(tmp_path: Path) -> None:
    def broken(_: str) -> None:
        raise OSError("no way out")

    async with visiting("wsgi", tmp_path, mailer=ConsoleMailer(broken), ways=["password"]) as visitor:
        await visitor.sign_up("ada@site.example")
        await (await visitor.get("/password")).send("/password", password=OTHER)
        assert visitor.place == "/?done=password"


async def test_a_label_for_a_passkey_is_what_its_user_wrote(tmp_path: Path) -> None:
    """Bounded, and on one line."""
    async with visiting("asgi", tmp_path) as visitor:
        await visitor.sign_up()
        await visitor.add_passkey(Authenticator(), "a\r\nb" + "c" * 500)
        await visitor.get("/passkeys")
        assert "<h2>a bccc" in visitor.text
        assert "c" * 100 not in visitor.text
