"""The session as the application sees it: a mapping, intents, guards and limits."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from sessile.core import values
from sessile.core.policy import Policy
from sessile.core.record import Record
from sessile.core.session import Rules, Session, anonymous
from sessile.errors import SessionTooLarge, StepUpRequired, ValueTooDeep, ValueUnsupported
from tests.core.rig import Rig
from tests.support.requirements import requirement


class Clock:
    """Stand still."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def new(policy: Policy | None = None, *, clock: Callable[[], float] | None = None, **stored: Any) -> Session:
    """Return a session over these stored values."""
    rules = Rules(policy or Policy(), clock or Clock(), frozenset({"user_id"}))
    if not stored:
        return Session(rules)
    data = {key: values.encode(key, value) for key, value in stored.items()}
    return Session(rules, Record(anonymous(900.0), data, 900.0, 9999.0), "f" * 40)


class TestMapping:
    """Everything that a dict does."""

    def test_it_reads_like_a_dict(self) -> None:
        """Getting, asking, iterating, counting, copying."""
        session = new(a=1, b=[2], c=None)
        assert (session["a"], session["b"], session["c"], session.get("d"), session.get("d", 4)) == (
            1,
            [2],
            None,
            None,
            4,
        )
        assert ("a" in session, "d" in session, 5 in session) == (True, False, False)
        assert list(session) == ["a", "b", "c"]
        assert len(session) == 3
        assert dict(session) == session.copy() == {"a": 1, "b": [2], "c": None}
        assert session == {"a": 1, "b": [2], "c": None}
        with pytest.raises(KeyError, match="d"):
            session["d"]

    def test_it_writes_like_a_dict(self) -> None:
        """Setting, updating, popping, removing, setdefault; order as in a dict."""
        session = new(a=1, b=[2])
        session["c"] = 3
        session.update(a=10, d=4)
        assert session.pop("b") == [2]
        assert session.pop("zz", "none") == "none"
        assert session.setdefault("e", []) == []
        session.setdefault("e").append(5)
        del session["d"]
        assert dict(session) == {"a": 10, "c": 3, "e": [5]}
        for missing in ("d", "b"):
            with pytest.raises(KeyError):
                del session[missing]
        session["b"] = "back"
        assert list(session) == ["a", "b", "c", "e"]
        assert len(session) == 4
        put, drop = session.changes()
        assert (set(put), drop) == ({"a", "b", "c", "e"}, frozenset())

    def test_popitem_and_equality_work_as_in_a_dict(self) -> None:
        """Also when everything goes."""
        session = new(a=1)
        assert session.popitem() == ("a", 1)
        assert session == {}
        assert not session

    @pytest.mark.parametrize("key", [1, None, b"a", ("a",), 1.5])
    def test_keys_are_text(self, key: Any) -> None:
        """Another type is an error where it is written, and simply absent where it is read."""
        session = new(a=1)
        with pytest.raises(TypeError, match="keys are text"):
            session[key] = 1
        assert key not in session
        assert session.get(key) is None

    def test_repr_shows_keys_and_no_values(self) -> None:
        """What stands in a log says who and what, never the data, the whole id or a token."""
        assert repr(new(secret="hush")) == "<Session ffffffff anonymous keys=['secret']>"
        assert repr(new()) == "<Session not stored anonymous keys=[]>"

    def test_values_are_decoded_when_they_are_asked_for(self) -> None:
        """An unread value is neither decoded nor compared, so what nobody touches costs nothing."""
        session = new(a=[1], b=[2])
        assert session._live == {}
        assert session["a"] is session["a"]
        assert set(session._live) == {"a"}
        assert session.changes() == ({}, frozenset())


class TestChanges:
    """What a commit writes."""

    def test_only_what_differs_is_written(self) -> None:
        """Reading, setting the same, changing and changing back are no changes."""
        session = new(a=[1], b={"x": {"y": [1]}}, c=1)
        session["a"].append(2)
        session["a"].pop()
        session["c"] = 1
        session["b"]["x"]["y"].append(2)
        session["n"] = None
        put, drop = session.changes()
        assert set(put) == {"b", "n"}
        assert drop == frozenset()

    def test_one_and_true_and_one_point_zero_differ(self) -> None:
        """Equal in Python is not the same in a session."""
        session = new(a=1)
        session["a"] = True
        assert set(session.changes()[0]) == {"a"}

    def test_what_was_never_stored_is_not_dropped(self) -> None:
        """Set and removed in one request: nothing happened."""
        session = new(a=1)
        session["b"] = 1
        del session["b"]
        assert session.changes() == ({}, frozenset())
        assert session.is_untouched

    @requirement("R47")
    def test_too_large_names_the_largest_change(self) -> None:
        """Stored and new together count; the key is in the error."""
        session = new(Policy(max_bytes=2000), a="x" * 900)
        session["small"] = "y" * 10
        session["large"] = "z" * 1200
        with pytest.raises(SessionTooLarge, match=r"session\['large'\]") as caught:
            session.changes()
        assert (caught.value.limit, caught.value.key) == (2000, "large")
        del session["a"]
        assert set(session.changes()[0]) == {"small", "large"}

    @requirement("R47")
    def test_what_cannot_travel_names_its_key(self) -> None:
        """At the commit, also when it was put deep into a value that was there."""
        session = new(cart={"items": [1]})
        session["cart"]["items"].append(object())
        with pytest.raises(ValueUnsupported, match=r"session\['cart'\]: builtins.object"):
            session.changes()
        deep: list[Any] = []
        deep.append(deep)
        session = new()
        session["deep"] = deep
        with pytest.raises(ValueTooDeep, match=r"session\['deep'\]"):
            session.changes()

    def test_a_failed_commit_leaves_the_store_as_it_was(self, rig: Rig) -> None:
        """The good key of the same request is not written either."""
        token = rig.sign_in()
        session = rig.open(token)
        session["good"] = 1
        session["bad"] = object()
        with pytest.raises(ValueUnsupported):
            rig.commit(session)
        assert dict(rig.open(token)) == {}


class TestIntents:
    """Sign-in, factors, sign-out."""

    @pytest.mark.parametrize("user", ["", None])
    def test_nobody_cannot_sign_in(self, user: Any) -> None:
        """An empty id is an error, not a user."""
        with pytest.raises(ValueError, match="user id"):
            new().login(user)

    def test_a_user_id_is_text_whatever_it_was(self) -> None:
        """Numbers and UUIDs are written as text."""
        for user in (42, uuid.UUID(int=7), "ada"):
            session = new()
            session.login(user)
            assert session.user_id == str(user)

    @requirement("R88")
    def test_a_pending_session_grants_nothing(self) -> None:
        """Until the other factor is proved, there is no user to anyone but the pages that finish it."""
        session = new()
        session.login("ada", pending=True)
        assert (session.kind, session.user_id, session.is_authenticated, session.aal) == ("pending", None, False, 0)
        assert session.pending_user_id == "ada"
        with pytest.raises(StepUpRequired) as caught:
            session.require()
        assert caught.value.reason == "pending"
        session.add_factor("totp", complete=False)
        assert session.user_id is None
        session.add_factor("recovery")
        assert (session.user_id, session.pending_user_id, session.aal) == ("ada", None, 2)
        assert [factor.name for factor in session.factors] == ["password", "totp", "recovery"]

    def test_a_factor_needs_someone_who_has_begun_to_sign_in(self) -> None:
        """A second factor alone is nobody's."""
        with pytest.raises(StepUpRequired) as caught:
            new().add_factor("totp")
        assert caught.value.reason == "login"

    def test_proving_a_factor_again_renews_its_time(self) -> None:
        """It stands once, with the later time."""
        clock = Clock()
        session = new(clock=clock)
        session.login("ada")
        clock.now = 2000.0
        session.add_factor("password")
        assert [(factor.name, factor.at) for factor in session.factors] == [("password", 2000.0)]

    def test_clear_is_a_sign_out_and_keeps_nothing(self) -> None:
        """As in every framework."""
        session = new(a=1)
        session.login("ada")
        session["b"] = 2
        session.clear()
        assert dict(session) == {}
        assert session.user_id is None
        assert session.signed_out

    @requirement("R25")
    @pytest.mark.parametrize("user", [7, "ada", uuid.UUID(int=1)])
    def test_the_declared_key_signs_in(self, user: Any) -> None:
        """With a text, a number or a UUID; the same user again is no new sign-in."""
        session = new()
        session["user_id"] = user
        assert session.user_id == str(user)
        assert session.intent == "sign-in"
        assert session["user_id"] == user

    @pytest.mark.parametrize("value", [True, False, 1.5, ["ada"], {"id": 1}, b"ada"])
    def test_what_names_nobody_signs_nobody_in(self, value: Any) -> None:
        """A flag, a list or bytes under that key is data."""
        session = new()
        session["user_id"] = value
        assert session.user_id is None
        assert session.intent is None

    @pytest.mark.parametrize(
        "leave",
        [
            lambda session: session.pop("user_id"),
            lambda session: session.__delitem__("user_id"),
            lambda session: session.update(user_id=None),
            lambda session: session.update(user_id=""),
            lambda session: session.clear(),
        ],
    )
    def test_removing_the_declared_key_signs_out(self, rig: Rig, leave: Callable[[Session], Any]) -> None:
        """The token is dead, the user's data gone; the farewell that this request wrote stays."""
        session = rig.open()
        session["user_id"] = 7
        session["secret"] = 1
        token = rig.close(session)
        session = rig.open(token)
        leave(session)
        session["message"] = "Bye"
        fresh = rig.close(session)
        assert fresh
        found = rig.open(fresh)
        assert (found.user_id, found.get("secret"), found["message"]) == (None, None, "Bye")
        assert rig.user_of(token) is None

    @requirement("R25", "R26")
    def test_another_user_through_the_declared_key_starts_empty(self, rig: Rig) -> None:
        """The data of the one before is not shown to the next."""
        session = rig.open()
        session["user_id"] = 1
        session["secret"] = "one's"
        token = rig.close(session)
        session = rig.open(token)
        session["user_id"] = 2
        assert "secret" not in session
        fresh = rig.close(session)
        assert dict(rig.open(fresh)) == {"user_id": 2}
        assert rig.user_of(token) is None


class TestRequire:
    """The guard of routes."""

    @requirement("R90")
    @pytest.mark.parametrize(
        ("asked", "reason"),
        [
            ({}, None),
            ({"factor": "password"}, None),
            ({"factor": "totp"}, "factor"),
            ({"max_age": 100.0}, None),
            ({"max_age": 99.9}, "age"),
            ({"max_age": float("nan")}, "age"),
            ({"max_age": -1.0}, "age"),
            ({"factor": "password", "max_age": 50.0}, "age"),
            ({"aal": 1}, None),
            ({"aal": 2}, "aal"),
            ({"factor": "totp", "max_age": 1.0, "aal": 3}, "factor"),
        ],
    )
    def test_it_says_what_is_missing(self, asked: dict[str, Any], reason: str | None) -> None:
        """A password proved 100 seconds ago is AAL1; a NaN age never passes."""
        clock = Clock()
        session = new(clock=clock)
        session.login("ada")
        clock.now += 100
        if reason is None:
            assert session.require(**asked) == "ada"
            return
        with pytest.raises(StepUpRequired) as caught:
            session.require(**asked)
        assert caught.value.reason == reason
        assert (caught.value.factor, caught.value.aal) == (asked.get("factor"), asked.get("aal"))

    @requirement("R90")
    def test_nobody_is_asked_to_sign_in(self) -> None:
        """An anonymous session, with or without data, has no user."""
        for session in (new(), new(user_name="admin", is_admin=True)):
            with pytest.raises(StepUpRequired) as caught:
                session.require(aal=0)
            assert caught.value.reason == "login"

    @requirement("R89")
    def test_one_recent_factor_is_enough_without_a_name_and_only_that_one_with_it(self) -> None:
        """`max_age` alone asks for any recent factor; with a name, for that one."""
        clock = Clock()
        session = new(clock=clock)
        session.login("ada")
        clock.now += 1000
        session.add_factor("totp")
        assert session.require(max_age=10.0, aal=2) == "ada"
        assert session.require(factor="totp", max_age=10.0) == "ada"
        with pytest.raises(StepUpRequired, match="age"):
            session.require(factor="password", max_age=10.0)


@requirement("R32")
def test_two_sessions_share_nothing() -> None:
    """What one request changes is not seen by another, nor left on the class."""
    one, two = new(a=[1]), new(a=[1])
    one["a"].append(2)
    one["b"] = 1
    one.login("ada")
    assert dict(two) == {"a": [1]}
    assert (two.user_id, two.intent, two.closed) == (None, None, False)
    assert dict(new()) == {}
