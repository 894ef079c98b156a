"""Answers: the headers of a commit, decided once."""

from __future__ import annotations

import pytest

from sessile.core.answers import LOOKED, NOTHING, READ, Answer
from tests.core.rig import Rig, token_of
from tests.support.requirements import requirement


@requirement("R19")
@pytest.mark.parametrize(
    ("answer", "headers"),
    [
        (NOTHING, []),
        (LOOKED, [("vary", "Cookie")]),
        (READ, [("vary", "Cookie"), ("cache-control", "no-store")]),
        (Answer("id=v"), [("cache-control", "no-store"), ("set-cookie", "id=v")]),
        (
            Answer("id=", True, True, '"cache"'),
            [("vary", "Cookie"), ("cache-control", "no-store"), ("set-cookie", "id="), ("clear-site-data", '"cache"')],
        ),
    ],
)
def test_headers_follow_from_what_was_read_and_set(answer: Answer, headers: list[tuple[str, str]]) -> None:
    """What sets or carries a session is not cacheable; what looked for one varies on the cookie."""
    assert answer.headers(None, None) == headers


@requirement("R19")
def test_the_applications_own_headers_are_merged() -> None:
    """A private response stays private, unless it sets a cookie; Vary gains Cookie."""
    assert READ.headers("private, max-age=5", "Accept") == [
        ("vary", "Accept, Cookie"),
        ("cache-control", "private, max-age=5"),
    ]
    sets = dict(Answer("id=v", True, True).headers("public, max-age=600", "*"))
    assert sets == {"vary": "*", "cache-control": "no-store", "set-cookie": "id=v"}


@requirement("R68")
def test_site_data_is_cleared_at_the_sign_out_of_a_user_only(rig: Rig) -> None:
    """Not for a visitor without a name, and not twice."""
    session = rig.open()
    session["cart"] = 1
    token = rig.close(session)
    session = rig.open(token)
    session.clear()
    answer = rig.commit(session)
    assert answer.clear_site_data is None
    assert answer.cookie is not None
    assert "Max-Age=0" in answer.cookie


@requirement("R14")
def test_a_sign_in_fits_every_browser(rig: Rig) -> None:
    """Name and value stay far below 4096 bytes, whatever the session holds."""
    session = rig.open()
    session["big"] = "x" * 200_000
    session.login("ada")
    answer = rig.commit(session)
    assert answer.cookie is not None
    assert len(answer.cookie) < 200


@requirement("R96")
def test_neither_requests_nor_answers_show_the_token(rig: Rig) -> None:
    """What a traceback or a debug line prints of them does not replay the session."""
    session = rig.open()
    session.login("ada")
    answer = rig.commit(session)
    token = token_of(answer)
    assert token
    later = rig.open(token)
    for thing in (answer, later, later.opened, later.opened.facts, session.base, later.base):
        assert token not in repr(thing)
    assert repr(answer) == "<Answer with a cookie vary=True carries=True>"
    assert repr(later.opened.facts) == "<Facts GET '/'>"
