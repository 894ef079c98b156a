"""Store URLs: what is opened, what is refused, and that a refusal repeats no secret."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.core.bridge import drive
from sessile.errors import ConfigurationError
from sessile.stores import open_store
from sessile.stores.memcached.nodes import parse_authority
from sessile.stores.memory import MemoryStore
from sessile.stores.redis.address import Settings
from sessile.stores.sqlite import SqliteStore
from sessile.stores.url import StoreUrl
from sessile.testing.store_contract import new_id, new_record


@pytest.mark.parametrize("url", ["memory://", "memory:///", "memory://?capacity=7"])
def test_memory_is_opened_by_its_scheme(url: str) -> None:
    """With or without a capacity."""
    assert isinstance(open_store(url, blocking=True), MemoryStore)


def test_three_slashes_are_a_relative_path_and_four_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relative path is fixed when the store is opened, not when it is first used."""
    monkeypatch.chdir(tmp_path)
    relative = open_store("sqlite:///relative%20name.db?wait=2.5", blocking=True)
    absolute = open_store(f"sqlite:///{tmp_path}/absolute?.db".replace("?", "%3F"), blocking=True)
    monkeypatch.chdir("/")
    for store, name in ((relative, "relative name.db"), (absolute, "absolute?.db")):
        assert isinstance(store, SqliteStore)
        assert not (tmp_path / name).exists(), "opening does no I/O"
        drive(store.create(new_id(), new_record()))
        assert (tmp_path / name).exists()
        drive(store.close())


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite://:memory:", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://", "sqlite:///sessions.db"),
        ("sqlite:///", "sqlite:///sessions.db"),
        ("sqlite://sessions.db", "three slashes"),
        ("sqlite:///no/such/folder/sessions.db", "folder"),
        ("sqlite:///a%00b.db", "the path of the session database is none"),
        ("sqlite:///\ud800.db", "the path of the session database is none"),
        ("cookie://?revocations=sqlite:///a%2500b.db", "the path of the database of ended sessions is none"),
        ("redis+unix:///run/a%00b", "takes a path"),
        ("sqlite:///a.db?wait=0", "'wait'"),
        ("sqlite:///a.db?wait=nan", "'wait'"),
        ("sqlite:///a.db?timeout=1", "it knows wait"),
        ("sqlite:///a.db?wait=1&wait=2", "twice"),
        ("sqlite:///a.db#b", "%23"),
        ("memory://?capacity=0", "'capacity'"),
        ("memory://?capacity=-1", "'capacity'"),
        ("memory://?capacity=1e3", "'capacity'"),
        ("memory://?capacity", "malformed"),
        ("memory://host", "neither a host nor a path"),
        ("sessions.db", "sqlite:///sessions.db"),
        ("", "sqlite:///sessions.db"),
        ("mongodb://localhost", "memory://, sqlite://"),
    ],
)
def test_a_wrong_url_is_refused_with_a_hint(url: str, hint: str) -> None:
    """At start, as a ConfigurationError that says what to write instead."""
    with pytest.raises(ConfigurationError, match=re.escape(hint)):
        open_store(url, blocking=False)


HOSTS = {
    "an empty label": "a..b",
    "a label of 70": "a" * 70,
    "a label of 70 that is no ASCII": "\u00e4" * 70,
    "254 characters": ".".join(["a" * 50] * 5),
    "a zero": "a\0b",
    "a zero that is quoted": "a%00b",
    "a quote": "a%20b",
    "a space": "a b",
    "a query": "a*b",
    "half an address": "[:::]",
    "no address": "[host]",
    "an address without brackets": "::1",
    "half a surrogate": "\ud800",
}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize(
    "url",
    [
        "redis://{}:6379/0",
        "valkey://u:hunter2@{}/0",
        "rediss://{}",
        "redis+sentinel://first,{}/service",
        "redis+cluster://{},second:7000",
        "memcached://first,{}:11211",
        "cookie://?revocations=redis://{}",
        "postgresql://u:hunter2@{}/database",
        "mariadb://{}:3306/database",
    ],
)
def test_a_host_that_is_none_is_refused_when_the_url_is_read(url: str, name: str) -> None:
    """A slip in the configuration is an error at start, not an outage at the first request."""
    pytest.importorskip("redis")
    pytest.importorskip("sqlalchemy")
    with pytest.raises(ConfigurationError) as caught:
        open_store(url.format(HOSTS[name]), blocking=True)
    assert "hunter2" not in str(caught.value)
    assert HOSTS[name] not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["localhost", "cache_1", "Cache.Example.", "b\u00fccher.example", "127.0.0.1", "[::1]"]
)
def test_a_host_that_is_one_is_kept_as_it_was_written(name: str) -> None:
    """Names with underscores, of other alphabets, with the final dot; and addresses."""
    given, bare = StoreUrl.parse(f"redis://user@{name}:7000"), name.strip("[]")
    assert [(one.host, one.port) for one in Settings.of(given).addresses] == [(bare, 7000)]
    assert parse_authority(f"first,{name}")[0][1] == (bare.lower(), 11211)
    store = open_store(f"memcached://{name}", blocking=True)
    assert name not in repr(store)
    drive(store.close())


@pytest.mark.parametrize(
    "url",
    [
        "postgres://ann:hunter2@db/hunter2?hunter2=hunter2",
        "memory://ann:hunter2@host",
        "sqlite://ann:hunter2@host/x",
        "ann:hunter2@host",
        "memory://?capacity=hunter2",
        "memory://[hunter2",
    ],
)
def test_a_refusal_repeats_no_password(url: str) -> None:
    """Errors end up in logs; neither they nor their causes hold what may be a secret."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url, blocking=False)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text())
def test_any_text_is_opened_or_refused(text: str) -> None:
    """No other exception, whatever stands in the configuration."""
    for url in (text, f"memory://{text}"):
        with suppress(ConfigurationError):
            open_store(url, blocking=False)
