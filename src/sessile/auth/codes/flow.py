"""Send, look, use: one `async def` a verb, for both doors.

Whether somebody has an account shows nowhere: for nobody a code is made and kept as for anybody, it only opens nothing,
and what is delivered is delivered in another thread. The message holds no user name, and the link none either.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from ...core.session import Session
from ...errors import ConfigurationError
from ..changes import about, completes, has_second, someone
from ..events import CodeSent, ProofFailed
from ..ground import Ground
from ..outcomes import Proved, Refused
from ..stored import read, written
from ..throttle import Held, Limits, Throttle
from ..users import Account, Users, normal
from ..vault import Item, Write, living, settle, version_of
from . import rules
from .items import Kept, key
from .mail import Mailer
from .rules import Asked, Look

FACTOR: Final = "email"
DATA: Final = "_sessile_code"
# Messages to one address: five at once, then ever fewer; an hour without one begins anew. To all: fifty a quarter.
SENDING: Final = Limits(free=5, first=60.0, longest=3600.0, cap=100, forget=3600.0, source=50)
_PLACE: Final = "{token}"


class Sent(NamedTuple):
    """Say that a code is on its way if there is somebody to send it to; it is good until `deadline` (seconds)."""

    deadline: float


class Invited(NamedTuple):
    """Say who reads the mail of an address that nobody has an account with."""

    address: str


class CodeFlow:
    """Carry out the verbs of both doors."""

    def __init__(
        self,
        ground: Ground,
        users: Users,
        mailer: Mailer,
        site: str,
        link: str | None,
        limits: Limits | None,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if link is not None and (link.count(_PLACE) != 1 or not link.startswith(("https://", "http://"))):
            raise ConfigurationError(f"link is the address of a page with {_PLACE} in it")
        if not site or not site.isprintable():
            raise ConfigurationError("site is what people call the application, on one line")
        self.ground = ground
        self.users = users
        self.throttle = Throttle(ground, FACTOR, limits or Limits(forget=rules.LIFETIME))
        self._sending = Throttle(ground, "email-sending", SENDING)
        self._mailer = mailer
        self._site = site
        self._link = link
        self._entropy = entropy
        self._keys = ground.engine.ring.derive(b"e-mail codes")
        self._newest = ground.engine.ring.newest

    async def send(self, session: Session, login: str) -> Sent | Held:
        """Send a code to sign in with."""
        account = await self.users.find(login)
        subject = "login " + (normal(login) or login[:1000]) if account is None else "user " + account.id
        return await self._send(session, subject, account, further=False)

    async def invite(self, session: Session, address: str) -> Sent | Held:
        """Send a code to an address, whether or not somebody has an account with it."""
        account = await self.users.find(address)
        text = normal(address)
        if account is None and text is not None and "@" in text:
            return await self._send(session, "login " + text, Account("", text, text), further=False)
        subject = "login " + (text or address[:1000]) if account is None else "user " + account.id
        return await self._send(session, subject, account, further=False)

    async def send_further(self, session: Session) -> Sent | Held:
        """Send a code to the session's user, as the further factor or to prove themselves once more."""
        user = someone(session)
        return await self._send(session, "user " + user, await self.users.get(user), further=True)

    async def look(self, session: Session, link: str) -> Look:
        """Tell whether a link was asked for in this session; nothing is used up (mail scanners follow links)."""
        asked, came = rules.recalled(session.get(DATA), self.ground.now), rules.followed(link)
        if asked is None or came is None:
            return Look.ELSEWHERE
        item = living(await self.ground.vault.get(key(asked.name)), self.ground.now)
        kept = None if item is None else read(Kept, item.value)
        return Look.HERE if kept is not None and self._is(kept, asked.name, came) else Look.ELSEWHERE

    async def use(self, session: Session, text: str) -> Proved | Refused | Held:
        """Use up the code that somebody typed, or what their link carried."""
        outcome = await self.accept(session, text)
        return self._refuse(session, None) if isinstance(outcome, Invited) else outcome

    async def accept(self, session: Session, text: str) -> Proved | Invited | Refused | Held:
        """Use up a code or a link, one of an invitation as well: then nobody is signed in yet."""
        now = self.ground.now
        asked = rules.recalled(session.get(DATA), now)
        if asked is None:
            return self._refuse(session, None)
        found = living(await self.ground.vault.get(key(asked.name)), now)
        meant = None if found is None else read(Kept, found.value)
        user = meant.user or None if meant is not None else None
        # Per code and not per user: nobody may lock somebody else out by asking for codes in their name.
        attempt = await self.throttle.reserve(session, asked.name, user=user)
        if isinstance(attempt, Held):
            return attempt
        came = rules.typed(text) or rules.followed(text)

        def used(item: Item | None) -> tuple[Kept | None, Write | None]:
            kept = None if item is None else read(Kept, item.value)
            if item is None or kept is None or came is None or not self._is(kept, asked.name, came):
                return None, None
            return kept, Write(item.key, None, item.version)

        kept, _ = await settle(self.ground.vault, key(asked.name), used, now=now)
        if kept is None or not (kept.user or kept.address):
            return self._refuse(session, user)
        if kept.further and (session.user_id or session.pending_user_id) != kept.user:
            return self._refuse(session, user)
        await self.throttle.succeed(attempt)
        session.pop(DATA, None)
        return await self._proved(session, kept) if kept.user else Invited(kept.address)

    async def _proved(self, session: Session, kept: Kept) -> Proved:
        if kept.further:
            complete = session.user_id is not None or completes(session, FACTOR)
            session.add_factor(FACTOR, complete=complete)
            return Proved(kept.user, complete)
        pending = await has_second(self.ground, kept.user)
        session.login(kept.user, factor=FACTOR, pending=pending)
        return Proved(kept.user, not pending)

    async def _send(self, session: Session, subject: str, account: Account | None, *, further: bool) -> Sent | Held:
        user = None if account is None else account.id or None
        attempt = await self._sending.reserve(session, subject, user=user)
        if isinstance(attempt, Held):
            return attempt
        now = self.ground.now
        name = self._entropy(rules.NAME_BYTES).hex()
        code, link = rules.code_of(self._entropy(8)), rules.link_of(self._entropy(rules.LINK_BYTES))
        to = None if account is None else account.email
        secret = self._keys[self._newest]
        kept = Kept(
            user=(user or "") if to else "",
            key=self._newest,
            code=rules.hashed(secret, name, code),
            link=rules.hashed(secret, name, link),
            further=further,
            address=to if to and not user else "",
        )
        await self._forget_last(session)
        deadline = now + rules.LIFETIME
        await self.ground.vault.write(Write(key(name), written(kept), 0, user if to else None, deadline))
        session[DATA] = rules.remembered(Asked(name, deadline))
        subject_line, text = self._message(code, link)
        event = about(self.ground, session, user)
        threading.Thread(target=self._deliver, args=(to, subject_line, text, event), daemon=True).start()
        return Sent(deadline)

    async def _forget_last(self, session: Session) -> None:
        """Make the session's last code worthless: there is one at a time."""
        asked = rules.recalled(session.get(DATA), self.ground.now)
        if asked is not None:
            item = await self.ground.vault.get(key(asked.name))
            if item is not None:
                await self.ground.vault.write(Write(item.key, None, version_of(item)))

    def _deliver(self, to: str | None, subject: str, text: str, event: dict[str, object]) -> None:
        if to is None:
            return
        try:
            self._mailer.send(to, subject, text)
        except Exception:  # noqa: BLE001 - whatever a sender raises; its text may hold the message
            delivered = False
        else:
            delivered = True
        self.ground.tell(CodeSent(**event, delivered=delivered))  # type: ignore[arg-type]

    def _message(self, code: str, link: str) -> tuple[str, str]:
        lines = [f"Your code for {self._site} is", "", f"    {rules.shown(code)}", ""]
        if self._link is not None:
            lines += ["Or open this link in the browser in which you asked for it:", ""]
            lines += [f"    {self._link.replace(_PLACE, link)}", ""]
        lines += [
            "Both are good for ten minutes. If you did not ask for them, you need do nothing: nobody is signed in."
        ]
        return f"Your code for {self._site}", "\n".join(lines)

    def _is(self, kept: Kept, name: str, came: str) -> bool:
        secret = self._keys.get(kept.key)
        if secret is None:
            return False
        expected = kept.code if len(came) == rules.CODE_DIGITS else kept.link
        return rules.is_same(expected, rules.hashed(secret, name, came))

    def _refuse(self, session: Session, user: str | None) -> Refused:
        self.ground.tell(ProofFailed(**about(self.ground, session, user), factor=FACTOR))
        return Refused.REFUSED
