"""The demo: its pages as an application developer reads them, and its attacks as they end."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import uvicorn

from sessile import AsyncSessions
from sessile.demo import attacks
from sessile.demo.app import POLICY, application
from sessile.demo.server import listen
from sessile.demo.users import SEEDED
from tests.support.ports import await_port, free_port
from tests.support.requirements import requirement

PAGES = (
    "/",
    "/account/sign-in",
    "/account/sign-up",
    "/account/",
    "/account/devices",
    "/account/activity",
    "/vault",
    "/account/step-up",
    "/attacks",
    "/tokens",
)


@pytest.fixture(scope="module", name="folder")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the demo keeps its files."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module", name="url")
def fixture_url(folder: Path) -> Iterator[str]:
    """Serve the demo with a real server."""
    port = free_port()
    app = application(folder, attack_address=("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    await_port(port)
    yield f"http://localhost:{port}"
    while Person.open:
        Person.open.pop().close()
    server.should_exit = True
    thread.join(10)


class Person:
    """Be a browser; httpx keeps Secure cookies to https, so the jar is kept here."""

    open: ClassVar[list[httpx.Client]] = []

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"accept": "text/html"})
        self.open.append(self._http)
        self._jar: dict[str, str] = {}

    def get(self, path: str) -> httpx.Response:
        """Navigate."""
        return self._take(self._http.get(path, headers=self._headers()))

    def post(self, path: str, **form: str) -> httpx.Response:
        """Post a form of the page."""
        return self._take(self._http.post(path, data=form, headers=self._headers()))

    def sign_in(self, who: int = 0) -> None:
        """Sign in as a seeded user."""
        name, password = SEEDED[who]
        assert self.post("/account/sign-in", login=name, password=password).status_code == 303

    def whoami(self) -> str | None:
        """Ask who the shop thinks this is."""
        found: str | None = self.get("/whoami").json()["user"]
        return found

    def _headers(self) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._jar.items())
        return {"sec-fetch-site": "same-origin", **({"cookie": cookies} if cookies else {})}

    def _take(self, reply: httpx.Response) -> httpx.Response:
        self._http.cookies.clear()
        for header in reply.headers.get_list("set-cookie"):
            name, _, rest = header.partition("=")
            value = rest.partition(";")[0]
            if value:
                self._jar[name] = value
            else:
                self._jar.pop(name, None)
        return reply


def test_every_page_answers_with_a_strict_policy_and_nothing_inline(url: str) -> None:
    """No page has inline script or style, and every answer forbids them."""
    person, visitor = Person(url), Person(url)
    person.sign_in()
    for path in PAGES:
        reply = (visitor if path.startswith("/account/sign-") else person).get(path)
        assert reply.status_code == 200, path
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", reply.text), path


def test_a_visitor_who_only_looks_gets_no_session(url: str) -> None:
    """Looking sets no session cookie."""
    assert not any("__Host-" in cookie for cookie in Person(url).get("/").headers.get_list("set-cookie"))


@requirement("R26")
def test_the_cart_survives_the_sign_in(url: str) -> None:
    """What was put into the cart anonymously is there afterwards."""
    person = Person(url)
    person.post("/cart", sku="coral")
    person.sign_in()
    assert "Your cart" in person.get("/").text
    assert "Together" in person.get("/").text


def test_pages_that_need_a_user_lead_to_the_sign_in_and_back(url: str) -> None:
    """The private page redirects with `next`, and the sign-in follows it only within the site."""
    person = Person(url)
    assert person.get("/vault").headers["location"].startswith("/account/sign-in?next=/vault")
    assert person.get("/account/devices").headers["location"].startswith("/account/sign-in?next=")
    name, password = SEEDED[0]
    for hostile in ("//evil.example", "https://evil.example", "/\\evil.example", "/a%09b"):
        reply = Person(url).post(f"/account/sign-in?next={hostile}", login=name, password=password)
        assert reply.headers["location"] == "/account/", hostile


def test_a_wrong_password_signs_nobody_in_and_shows_no_markup(url: str) -> None:
    """The form comes back, with what was typed as text."""
    person = Person(url)
    reply = person.post("/account/sign-in", login="<b>ada", password="wrong")
    assert reply.status_code == 422
    assert "<b>" not in reply.text
    assert person.whoami() is None


@requirement("R65")
def test_one_device_ends_another_and_nobody_ends_a_strangers(url: str) -> None:
    """The list shows both, ending works at once, and only for one's own."""
    here, there, stranger = Person(url), Person(url), Person(url)
    here.sign_in(1)
    there.sign_in(1)
    stranger.sign_in(0)
    page = here.get("/account/devices").text
    ids = re.findall(r'/account/devices/end\?id=([0-9a-f]{40})"', page)
    assert len(ids) >= 1
    assert "This device" in page
    for one in ids:
        stranger.post("/account/devices/end", id=one)
    assert there.whoami() == SEEDED[1][0]
    for one in ids:
        here.post("/account/devices/end", id=one)
    assert (here.whoami(), there.whoami()) == (SEEDED[1][0], None)


@requirement("R90")
def test_the_vault_opens_and_asks_again_for_a_wrong_password(url: str) -> None:
    """Fresh proof opens it; a wrong password at the step-up does not."""
    person = Person(url)
    person.sign_in()
    assert "Open, because" in person.get("/vault").text
    assert person.post("/account/step-up", way="password", password="wrong").status_code == 422
    assert person.post("/account/step-up", way="password", password=SEEDED[0][1]).status_code == 303
    assert person.whoami() == SEEDED[0][0]


def test_signing_out_everywhere_ends_all_and_clears_the_browser(url: str) -> None:
    """Both devices are nobody afterwards, and the answer clears the site's data."""
    name, password = "visitor1", "long enough for anybody"
    first, second = Person(url), Person(url)
    assert first.post("/account/sign-up", login=name, password=password, way="password").status_code == 303
    assert second.post("/account/sign-in", login=name, password=password).status_code == 303
    reply = first.post("/account/sign-out", where="everywhere")
    assert reply.headers["clear-site-data"] == '"cache", "cookies", "storage"'
    assert (first.whoami(), second.whoami()) == (None, None)


def test_the_panel_tells_a_visitor_its_own_events_and_no_others(url: str) -> None:
    """Events of one browser do not appear in another's panel, and no token in either."""
    one, other = Person(url), Person(url)
    other.get("/")
    one.sign_in()
    mine, theirs = one.get("/panel?since=0"), other.get("/panel?since=0")
    assert [event["code"] for event in mine.json()["events"]] == ["signed-in"]
    assert theirs.json()["events"] == []
    assert one._jar["__Host-id"] not in mine.text
    assert one.get("/panel?since=x").status_code == 200


@pytest.mark.parametrize("name", [attack.name for attack in attacks.ATTACKS if attack.name != "replay"])
def test_each_attack_is_refused_over_real_http(url: str, name: str) -> None:
    """The story ends with a verdict, and the verdict is that it was refused."""
    steps = _story(Person(url), name)
    assert (steps[-1]["who"], steps[-1]["good"]) == ("verdict", True), steps
    assert len(steps) >= 4


@pytest.mark.slow
@requirement("R30")
def test_the_replay_of_a_left_behind_token_ends_the_session(url: str) -> None:
    """The copy gives itself away after a rotation and the grace; this takes the demo's half minute."""
    steps = _story(Person(url), "replay")
    assert steps[-1]["good"] is True, steps
    assert POLICY.rotation <= 30


def test_an_attack_that_works_is_called_a_bug() -> None:
    """The verdict is read from what happened, not from the script."""
    assert attacks._verdict(False, "", "R1").good is False


def test_attackers_do_not_take_the_threads_that_the_shop_answers_them_with(url: str) -> None:
    """A client of an attack gets its answer although the loop's own threads, which check passwords, are all busy."""
    address = ("127.0.0.1", httpx.URL(url).port or 0)
    ground = attacks.Ground(address, AsyncSessions("memory://", sinks=()), lambda: 0, "v" * 22)

    async def ask() -> str | None:
        free = threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        busy = asyncio.ensure_future(asyncio.to_thread(free.wait, 30))
        await asyncio.sleep(0)
        try:
            return await asyncio.wait_for(attacks.Client(ground).whoami(), 10)
        finally:
            free.set()
            await busy

    assert asyncio.run(ask()) is None


def test_cookies_of_others_on_localhost_do_no_harm(url: str) -> None:
    """A cookie that another program has set on localhost, however odd, breaks no page; a visitor's name is no text."""
    for cookie in ("a,b=1", "a/b=2; c=d", "demo-visitor=" + '"' * 22, "demo-visitor=a; demo-visitor=b", "\xff=\xfe"):
        reply = httpx.get(url, headers={"cookie": cookie.encode("latin-1")})
        assert reply.status_code == 200, cookie
        assert re.match(r"demo-visitor=[\w-]{22};", reply.headers["set-cookie"]), cookie


def test_what_caches_may_keep_names_no_visitor(url: str) -> None:
    """Static files and the client script set no cookie: a cache would hand it to somebody else."""
    for path in ("/static/demo.css", "/.sessile/session.js"):
        assert "set-cookie" not in httpx.get(url + path).headers, path


def test_unknown_attacks_are_not_found(url: str) -> None:
    """A name that is none answers 404."""
    assert Person(url).post("/attacks/nothing").status_code == 404


def test_a_busy_port_gives_way_to_the_next() -> None:
    """Two listeners that ask for one port get two."""
    port = free_port()
    first, second = listen("127.0.0.1", port), listen("127.0.0.1", port)
    assert first.getsockname()[1] == port < second.getsockname()[1]
    first.close()
    second.close()


def test_no_password_stands_in_any_file(url: str, folder: Path) -> None:
    """The two who live here are in the vault, hashed; moving in twice changes nothing."""
    Person(url).sign_in()
    kept = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert b"$argon2id$" in kept
    assert not any(password.encode() in kept for _, password in SEEDED)


def _story(person: Person, name: str) -> list[dict[str, Any]]:
    reply = person._http.post(f"/attacks/{name}", headers=person._headers(), timeout=60)
    return [json.loads(line) for line in reply.text.splitlines()]


def _judged(person: Person, page: str) -> dict[str, bool]:
    told = person.get(f"{page}/state").json()["judges"]
    return {name: judge["accepts"] for name, judge in told.items()}


@requirement("R86")
def test_tokens_die_with_the_session_in_the_eyes_of_all_three_judges(url: str) -> None:
    """The issuer and the API say no at once, a service elsewhere as soon as it has the list; the page goes on."""
    person = Person(url)
    assert person.get("/tokens").status_code == 303
    person.sign_in()
    page = person.post("/tokens").headers["location"]
    assert _judged(person, page) == {"introspection": True, "api": True, "offline": True}
    refreshed = person.post(f"{page}/refresh").json()
    assert refreshed["ok"] is True
    assert json.loads(refreshed["claims"])["sub"] == SEEDED[0][0]
    assert "eyJ" not in person.get(page).text, "the page holds a token"
    person.post("/sign-out")
    after = _judged(person, page)
    assert (after["introspection"], after["api"]) == (False, False)
    deadline = time.monotonic() + 60
    while _judged(person, page)["offline"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert person.post(f"{page}/refresh").json() == {"ok": False, "says": '400 {"error": "invalid_grant"}'}


def test_the_demos_api_takes_tokens_and_nothing_that_looks_like_one(url: str) -> None:
    """Rubbish in the Authorization header is a 401 with its challenge, nothing at all asks for a sign-in."""
    with httpx.Client(base_url=url) as client:
        assert client.get("/api/orders").status_code == 401
        refused = client.get("/api/orders", headers={"authorization": "Bearer eyJhbGciOiJub25lIn0.e30."})
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert client.get("/tokens/nobody-has-this/state").status_code == 404
