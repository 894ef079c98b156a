"""FastAPI: dependencies that hand a path operation its session and its user, and stay out of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from sessile import ConfigurationError
from sessile.adapters.fastapi import CurrentSession, CurrentUser, Require, SessionMiddleware
from tests.adapters.asgi_client import World, make_world
from tests.support.requirements import requirement


@pytest.fixture(name="world")
def fixture_world() -> World:
    """Return sessions on a store that can fail."""
    return make_world()


def application() -> FastAPI:
    """Return an application that uses every dependency there is."""
    app = FastAPI()
    admin = APIRouter(prefix="/admin", dependencies=[Require(aal=2)])

    @app.post("/login")
    async def login(session: CurrentSession, user: str) -> None:
        session.login(user)

    @app.post("/factor")
    def factor(session: CurrentSession) -> None:
        session.add_factor("totp")

    @app.post("/cart")
    async def add(item: str, session: CurrentSession) -> list[str]:
        cart: list[str] = session.setdefault("cart", [])
        cart.append(item)
        return cart

    @app.get("/me")
    async def me(user: CurrentUser) -> str:
        return user

    @app.post("/pay", dependencies=[Require(factor="totp", max_age=300)])
    async def pay() -> str:
        return "paid"

    @app.get("/fresh")
    def fresh(user: Annotated[str, Require(max_age=60)]) -> str:
        return user

    @admin.get("/")
    async def panel(user: CurrentUser) -> str:
        return user

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, user: CurrentUser, session: CurrentSession) -> None:
        await websocket.accept()
        await websocket.send_json({"user": user, "id": session.id})
        await websocket.close()

    app.include_router(admin)
    return app


def client_of(world: World, app: FastAPI | None = None, **options: Any) -> TestClient:
    """Return a client of the application with sessions."""
    app = app or application()
    app.add_middleware(SessionMiddleware, sessions=world.sessions, **options)
    return TestClient(app, base_url="https://testserver")


def test_a_path_operation_gets_its_session(world: World) -> None:
    """In async and plain functions; nested changes are kept."""
    client = client_of(world)
    assert client.post("/cart?item=a").json() == ["a"]
    assert client.post("/cart?item=b").json() == ["a", "b"]
    client.post("/login?user=ada")
    assert client.post("/cart?item=c").json() == ["a", "b", "c"]


@requirement("R90")
def test_who_proves_too_little_is_told_what_is_missing(world: World) -> None:
    """The dependency's error reaches the middleware: 401 for nobody, 403 where more is asked of somebody."""
    client = client_of(world)
    for method, path in (("GET", "/me"), ("POST", "/pay"), ("GET", "/fresh"), ("GET", "/admin/")):
        reply = client.request(method, path)
        assert (reply.status_code, reply.json()["reason"]) == (401, "login")
    client.post("/login?user=ada")
    assert client.get("/me").json() == "ada"
    assert client.get("/fresh").json() == "ada"
    assert client.post("/pay").json()["reason"] == "factor"
    assert client.get("/admin/").json()["reason"] == "aal"
    client.post("/factor")
    assert client.post("/pay").json() == "paid"
    assert client.get("/admin/").json() == "ada"
    world.clock.advance(301)
    assert client.post("/pay").json()["reason"] == "age"
    assert client.get("/fresh").json()["reason"] == "age"


def test_pages_are_sent_to_sign_in(world: World) -> None:
    """A browser that navigates is redirected, and told where to come back to."""
    client = client_of(world, login_url="/sign-in")
    reply = client.get("/me", headers={"accept": "text/html"}, follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (303, "/sign-in?next=/me&reason=login")


@requirement("R45")
def test_an_operation_that_was_not_stored_was_not_done(world: World) -> None:
    """The response is replaced by 503."""
    client = client_of(world)
    world.store.failing.add("create")
    assert client.post("/login?user=ada").status_code == 503
    world.store.failing.clear()
    assert client.get("/me").status_code == 401


def test_dependencies_with_yield_see_their_end(world: World) -> None:
    """Their code after the yield runs, also when the session proves too little."""
    ran: list[str] = []

    async def resource() -> Any:
        try:
            yield "resource"
        finally:
            ran.append("closed")

    app = FastAPI()

    @app.get("/", dependencies=[Depends(resource)])
    async def page(session: CurrentSession) -> str:
        return session.require()

    assert client_of(world, app).get("/").status_code == 401
    assert ran == ["closed"]


def test_the_openapi_document_does_not_change() -> None:
    """Neither parameters nor schemas come from our dependencies."""
    with_sessions = application().openapi()
    parameters = {
        (path, name["name"])
        for path, methods in with_sessions["paths"].items()
        for operation in methods.values()
        for name in operation.get("parameters", [])
    }
    assert parameters == {("/login", "user"), ("/cart", "item")}
    assert "securitySchemes" not in with_sessions.get("components", {})


@requirement("R24")
def test_sockets_have_the_same_dependencies(world: World) -> None:
    """Who is nobody gets no socket."""
    client = client_of(world)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("wss://testserver/socket"):
        pass
    client.post("/login?user=ada")
    with client.websocket_connect("wss://testserver/socket") as socket:
        assert socket.receive_json()["user"] == "ada"


def test_a_missing_middleware_is_named() -> None:
    """Instead of a key error somewhere."""
    with pytest.raises(ConfigurationError, match="add_middleware"):
        TestClient(application()).get("/me")
