"""The binding ladder: what counts as a change, which rung answers, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sessile.core.binding import Binding, Pseudonyms, changed, family, remembered, rung
from sessile.core.events import ContextChanged, SessionEnded
from sessile.core.keys import KeyRing
from sessile.core.policy import Policy
from sessile.core.record import Context, EndReason
from sessile.errors import StepUpRequired
from tests.core.rig import CHROME, FIREFOX, Rig
from tests.support.requirements import requirement

HERE = Context(b"\x01net-one", "Firefox", "Linux")


@pytest.mark.parametrize(
    ("seen", "changes"),
    [
        (HERE, ()),
        (Context(b"\x01net-one", "Firefox", "Linux"), ()),
        (Context(b"\x01net-two", "Firefox", "Linux"), ("network",)),
        (Context(b"\x02net-two", "Firefox", "Linux"), ()),  # hashed by another key: cannot be compared
        (Context(b"", "Firefox", "Linux"), ()),  # unknown has not changed
        (Context(b"\x01net-one", "Chrome", "Linux"), ("agent",)),
        (Context(b"\x01net-one", "Firefox", "Windows"), ("agent",)),
        (Context(b"\x01net-one", "", ""), ()),
        (Context(b"\x01net-two", "Chrome", "Linux"), ("network", "agent")),
    ],
)
def test_changes_are_what_is_known_on_both_sides_and_differs(seen: Context, changes: tuple[str, ...]) -> None:
    """What is unknown, or hashed by another key, has not changed."""
    assert changed(HERE, seen) == changes


def test_what_was_known_is_not_forgotten() -> None:
    """A request without a User-Agent does not wipe what is remembered."""
    assert remembered(HERE, Context(b"\x01net-two", "", "")) == Context(b"\x01net-two", "Firefox", "Linux")
    assert remembered(Context(), HERE) == HERE


@requirement("R53", "R54")
@pytest.mark.parametrize(
    ("binding", "changes", "answer"),
    [
        (Binding(), (), "ignore"),
        (Binding(), ("network",), "log"),
        (Binding(), ("agent",), "log"),
        (Binding(), ("network", "agent"), "challenge"),
        (Binding(network="end", agent="log", both="log"), ("network", "agent"), "end"),  # both is never milder than one
        (Binding(network="ignore", agent="ignore", both="ignore"), ("network", "agent"), "ignore"),
        (Binding(agent="end"), ("agent",), "end"),
    ],
)
def test_each_change_has_its_rung(binding: Binding, changes: tuple[str, ...], answer: str) -> None:
    """Both at once get the strictest of the three."""
    assert rung(binding, changes) == answer


@requirement("R54")
def test_no_preset_ends_a_session_for_a_new_address_alone() -> None:
    """Phones change networks all day."""
    for policy in (Policy(), Policy.aal1(), Policy.aal3(), Policy.high_value()):
        assert rung(policy.binding, ("network",)) != "end"


@pytest.mark.parametrize(
    ("agent", "hint", "found"),
    [
        (FIREFOX, "", ("Firefox", "Linux")),
        (CHROME, "", ("Chrome", "Windows")),
        (CHROME + " Edg/140.0", "", ("Edge", "Windows")),
        (CHROME + " OPR/120.0", '"Linux"', ("Opera", "Linux")),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18 Safari/604", "", ("Safari", "iPhone")),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/140 Mobile Safari/537.36", '"Android"', ("Chrome", "Android")),
        ("curl/8.9", "", ("curl", "")),
        ("something else", "", ("Other", "")),
        ("", "", ("", "")),
        ("", '"macOS"', ("", "macOS")),
        ("<script>", '"<b>"', ("Other", "")),
    ],
)
def test_agents_are_families_without_versions(agent: str, hint: str, found: tuple[str, str]) -> None:
    """An update of the browser is no change, and nothing of the header is kept."""
    assert family(agent, hint) == found


@requirement("R96", "R99")
def test_a_pseudonym_says_only_same_or_another() -> None:
    """A keyed hash of the network: without the key nobody can try all addresses."""
    one, two = Pseudonyms(KeyRing({1: b"a" * 32})), Pseudonyms(KeyRing({1: b"b" * 32}))
    assert one.of("203.0.113.9") == one.of("203.0.113.77")
    assert one.of("203.0.113.9") != one.of("203.0.114.9")
    assert one.of("203.0.113.9") != two.of("203.0.113.9")
    assert one.of("203.0.113.9")[0] == 1
    assert len(one.of("203.0.113.9")) == 9
    assert one.of("") == b""


class TestThroughTheEngine:
    """The ladder as a user, and a thief, meet it."""

    @requirement("R54")
    def test_a_new_network_is_told_and_remembered(self, rig: Rig) -> None:
        """Once; the session goes on."""
        token = rig.sign_in(user_agent=FIREFOX)
        for _ in range(3):
            assert rig.user_of(token, peer="198.51.100.1", user_agent=FIREFOX) == "ada"
        [event] = rig.told(ContextChanged)
        assert (event.changed, event.action) == (("network",), "log")

    def test_the_same_network_costs_no_write(self, rig: Rig) -> None:
        """Another address of the same /24, another version of the same browser: nothing new."""
        token = rig.sign_in(user_agent=FIREFOX)
        newer = FIREFOX.replace("140", "141")
        assert rig.counted(lambda: rig.visit(token, peer="192.0.2.200", user_agent=newer)) == ["load"]

    @requirement("R53", "R88", "R90")
    def test_another_device_is_challenged_until_a_factor_is_proved(self, rig: Rig) -> None:
        """Network and agent at once: nobody is authenticated, `require` says why, and a factor gives a new token."""
        token = rig.sign_in(user_agent=FIREFOX)
        there: dict[str, Any] = {"peer": "198.51.100.1", "user_agent": CHROME}
        session = rig.open(token, **there)
        assert (session.user_id, session.pending_user_id, session.kind, session.aal) == (None, "ada", "pending", 0)
        with pytest.raises(StepUpRequired) as caught:
            session.require()
        assert caught.value.reason == "challenged"
        rig.commit(session)
        assert rig.user_of(token, user_agent=FIREFOX) is None  # it stays challenged, wherever it is used
        session = rig.open(token, **there)
        session.add_factor("totp")
        fresh = rig.close(session)
        assert rig.user_of(fresh, **there) == "ada"
        assert rig.user_of(token, **there) is None

    @requirement("R53")
    def test_the_policy_may_end_it(self, make: Callable[..., Rig]) -> None:
        """With the strictest rung the session is over for both, and the reason is told."""
        rig = make(policy=Policy(binding=Binding(agent="end")))
        token = rig.sign_in(user_agent=FIREFOX)
        session = rig.open(token, user_agent=CHROME)
        assert session.user_id is None
        assert session.ended is EndReason.BINDING
        assert rig.user_of(token, user_agent=FIREFOX) is None
        assert rig.told(ContextChanged)[0].action == "end"
        assert rig.told(SessionEnded)[0].reason is EndReason.BINDING

    def test_an_anonymous_session_is_not_challenged(self, rig: Rig) -> None:
        """There is nobody who could prove anything."""
        session = rig.open(user_agent=FIREFOX)
        session["cart"] = 1
        token = rig.close(session)
        session = rig.open(token, user_agent=CHROME, peer="198.51.100.1")
        assert session["cart"] == 1
        assert session.kind == "anonymous"
