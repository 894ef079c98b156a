"""Each test states its behaviour: its name reads as a sentence, or its docstring is one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
WORDS = 4


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Find the test functions of a module and of its classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def states_its_behaviour(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a name has enough words to say something, or a docstring begins with a sentence."""
    words = [word for word in test.name.removeprefix("test_").split("_") if word]
    first_line = (ast.get_docstring(test) or "").partition("\n")[0]
    return len(words) >= WORDS or first_line.endswith((".", "?", "!"))


@pytest.mark.tree
def test_every_test_states_its_behaviour_in_a_sentence() -> None:
    """A list of the tests reads as a list of promises."""
    silent = [
        f"{path.relative_to(TESTS.parent)}:{test.lineno} {test.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for test in functions_of(ast.parse(path.read_text(encoding="utf-8")))
        if not states_its_behaviour(test)
    ]
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def test_login(): ...", False),
        ("async def test_login_works(): ...", False),
        ("def test_login_ends_the_old_token(): ...", True),
        ('def test_login():\n    """Login ends the old token."""', True),
        ('def test_login():\n    """login"""', False),
    ],
)
def test_short_names_need_a_docstring(source: str, *, said: bool) -> None:
    """The check itself tells a sentence from a label."""
    [test] = functions_of(ast.parse(source))
    assert states_its_behaviour(test) is said
