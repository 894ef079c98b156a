"""A real server, and a certified client that knows its issuer and nothing else: npm oauth4webapi."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from sessile import AsyncSessions
from sessile.adapters import sites
from sessile.adapters.starlette import SessionMiddleware
from sessile.auth.ground import Ground
from sessile.auth.tokens import (
    AsyncProofs,
    AsyncRefreshTokens,
    AsyncTokens,
    Client,
    Clients,
    TokenPair,
    TokenSite,
    attach,
    new_secret,
)
from sessile.core.bridge import drive
from tests.auth.token_bench import API, asked
from tests.support.node import node_folder, node_programs
from tests.support.ports import free_port
from tests.support.requirements import requirement

SECRET, HASH = new_secret()
DEADLINE: Final = 60.0


class Served:
    """Hold an application with token endpoints below a prefix, and an API, on a port of this machine."""

    def __init__(self) -> None:
        port = free_port()
        self.origin = f"http://127.0.0.1:{port}"
        self.issuer = f"{self.origin}/oauth"
        self.sessions = AsyncSessions()
        ground = Ground(self.sessions, "memory://")
        tokens = AsyncTokens(ground, issuer=self.issuer)
        self.refreshing = AsyncRefreshTokens(tokens)
        proofs = AsyncProofs(ground, nonce=True)
        attach(tokens, audience=API, proofs=proofs)
        clients = Clients(Client("app", None), Client("api", HASH, frozenset({API})))
        site = TokenSite(tokens, clients, refreshing=self.refreshing, proofs=proofs)

        async def who(request: Request) -> JSONResponse:
            return JSONResponse({"user": request.scope["session"].require()})

        routes = [
            Route("/me", who),
            Mount("/oauth", sites.asgi(site)),
            Mount("/.well-known", sites.asgi(site.metadata)),
        ]
        app = Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, sessions=self.sessions)])
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", ws="none"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        until = time.monotonic() + DEADLINE
        while not self._server.started and time.monotonic() < until:
            time.sleep(0.01)
        assert self._server.started

    def begin(self, **how: Any) -> TokenPair:
        """Return a native client's first tokens."""
        given = {"facts": asked("POST"), "audience": API, "client": "app", **how}
        return drive(self.refreshing.sign_in("ada", "passkey", **given))

    def close(self) -> None:
        """Stop the server."""
        self._server.should_exit = True
        self._thread.join(DEADLINE)


class Peer:
    """Talk to the client, line by line."""

    def __init__(self, served: Served, directory: Path) -> None:
        folder = node_folder(Path(__file__).parent / "client_node", "auth-client-node")
        told = {"issuer": served.issuer, "resource": f"{served.origin}/me", "audience": API, "secret": SECRET}
        self._log = (directory / "client.log").open("w")
        self._process = subprocess.Popen(
            [node_programs()[0], "client.mjs", json.dumps(told)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.jkt: str = self._read()["jkt"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, Path(self._log.name).read_text()
        return json.loads(line)  # type: ignore[no-any-return]

    def ask(self, verb: str, token: str | None, *, bound: bool = False) -> dict[str, Any]:
        """Let the client do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"verb": verb, "token": token, "bound": bound}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert "failed" not in answer, answer
        return answer

    def close(self) -> None:
        """End the client."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait(DEADLINE)
        self._process.stdout.close()
        self._log.close()


@pytest.fixture(name="served", scope="module")
def fixture_served() -> Iterator[Served]:
    """Serve one application for all tests of this file."""
    served = Served()
    yield served
    served.close()


@pytest.fixture(name="peer", scope="module")
def fixture_peer(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """Run one client, which has found the metadata where RFC 8414 says."""
    peer = Peer(served, tmp_path_factory.mktemp("client"))
    yield peer
    peer.close()


@pytest.mark.slow
@requirement("R84", "R86")
def test_a_client_that_knows_the_issuer_alone_does_everything(served: Served, peer: Peer) -> None:
    """Metadata, refresh, the API, introspection, RFC 9068 by the published keys, revocation, and the end of it all."""
    kept = served.begin(scope="read").refresh
    given = peer.ask("refresh", kept)
    assert (given["token_type"], given["scope"], given["expires_in"]) == ("bearer", "read", 300)
    access = given["access_token"]
    assert peer.ask("use", access) == {"status": 200, "body": {"user": "ada"}}
    assert peer.ask("introspect", access)["active"] is True
    claims = peer.ask("validate", access)
    assert (claims["sub"], claims["client_id"], claims["aud"]) == ("ada", "app", API)
    assert peer.ask("revoke", kept) == {}
    assert peer.ask("refresh", kept)["error"] == "invalid_grant"
    assert peer.ask("introspect", access) == {"active": False}
    refused = peer.ask("use", access)
    assert refused["status"] == 401
    [challenge] = refused["challenges"]
    assert (challenge["scheme"], challenge["parameters"]["error"]) == ("bearer", "invalid_token")


@pytest.mark.slow
@requirement("R60")
def test_a_client_proves_its_key_with_our_nonce(served: Served, peer: Peer) -> None:
    """At the token endpoint and at the API, by its own code for it; without the key, nothing."""
    kept = served.begin(jkt=peer.jkt).refresh
    first = peer.ask("refresh", kept, bound=True)
    assert (first["token_type"], first["asked"]) == ("dpop", 2)
    assert peer.ask("refresh", kept, bound=True)["asked"] == 1
    access = first["access_token"]
    assert peer.ask("use", access, bound=True) == {"status": 200, "body": {"user": "ada"}}
    assert peer.ask("introspect", access)["cnf"] == {"jkt": peer.jkt}
    assert peer.ask("refresh", kept)["error"] == "invalid_grant"
    stolen = peer.ask("use", access)
    assert stolen["status"] == 401
    assert stolen["challenges"][0]["parameters"]["error"] == "invalid_token"
