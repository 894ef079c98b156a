"""Which sessions came from which session at a provider: through renewals, and not one more."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

pytest.importorskip("joserfc")

from sessile import AsyncSessions, Sessions
from sessile.auth.ground import Ground
from sessile.auth.oidc.links import DATA, MAX_USERS, Link, Links, keep, kept, refresh_key
from sessile.auth.oidc.replays import Replays
from sessile.auth.vault import Write
from sessile.core.bridge import drive
from sessile.core.keys import KeyRing
from sessile.core.requests import Facts
from sessile.errors import ConfigurationError
from sessile.testing.clock import FrozenClock
from tests.auth.oidc.logout_forge import ISSUER, NOW
from tests.core.rig import facts, token_of
from tests.support.requirements import requirement

LINK = Link("login", ISSUER, "sub-1", "sid-1", NOW, "ada")
TOKEN = "e30.e30.e30"


class Desk:
    """Hold sessions and links behind the blocking door."""

    def __init__(self) -> None:
        self.clock = FrozenClock(NOW)
        self.sessions = Sessions("memory://", clock=self.clock)
        self.ground = Ground(self.sessions, "memory://")
        self.links = Links(self.ground)

    def sign_in(self, **changes: Any) -> tuple[str, Facts]:
        """Sign somebody in; return the id of the session, and what the browser sends next."""
        link = drive(self.links.begin(replace(LINK, **changes), TOKEN))
        assert link is not None
        session = self.sessions.open(facts())
        session.login(link.user, factor="sso")
        keep(session, link)
        answer = self.sessions.commit(session)
        assert session.id is not None
        return session.id, facts(token_of(answer))

    def found(self, *, subject: str | None = None, sid: str | None = None, issuer: str = ISSUER) -> tuple[str, ...]:
        """Return the sessions."""
        return tuple(one for one, _ in drive(self.links.find(issuer, subject=subject, sid=sid)))


@pytest.fixture
def desk() -> Desk:
    """Return sessions with links."""
    return Desk()


@requirement("R69")
def test_each_session_is_found_by_its_own_names_only(desk: Desk) -> None:
    """By issuer and sid, or by issuer and sub; a local sign-in of the same user is nobody else's."""
    one, _ = desk.sign_in()
    two, _ = desk.sign_in(sid="sid-2")
    bob, _ = desk.sign_in(subject="sub-2", sid="sid-3", user="bob")
    local = desk.sessions.open(facts())
    local.login("ada", factor="password")
    desk.sessions.commit(local)
    assert desk.found(sid="sid-1") == (one,)
    assert desk.found(subject="sub-1", sid="sid-2") == (two,)
    assert set(desk.found(subject="sub-1")) == {one, two}
    assert desk.found(subject="sub-2") == (bob,)
    assert desk.found(subject="sub-2", sid="sid-1") == ()
    assert desk.found(subject="sub-1", issuer="https://other.example") == ()
    assert desk.found(sid="sub-1") == ()


@requirement("R69")
def test_a_session_id_of_one_provider_names_nothing_of_another(desk: Desk) -> None:
    """One user, two providers that number their sessions alike."""
    here, _ = desk.sign_in()
    there, _ = desk.sign_in(issuer="https://other.example")
    assert desk.found(sid="sid-1") == (here,)
    assert desk.found(sid="sid-1", issuer="https://other.example") == (there,)
    assert desk.found(subject="sub-1") == (here,)


@requirement("R71")
def test_a_tokens_name_is_its_issuers_and_clients(desk: Desk) -> None:
    """What one has used is free for another; each is good once."""
    used = Replays(desk.ground, "oidc-logout")
    for issuer, client in ((ISSUER, "shop"), (ISSUER, "blog"), ("https://other.example", "shop")):
        assert not drive(used.is_used(issuer, client, "j"))
        assert drive(used.use(issuer, client, "j", until=NOW + 1))
        assert drive(used.is_used(issuer, client, "j"))
        assert not drive(used.use(issuer, client, "j", until=NOW + 1))
    desk.clock.advance(62)
    assert drive(used.use(ISSUER, "shop", "j", until=NOW + 63)), "what is over may come again"


@requirement("R69")
def test_a_session_is_found_after_every_renewal(desk: Desk) -> None:
    """A step-up and a rotation give it another id; where it came from goes along."""
    first, request = desk.sign_in()
    for renew in ("rotate", "factor"):
        session = desk.sessions.open(request)
        if renew == "rotate":
            session.rotate()
        else:
            session.add_factor("totp")
        request = facts(token_of(desk.sessions.commit(session)))
        assert session.id not in (None, first)
        assert desk.found(sid="sid-1") == (session.id,)
        assert desk.found(subject="sub-1") == (session.id,)


def test_another_users_sign_in_takes_nothing_of_it_along(desk: Desk) -> None:
    """Whoever signs in locally in the same browser is not the provider's to sign out (R26)."""
    _, request = desk.sign_in()
    session = desk.sessions.open(request)
    session.login("bob", factor="password")
    desk.sessions.commit(session)
    assert desk.found(sid="sid-1") == ()


def test_what_a_session_says_of_its_origin_is_no_more_than_data(desk: Desk) -> None:
    """An application that writes nonsense there breaks no sign-out."""
    _, request = desk.sign_in()
    for nonsense in (7, "x", [], ["login"], {"a": 1}, [1] * 7):
        session = desk.sessions.open(request)
        session[DATA] = nonsense
        assert kept(session) is None
        desk.sessions.commit(session)
        assert desk.found(sid="sid-1") == ()


def test_the_id_token_is_sealed_and_goes_with_its_user(desk: Desk) -> None:
    """A copy of the vault shows no token; without the user there is none."""
    _, request = desk.sign_in()
    link = kept(desk.sessions.open(request))
    assert link is not None
    assert drive(desk.links.id_token(link)) == TOKEN
    vault: Any = desk.ground.vault
    assert all(TOKEN.encode() not in item.value for item in vault._items.values())
    assert drive(desk.links.id_token(replace(link, hint="other"))) is None
    drive(vault.forget_user("ada"))
    assert drive(desk.links.id_token(link)) is None


@requirement("R72")
def test_what_was_kept_for_a_session_is_dropped_with_it(desk: Desk) -> None:
    """Its ID token and its refresh token; those of another session, and of another user, stay."""
    links = [kept(desk.sessions.open(desk.sign_in(**who)[1])) for who in ({}, {"sid": "sid-2"})]
    mine, other = (link for link in links if link is not None)
    vault: Any = desk.ground.vault
    for link in (mine, other):
        assert drive(vault.write(Write(refresh_key(link), b"sealed", 0, "ada")))
    drive(desk.links.forget(replace(mine, user="eve")))
    assert drive(desk.links.id_token(mine)) == TOKEN
    drive(desk.links.forget(mine))
    drive(desk.links.forget(mine))
    assert drive(desk.links.id_token(mine)) is None
    assert drive(vault.get(refresh_key(mine))) is None
    assert drive(desk.links.id_token(other)) == TOKEN
    assert drive(vault.get(refresh_key(other))) is not None


def test_one_name_at_a_provider_belongs_to_few_users_here(desk: Desk) -> None:
    """The last ones count, so that no item grows without end."""
    for number in range(MAX_USERS + 4):
        desk.sign_in(user=f"user-{number}")
    assert len(desk.found(subject="sub-1")) == MAX_USERS


@pytest.mark.parametrize("kind", [Sessions, AsyncSessions])
def test_sessions_in_cookies_cannot_be_ended_for_a_provider(kind: Any) -> None:
    """It is said at once, not when the first sign-out comes."""
    ground = Ground(kind("cookie://", keys=KeyRing({0: bytes(range(32))})), "memory://")
    with pytest.raises(ConfigurationError, match="a store that knows its users"):
        Links(ground)
