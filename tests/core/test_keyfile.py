"""Where keys come from: argument, environment, and in development a file that is nobody else's."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from sessile.core.keyfile import ENVIRONMENT, ring_for
from sessile.core.keys import KeyRing, generate
from sessile.errors import ConfigurationError, KeyMissing

RING = KeyRing({9: b"k" * 32})
ARGUMENT, VARIABLE = generate(1), generate(2)


def ask(keys: Any = None, path: Path | None = None, **how: Any) -> KeyRing:
    """Ask for a ring as a development server on an embedded store does."""
    return ring_for(keys, **{"production": False, "key_file": path, "embedded": True, "environ": {}, **how})


def test_the_argument_wins_over_the_environment() -> None:
    """Then the environment, in production as in development."""
    environ = {ENVIRONMENT: VARIABLE}
    for production in (False, True):
        assert ask(RING, production=production, environ=environ) is RING
        assert ask(ARGUMENT, production=production, environ=environ).ids == (1,)
        assert ask(production=production, environ=environ).ids == (2,)


@pytest.mark.parametrize(
    "how", [{"production": True}, {"embedded": False}, {"environ": {ENVIRONMENT: "  "}, "production": True}]
)
def test_production_and_shared_stores_need_a_configured_key(how: dict[str, Any], tmp_path: Path) -> None:
    """Without one the start fails, in one sentence that says how to make one, and leaves no file."""
    with pytest.raises(KeyMissing, match="sessile keygen"):
        ask(path=tmp_path / "x.key", **how)
    assert list(tmp_path.iterdir()) == []


def test_a_development_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    """Mode 0600; the next start reads the same."""
    path = tmp_path / "app.db.key"
    first = ask(path=path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ask(path=path).derive(b"x") == first.derive(b"x")


def test_without_a_file_the_key_dies_with_the_process() -> None:
    """In memory, every start has its own."""
    assert ask().derive(b"x") != ask().derive(b"x")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever may have read it may have copied it."""
    path = tmp_path / "app.db.key"
    ask(path=path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        ask(path=path)


def test_workers_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    """Whoever comes second waits for the first to have written, and does not fail on an empty file."""
    path = tmp_path / "app.db.key"
    path.touch(0o600)
    late = threading.Timer(0.15, lambda: path.write_text(ARGUMENT))
    late.start()
    assert ask(path=path).ids == (1,)
    late.join()


@pytest.mark.parametrize("content", ["", "\n", "not a key", "k1.short"])
def test_a_damaged_key_file_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    """It is never replaced silently: that would end every session."""
    path = tmp_path / "app.db.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError):
        ask(path=path)
    assert path.read_text() == content


def test_a_key_file_of_bytes_that_are_no_text_is_refused(tmp_path: Path) -> None:
    """Not even a decoding error escapes."""
    path = tmp_path / "app.db.key"
    path.write_bytes(b"\xff\xfe\x00")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError):
        ask(path=path)


def test_a_link_that_points_nowhere_is_not_followed(tmp_path: Path) -> None:
    """A planted link does not choose where the key is written."""
    path = tmp_path / "app.db.key"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError):
        ask(path=path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_an_error_without_its_path(tmp_path: Path) -> None:
    """The message names the file, not where the application lives."""
    with pytest.raises(ConfigurationError) as caught:
        ask(path=tmp_path / "missing" / "app.key")
    assert str(tmp_path) not in str(caught.value)
