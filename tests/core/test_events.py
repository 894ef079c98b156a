"""Events: each kind has its code and its sentence, and none can hold a secret."""

from __future__ import annotations

import inspect
import logging
import re
from typing import Any

import msgspec
import pytest

from sessile.core import events
from sessile.core.events import Event
from sessile.core.record import EndReason
from sessile.monitor import LogSink
from tests.core.rig import FIREFOX, Rig
from tests.support.requirements import requirement

KINDS = [
    kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, Event) and kind is not Event
]
SAMPLES: dict[str, Any] = {
    "at": 1.0, "session": "a" * 40, "user": "ada", "source": "00ff", "old": "b" * 40, "factor": "totp", "aal": 2,
    "generation": 3, "behind": 1, "lost": 1, "reason": EndReason.LOGOUT, "confirmed": True, "in_flight": True,
    "pending": True, "why": "forged", "method": "POST", "changed": ("network", "agent"), "action": "log",
    "error": "store-full", "host": "app.example", "bridge": "flask", "dropped": ("cart",),
}  # fmt: skip


def sample(kind: type[Event], **given: Any) -> Event:
    """Return an event of a kind, every field in use."""
    return kind(**{name: SAMPLES[name] for name in kind.__struct_fields__} | given)


@requirement("R95")
def test_every_kind_has_a_code_of_its_own() -> None:
    """And a severity, and the requirement behind it."""
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes) == len(KINDS) >= 19
    for kind in KINDS:
        assert "code" in vars(kind)
        assert kind.severity in ("info", "notice", "warning", "alert")
        assert re.fullmatch(r"R[1-9]\d*", kind.requirement)


@requirement("R95")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_a_sentence_in_plain_words(kind: type[Event]) -> None:
    """Not its code; with its reason, where there are several."""
    said = sample(kind).sentence()
    assert said[0].isupper()
    assert said.endswith((".", ".)"))
    assert kind.code not in said


def test_every_reason_to_end_has_its_own_sentence() -> None:
    """None is missing, none says the same as another."""
    said = {sample(events.SessionEnded, reason=reason).sentence() for reason in EndReason}
    assert len(said) == len(EndReason)


@requirement("R95")
def test_the_docstring_lists_every_kind() -> None:
    """It is the map of the module."""
    assert events.__doc__ is not None
    assert {word for word in events.__doc__.split() if any(word == kind.__name__ for kind in KINDS)} == {
        kind.__name__ for kind in KINDS
    }


@requirement("R96", "R99")
def test_no_event_of_a_whole_life_holds_a_secret() -> None:
    """Sign-in, rotation, theft, forgery, ends: no token, seed, branch, key, address, agent or data in any field."""
    rig = Rig()
    secrets: list[str] = ["192.0.2.7", "198.51.100.9", FIREFOX, "the data", bytes(range(32)).hex()]
    tokens = [rig.sign_in(user_agent=FIREFOX)]
    session = rig.open(tokens[0])
    session["note"] = "the data"
    session.add_factor("totp")
    tokens.append(rig.close(session) or "")
    rig.now += 901
    tokens.append(rig.visit(tokens[1], peer="198.51.100.9") or "")
    rig.user_of(tokens[2])
    rig.now += 31
    rig.user_of(tokens[1])
    rig.user_of(tokens[0])
    rig.user_of("forged" * 10)
    rig.open(cookie=f"__Host-id={tokens[0]}; __Host-id={tokens[0]}")
    rig.user_of(rig.mint.mint(b"s" * 20, 0, b"branch"))
    session = rig.open(scheme="http")
    session["x"] = 1
    rig.commit(session)
    late = rig.sign_in("bob")
    session = rig.open(late)
    session.logout()
    rig.commit(session)
    assert len({event.code for event in rig.events}) >= 10
    for token in (*tokens, late):
        read = rig.mint.verify(token)
        assert read is not None
        secrets += [token, read.seed.hex(), read.branch.hex(), token[:20], token[-20:]]
    for event in rig.events:
        shown = repr(event) + event.sentence() + repr(msgspec.to_builtins(event))
        assert not [secret for secret in secrets if secret in shown], event


def test_the_log_sink_writes_one_line_an_event_whatever_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    """Line breaks and control characters in a field cannot forge a second line."""
    with caplog.at_level(logging.INFO, "sessile.events"):
        for kind in KINDS:
            LogSink()(sample(kind))
        LogSink()(sample(events.SessionCreated, user="ada\r\nsession-ended forged=1\x1b[2J"))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(KINDS) + 1
    assert all(line.isprintable() for line in lines)
    levels = {record.levelname for record in caplog.records}
    assert levels == {"INFO", "WARNING", "ERROR"}


def test_the_log_sink_is_quiet_below_its_level(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody reads is not written."""
    with caplog.at_level(logging.ERROR, "sessile.events"):
        LogSink()(sample(events.SessionCreated))
    assert caplog.records == []
