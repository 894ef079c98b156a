"""The API door where frameworks differ: Django's save() and its two doors, sockets, and scopes that a view asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import django_project

django_project.configure()

import flask  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import AsyncRequestFactory, RequestFactory  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from sessile.adapters import asgi, wsgi  # noqa: E402
from sessile.adapters.django import SessionMiddleware, async_sessions, sessions  # noqa: E402
from sessile.adapters.fastapi import CurrentSession, CurrentUser, Require  # noqa: E402
from sessile.adapters.fastapi import SessionMiddleware as FastApiSessions  # noqa: E402
from sessile.adapters.flask import Sessile  # noqa: E402
from sessile.auth.ground import Ground  # noqa: E402
from sessile.auth.tokens import AsyncTokens, ProofMaker, Proofs, Tokens, attach, require_scope  # noqa: E402
from sessile.auth.vaults.memory import MemoryVault  # noqa: E402
from sessile.stores.memory import MemoryStore  # noqa: E402
from tests.adapters.asgi_client import Socket, make_scope  # noqa: E402
from tests.auth.refresh_bench import RefreshBench  # noqa: E402
from tests.auth.token_bench import API, ISSUER, RING  # noqa: E402
from tests.invariants.apps.asgi_loop import exchange as ask_asgi  # noqa: E402
from tests.invariants.apps.wsgi_server import exchange as ask_wsgi  # noqa: E402
from tests.invariants.harness import Request  # noqa: E402
from tests.support.requirements import requirement  # noqa: E402

HOST = "app.example"


class Django:
    """Hold a Django project and a node that gives out its tokens; both doors have an API door, if asked."""

    def __init__(self, *, doors: str = "both") -> None:
        self.store, vault = MemoryStore(), MemoryVault()
        self.node = RefreshBench(self.store, vault)
        django_project.use(store=self.store, keys=RING, clock=self.node.clock, sinks=())
        if doors in ("both", "blocking"):
            ground = Ground(sessions(), vault)
            attach(Tokens(ground, issuer=ISSUER), audience=API, proofs=Proofs(ground))
        if doors in ("both", "async"):
            attach(AsyncTokens(Ground(async_sessions(), vault), issuer=ISSUER), audience=API)

    def ask(self, view: Callable[[Any], HttpResponse], method: str = "get", **headers: str) -> Any:
        """Send a request to a view."""
        request = getattr(RequestFactory(), method)("/", secure=True, headers={"host": HOST, **headers})
        return SessionMiddleware(view)(request)

    async def ask_async(self, view: Any, method: str = "get", **headers: str) -> Any:
        """Send a request to an async view."""
        request = getattr(AsyncRequestFactory(), method)("/", secure=True, headers={"host": HOST, **headers})
        return await SessionMiddleware(view)(request)


async def test_django_saves_in_the_midst_without_asking_for_another_proof() -> None:
    """A proof is taken once; `save()` and `load()` look at the session again, not at the proof."""
    project, maker = Django(), ProofMaker()
    pair = await project.node.begin_alone(jkt=maker.jkt)
    seen: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        request.session["a"] = 1
        request.session.save()
        request.session["b"] = 2
        seen.append((dict(request.session), request.session.load(), request.session.user_id))
        return HttpResponse()

    shown = maker.proof("GET", f"https://{HOST}/", now=project.node.clock(), token=pair.access)
    response = project.ask(view, authorization=f"DPoP {pair.access}", dpop=shown)
    assert (response.status_code, dict(response.cookies)) == (200, {})
    assert (response["Cache-Control"], response["Vary"]) == ("no-store", "Authorization")
    assert seen == [({"a": 1, "b": 2}, {"a": 1}, "ada")]
    [(_, stored)] = await project.store.of_user("ada")
    assert {"a", "b"} < set(stored.data)


@requirement("R61")
async def test_django_hands_out_no_cookie_after_a_flush() -> None:
    """Not even if the view stores something new: this client has no browser."""
    project = Django()
    session = await project.node.sign_in()
    pair = await project.node.begin(session)

    def view(request: HttpRequest) -> HttpResponse:
        request.session.flush()
        request.session.save()
        request.session["a"] = 1
        return HttpResponse()

    response = project.ask(view, authorization=f"Bearer {pair.access}")
    assert (response.status_code, dict(response.cookies)) == (200, {})
    assert not await project.node.is_alive(session.id)
    assert project.ask(view, authorization=f"Bearer {pair.access}").status_code == 401


@requirement("R22")
@pytest.mark.parametrize("doors", ["both", "async", "blocking"])
async def test_djangos_doors_judge_each_for_itself(doors: str) -> None:
    """The guard steps back only where a token is judged: a door without one goes by the cookie, and guards it."""
    project = Django(doors=doors)
    await project.node.sign_in()
    access = (await project.node.begin_alone("bob")).access
    users: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        users.append(request.session.user_id)
        return HttpResponse()

    async def aview(request: HttpRequest) -> HttpResponse:
        return view(request)

    headers = {
        "authorization": f"Bearer {access}",
        "cookie": f"__Host-id={project.node.cookie}",
        "sec-fetch-site": "cross-site",
    }
    blocking = project.ask(view, "post", **headers).status_code
    asynchronous = (await project.ask_async(aview, "post", **headers)).status_code
    assert blocking == (403 if doors == "async" else 200)
    assert asynchronous == (403 if doors == "blocking" else 200)
    assert set(users) == {"bob"}
    bad = {**headers, "authorization": "Bearer x"}
    assert (await project.ask_async(aview, **bad)).status_code == (200 if doors == "blocking" else 401)
    assert project.ask(view, **bad).status_code == (200 if doors == "async" else 401)


def api_of(blocking: bool) -> RefreshBench:
    """Return a bench with an API door."""
    bench = RefreshBench(blocking=blocking)
    attach(bench.tokens, audience=API)
    return bench


@requirement("R24")
async def test_a_socket_opens_with_a_token_and_closes_with_the_parent() -> None:
    """Whoever ends the session from another node ends the family's sockets, too, within the check's interval."""
    bench = api_of(blocking=False)
    session = await bench.sign_in()
    pair = await bench.begin(session)
    users: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        users.append(scope["session"].user_id)
        await send({"type": "websocket.accept"})
        await receive()

    served = asgi.SessionMiddleware(application, sessions=bench.sessions, socket_check=0.05)

    def socket(token: str) -> Socket:
        return Socket(served, make_scope(kind="websocket", headers=[("authorization", f"Bearer {token}")]))

    open_one = socket(pair.access)
    await open_one.until("websocket.accept")
    assert users == ["ada"]
    await bench.sessions.end(session.id)
    closed = await open_one.until("websocket.close")
    assert closed["code"] == 1008
    refused = socket(pair.access)
    await refused.until("websocket.close")
    assert users == ["ada"]
    await asyncio.gather(open_one.task, refused.task)
    assert not await bench.sessions.is_alive(await bench.sid_of(pair.access))


def view_of(session: Any) -> None:
    """Do what needs a scope."""
    session["touched"] = True
    require_scope(session, "write")


async def scope_asgi(bench: RefreshBench, request: Request) -> Any:
    """Serve behind the ASGI middleware."""

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        view_of(scope["session"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return await ask_asgi(asgi.SessionMiddleware(application, sessions=bench.sessions), request)


async def scope_wsgi(bench: RefreshBench, request: Request) -> Any:
    """Serve behind the WSGI middleware."""

    def application(environ: Any, start_response: Any) -> Any:
        view_of(environ["sessile.session"])
        start_response("200 OK", [])
        return []

    return ask_wsgi(wsgi.SessionMiddleware(application, sessions=bench.sessions), request)


async def scope_flask(bench: RefreshBench, request: Request) -> Any:
    """Serve behind Flask."""
    app = flask.Flask("scopes")
    Sessile(app, sessions=bench.sessions)

    @app.route("/")
    def index() -> str:
        view_of(flask.session)
        return ""

    return ask_wsgi(app, request)


@pytest.mark.parametrize("serve", [scope_asgi, scope_wsgi, scope_flask])
async def test_a_scope_that_is_missing_is_a_403(serve: Any) -> None:
    """And says which one."""
    bench = api_of(blocking=serve is not scope_asgi)
    session = await bench.sign_in()
    for scope, status in (("read", 403), ("read write", 200)):
        access = await bench.issue(session, scope=scope)
        sent = (("host", HOST), ("authorization", f"Bearer {access}"))
        reply = await serve(bench, Request("GET", "/", "", sent))
        assert reply.status == status
        if status == 403:
            assert reply.header("www-authenticate") == 'Bearer error="insufficient_scope", scope="write"'
            assert reply.header("cache-control") == "no-store"
            assert not reply.all("set-cookie")


async def test_a_missing_scope_is_a_403_in_django() -> None:
    """Raised in the view, answered by the middleware as all of Sessile's errors are."""
    project = Django()
    access = await project.node.issue(await project.node.sign_in(), scope="read")
    request = RequestFactory().get("/", secure=True, headers={"host": HOST, "authorization": f"Bearer {access}"})
    middleware = SessionMiddleware(lambda _request: HttpResponse())
    assert middleware.process_request(request) is None
    with pytest.raises(Exception, match="insufficient_scope") as raised:
        require_scope(request.session, "write")  # type: ignore[arg-type]
    response = middleware.process_exception(request, raised.value)  # type: ignore[arg-type]
    assert response is not None
    assert response.status_code == 403
    assert "insufficient_scope" in response["WWW-Authenticate"]


@requirement("R90")
def test_fastapis_dependencies_take_a_token_for_a_session() -> None:
    """The same dependency for browsers and programs: user, session, scopes, and what each is refused with."""
    bench = api_of(blocking=False)
    app = FastAPI(middleware=[Middleware(FastApiSessions, sessions=bench.sessions)])

    @app.get("/me")
    async def me(user: CurrentUser, session: CurrentSession) -> dict[str, Any]:
        grant = session.grant
        return {"user": user, "client": None if grant is None else grant.client}

    @app.get("/proved", dependencies=[Require(aal=2)])
    def proved() -> None:
        """Be for two factors alone."""

    @app.post("/write")
    async def write(session: CurrentSession, user: CurrentUser) -> str:
        require_scope(session, "write")
        session["by"] = user
        return user

    pair = asyncio.run(bench.begin_alone("ada", "password", scope="read"))
    may = asyncio.run(bench.begin_alone("ada", scope="read write"))
    with TestClient(app, base_url=f"https://{HOST}") as client:

        def ask(path: str, token: str | None, method: str = "GET") -> Any:
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            return client.request(method, path, headers=headers)

        assert ask("/me", pair.access).json() == {"user": "ada", "client": "app"}
        nobody = ask("/me", None)
        assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
        wrong = ask("/me", pair.access + "x")
        assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid_token"})
        assert wrong.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        weak = ask("/proved", pair.access)
        assert (weak.status_code, weak.json()["reason"]) == (403, "aal")
        assert ask("/write", pair.access, "POST").headers["www-authenticate"].endswith('scope="write"')
        assert ask("/write", may.access, "POST").json() == "ada"
        assert not client.cookies
        sid = asyncio.run(bench.sid_of(pair.access))
        asyncio.run(bench.sessions.end(sid))
        assert ask("/me", pair.access).status_code == 401
