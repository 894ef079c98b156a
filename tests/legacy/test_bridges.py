"""Every bridge keeps the same promises, on sessions that the real libraries wrote, through both doors."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sessile.core.session import Session
from sessile.errors import StoreUnavailable
from tests.legacy.bench import Bench
from tests.legacy.peers import Peer
from tests.support.requirements import requirement

DATA = {"cart": ["tea", {"n": 2}], "name": "Ærø 🐙", "price": 1.5, "gift": None, "vip": True}


def user_of(peer: Peer) -> str:
    """Return who signs in at a peer."""
    return "1" if peer.name.startswith("django") else "ada"


@requirement("R25", "R89")
def test_an_old_session_is_adopted_at_its_first_request(bench: Bench, peer: Peer) -> None:
    """Its data and its user come along, it claims no factor, and the old cookie is deleted."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge())
    first = bench.visit(cookie)
    assert first.user == user_of(peer)
    assert {key: first.data[key] for key in DATA} == DATA
    assert not {"__metadata__", "cookie"} & first.data.keys()
    assert first.aal == 0
    assert first.token
    assert first.forgotten == (peer.cookie,)
    assert bench.codes() == ["session-adopted"]
    assert bench.report.adopted == 1
    second = bench.visit(bench.ours(first.token))
    assert (second.user, second.id, second.data) == (first.user, first.id, first.data)


@requirement("R89")
def test_an_adopted_session_proves_nothing_about_when_its_user_signed_in(bench: Bench, peer: Peer) -> None:
    """Neither a factor nor an age nor a level is met; the user is known, and that is all."""
    bench.stand(peer.bridge())
    session = bench.open(peer.write(peer.user))
    assert session.require() == user_of(peer)
    assert session.factors == ()
    for asked in ({"max_age": 10**9}, {"factor": "password"}, {"aal": 1}):
        with pytest.raises(Exception, match="step-up"):
            session.require(**asked)  # type: ignore[arg-type]


def test_the_old_library_no_longer_serves_a_session_that_was_adopted(bench: Bench, stored_peer: Peer) -> None:
    """Its row is gone: the old application, which may still run somewhere, sees nobody."""
    cookie = stored_peer.write({**stored_peer.user, **DATA})
    assert stored_peer.read(cookie)["cart"]
    bench.stand(stored_peer.bridge())
    bench.visit(cookie)
    assert "cart" not in stored_peer.read(cookie)


def test_a_visitor_who_is_nobody_keeps_what_was_remembered(bench: Bench, peer: Peer) -> None:
    """An anonymous session is adopted like any other."""
    bench.stand(peer.bridge())
    visit = bench.visit(peer.write(DATA))
    assert visit.user is None
    assert visit.data["cart"] == DATA["cart"]
    assert visit.token


@requirement("R46")
def test_a_cookie_with_any_character_changed_is_refused(bench: Bench, peer: Peer) -> None:
    """Wherever it is changed; nothing is stored, and the cookie is left alone: it may be another application's."""
    cookie = peer.write({**peer.user, **DATA})
    name, _, value = cookie.partition("=")
    bench.stand(peer.bridge())
    signed = len(value) - 1 if peer.stored else len(value) - 2  # the last character may carry unused bits
    for at in range(0, signed, max(1, signed // 40)):
        other = "A" if value[at] != "A" else "B"
        visit = bench.visit(f"{name}={value[:at]}{other}{value[at + 1 :]}")
        assert (visit.user, visit.data, visit.token, visit.forgotten) == (None, {}, None, ())
    assert bench.live() == 0
    assert set(bench.refusals()) <= {"forged", "unknown", "expired"}
    assert bench.visit(cookie).user == user_of(peer)


def test_another_spelling_of_a_signature_is_the_same_old_session(bench: Bench, peer: Peer) -> None:
    """Base64 may carry unused bits at its end: they must not make a second old session of an adopted one."""
    name, _, value = peer.write({**peer.user, **DATA}).partition("=")
    bench.stand(peer.bridge())
    first = bench.visit(f"{name}={value}")
    bench.visit(bench.ours(first.token), lambda session: session.logout())
    bench.advance(60)
    bench.events.clear()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for other in alphabet:
        visit = bench.visit(f"{name}={value[:-1]}{other}")
        assert visit.user is None
    assert "session-adopted" not in bench.codes()


@requirement("R61")
def test_an_old_cookie_that_was_stolen_is_of_no_use_after_the_sign_out(bench: Bench, peer: Peer) -> None:
    """At once, when the end's own tombstone is gone, and as long as the cookie would be valid."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge())
    token = bench.visit(cookie).token
    assert bench.visit(bench.ours(token), lambda session: session.logout()).token == ""
    for wait in (0, 60, 2 * 86_400, 5 * 86_400):
        bench.advance(wait)
        bench.run(bench.rig.engine.sweep(1000))
        visit = bench.visit(cookie)
        assert (visit.user, visit.data, visit.token, visit.forgotten) == (None, {}, None, (peer.cookie,))
    assert bench.report.adopted == 1
    assert bench.report.refused["spent"] == 4


@requirement("R30")
def test_an_old_cookie_that_comes_back_while_its_session_lives_ends_it(bench: Bench, peer: Peer) -> None:
    """Its browser has a token by then, so this is a copy: the same rule as for every token that was left behind."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge())
    token = bench.visit(cookie).token
    bench.visit(bench.ours(token))
    bench.advance(bench.rig.policy.grace + 1)
    assert bench.visit(cookie).user is None
    assert "replay-detected" in bench.codes()
    assert bench.visit(bench.ours(token)).user is None


@requirement("R43")
def test_two_tabs_that_arrive_at_once_share_one_session(bench: Bench, peer: Peer) -> None:
    """Both were opened before either was answered: both are served, one session exists, and either token works."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge())
    left, right = bench.open(cookie), bench.open(cookie)
    left["left"], right["right"] = 1, 2
    one, two = bench.commit(left), bench.commit(right)
    assert one.user == two.user == user_of(peer)
    assert one.id == two.id
    assert bench.live() == 1
    assert bench.report.adopted == 1
    for token in (one.token, two.token):
        data = bench.visit(bench.ours(token)).data
        assert (data["left"], data["right"]) == (1, 2)


def test_a_lost_response_logs_nobody_out(bench: Bench, peer: Peer) -> None:
    """The browser has the old cookie still, and is handed the same session, hours later too."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge())
    ids = set()
    for _ in range(4):
        visit = bench.visit(cookie)
        assert visit.user == user_of(peer)
        assert visit.token
        ids.add(visit.id)
        bench.advance(1800)
    assert len(ids) == 1


def test_after_the_deadline_old_cookies_are_ignored(bench: Bench, peer: Peer) -> None:
    """Not read, not deleted, not counted."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge(until="2001-01-01"))
    visit = bench.visit(cookie)
    assert (visit.user, visit.token, visit.forgotten, bench.events) == (None, None, (), [])


@requirement("R45")
def test_an_old_store_that_is_down_fails_the_request(bench: Bench, stored_peer: Peer) -> None:
    """It must not pass for nobody's; when the store is back, the session is adopted."""
    cookie = stored_peer.write({**stored_peer.user, **DATA})
    bench.stand(stored_peer.unreachable())
    with pytest.raises(StoreUnavailable) as failed:
        bench.visit(cookie)
    assert not re.search(r"127|sqlite|redis|nowhere", str(failed.value))
    assert failed.value.__cause__ is None
    assert bench.codes() == ["store-failed"]
    bench.stand(stored_peer.bridge())
    assert bench.visit(cookie).user == user_of(stored_peer)


def test_an_old_store_that_is_down_may_be_ignored(bench: Bench, stored_peer: Peer) -> None:
    """Then the request is nobody's and begins no session of its own, which would stand in the old one's way."""

    def ignoring() -> Any:
        bridge = stored_peer.unreachable()
        bridge._settled = bridge._settled._replace(on_outage="ignore")
        return bridge

    cookie = stored_peer.write({**stored_peer.user, **DATA})
    bench.stand(ignoring())
    visit = bench.visit(cookie, lambda session: session.update(cart=["coffee"]))
    assert (visit.user, visit.token, visit.forgotten) == (None, None, ())
    assert bench.refusals() == ["outage"]
    bench.stand(stored_peer.bridge())
    assert bench.visit(cookie).data["cart"] == DATA["cart"]


def test_who_is_signed_in_may_be_said_by_a_function(bench: Bench, peer: Peer) -> None:
    """For applications that keep their user in a way of their own."""
    cookie = peer.write({"account": {"number": 7}, **DATA})
    bench.stand(peer.bridge(user=lambda data: data["account"]["number"]))
    assert bench.visit(cookie).user == "7"
    assert bench.visit(peer.write({"note": "a visitor"})).data["note"] == "a visitor"


def test_the_old_cookie_is_deleted_where_it_was_set(bench: Bench, peer: Peer) -> None:
    """With its own path and domain: a browser keeps others."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge(path="/shop", domain="app.example", samesite="None"))
    (line,) = bench.visit(cookie).answer.more
    assert line.startswith(
        f"{peer.cookie}=; Path=/shop; Domain=app.example; Secure; HttpOnly; SameSite=None; Max-Age=0"
    )


@requirement("R21")
def test_two_old_cookies_of_one_name_are_refused(bench: Bench, peer: Peer) -> None:
    """One of them was planted, and nobody knows which."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge())
    assert bench.visit(f"{cookie}; a=b; {cookie}").user is None
    assert bench.refusals() == ["duplicate"]


@requirement("R20")
def test_nothing_is_adopted_over_plain_http(bench: Bench, peer: Peer) -> None:
    """The cookie that would be set could be read by anybody on the way."""
    cookie = peer.write({**peer.user, **DATA})
    bench.stand(peer.bridge())
    assert bench.visit(cookie, scheme="http").user is None
    assert bench.visit(cookie).user == user_of(peer)


@requirement("R62")
def test_ending_all_sessions_of_a_user_reaches_those_that_were_not_adopted_yet(bench: Bench, peer: Peer) -> None:
    """A telephone that still holds an old cookie is signed out, too."""
    if peer.name.startswith("django"):
        laptop, telephone = peer.write({**peer.user, "at": "laptop"}), peer.write({**peer.user, "at": "telephone"})
    else:
        laptop, telephone = peer.write({**peer.user, "at": 1}), peer.write({**peer.user, "at": 2})
    other = peer.write({"user_id": "grace"} if "user_id" in peer.user else {"note": "nobody"})
    bench.stand(peer.bridge())
    token = bench.visit(laptop).token
    bench.visit(bench.ours(token), lambda session: session.logout(everywhere=True))
    late = bench.visit(telephone)
    assert (late.user, late.data, late.token, late.forgotten) == (None, {}, None, (peer.cookie,))
    assert bench.refusals() == ["closed"]
    assert bench.visit(telephone).user is None
    assert bench.visit(other).token, "others are not concerned"


@requirement("R64")
def test_ending_everything_reaches_what_was_not_adopted_yet(bench: Bench, peer: Peer) -> None:
    """However often it is done, and however much is swept afterwards."""
    bench.stand(peer.bridge())
    spent = peer.write({**peer.user, "at": "spent"})
    bench.visit(spent)
    for round_ in range(4):
        late = peer.write({**peer.user, "at": round_})
        bench.run(bench.rig.engine.end_everything())
        if round_ % 2:
            while bench.run(bench.rig.engine.sweep(1000)):
                pass
        for cookie in (late, spent):
            assert bench.visit(cookie).user is None
            assert bench.live() == 0


def test_a_sign_out_takes_an_old_cookie_along_that_was_never_asked_for(bench: Bench, peer: Peer) -> None:
    """A browser that got a session of ours before the bridge stood is not signed in again by what it kept."""
    cookie = peer.write({**peer.user, **DATA})
    token = bench.rig.sign_in("grace") if bench.blocking else None
    if token is None:
        session = bench.open("")
        session.login("grace")
        token = bench.commit(session).token
    bench.stand(peer.bridge())
    both = f"{bench.ours(token)}; {cookie}"
    assert bench.visit(both).user == "grace"

    def sign_out(session: Session) -> None:
        session.logout()

    gone = bench.visit(both, sign_out)
    assert (gone.token, gone.forgotten) == ("", (peer.cookie,))
    bench.advance(60)
    assert bench.visit(cookie).user is None
