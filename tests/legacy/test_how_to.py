"""What the how-to guide shows works as it stands there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import redis

from sessile.legacy import __all__ as bridges
from tests.legacy.bench import Bench
from tests.legacy.peers import DjangoCachePeer, redis_url

GUIDE = (Path(__file__).resolve().parent.parent.parent / "docs" / "how-to" / "adopt-sessions.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def snippet(word: str) -> str:
    """Return the one snippet that holds a word."""
    (found,) = [one for one in SNIPPETS if word in one]
    return str(found)


def test_the_guide_names_every_bridge() -> None:
    """In its table."""
    named = set(re.findall(r"\| `(\w+)` \|", GUIDE))
    assert named == set(bridges)


def test_the_bridge_of_ones_own_adopts_a_session() -> None:
    """Copied from the guide, with a store of its own."""
    rows = {"k1": {"data": {"cart": ["tea"]}, "user": "ada"}}

    class Rows:
        async def get(self, key: str) -> Any:
            return rows.get(key)

        async def delete(self, key: str) -> None:
            rows.pop(key, None)

    names: dict[str, Any] = {"rows": Rows()}
    exec(snippet("class ShopSessions"), names)
    bench = Bench().stand(names["ShopSessions"]())
    visit = bench.visit("shop_sid=k1")
    assert (visit.user, visit.data, visit.forgotten, rows) == ("ada", {"cart": ["tea"]}, ("shop_sid",), {})
    bench.close()


def test_djangos_pickled_cache_can_be_rewritten_by_the_old_application() -> None:
    """With the serializer that the guide shows: what was pickled is read once more by Django, and JSON from then on."""
    module = types.ModuleType("rewriting")
    exec(snippet("class JsonSessions").partition("CACHES")[0], vars(module))
    sys.modules["rewriting"] = module
    try:
        peer = DjangoCachePeer()
        peer._config["CACHES"]["default"].pop("OPTIONS")
        cookie = peer.write({"_auth_user_id": "1", "cart": ["tea"]})
        key = f":1:django.contrib.sessions.cache{cookie.partition('=')[2]}"
        client = redis.Redis.from_url(redis_url())
        assert (client.get(key) or b"").startswith(b"\x80")
        peer._config["CACHES"]["default"]["OPTIONS"] = {"serializer": "rewriting.JsonSessions"}
        peer._config["SESSION_SAVE_EVERY_REQUEST"] = True
        assert peer.read(cookie)["cart"] == "['tea']"
        assert (client.get(key) or b"").startswith(b"{")
        visit = Bench().stand(peer.bridge()).visit(cookie)
        assert (visit.user, visit.data["cart"]) == ("1", ["tea"])
    finally:
        del sys.modules["rewriting"]
