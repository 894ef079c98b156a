"""The seven invariants, for every adapter on every store; each class is one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessile.core.policy import Policy
from tests.invariants.conftest import Make
from tests.invariants.harness import ADAPTERS, COOKIE, SAFARI, Browser, Reply, World, is_present
from tests.support.requirements import requirement

SIGN_INS = [("/login", {}), ("/userkey", {})]
RENEWALS = [("/login", {"user": "ada"}), ("/factor", {"name": "totp"}), ("/rotate", {})]
Ending = Callable[[World, Browser], object]
ENDINGS: dict[str, Ending] = {
    "sign-out": lambda _world, browser: browser.post("/logout"),
    "sign-out through the key": lambda _world, browser: browser.post("/drop-userkey"),
    "by an operator": lambda world, browser: world.app.door("end", browser.get("/").json["id"]),
    "everywhere": lambda world, _browser: world.app.door("end_all", "ada"),
    "everything": lambda world, _browser: world.app.door("end_everything"),
    "idle limit": lambda world, _browser: world.clock.advance(Policy().idle + Policy().tolerance),
    "absolute limit": lambda world, browser: stay_awake(world, browser, Policy().absolute),
}


def stay_awake(world: World, browser: Browser, seconds: float) -> None:
    """Let time pass with a request now and then, so that no idle limit is met; the last one is missing."""
    for _ in range(int(seconds // 3000)):
        world.clock.advance(3000)
        browser.get("/plain")
    world.clock.advance(seconds % 3000)


def sign_in(world: World, user: str = "ada", **query: str) -> Browser:
    """Return a browser in which somebody signed in."""
    browser = world.browser()
    assert browser.post("/login", user=user, **query).status == 200
    assert browser.token is not None
    return browser


def with_token(world: World, token: str | None) -> Browser:
    """Return a browser that holds this token and nothing else."""
    assert token is not None
    return world.browser(jar={COOKIE: token})


def assert_nobody(reply: Reply) -> None:
    """Say that a request was served as nobody's: no user, no data."""
    assert reply.status == 200
    assert (reply.json["kind"], reply.json["user"], reply.json["data"]) == ("anonymous", None, {})


def test_every_adapter_is_held_to_the_invariants() -> None:
    """No adapter is left out."""
    assert [name for name in ADAPTERS if not is_present(name)] == []


@requirement("R25", "R26")
class TestLoginIsRotationAndTheOldTokenIsDead:
    """Invariant 1."""

    @pytest.mark.parametrize(("path", "query"), SIGN_INS)
    def test_signing_in_renews_the_token_and_keeps_the_cart(
        self, world: World, path: str, query: dict[str, str]
    ) -> None:
        """The visitor's data comes along, under a new token and a new id; the old token serves nobody."""
        browser = world.browser()
        browser.post("/cart", item="book")
        before, old = browser.get("/").json, browser.token
        browser.post(path, user="ada", **query)
        after = browser.get("/").json
        assert (after["user"], after["cart"]) == ("ada", ["book"])
        assert browser.token not in (None, old)
        assert after["id"] not in (None, before["id"])
        assert_nobody(with_token(world, old).get("/"))

    @pytest.mark.parametrize(("path", "query"), SIGN_INS)
    def test_a_session_planted_before_the_sign_in_is_worth_nothing_after_it(
        self, world: World, path: str, query: dict[str, str]
    ) -> None:
        """Session fixation: the attacker's own session in the victim's browser never becomes the victim's."""
        attacker = world.browser()
        attacker.post("/set", key="planted", value="yes")
        victim = attacker.copy()
        victim.post(path, user="ada", **query)
        assert victim.get("/").json["user"] == "ada"
        assert_nobody(attacker.get("/"))
        world.clock.advance(60)
        attacker.post("/set", key="again", value="yes")
        assert attacker.get("/").json["user"] is None
        assert victim.get("/private").json == {"user": "ada"}

    @requirement("R5")
    @pytest.mark.parametrize("path", ["/cart", "/login"])
    def test_a_token_that_nobody_issued_is_never_adopted(self, world: World, path: str) -> None:
        """The browser gets a token of ours in its place."""
        planted = "A" * 63
        browser = with_token(world, planted)
        browser.post(path, item="book", user="ada")
        assert browser.token not in (None, planted)

    @pytest.mark.parametrize(("path", "query"), RENEWALS)
    def test_every_change_of_privilege_renews_the_token(self, world: World, path: str, query: dict[str, str]) -> None:
        """Signing in again, a further factor and an explicit rotation: new token, new id, old one dead at once."""
        browser = sign_in(world)
        browser.post("/cart", item="book")
        before, old = browser.get("/").json, browser.token
        assert browser.post(path, **query).status == 200
        after = browser.get("/").json
        assert (after["user"], after["cart"]) == ("ada", ["book"])
        assert browser.token != old
        assert after["id"] != before["id"]
        assert_nobody(with_token(world, old).get("/"))
        assert len(world.app.door("of_user", "ada")) == 1

    @pytest.mark.parametrize(("path", "query"), SIGN_INS)
    def test_another_user_s_data_never_comes_along(self, world: World, path: str, query: dict[str, str]) -> None:
        """Who signs in over somebody else's session starts with nothing of theirs."""
        browser = sign_in(world)
        browser.post("/cart", item="ada's book")
        browser.post(path, user="bob", **query)
        found = browser.get("/").json
        assert (found["user"], found["cart"]) == ("bob", [])
        assert world.app.door("of_user", "ada") == []


@requirement("R42", "R61")
class TestTheEndIsFinal:
    """Invariant 2."""

    @requirement("R36", "R64")
    @pytest.mark.parametrize("how", ENDINGS)
    def test_an_ended_session_is_dead_for_every_copy_of_its_token(self, world: World, how: str) -> None:
        """Its own browser and a thief are served as nobody, whatever they do, then and later and before."""
        browser = world.browser()
        browser.post("/userkey", user="ada")
        browser.post("/cart", item="book")
        thief = browser.copy()
        ENDINGS[how](world, browser)
        for copy in (thief, thief.copy()):
            assert_nobody(copy.get("/"))
            assert copy.get("/private").status == 401
        thief.post("/set", key="revived", value="yes")
        again = thief.copy()
        assert again.get("/").json["user"] is None
        world.clock.now -= 2 * Policy().absolute
        assert_nobody(with_token(world, browser.token or thief.token).get("/"))
        assert world.app.door("of_user", "ada") == []

    def test_signing_out_deletes_the_cookie_and_clears_the_site(self, world: World) -> None:
        """The browser is told to forget, under the very attributes that the cookie was set with (R18, R68)."""
        browser = sign_in(world)
        reply = browser.post("/logout")
        assert reply.cookies == {COOKIE: None}
        [line] = reply.all("set-cookie")
        assert all(part in line for part in ("Path=/", "Secure", "HttpOnly", "SameSite=Lax"))
        assert reply.header("clear-site-data") == '"cache", "cookies", "storage"'

    @requirement("R67")
    def test_signing_out_twice_is_the_same_as_once(self, world: World) -> None:
        """A second sign-out succeeds and changes nothing."""
        browser = sign_in(world)
        token = browser.token
        assert browser.post("/logout").status == 200
        assert with_token(world, token).post("/logout").status == 200
        assert_nobody(with_token(world, token).get("/"))

    def test_a_request_that_was_running_at_the_sign_out_brings_nothing_back(self, world: World) -> None:
        """T1: it read before, writes after, and in every round nothing of the session is left (CVE-2025-46336)."""
        for number in range(20):
            browser, gate = sign_in(world), f"gate {number}"
            token = browser.token
            late = [
                world.start(browser, "POST", "/slow", gate=gate, key="late", value="yes"),
                world.start(browser, "POST", "/slow", gate=gate, then="/cart", item="late"),
                world.start(browser, "POST", "/slow", gate=gate, then="/rotate"),
            ]
            world.gates.wait_for(gate, len(late))
            browser.post("/logout")
            world.gates.open(gate)
            for reply in (one.result() for one in late):
                assert reply.cookies == {}
            assert_nobody(with_token(world, token).get("/"))
            assert world.app.door("of_user", "ada") == []
        assert world.live() == []


@requirement("R19")
class TestAResponseThatCarriesASessionIsNeverCacheable:
    """Invariant 3."""

    def test_what_was_read_from_a_session_stays_out_of_caches_whatever_the_application_says(self, world: World) -> None:
        """`public, max-age=60` does not survive in a response that a session stands behind."""
        browser = sign_in(world)
        for path in ("/public", "/", "/private"):
            reply = browser.get(path)
            assert reply.is_kept_out_of_caches
            assert reply.varies_on_cookie

    def test_private_is_not_enough_for_a_response_that_sets_the_cookie(self, world: World) -> None:
        """The browser's own cache would hand it out again; for a page that is only read, `private` stands."""
        browser = world.browser()
        private = "private, max-age=60"
        setting = browser.get("/public", cache=private, key="a", value="b")
        assert COOKIE in setting.cookies
        assert setting.is_kept_out_of_caches
        assert browser.get("/public", cache=private).header("cache-control") == private

    @pytest.mark.parametrize("path", ["/cart", "/login", "/factor", "/rotate", "/logout", "/userkey", "/drop-userkey"])
    def test_every_response_that_sets_the_cookie_is_no_store(self, world: World, path: str) -> None:
        """Whatever set it: the first write, a sign-in, a renewal, a sign-out."""
        browser = world.browser()
        if path != "/cart":
            browser.post("/userkey", user="ada")
        reply = browser.post(path, item="book", user="bob", name="totp")
        assert COOKIE in reply.cookies
        assert reply.is_kept_out_of_caches
        assert reply.varies_on_cookie

    def test_a_redirect_that_sets_the_cookie_is_no_store_too(self, world: World) -> None:
        """A redirect is a response like any other."""
        reply = world.browser().get("/moved")
        assert reply.status == 302
        assert COOKIE in reply.cookies
        assert reply.is_kept_out_of_caches

    def test_a_rotation_on_a_page_that_touches_no_session_is_no_store(self, world: World) -> None:
        """The cookie comes although the view asked for nothing; so does the header."""
        browser = sign_in(world)
        browser.get("/plain")
        world.clock.advance(Policy().rotation + 1)
        reply = browser.get("/plain")
        assert any(name.startswith(COOKIE) for name in reply.cookies)
        assert reply.is_kept_out_of_caches

    def test_a_visitor_s_page_varies_on_the_cookie_and_stays_public(self, world: World) -> None:
        """Nobody's answer may be cached, as nobody's: the cache has to tell who has a cookie."""
        reply = world.browser().get("/public")
        assert reply.header("cache-control") == "public, max-age=60"
        assert reply.varies_on_cookie
        assert reply.cookies == {}

    @requirement("R27")
    def test_a_page_that_touches_no_session_is_left_as_it_is(self, world: World) -> None:
        """It gets no header, and nothing is stored."""
        for browser in (world.browser(), sign_in(world)):
            reply = browser.get("/plain")
            assert [name for name, _ in reply.headers if name in ("vary", "cache-control", "set-cookie")] == []

    def test_refusals_and_outages_are_no_store(self, world: World) -> None:
        """A cached 401 or 503 would outlive its reason."""
        browser = sign_in(world)
        assert world.browser().get("/private").is_kept_out_of_caches
        assert browser.get("/secure").is_kept_out_of_caches
        world.store.failing.add("load")
        assert browser.get("/").is_kept_out_of_caches


@requirement("R6", "R45", "R46")
class TestWhatCannotBeVerifiedIsRefusedAndAnOutageFailsClosed:
    """Invariant 4."""

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda token: token[:-1],
            lambda token: token + "A",
            lambda token: token[:20] + ("A" if token[20] != "A" else "B") + token[21:],
            lambda token: token[:-5] + ("AAAAA" if token[-5:] != "AAAAA" else "EEEEE"),
            lambda token: chr(ord(token[0]) ^ 1) + token[1:],
            lambda token: token.lower(),
            lambda _token: "A" * 63,
            lambda _token: "A" * 3000,
            lambda _token: "",
            lambda _token: "<script>alert(1)</script>",
            lambda _token: "é" * 63,
            lambda _token: '"quoted"',
        ],
    )
    def test_a_spoiled_token_reaches_no_store_and_comes_back_nowhere(
        self, world: World, spoil: Callable[[str], str]
    ) -> None:
        """It dies at its tag: nobody's request, no store call, not a byte of it in the answer."""
        token = sign_in(world).token
        assert token is not None
        spoiled = spoil(token)
        world.store.calls.clear()
        reply = world.browser().get("/", {"cookie": f"{COOKIE}={spoiled}"})
        assert_nobody(reply)
        assert world.store.calls == []
        assert reply.cookies == {}
        assert "token-refused" in world.codes()
        if len(spoiled) > 8:
            assert spoiled.encode() not in reply.body
            assert not any(spoiled in value for _, value in reply.headers)

    @requirement("R21")
    def test_two_cookies_of_the_name_are_refused_both(self, world: World) -> None:
        """One of them was planted, and nobody can tell which."""
        token = sign_in(world).token
        other = sign_in(world, "mallory").token
        world.store.calls.clear()
        for first, second in ((token, other), (other, token), (token, token)):
            assert_nobody(world.browser().get("/", {"cookie": f"{COOKIE}={first}; a=b; {COOKIE}={second}"}))
        assert world.store.calls == []

    @pytest.mark.parametrize("half", ["data", "control"])
    def test_a_damaged_record_is_refused_and_harms_nobody(self, world: World, half: str) -> None:
        """What does not decode is not there; the request is served, and the operator hears of it."""
        browser = sign_in(world)
        browser.post("/cart", item="book")
        world.damage(half)
        reply = browser.get("/")
        assert reply.status == 200
        assert reply.json["data"] == {}
        assert "record-refused" in world.codes()

    def test_an_outage_is_never_taken_for_nobody(self, world: World) -> None:
        """The request is refused with 503 before the application runs (it would have answered 500)."""
        browser = sign_in(world)
        world.store.failing.add("load")
        for path in ("/", "/private", "/boom"):
            reply = browser.get(path)
            assert reply.status == 503
            assert reply.header("retry-after")
            assert reply.cookies == {}
            assert b"ada" not in reply.body
        assert "store-failed" in world.codes()
        world.store.failing.clear()
        assert browser.get("/private").json == {"user": "ada"}

    def test_a_sign_in_that_was_not_stored_was_not_done(self, world: World) -> None:
        """The answer is 503 and no cookie; when the store is back, nobody is signed in."""
        browser = world.browser()
        browser.post("/cart", item="book")
        world.store.failing.add("create")
        reply = browser.post("/login", user="ada")
        assert (reply.status, reply.cookies) == (503, {})
        assert b"done" not in reply.body
        world.store.failing.clear()
        found = browser.get("/").json
        assert (found["user"], found["cart"]) == (None, ["book"])
        assert world.app.door("of_user", "ada") == []

    def test_a_sign_out_that_was_not_stored_was_not_done_and_says_so(self, world: World) -> None:
        """The cookie stays, so that signing out can be tried again; nobody believes to be signed out."""
        browser = sign_in(world)
        world.store.failing.add("end")
        reply = browser.post("/logout")
        assert (reply.status, reply.cookies) == (503, {})
        assert reply.header("clear-site-data") is None
        world.store.failing.clear()
        assert browser.get("/private").status == 200
        assert browser.post("/logout").status == 200
        assert browser.get("/private").status == 401

    def test_a_write_that_was_not_stored_is_not_acknowledged(self, world: World) -> None:
        """The answer that says "done" is replaced."""
        browser = sign_in(world)
        world.store.failing.add("save")
        reply = browser.post("/cart", item="book")
        assert reply.status == 503
        assert b"done" not in reply.body


@requirement("R88", "R89", "R90")
class TestAPartlyAuthenticatedSessionIsNotAuthenticated:
    """Invariant 5."""

    def test_a_password_alone_opens_nothing_while_a_factor_is_due(self, world: World) -> None:
        """No user is in sight; the guarded routes say what is missing."""
        browser = sign_in(world, pending="1")
        found = browser.get("/").json
        assert (found["kind"], found["user"], found["pending"]) == ("pending", None, "ada")
        for path in ("/private", "/secure"):
            reply = browser.get(path)
            assert (reply.status, reply.json["reason"]) == (401, "pending")

    def test_the_factor_completes_the_sign_in_under_a_new_token(self, world: World) -> None:
        """The pending token is dead, so whoever saw it gains nothing from the second factor."""
        browser = sign_in(world, pending="1")
        thief = browser.copy()
        browser.post("/factor", name="totp")
        assert browser.get("/private").json == {"user": "ada"}
        assert browser.get("/secure").json == {"user": "ada"}
        assert_nobody(thief.get("/"))

    def test_nothing_but_the_factor_completes_it(self, world: World) -> None:
        """Rotating, writing, waiting and a claimed key do not."""
        browser = sign_in(world, pending="1")
        browser.post("/rotate")
        browser.post("/set", key="is_authenticated", value="True")
        world.clock.advance(Policy().rotation + 1)
        browser.get("/plain")
        browser.get("/plain")
        assert browser.get("/private").json["reason"] == "pending"

    def test_a_key_that_names_the_user_is_hidden_while_a_factor_is_due(self, world: World) -> None:
        """Applications that go by session["user_id"] are not fooled; the key comes back with the factor."""
        browser = world.browser()
        browser.post("/userkey", user="ada")
        assert browser.get("/").json["data"] == {"user_id": "ada"}
        browser.post("/login", user="ada", pending="1")
        assert "user_id" not in browser.get("/").json["data"]
        browser.post("/factor", name="totp")
        assert browser.get("/").json["data"] == {"user_id": "ada"}

    def test_a_factor_without_a_sign_in_is_refused(self, world: World) -> None:
        """There is nobody whose factor it could be."""
        assert world.browser().post("/factor", name="totp").status == 401

    def test_a_factor_grows_old(self, world: World) -> None:
        """The guard asks for one that was proved at most 60 s ago, and for that very factor."""
        browser = sign_in(world)
        assert browser.get("/secure").json["reason"] == "factor"
        browser.post("/factor", name="totp")
        assert browser.get("/secure").status == 200
        world.clock.advance(61)
        reply = browser.get("/secure")
        assert (reply.status, reply.json["reason"]) == (403, "age")

    @requirement("R53")
    def test_a_challenged_session_is_not_authenticated_either(self, world: World) -> None:
        """After its client changed as a whole, it grants nothing until a factor is proved again."""
        browser = sign_in(world)
        moved = browser.copy(agent=SAFARI, peer="203.0.113.9")
        assert moved.get("/private").json["reason"] == "challenged"
        assert moved.get("/").json["user"] is None
        moved.post("/factor", name="password")
        assert moved.get("/private").json == {"user": "ada"}


@requirement("R7", "R11", "R20", "R22", "R30")
class TestEverythingIsBoundToTheBrowserThatStartedIt:
    """Invariant 6."""

    def test_the_cookie_is_bound_to_host_https_and_http(self, world: World) -> None:
        """`__Host-`, Secure, HttpOnly, SameSite=Lax, Path=/, no Domain, not persistent."""
        [line] = world.browser().post("/login", user="ada").all("set-cookie")
        pair, *attributes = line.split("; ")
        assert pair.startswith("__Host-id=")
        assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]

    def test_plain_http_gets_no_session_and_none_is_accepted_there(self, world: World) -> None:
        """Neither is a cookie set where anybody can read it, nor believed where anybody can write it."""
        signed_in = sign_in(world)
        plain = world.browser(scheme="http")
        assert plain.post("/login", user="ada").cookies == {}
        assert_nobody(signed_in.copy(scheme="http").get("/"))
        assert "insecure-channel" in world.codes()

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"sec-fetch-site": "cross-site", "origin": "https://app.example"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://app.example"},
        ],
    )
    def test_another_site_cannot_make_the_browser_act(self, world: World, headers: dict[str, str]) -> None:
        """Signing in is covered: whose account a browser is in is not for others to choose."""
        for browser in (world.browser(), sign_in(world)):
            jar = dict(browser.jar)
            for path in ("/login", "/cart", "/logout"):
                request = browser.compose("POST", path, {"user": "mallory", "item": "bad"}, headers)
                reply = world.app.request(request)
                assert (reply.status, reply.cookies) == (403, {})
            assert browser.jar == jar
            assert browser.get("/").json["cart"] == []
        assert world.codes().count("cross-site-refused") == 6
        assert world.app.door("of_user", "mallory") == []

    def test_a_token_counts_in_the_cookie_alone(self, world: World) -> None:
        """In the address or another header it is just text."""
        token = sign_in(world).token
        assert token is not None
        assert_nobody(world.browser().get("/", {"authorization": f"Bearer {token}", "x-session": token}))
        assert_nobody(world.browser().get("/", **{COOKIE: token, "session": token}))
        assert_nobody(world.browser().get("/", {"cookie": f"id={token}; session={token}; x{COOKIE}={token}"}))

    def test_a_thief_with_another_browser_in_another_network_is_challenged(self, world: World) -> None:
        """A stolen cookie alone opens nothing from there."""
        thief = sign_in(world).copy(agent=SAFARI, peer="203.0.113.9")
        assert thief.get("/private").status == 401
        assert "context-changed" in world.codes()

    @requirement("R54")
    def test_a_new_network_alone_changes_nothing(self, world: World) -> None:
        """Phones change networks all day."""
        browser = sign_in(world)
        assert browser.copy(peer="203.0.113.9").get("/private").status == 200

    @pytest.mark.parametrize("first", ["victim", "thief"])
    def test_a_thief_and_a_victim_never_both_live_past_a_rotation(self, world: World, first: str) -> None:
        """Same browser, same network: the token that was left behind gives the copy away and ends the session."""
        victim = sign_in(world)
        thief = victim.copy()
        world.clock.advance(Policy().rotation + 1)
        one, other = (victim, thief) if first == "victim" else (thief, victim)
        one.get("/")
        one.get("/")
        world.clock.advance(Policy().grace + 1)
        assert_nobody(other.get("/"))
        assert "replay-detected" in world.codes()
        assert_nobody(one.get("/"))

    def test_successors_handed_to_both_settle_for_one_of_them(self, world: World) -> None:
        """Both came while nothing was confirmed, and each got a sibling: one line is left, the other is a replay."""
        victim = sign_in(world)
        thief = victim.copy()
        world.clock.advance(Policy().rotation + 1)
        assert COOKIE in victim.get("/").cookies
        assert COOKIE in thief.get("/").cookies
        assert victim.token != thief.token
        for _ in range(3):
            victim.get("/")
            thief.get("/")
            world.clock.advance(Policy().grace + 1)
        assert "replay-detected" in world.codes()
        assert_nobody(victim.get("/"))
        assert_nobody(thief.get("/"))


@requirement("R32")
class TestNoRequestEverSeesAnotherUsersSession:
    """Invariant 7."""

    def test_requests_that_run_at_once_see_their_own_user_each(self, world: World) -> None:
        """Forty requests of ten users, all in the middle of their views, each answered as its own (GitHub, 2021)."""
        browsers = {f"user{number}": sign_in(world, f"user{number}") for number in range(10)}
        for user, browser in browsers.items():
            browser.post("/set", key="mine", value=user)
        running = [
            (user, world.start(browser, "POST", "/slow", gate="all", key=f"key{turn}", value=user))
            for turn in range(4)
            for user, browser in browsers.items()
        ]
        visitor = world.start(world.browser(), "GET", "/slow", gate="all")
        world.gates.wait_for("all", len(running) + 1)
        world.gates.open("all")
        for user, future in running:
            found = future.result().json
            assert found["user"] == user
            assert set(found["data"].values()) == {user}
        assert_nobody(visitor.result())
        for user, browser in browsers.items():
            assert browser.get("/").json["data"] == dict.fromkeys(("mine", "key0", "key1", "key2", "key3"), user)

    def test_cookies_are_handed_to_the_browser_they_belong_to(self, world: World) -> None:
        """Of many who sign in at once, each gets the token of their own session."""
        browsers = {f"user{number}": world.browser() for number in range(12)}
        running = {
            user: world.start(browser, "POST", "/slow", gate="all", then="/login", user=user)
            for user, browser in browsers.items()
        }
        world.gates.wait_for("all", len(running))
        world.gates.open("all")
        for user, browser in browsers.items():
            browser.take(running[user].result())
        assert len({browser.token for browser in browsers.values()}) == len(browsers)
        for user, browser in browsers.items():
            assert browser.get("/private").json == {"user": user}

    def test_the_next_user_of_a_browser_finds_nothing_of_the_last_one(self, world: World) -> None:
        """After a sign-out the browser starts from nothing."""
        browser = sign_in(world)
        browser.post("/cart", item="ada's book")
        browser.post("/logout")
        assert_nobody(browser.get("/"))
        browser.post("/login", user="bob")
        found = browser.get("/").json
        assert (found["user"], found["data"]) == ("bob", {})

    def test_a_limit_on_sessions_ends_the_user_s_own_oldest_and_nobody_else_s(self, make: Make) -> None:
        """The index never mixes users up."""
        world = make(policy=Policy(max_sessions=1))
        bob = sign_in(world, "bob")
        first = sign_in(world)
        second = sign_in(world)
        assert_nobody(first.get("/"))
        assert second.get("/private").json == {"user": "ada"}
        assert bob.get("/private").json == {"user": "bob"}
