"""express-session with connect-redis: what Node writes, how long it means it, and what is never read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import redis

from tests.legacy.bench import Bench
from tests.legacy.peers import SECRET, ExpressPeer, redis_url


@pytest.fixture(name="other", scope="module")
def fixture_other() -> Iterator[ExpressPeer]:
    """Run an application with a prefix, a name, two secrets and a limit of its own."""
    peer = ExpressPeer(PREFIX="shop:", COOKIE="shop.sid", SECRETS=f"newer|{SECRET}", MAX_AGE="60000")
    peer.cookie = "shop.sid"
    yield peer
    peer.close()


def test_a_prefix_a_name_and_several_secrets_are_followed(other: ExpressPeer) -> None:
    """As express-session and connect-redis were told."""
    cookie = other.write({"userId": 7, "cart": ["tea"]})
    assert cookie.startswith("shop.sid=s%3A")
    assert Bench().stand(other.bridge(secret="newer", cookie="shop.sid")).visit(cookie).user is None
    bridge = other.bridge(secret=["newest", "newer"], cookie="shop.sid", prefix="shop:")
    visit = Bench().stand(bridge).visit(cookie)
    assert (visit.user, visit.data, visit.forgotten) == ("7", {"userId": 7, "cart": ["tea"]}, ("shop.sid",))
    assert other.read(cookie) == {}


def test_it_is_refused_when_its_time_is_over(other: ExpressPeer) -> None:
    """The row says when, should Redis still have it."""
    bridge = other.bridge(secret="newer", cookie="shop.sid", prefix="shop:")
    for age, lives in ((50, True), (61, False)):
        cookie = other.write({"userId": 7})
        bench = Bench().stand(bridge)
        bench.rig.now = time.time() + age
        assert (bench.visit(cookie).user is not None) is lives
        assert bench.refusals() == ([] if lives else ["expired"])


def test_an_expiry_that_is_no_time_is_over(express: ExpressPeer) -> None:
    """It must not mean forever."""
    cookie = express.write({"userId": 7})
    client = redis.Redis.from_url(redis_url())
    sid = cookie.partition("=s%3A")[2].partition(".")[0]
    row = json.loads(client.get(f"sess:{sid}") or b"{}")
    client.set(f"sess:{sid}", json.dumps({**row, "cookie": {"expires": "soon"}}))
    bench = Bench().stand(express.bridge())
    assert bench.visit(cookie).user is None
    assert bench.refusals() == ["expired"]


def test_a_cookie_that_is_not_signed_is_refused(express: ExpressPeer) -> None:
    """An id alone opens nothing, however it is spelled."""
    cookie = express.write({"userId": 7})
    sid = cookie.partition("=s%3A")[2].partition(".")[0]
    for text in (sid, f"s:{sid}", f"s:{sid}.", f"s%3A{sid}.x", f"s:.{'A' * 43}", "s:", f"j:{sid}", "%ff%fe"):
        bench = Bench().stand(express.bridge())
        assert bench.visit(f"connect.sid={text}").user is None
        assert bench.refusals() == ["forged"]
    assert Bench().stand(express.bridge()).visit(cookie).user == "7"


def test_passport_says_who_is_signed_in_and_objects_are_nobody(express: ExpressPeer) -> None:
    """What an application serializes into an object needs a function of its own."""
    assert Bench().stand(express.bridge()).visit(express.write({"passport": {"user": 12}})).user == "12"
    cookie = express.write({"passport": {"user": {"id": "ada"}}})
    assert Bench().stand(express.bridge()).visit(cookie).user is None
    cookie = express.write({"passport": {"user": {"id": "ada"}}})
    bridge = express.bridge(user=lambda data: data["passport"]["user"]["id"])
    assert Bench().stand(bridge).visit(cookie).user == "ada"
