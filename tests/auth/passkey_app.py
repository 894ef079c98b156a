"""A small application with passkeys and real pages: what an application writes around `AsyncPasskeys`.

Everything that was decided stands on the page, under a policy that lets no inline code run.
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sessile import AsyncSessions
from sessile.adapters.starlette import SessionMiddleware, requires
from sessile.auth.ground import Ground
from sessile.auth.passkeys import SCRIPT, AsyncPasskeys, Refused
from sessile.errors import StepUpRequired

CSP: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "require-trusted-types-for 'script'"
)


def _page(title: str, body: str) -> HTMLResponse:
    html = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f'<script src="/passkeys.js" defer></script><body><h1>{title}</h1>{body}'
    )
    return HTMLResponse(html, headers={"content-security-policy": CSP})


def _form(verb: str, path: str, button: str, *, after: str, inside: str = "", more: str = "") -> str:
    return (
        f'<form method=post action="/unsupported" data-sessile-passkey="{verb}" data-begin="{path}/begin" '
        f'data-finish="{path}" data-after="{after}"{more}>{inside}<button>{button}</button><p role=status></p></form>'
    )


class PasskeyApp:
    """Hold the application, its doors and its events. `origins` are set once the port is known."""

    def __init__(self, **options: Any) -> None:
        self.events: list[Any] = []
        self.sessions = AsyncSessions("memory://", sinks=(self.events.append,), **options)
        self.ground = Ground(self.sessions, "memory://")
        self.doors: dict[str, AsyncPasskeys] = {}
        self.answers: list[str] = []
        self.autofill = False
        self.app = Starlette(
            routes=[
                Route("/", self.home),
                Route("/passkeys.js", lambda _: FileResponse(SCRIPT, media_type="text/javascript")),
                Route("/sign-up", self.sign_up, methods=["GET", "POST"]),
                Route("/sign-in", self.sign_in_page),
                Route("/keys", self.keys_page),
                Route("/prove", self.prove_page),
                Route("/keys/{verb}/{key}", self.change_key, methods=["POST"]),
                *[
                    Route(f"/passkeys/{name}{end}", verb, methods=["POST"])
                    for name, begin, finish in (
                        ("new", self.begin_new, self.finish_new),
                        ("sign-in", self.begin_sign_in, self.finish_sign_in),
                        ("prove", self.begin_prove, self.finish_prove),
                    )
                    for end, verb in (("/begin", begin), ("", finish))
                ],
            ],
            middleware=[Middleware(SessionMiddleware, sessions=self.sessions)],
            exception_handlers={StepUpRequired: self.prove_first},
        )

    def door(self, origin: str) -> AsyncPasskeys:
        """Return the door for the site at this origin; the vault is one."""
        return self.doors.setdefault(
            origin, AsyncPasskeys(self.ground, rp_id="localhost", rp_name="Sessile", origins=[origin])
        )

    def codes(self) -> list[str]:
        """Return the codes of the events so far, with the reason of what was refused."""
        return [f"{event.code}:{event.why}" if hasattr(event, "why") else event.code for event in self.events]

    def _door(self, request: Request) -> AsyncPasskeys:
        return self.door(f"http://localhost:{request.url.port}")

    # -- pages ---------------------------------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        session = request.session
        factors = ", ".join(factor.name for factor in session.factors)
        return _page("Home", f"<p id=who>{escape(str(session.user_id))} by {factors} at AAL{session.aal}</p>")

    async def sign_up(self, request: Request) -> Response:
        if request.method == "POST":
            form = await request.form()
            request.session.login(str(form["user"]), factor="sign-up")
            return RedirectResponse("/keys", 303)
        return _page("Sign up", '<form method=post><input name=user aria-label="Name"><button>Go</button></form>')

    async def sign_in_page(self, _request: Request) -> Response:
        inside = '<label>Name <input name=user autocomplete="username webauthn"></label>'
        more = " data-autofill" if self.autofill else ""
        return _page("Sign in", _form("get", "/passkeys/sign-in", "Sign in", after="/", inside=inside, more=more))

    @requires()
    async def keys_page(self, request: Request) -> Response:
        rows = "".join(
            f"<li>{escape(key.label)} ({key.kind}, {key.algorithm}{', synced' if key.synced else ''})"
            f'<form method=post action="/keys/remove/{key.id}"><button>Remove {escape(key.label)}</button></form>'
            for key in await self._door(request).keys(request.session.user_id)
        )
        label = "<label>Name of the key <input name=label></label>"
        return _page("Keys", f"<ul>{rows}</ul>" + _form("create", "/passkeys/new", "Add", after="/keys", inside=label))

    @requires()
    async def prove_page(self, _request: Request) -> Response:
        return _page("Prove", _form("get", "/passkeys/prove", "Prove", after="/keys"))

    async def change_key(self, request: Request) -> Response:
        if request.path_params["verb"] == "remove":
            await self._door(request).remove(request.session, request.path_params["key"])
        return RedirectResponse("/keys", 303)

    async def prove_first(self, request: Request, _error: Exception) -> Response:
        if request.url.path.startswith("/passkeys/"):
            return JSONResponse({"next": "/prove"}, status_code=403)
        return RedirectResponse("/prove", 303)

    # -- ceremonies ----------------------------------------------------------------------------------------------------

    async def begin_new(self, request: Request) -> Response:
        user = request.session.require()
        return self._options(await self._door(request).begin_registration(request.session, name=user))

    async def finish_new(self, request: Request) -> Response:
        form = await request.form()
        answer = self._kept(form)
        made = await self._door(request).finish_registration(request.session, answer, label=str(form["label"]))
        return self._told(made)

    async def begin_sign_in(self, request: Request) -> Response:
        user = str((await request.form()).get("user") or "") or None
        return self._options(await self._door(request).begin_sign_in(request.session, user=user))

    async def finish_sign_in(self, request: Request) -> Response:
        answer = self._kept(await request.form())
        return self._told(await self._door(request).finish_sign_in(request.session, answer))

    async def begin_prove(self, request: Request) -> Response:
        return self._options(await self._door(request).begin_step_up(request.session))

    async def finish_prove(self, request: Request) -> Response:
        answer = self._kept(await request.form())
        return self._told(await self._door(request).finish_step_up(request.session, answer))

    def _kept(self, form: Any) -> str:
        self.answers.append(str(form["credential"]))
        return self.answers[-1]

    def _options(self, text: str) -> Response:
        return Response(text, media_type="application/json")

    def _told(self, outcome: object) -> Response:
        if isinstance(outcome, Refused):
            return JSONResponse({"error": outcome}, status_code=400)
        return JSONResponse({})
