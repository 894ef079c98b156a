"""What providers ask of us when somebody signs out elsewhere: the back-channel and the front-channel receiver.

    back    POST, a form with one logout token      200 done, or nothing was left to do
                                                    400 refused, and no session touched
                                                    503 not confirmed within two seconds: send it again
    front   GET with iss and sid, in a frame        200 in any case: who frames the page learns nothing

A session ends before the answer leaves. Finding it costs a look-up or two in the vault, however many sessions live.

Back-Channel Logout §2.8 answers 400 to a logout that failed, too; 503 says that the token was good, so that a provider
that tries again does. Of the front channel only the pair of issuer and session id counts: browsers send no cookie
into a frame of another site (docs/explanation/single-sign-out.md), and a cookie would end sessions for whoever frames
the page.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

from ...core.bridge import drive
from ...core.record import EndReason
from ...errors import StoreError, StoreUnavailable
from ..events import WHY_LOGOUT, LogoutTokenRefused, ProviderSignedOut
from ..exchange import FORM, NO_STORE, NOT_FOUND, Ask, Reply, json, wrong_method
from ..ground import Ground
from .links import Link, Links
from .logout_tokens import MAX_CHARS, Expected, LogoutToken, UnknownKey, Why, is_name, judge
from .replays import Replays

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

T = TypeVar("T")

# Providers give up after some seconds (oidc-provider: 2.5) and do not come again.
PATIENCE: Final = 2.0
_PLAIN: Final = (
    ("content-type", "text/html; charset=utf-8"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
_FRAMED: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors "
_RETRY: Final = ("retry-after", "5")
# A session is renewed between two looks once in a long while; a provider whose sign-out still meets one asks again.
_LOOKS: Final = 4
_log: Final = logging.getLogger("sessile.oidc")


class Trusted(Protocol):
    """Be one provider, as far as receivers must know it."""

    @property
    def expected(self) -> Expected:
        """Return what its logout tokens must be."""
        ...

    @property
    def origins(self) -> tuple[str, ...]:
        """Return the origins whose pages may frame the front-channel receiver."""
        ...

    async def keys(self, *, again: bool = False) -> KeySet:
        """Return its public keys; `again` asks it anew, unless that was done just now.

        Raises:
            StoreUnavailable: it could not be asked, and nothing is known of before.
        """
        ...


class Received(NamedTuple):
    """Say how many sessions a provider's sign-out ended, and whether the store confirmed that."""

    sessions: int
    confirmed: bool


class Receivers:
    """Answer the providers `trusted` by name. `patience` (seconds) is how long an answer may take at most.

    What takes longer is answered by 503 and goes on: the session ends as soon as the store can.
    """

    def __init__(
        self, ground: Ground, trusted: Mapping[str, Trusted], links: Links, *, patience: float = PATIENCE
    ) -> None:
        self._ground = ground
        self._trusted = trusted
        self._links = links
        self._patience = patience
        self._used = Replays(ground, "oidc-logout")
        self._late: set[asyncio.Task[Any]] = set()

    # -- back-channel --------------------------------------------------------------------------------------------------

    async def back(self, ask: Ask, name: str) -> Reply:
        """Answer a provider's back-channel request."""
        trusted = self._trusted.get(name)
        if trusted is None:
            return NOT_FOUND
        if ask.method != "POST":
            return wrong_method("POST")
        text = posted(ask)
        if text is None:
            return self._refuse(name, "request")
        try:
            done = await self._within(self._receive(name, trusted, text))
        except StoreError as error:
            _log.warning("a sign-out by the provider %s was not confirmed (%s)", name, error.code)
            return _unavailable()
        if isinstance(done, Why):
            return self._refuse(name, done)
        return _unavailable() if not done.confirmed else Reply(200, (NO_STORE,))

    async def _receive(self, name: str, trusted: Trusted, text: str) -> Received | Why:
        token = await self._judged(trusted, text)
        if isinstance(token, Why):
            return token
        expected = trusted.expected
        if await self._used.is_used(expected.issuer, expected.client, token.token_id):
            return Why.REPLAY
        # First the mark: a sign-in that is on its way has its session in the index by now, or will meet the mark.
        await self._links.mark(token.issuer, subject=token.subject, sid=token.sid, at=token.issued_at)
        look = partial(self._links.find, token.issuer, subject=token.subject, sid=token.sid, at=token.issued_at)
        done = await self._end(name, "back", look)
        if done.confirmed and not await self._used.use(
            expected.issuer, expected.client, token.token_id, until=token.until
        ):
            return Why.REPLAY
        return done

    async def _judged(self, trusted: Trusted, text: str) -> LogoutToken | Why:
        found = judge(text, await trusted.keys(), expected=trusted.expected, now=self._ground.now)
        if isinstance(found, UnknownKey):
            found = judge(text, await trusted.keys(again=True), expected=trusted.expected, now=self._ground.now)
        return Why.KEY if isinstance(found, UnknownKey) else found

    async def _end(
        self, name: str, channel: Literal["back", "front"], look: Callable[[], Awaitable[tuple[tuple[str, Link], ...]]]
    ) -> Received:
        engine, ended, confirmed = self._ground.engine, 0, True
        sessions = found = await look()
        for _ in range(_LOOKS):
            for session, _ in found:
                ending = await engine.end(session, EndReason.PROVIDER)
                ended += len(ending.ended)
                confirmed = confirmed and ending.confirmed
            # One that was renewed between the look and its end lives on under another id.
            found = await look() if found else ()
            sessions += found
        confirmed = confirmed and not found
        for _, link in sessions:
            # What was issued for the session goes with it (§2.7): nobody asks after a session that has ended.
            await self._links.forget(link)
        self._ground.tell(
            ProviderSignedOut(
                at=self._ground.now,
                user=next((link.user for _, link in sessions), None),
                provider=name,
                channel=channel,
                sessions=ended,
                confirmed=confirmed,
            )
        )
        return Received(ended, confirmed)

    def _refuse(self, name: str, why: str) -> Reply:
        self._ground.tell(LogoutTokenRefused(at=self._ground.now, provider=name, why=why))
        return json({"error": "invalid_request", "error_description": WHY_LOGOUT[why]}, 400)

    # -- front-channel -------------------------------------------------------------------------------------------------

    async def front(self, ask: Ask, name: str) -> Reply:
        """Answer a provider's front-channel request, the same whether it named a session or not."""
        trusted = self._trusted.get(name)
        if trusted is None:
            return NOT_FOUND
        if ask.method not in ("GET", "HEAD"):
            return wrong_method("GET")
        issuer, sid = ask.query.get("iss"), ask.query.get("sid", "")
        if ask.method == "GET" and is_name(issuer) and issuer == trusted.expected.issuer and is_name(sid):
            try:
                look = partial(self._links.find, issuer, subject=None, sid=sid)
                if await look():
                    await self._within(self._end(name, "front", look))
            except StoreError as error:
                _log.warning("a sign-out by the provider %s was not confirmed (%s)", name, error.code)
        policy = _FRAMED + " ".join(trusted.origins or ("'none'",))
        headers = (("content-security-policy", policy), *_PLAIN, NO_STORE)
        return Reply(200, headers, b"<!doctype html><title>Signed out</title>")

    # -- waiting -------------------------------------------------------------------------------------------------------

    async def _within(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the work returns if it does so soon; otherwise it goes on by itself.

        Raises:
            StoreUnavailable: it takes longer.
        """
        if self._ground.blocking:
            return _beside(work, self._patience)
        task = asyncio.ensure_future(work)
        self._late.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait({task}, timeout=self._patience)
        if not task.done():
            task.add_done_callback(_tell_late)
            raise StoreUnavailable("the sessions take too long to end")
        return task.result()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # it was raised, or came too late for anybody


def _tell_late(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if task.cancelled() or error is not None:
        _log.error("a sign-out that took too long to answer has failed (%s)", type(error).__name__)


def _beside(work: Coroutine[Any, Any, T], patience: float) -> T:
    """Drive the work in a thread of its own, and wait for it so long."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(drive(work))
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            result.set_exception(error)

    threading.Thread(target=run, name="sessile-sign-out", daemon=True).start()
    try:
        return result.result(patience)
    except TimeoutError:
        raise StoreUnavailable("the sessions take too long to end") from None


def posted(ask: Ask) -> str | None:
    """Return the one logout token of a form, None if the request is something else."""
    if ask.kind != FORM or len(ask.body) > MAX_CHARS + 1024:
        return None
    try:
        pairs = parse_qsl(ask.body.decode("ascii"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        return None
    found = [value for name, value in pairs if name == "logout_token"]
    return found[0] if len(found) == 1 else None


def _unavailable() -> Reply:
    reply = json({"error": "temporarily_unavailable"}, 503)
    return reply._replace(headers=(*reply.headers, _RETRY))
