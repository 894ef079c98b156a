"""Sites: one set of pages below any path of any framework, on the framework's own sessions."""

from __future__ import annotations

import io
from typing import Any

import flask
import httpx
import pytest
from flask_wtf import CSRFProtect

from sessile import AsyncSessions, Sessions
from sessile.adapters import sites
from sessile.adapters.flask import Sessile
from sessile.adapters.flask.sites import register
from sessile.auth import exchange
from sessile.auth.exchange import MAX_BODY_BYTES, Ask, Reply
from sessile.errors import ConfigurationError, StoreUnavailable
from tests.support.mounting import FRAMEWORKS, PREFIX, served

every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


class Echo:
    """Answer with what was asked; sign in, sign out and fail when asked to."""

    def __init__(self, door: AsyncSessions | Sessions) -> None:
        self.blocking = isinstance(door, Sessions)

    async def answer(self, ask: Ask) -> Reply:
        """Answer one request."""
        if ask.path == "/sign-in" and ask.method == "POST":
            ask.session.login(ask.form["name"], factor="password")
            return exchange.redirect(ask.url("/me", welcome="yes"))
        if ask.path == "/again":
            return exchange.redirect(ask.url(ask.path, **ask.query))
        if ask.path == "/two":
            lines = (("www-authenticate", "DPoP"), ("www-authenticate", "Bearer"), ("vary", "x-colour"))
            return Reply(401, lines)
        if ask.path == "/secret":
            ask.session.require(factor="password", max_age=60)
        if ask.path == "/broken":
            raise StoreUnavailable("the vault is down")
        told = {
            "method": ask.method,
            "root": ask.root,
            "path": ask.path,
            "user": ask.session.user_id,
            "query": dict(ask.query),
            "form": dict(ask.form),
            "json": ask.json,
            "kind": ask.kind,
            "length": len(ask.body),
            "x-colour": ask.headers.get("x-colour"),
        }
        return exchange.json(told)


@every_framework
async def test_a_site_sees_what_was_asked_below_its_mount(framework: str) -> None:
    async with served(framework, Echo) as browser:
        answer = await browser.get("/account/a/b?x=1&y=%C3%A9&x=2", headers={"x-colour": "red"})
        told = answer.json()
        assert answer.status_code == 200
        assert (told["method"], told["root"], told["path"]) == ("GET", PREFIX, "/a/b")
        assert told["query"] == {"x": "1", "y": "é"}
        assert told["x-colour"] == "red"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers.get_list("content-type") == ["application/json"]


@every_framework
async def test_the_mount_itself_is_the_sites_root(framework: str) -> None:
    async with served(framework, Echo) as browser:
        told = (await browser.get("/account/")).json()
        assert (told["root"], told["path"]) == (PREFIX, "/")


@every_framework
async def test_a_sign_in_in_a_site_is_the_frameworks_own(framework: str) -> None:
    async with served(framework, Echo) as browser:
        answer = await browser.post("/account/sign-in", data={"name": "ann"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/account/me?welcome=yes")
        assert (await browser.get("/account/me")).json()["user"] == "ann"


@every_framework
async def test_a_site_that_asks_for_a_proof_is_answered_as_the_application_would_be(framework: str) -> None:
    async with served(framework, Echo) as browser:
        answer = await browser.get("/account/secret", headers={"accept": "application/json"})
        assert (answer.status_code, answer.json()["reason"]) == (401, "login")


@every_framework
async def test_a_vault_that_failed_is_503(framework: str) -> None:
    async with served(framework, Echo) as browser:
        assert (await browser.get("/account/broken")).status_code == 503


@every_framework
async def test_another_site_cannot_post_to_a_site(framework: str) -> None:
    async with served(framework, Echo) as browser:
        foreign = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
        answer = await browser.post("/account/sign-in", data={"name": "mallory"}, headers=foreign)
        assert answer.status_code == 403
        assert (await browser.get("/account/me")).json()["user"] is None


@every_framework
async def test_forms_and_json_are_read_and_rubbish_is_nothing(framework: str) -> None:
    async with served(framework, Echo) as browser:
        assert (await browser.post("/account/x", data={"a": "ü", "b": ""})).json()["form"] == {"a": "ü", "b": ""}
        assert (await browser.post("/account/x", json={"a": [1]})).json()["json"] == {"a": [1]}
        for kind, body in (
            ("application/json", b"{"),
            ("application/json", b"[" * 30_000),
            (exchange.FORM, b"\xff\xfe=1"),
            (exchange.FORM, b"&".join(b"a=1" for _ in range(1000))),
            ("text/plain", b"a=1"),
        ):
            told = (await browser.post("/account/x", content=body, headers={"content-type": kind})).json()
            assert (told["form"], told["json"], told["kind"]) == ({}, None, kind)


@every_framework
async def test_a_body_that_is_too_long_never_reaches_the_site(framework: str) -> None:
    async with served(framework, Echo) as browser:
        kind = {"content-type": "application/octet-stream"}
        fits = await browser.post("/account/x", content=b"x" * MAX_BODY_BYTES, headers=kind)
        assert fits.json()["length"] == MAX_BODY_BYTES
        assert (await browser.post("/account/x", content=b"x" * (MAX_BODY_BYTES + 1), headers=kind)).status_code == 413


@pytest.mark.parametrize(
    ("environ", "body"),
    [
        ({"CONTENT_LENGTH": "3"}, b"abc"),
        ({"CONTENT_LENGTH": "9"}, b""),
        ({"CONTENT_LENGTH": "many"}, b""),
        ({"CONTENT_LENGTH": "-1"}, b""),
        ({}, b""),
        ({"wsgi.input_terminated": True}, b"abcdef"),
    ],
)
def test_a_body_that_breaks_off_is_not_half_a_form(environ: dict[str, Any], body: bytes) -> None:
    assert sites.read_body({**environ, "wsgi.input": io.BytesIO(b"abcdef")}) == body


def test_chunks_without_end_are_too_long() -> None:
    endless = io.BytesIO(b"x" * (MAX_BODY_BYTES + 1))
    assert sites.read_body({"wsgi.input_terminated": True, "wsgi.input": endless}) is None


@every_framework
async def test_head_has_no_body(framework: str) -> None:
    async with served(framework, Echo) as browser:
        assert (await browser.request("HEAD", "/account/x")).content == b""


async def test_a_site_for_the_other_door_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError):
        sites.wsgi(Echo(AsyncSessions("memory://")))
    with pytest.raises(ConfigurationError):
        sites.asgi(Echo(Sessions("memory://")))
    with pytest.raises(ConfigurationError):
        register(flask.Flask("shop"), "/account", Echo(AsyncSessions("memory://")))


def test_a_site_without_sessions_around_it_says_so() -> None:
    app = sites.wsgi(Echo(Sessions("memory://")))
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="https://x.example") as client:  # noqa: SIM117
        with pytest.raises(ConfigurationError):
            client.get("/")


def test_flask_wtf_leaves_a_site_alone() -> None:
    app = flask.Flask("shop")
    app.secret_key = "only for Flask-WTF"
    Sessile(app, "memory://")
    CSRFProtect(app)
    register(app, "/account", Echo(Sessions("memory://")))
    answer = app.test_client().post(
        "/account/x", base_url="https://shop.example", json={}, headers={"sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/vault", True),
        ("/vault?a=1#b", True),
        ("//evil.example", False),
        ("/\\evil.example", False),
        ("https://evil.example/", False),
        ("/\t/evil.example", False),
        ("/\n/evil.example", False),
        ("javascript:alert(1)", False),
        ("", False),
        ("/" + "a" * 4096, False),
        ("/é", False),
    ],
)
def test_only_paths_of_this_host_are_targets(target: str, allowed: bool) -> None:
    assert exchange.local(target, "/home") == (target if allowed else "/home")


def test_a_mount_ends_at_a_segment() -> None:
    assert sites.mounted("/acc", "/account/x") == ("/acc", "/account/x")
    assert sites.mounted("/acc/", "/acc/x") == ("/acc", "/x")
    assert sites.mounted("", "/x") == ("", "/x")
    assert sites.mounted("/acc", "/acc") == ("/acc", "/")


@every_framework
async def test_parameters_are_called_whatever_a_stranger_likes(framework: str) -> None:
    async with served(framework, Echo) as browser:
        answer = await browser.get("/account/again?path=x&self=y&a=%0d%0aset-cookie:%20a=b")
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            "/account/again?path=x&self=y&a=%0D%0Aset-cookie%3A+a%3Db",
        )


@every_framework
async def test_two_lines_of_one_name_both_arrive(framework: str) -> None:
    async with served(framework, Echo) as browser:
        answer = await browser.get("/account/two", headers={"accept": "application/json"})
        assert answer.headers["www-authenticate"] == "DPoP, Bearer"
        assert "x-colour" in answer.headers["vary"]


@every_framework
@pytest.mark.parametrize(
    ("path", "below"),
    [("/account/x%2F..%2Fme", "/x/../me"), ("/account/a%0A", "/a\n"), ("/account/..%5cme", "/..\\me")],
    ids=["slashes", "line break", "backslash"],
)
async def test_odd_paths_are_read_alike_everywhere(framework: str, path: str, below: str) -> None:
    async with served(framework, Echo) as browser:
        answer = await browser.get(path)
        if framework == "flask" and "\n" in below:
            assert answer.status_code == 404, "Werkzeug has no such paths"
            return
        assert (answer.json()["root"], answer.json()["path"]) == (PREFIX, below)


@every_framework
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE"])
async def test_methods_reach_the_site_as_they_are(framework: str, method: str) -> None:
    async with served(framework, Echo) as browser:
        answer = await browser.request(method, "/account/x", headers={"x-http-method-override": "POST"})
        assert answer.status_code == 200
        if method == "HEAD":
            assert answer.content == b""
        else:
            assert answer.json()["method"] == method


@pytest.mark.parametrize(
    ("root", "location"),
    [
        ("//evil.example/account", "/evil.example/account/me"),
        ("///evil.example", "/evil.example/me"),
        ("/\\evil.example", "/%5Cevil.example/me"),
        ("/a\r\nset-cookie: a=b", "/a%0D%0Aset-cookie:%20a=b/me"),
        ("/日本", "/%E6%97%A5%E6%9C%AC/me"),
        ("/a?b#c", "/a%3Fb%23c/me"),
        ("", "/me"),
    ],
    ids=["two slashes", "three slashes", "backslash", "line break", "not ascii", "query", "none"],
)
def test_a_mount_that_a_stranger_has_named_leads_nowhere_else(root: str, location: str) -> None:
    session: Any = None
    assert Ask("GET", root, "/x", session).url("/me") == location


def test_a_header_with_underscores_is_not_the_one_with_hyphens() -> None:
    session: Any = None
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "text/plain", "HTTP_CONTENT_TYPE": exchange.FORM}
    ask = sites.ask_of(environ, session, "", "/", b"a=1")
    assert ask is not None
    assert (ask.kind, dict(ask.form)) == ("text/plain", {})


def test_djangos_form_that_another_middleware_read_is_an_empty_body() -> None:
    pytest.importorskip("django")
    from django.http import HttpRequest
    from django.http.request import RawPostDataException

    from sessile.adapters.django import sites as django_sites

    class Read(HttpRequest):
        @property
        def body(self) -> bytes:
            raise RawPostDataException("read already")

    assert django_sites._body(Read()) == b""
