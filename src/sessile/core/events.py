"""What happened, as typed values: every class is one kind of event, told to the sinks after it was stored (R95).

    SessionCreated SessionRenewed SignedIn FactorAdded TokenRotated           a session's life
    SessionEnded SessionForgotten UserSessionsEnded SessionsEnded                             its end
    EndedTokenUsed WriteDiscarded                                            what came late
    SessionAdopted LegacyRefused                                             what came from another session library
    TokenRefused UnknownSession ReplayDetected RecordRefused CrossSiteRefused  attacks, or what looks like one
    ContextChanged StoreRolledBack StoreFailed InsecureChannel LimitReached    worth an operator's look

An event names sessions by their id, which is a one-way hash of the secret and grants nothing (R96); no event holds a
token, a key, an address or the application's data. `source` is a keyed hash of the client's network prefix, in hex.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

import msgspec

from .record import EndReason

Severity = Literal["info", "notice", "warning", "alert"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what all events share: when (seconds since 1970, UTC), which session, whose, from which network."""

    code: ClassVar[str] = "event"
    severity: ClassVar[Severity] = "info"
    requirement: ClassVar[str] = "R95"

    at: float
    session: str | None = None
    user: str | None = None
    source: str = ""

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return self.code


class SessionCreated(Event, frozen=True, kw_only=True):
    """Say that an anonymous session was created because data was written (R27)."""

    code = "session-created"
    requirement = "R27"

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "A session was created, because there is now something to remember."


class SessionRenewed(Event, frozen=True, kw_only=True):
    """Say that a session got a new token and id in place of `old`, which is dead (R25)."""

    code = "session-renewed"
    requirement = "R25"
    old: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "The session got a new token and a new id; the old ones are dead."


class SignedIn(Event, frozen=True, kw_only=True):
    """Say that someone signed in, with which factor, and whether more factors are due."""

    code = "signed-in"
    requirement = "R25"
    factor: str
    pending: bool = False

    def sentence(self) -> str:
        """Say in plain words what happened."""
        more = "; another factor is due before anything opens" if self.pending else ""
        return f"Signed in with {self.factor}{more}."


class FactorAdded(Event, frozen=True, kw_only=True):
    """Say that a factor was proved in a session that has a user (a step-up)."""

    code = "factor-added"
    requirement = "R88"
    factor: str
    aal: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"Proved {self.factor}; the session now stands at AAL{self.aal}."


class TokenRotated(Event, frozen=True, kw_only=True):
    """Say that the next generation of a session's token was begun."""

    code = "token-rotated"
    requirement = "R29"
    generation: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"The token was rotated to generation {self.generation}; the old one works for a moment longer."


class SessionEnded(Event, frozen=True, kw_only=True):
    """Say that a session ended, why, and whether the store confirmed it for good."""

    code = "session-ended"
    severity = "notice"
    requirement = "R61"
    reason: EndReason
    confirmed: bool = True

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return _ENDED[self.reason] + ("" if self.confirmed else _UNCONFIRMED)


class SessionsEnded(Event, frozen=True, kw_only=True):
    """Say that every session of the application was ended at once (R64)."""

    code = "sessions-ended"
    severity = "warning"
    requirement = "R64"
    confirmed: bool = True

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "Every session of this application was ended, in one step." + ("" if self.confirmed else _UNCONFIRMED)


class SessionForgotten(Event, frozen=True, kw_only=True):
    """Say that a browser was told to forget a session that lives in its cookies, and that nothing remembers the end."""

    code = "session-forgotten"
    severity = "notice"
    requirement = "R61"

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "The browser was told to forget its session; a copy of its cookies works until a limit ends it."


class UserSessionsEnded(Event, frozen=True, kw_only=True):
    """Say that all sessions of a user that live in cookies ended together: which ones, only their browsers know."""

    code = "user-sessions-ended"
    severity = "notice"
    requirement = "R64"
    reason: EndReason
    confirmed: bool = True

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "Every session of this user was ended, in one step." + ("" if self.confirmed else _UNCONFIRMED)


class EndedTokenUsed(Event, frozen=True, kw_only=True):
    """Say that the token of an ended session came again, and whether it can still have been in flight."""

    code = "ended-token-used"
    severity = "notice"
    requirement = "R61"
    reason: EndReason
    in_flight: bool

    def sentence(self) -> str:
        """Say in plain words what happened."""
        if self.in_flight:
            return "A request under way when its session ended was served as nobody: nothing stored, no cookie set."
        return "The token of an ended session was used again; it was served as nobody."


class WriteDiscarded(Event, frozen=True, kw_only=True):
    """Say that a request's changes were not stored, because its session ended meanwhile (R42)."""

    code = "write-discarded"
    severity = "notice"
    requirement = "R42"
    reason: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "A slow request wanted to save into a session that has ended; nothing was written, the end stands."


class SessionAdopted(Event, frozen=True, kw_only=True):
    """Say that a session of another library became one of ours, by which bridge; its sign-in counts as no factor (R89).

    `dropped` names the values that cannot be stored here; "?" stands for names that may be data themselves.
    """

    code = "session-adopted"
    requirement = "R25"
    bridge: str
    dropped: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Say in plain words what happened."""
        left = f" What could not be stored here was left behind: {', '.join(self.dropped)}." if self.dropped else ""
        return f"A session of {self.bridge} was adopted under a new token; the old one is ended.{left}"


class LegacyRefused(Event, frozen=True, kw_only=True):
    """Say that what came as a session of another library was not adopted, and why (`legacy.Why`)."""

    code = "legacy-refused"
    severity = "notice"
    requirement = "R46"
    bridge: str
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"An old session of {self.bridge} was not adopted: {_NOT_ADOPTED.get(self.why, self.why)}."


class TokenRefused(Event, frozen=True, kw_only=True):
    """Say that what came as a token is none of ours: `forged` (or malformed), or `duplicate` cookies.

    `incomplete`: parts of a session that lives in several cookies are missing, or of another one.
    """

    code = "token-refused"
    severity = "notice"
    requirement = "R6"
    why: Literal["forged", "duplicate", "incomplete"]

    def sentence(self) -> str:
        """Say in plain words what happened."""
        if self.why == "duplicate":
            return "Two session cookies came at once, so one of them was planted; both were refused."
        if self.why == "incomplete":
            return "Of a session that lives in several cookies, parts were missing or did not belong together."
        return "A token that we never issued was refused by its tag; the store was not even asked."


class UnknownSession(Event, frozen=True, kw_only=True):
    """Say that an authentic token named a session that is not there; its id is never adopted (R5)."""

    code = "unknown-session"
    severity = "notice"
    requirement = "R5"

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "A token named a session that no longer exists; nothing was adopted from it."


class ReplayDetected(Event, frozen=True, kw_only=True):
    """Say that a token that was left behind was used again: somebody holds a copy (R30)."""

    code = "replay-detected"
    severity = "alert"
    requirement = "R30"
    generation: int
    behind: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "A token that was left behind was used again, so somebody holds a copy: the session was ended."


class RecordRefused(Event, frozen=True, kw_only=True):
    """Say that a stored record could not be decoded; it counts as no session (R46)."""

    code = "record-refused"
    severity = "warning"
    requirement = "R46"
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "A stored session could not be read and was refused; no weaker decoder was tried."


class CrossSiteRefused(Event, frozen=True, kw_only=True):
    """Say that another site tried to make the browser act here (R22)."""

    code = "cross-site-refused"
    severity = "warning"
    requirement = "R22"
    method: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A {self.method} from another site was refused before the application saw it."


class ContextChanged(Event, frozen=True, kw_only=True):
    """Say that a session was used from another network or agent, and what the policy did about it (R53)."""

    code = "context-changed"
    severity = "warning"
    requirement = "R53"
    changed: tuple[str, ...]
    action: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        what = " and ".join(self.changed)
        return f"The session was used from another {what}; the answer was: {self.action}."


class StoreRolledBack(Event, frozen=True, kw_only=True):
    """Say that a token is newer than its record: the store lost writes, ends may be among them."""

    code = "store-rolled-back"
    severity = "alert"
    requirement = "R51"
    lost: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"The store has forgotten {self.lost} rotation(s) of this session: it lost writes."


class StoreFailed(Event, frozen=True, kw_only=True):
    """Say that the store failed and the request was answered with 503 (R45)."""

    code = "store-failed"
    severity = "alert"
    requirement = "R45"
    error: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "The session store did not answer; the request was refused, not treated as nobody's."


class InsecureChannel(Event, frozen=True, kw_only=True):
    """Say that no session is possible on this plain-http host, and what to do (R20)."""

    code = "insecure-channel"
    severity = "alert"
    requirement = "R20"
    host: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return (
            "Plain http: no session cookie is set or accepted, because anybody on the way could read it. Serve https; "
            "behind a proxy that ends TLS, name it in `proxies`, so that its X-Forwarded-Proto is believed. "
            "(http://localhost works.)"
        )


class LimitReached(Event, frozen=True, kw_only=True):
    """Say that a user reached the limit of concurrent sessions (R66)."""

    code = "limit-reached"
    severity = "notice"
    requirement = "R66"
    action: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"The user has as many sessions as allowed; the answer was: {self.action}."


_UNCONFIRMED = " Not every copy of the store has confirmed it yet; it is repeated until they have."
_NOT_ADOPTED = {
    "forged": "its cookie is not signed with the old key",
    "duplicate": "two cookies of its name came at once, so one of them was planted",
    "oversized": "it is larger than any that is read",
    "expired": "the old library would refuse it, too",
    "unknown": "the old store holds no such session",
    "pickle": "it was pickled, and reading that can run code",
    "undecodable": "it could not be decoded",
    "spent": "it was adopted once, and what became of it is over",
    "closed": "all sessions of its user, or of everybody, have been ended since",
    "limit": "its user has as many sessions as allowed",
    "outage": "the old store did not answer",
}
_ENDED = {
    EndReason.LOGOUT: "Signed out: the session ended, for every copy of its token.",
    EndReason.RENEWED: "The session was replaced by one with a new token; this one is dead.",
    EndReason.IDLE: "The session ended: nobody used it for too long.",
    EndReason.ABSOLUTE: "The session ended: it reached its absolute age.",
    EndReason.REPLAY: "The session ended, because a copy of its token was used.",
    EndReason.BINDING: "The session ended, because it moved to another client.",
    EndReason.USER: "The user ended this session from another device.",
    EndReason.ADMIN: "An operator ended this session.",
    EndReason.PROVIDER: "The provider that the user signs in with ended this session.",
    EndReason.SIGNAL: "An application that shares its signals with this one ended this session.",
    EndReason.LIMIT: "The oldest session ended to make room for a new one.",
    EndReason.EVERYTHING: "The session ended with all others of the application.",
    EndReason.EVICTED: "An anonymous session was evicted, because the store is full.",
    EndReason.MOVED: "The session moved to another store, and lives on there.",
}


class Sink(Protocol):
    """Take events. Called after the fact was stored, on the request's own thread: be quick, never raise."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        ...
