"""Codes and links by e-mail: once, for ten minutes, where they were asked for, and for nobody else."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.auth.codes import AsyncCodes, Codes, ConsoleMailer, FileMailer, Invited, Look, Proved, Refused, Sent, rules
from sessile.auth.throttle import Held
from sessile.errors import ConfigurationError, StepUpRequired
from tests.auth.factor_bench import Browser, FactorBench
from tests.auth.token_bench import done
from tests.support.requirements import requirement

DOORS = [(kind, blocking) for kind in ("memory", "sqlite") for blocking in (True, False)]
ADA = "ada@site.example"


class Post:
    """Deliver into a queue, which a test can wait at."""

    def __init__(self) -> None:
        self.came: Queue[tuple[str, str, str]] = Queue()
        self.broken = False

    def send(self, to: str, subject: str, text: str) -> None:
        """Deliver."""
        if self.broken:
            self.came.put(("", "", ""))
            raise OSError(f"could not send {text}")
        self.came.put((to, subject, text))

    def next(self) -> tuple[str, str]:
        """Return the code and the link's token of the next message."""
        _, _, text = self.came.get(timeout=10)
        code, token = re.search(r"\d{4} \d{4}", text), re.search(r"/link/(\S+)", text)
        assert code is not None
        assert token is not None
        return code[0], token[1]


class Bench:
    """Hold an application with codes, and one user."""

    def __init__(self, place: Path | None, *, blocking: bool) -> None:
        stores = () if place is None else (f"sqlite:///{place}/s.db", f"sqlite:///{place}/v.db")
        self.made = FactorBench(*stores, blocking=blocking)
        self.post = Post()
        kind: Any = Codes if blocking else AsyncCodes
        link = "https://site.example/link/{token}"
        self.codes: Any = kind(self.made.ground, self.made.users, self.post, site="Example", link=link)

    async def asked(self, browser: Browser, login: str = ADA) -> tuple[str, str]:
        """Ask for a code, and return it with its link's token."""
        sent = await browser.run(self.codes.send, login)
        assert isinstance(sent, Sent), sent
        return self.post.next()


@pytest.fixture(params=DOORS, ids=lambda one: f"{one[0]}-{'blocking' if one[1] else 'async'}")
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    kind, blocking = request.param
    bench = Bench(tmp_path if kind == "sqlite" else None, blocking=blocking)
    bench.user = await bench.made.account(ADA)  # type: ignore[attr-defined]
    yield bench
    await bench.made.close()


async def test_a_code_signs_in_once(bench: Any) -> None:
    """Typed with its space or without; the link that came with it is used up too."""
    browser = bench.made.browser()
    code, token = await bench.asked(browser)
    proved = await browser.run(bench.codes.use, code)
    assert proved == Proved(bench.user, complete=True)
    assert await browser.user() == bench.user
    session = await browser.open()
    assert [one.name for one in session.factors] == ["email"]
    assert session.aal == 1
    for again in (code, token):
        assert await browser.run(bench.codes.use, again) is Refused.REFUSED
    delivered = [event.delivered for event in bench.made.events if event.code == "code-sent"]
    assert delivered == [True]


async def test_a_link_is_looked_at_as_often_as_one_likes_and_used_once(bench: Any) -> None:
    """A mail scanner that follows it signs nobody in."""
    browser = bench.made.browser()
    _, token = await bench.asked(browser)
    scanner = bench.made.browser("198.51.100.9")
    for _ in range(3):
        assert await scanner.run(bench.codes.look, token) is Look.ELSEWHERE
        assert await browser.run(bench.codes.look, token) is Look.HERE
    assert await scanner.user() is None
    assert (await browser.run(bench.codes.use, token)).user == bench.user
    assert await browser.run(bench.codes.look, token) is Look.ELSEWHERE


@requirement("R76")
async def test_what_was_asked_for_elsewhere_opens_nothing(bench: Any) -> None:
    """Whoever reads the mail and not the browser gets nowhere; nor does one who asks for a code of their own."""
    ada, thief = bench.made.browser(), bench.made.browser("198.51.100.9")
    code, token = await bench.asked(ada)
    for stolen in (code, token):
        assert await thief.run(bench.codes.use, stolen) is Refused.REFUSED
    await bench.asked(thief)
    for stolen in (code, token):
        assert await thief.run(bench.codes.use, stolen) is Refused.REFUSED
    assert await thief.user() is None
    assert (await ada.run(bench.codes.use, code)).user == bench.user


async def test_ten_minutes_are_all(bench: Any) -> None:
    browser = bench.made.browser()
    code, token = await bench.asked(browser)
    bench.made.clock.advance(rules.LIFETIME)
    assert await browser.run(bench.codes.look, token) is Look.ELSEWHERE
    assert await browser.run(bench.codes.use, code) is Refused.REFUSED


async def test_a_new_code_makes_the_last_one_worthless(bench: Any) -> None:
    browser = bench.made.browser()
    first, first_token = await bench.asked(browser)
    second, _ = await bench.asked(browser)
    assert await browser.run(bench.codes.use, first_token) is Refused.REFUSED
    if first != second:
        assert await browser.run(bench.codes.use, first) is Refused.REFUSED
    assert (await browser.run(bench.codes.use, second)).user == bench.user


@requirement("R91")
async def test_guessing_a_code_is_over_after_a_few(bench: Any) -> None:
    """In the ten minutes that it lives; and its user is not locked out by it."""
    thief = bench.made.browser("198.51.100.9")
    code, _ = await bench.asked(thief)
    looked_at = 0
    for second in range(int(rules.LIFETIME) - 1):
        wrong = f"{(int(code.replace(' ', '')) + 1 + second) % 10**8:08}"
        looked_at += await thief.run(bench.codes.use, wrong) is Refused.REFUSED
        bench.made.clock.advance(1.0)
    assert 4 < looked_at < 20
    ada = bench.made.browser()
    mine, _ = await bench.asked(ada)
    assert (await ada.run(bench.codes.use, mine)).user == bench.user


async def test_nobody_can_tell_whether_there_is_an_account(bench: Any) -> None:
    """The answer, the vault's items and the refusals are the same; nothing is delivered."""
    known, unknown = bench.made.browser(), bench.made.browser("198.51.100.9")
    await bench.asked(known)
    sent = await unknown.run(bench.codes.send, "nobody@site.example")
    assert isinstance(sent, Sent)
    assert await unknown.run(bench.codes.use, "1234 5678") is Refused.REFUSED
    assert await known.run(bench.codes.use, "not a code") is Refused.REFUSED
    assert bench.post.came.empty()
    await unknown.run(bench.codes.send, "nobody@site.example")
    assert await unknown.user() is None


@requirement("R91")
async def test_messages_to_one_address_become_rare(bench: Any) -> None:
    """From many networks, too; another address is served."""
    held = 0
    for number in range(8):
        browser = bench.made.browser(f"198.51.{number}.9")
        held += isinstance(await browser.run(bench.codes.send, ADA), Held)
    assert held == 8 - 6
    assert isinstance(await bench.made.browser().run(bench.codes.send, "bob@site.example"), Sent)
    bench.made.clock.advance(7200)
    assert isinstance(await bench.made.browser().run(bench.codes.send, ADA), Sent)


@requirement("R88")
async def test_a_code_is_a_further_factor_of_its_user_alone(bench: Any) -> None:
    """It completes what a password began, and never another's session."""
    browser = bench.made.browser()
    with pytest.raises(StepUpRequired):
        await browser.run(bench.codes.send_further)
    await browser.login(bench.user, factor="password", pending=True)
    await browser.run(bench.codes.send_further)
    code, _ = bench.post.next()
    await browser.login("bob", factor="password", pending=True)
    assert await browser.run(bench.codes.use, code) is Refused.REFUSED
    assert await browser.user() is None

    browser = bench.made.browser()
    await browser.login(bench.user, factor="password", pending=True)
    await browser.run(bench.codes.send_further)
    code, _ = bench.post.next()
    assert await browser.user() is None
    assert await browser.run(bench.codes.use, code) == Proved(bench.user, complete=True)
    assert await browser.user() == bench.user
    # NIST does not take e-mail for something that one has.
    assert (await browser.open()).aal == 1


async def test_a_code_alone_completes_nothing_that_it_began(bench: Any) -> None:
    browser = bench.made.browser()
    await browser.login(bench.user, factor="email", pending=True)
    await browser.run(bench.codes.send_further)
    code, _ = bench.post.next()
    assert await browser.run(bench.codes.use, code) == Proved(bench.user, complete=False)
    assert await browser.user() is None


async def test_a_sender_that_fails_is_told_to_the_sinks_and_no_more(bench: Any) -> None:
    """The page's answer is the same; nothing of the message is in the event."""
    bench.post.broken = True
    browser = bench.made.browser()
    assert isinstance(await browser.run(bench.codes.send, ADA), Sent)
    bench.post.came.get(timeout=10)
    for _ in range(1000):
        told = [event for event in bench.made.events if event.code == "code-sent"]
        if told:
            break
        time.sleep(0.01)  # noqa: ASYNC251
    assert [event.delivered for event in told] == [False]


async def test_nothing_secret_is_kept_or_told(bench: Any) -> None:
    """The vault has keyed hashes; events have no address and no code."""
    browser = bench.made.browser()
    code, token = await bench.asked(browser)
    plain = code.replace(" ", "")
    kept = await done(bench.made.ground.vault.of_user(bench.user, "code:"))
    assert kept
    for item in kept:
        for secret in (plain, token):
            assert secret.encode() not in item.value
    await browser.run(bench.codes.use, "0000 0000")
    told = repr(bench.made.events) + "".join(event.sentence() for event in bench.made.events)
    for secret in (plain, code, token, ADA):
        assert secret not in told


@given(st.text() | st.binary().map(repr))
def test_no_text_makes_an_error(text: str) -> None:
    for read in (rules.typed, rules.followed):
        assert read(text) is None or read(text).isascii()  # type: ignore[union-attr]


@given(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text() | st.integers() | st.floats()))
def test_no_session_data_makes_an_error(stored: object) -> None:
    asked = rules.recalled(stored, 0.0)
    assert asked is None or len(asked.name) == 32


@given(st.binary(min_size=8, max_size=8))
def test_a_code_is_read_as_it_is_shown(entropy: bytes) -> None:
    code = rules.code_of(entropy)
    assert rules.typed(rules.shown(code)) == code == rules.typed(code)


def test_senders_for_development(tmp_path: Path) -> None:
    """One prints, one writes files that nobody else may read; neither lets a line into the headers."""
    printed: list[str] = []
    ConsoleMailer(printed.append).send(ADA, "Your code", "1234 5678")
    assert ADA in printed[0]
    mailer = FileMailer(tmp_path / "mail")
    mailer.send(ADA, "Your code", "1234 5678")
    (path,) = mailer.folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "1234 5678" in path.read_text()
    with pytest.raises(ValueError, match="Header"):
        mailer.send("a@b\r\nBcc: c@d", "Your code", "text")


@pytest.mark.parametrize("link", ["https://site.example/", "/link/{token}", "https://s/{token}/{token}"])
def test_wrong_settings_are_refused(link: str) -> None:
    made = FactorBench()
    with pytest.raises(ConfigurationError):
        Codes(made.ground, made.users, Post(), site="Example", link=link)
    with pytest.raises(ConfigurationError):
        Codes(made.ground, made.users, Post(), site="two\nlines")
    with pytest.raises(ConfigurationError):
        AsyncCodes(made.ground, made.users, Post(), site="Example")


async def test_an_invitation_proves_that_somebody_reads_the_mail(bench: Any) -> None:
    """Once, where it was asked for; nobody is signed in, and the code alone signs nobody in either."""
    new = "new@site.example"
    browser = bench.made.browser()
    assert isinstance(await browser.run(bench.codes.invite, new), Sent)
    code, _ = bench.post.next()
    assert await bench.made.browser().run(bench.codes.accept, code) is Refused.REFUSED
    assert await browser.run(bench.codes.accept, code) == Invited(new)
    assert await browser.run(bench.codes.accept, code) is Refused.REFUSED
    assert await browser.user() is None
    await browser.run(bench.codes.invite, new)
    _, link = bench.post.next()
    assert await browser.run(bench.codes.use, link) is Refused.REFUSED
    assert await browser.user() is None


async def test_an_invitation_of_a_user_signs_them_in(bench: Any) -> None:
    """Who asks learns nothing; who reads the mail is the user."""
    browser = bench.made.browser()
    assert isinstance(await browser.run(bench.codes.invite, ADA), Sent)
    assert await browser.run(bench.codes.accept, bench.post.next()[0]) == Proved(bench.user, True)


@pytest.mark.parametrize("login", ["ada", "", "a b@c", "\ud800@x"])
async def test_what_is_no_address_is_invited_nowhere(bench: Any, login: str) -> None:
    """And the answer is the same."""
    browser = bench.made.browser()
    assert isinstance(await browser.run(bench.codes.invite, login), Sent)
    assert bench.post.came.empty()
