"""The error tree: one code a class, drawn as it is, and what each carries."""

from __future__ import annotations

import pytest

from sessile import errors
from sessile.core.record import Undecodable
from sessile.errors import SessileError
from sessile.stores.sql.migrations import Outdated


def tree(kind: type[SessileError] = SessileError) -> list[type[SessileError]]:
    """Return a class and all below it."""
    return [
        kind,
        *(below for child in kind.__subclasses__() if child.__module__.startswith("sessile.") for below in tree(child)),
    ]


def test_every_class_has_a_code_of_its_own() -> None:
    """Handlers and dashboards go by it."""
    assert {Undecodable, Outdated} <= set(tree())
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes), [(kind, kind.code) for kind in tree() if codes.count(kind.code) > 1]
    assert all("code" in vars(kind) for kind in tree())
    assert all(code == code.lower() and " " not in code for code in codes)


def test_the_picture_shows_every_public_class_with_its_code() -> None:
    """The docstring is the map, and it is true."""
    assert errors.__doc__ is not None
    for kind in tree():
        if kind.__module__ == errors.__name__:
            [line] = [line for line in errors.__doc__.splitlines() if kind.__name__ in line.replace("─", " ").split()]
            assert kind.code in line.split() or kind is SessileError


def test_an_error_of_data_names_its_key() -> None:
    """As an attribute, and in its words."""
    error = errors.SessionTooLarge("cart", 300_000, 262_144)
    assert (error.key, error.size, error.limit) == ("cart", 300_000, 262_144)
    assert "session['cart']" in str(error)
    assert "300,000 bytes; the limit is 262,144" in str(error)


def test_errors_carry_what_their_handlers_need() -> None:
    """Reasons, keys, limits and install lines."""
    step = errors.StepUpRequired("age", factor="totp", max_age=60.0, aal=2)
    assert (step.reason, step.factor, step.max_age, step.aal) == ("age", "totp", 60.0, 2)
    assert errors.ConflictError(("a", "b")).keys == ("a", "b")
    assert errors.TooManySessions(3).limit == 3
    assert errors.SessionGone("admin").reason == "admin"
    assert "pip install 'sessile[redis]'" in str(errors.ExtraMissing("the Redis store", "redis"))


@pytest.mark.parametrize("kind", tree())
def test_store_and_settings_are_told_apart(kind: type[SessileError]) -> None:
    """No error is both an outage and a wrong setting or wrong data."""
    families = (errors.StoreError, errors.ConfigurationError, errors.DataError, errors.SessionError)
    assert sum(issubclass(kind, family) for family in families) <= 1
