"""What happened while people signed in, as typed values beside the events of sessions (R95).

No event holds a secret, a login name, an address or a token. Each way to sign in keeps its classes in one block.
"""

from __future__ import annotations

from typing import Literal

from ..core.events import Event

# -- tokens ------------------------------------------------------------------------------------------------------------

_WHY_TOKEN = {
    "malformed": "it is no token of this form",
    "key": "no key of ours is named in it, or another algorithm than that key's",
    "signature": "its signature is not by our key",
    "claims": "its claims are not those of an access token",
    "issuer": "another issuer made it",
    "audience": "it is for another audience",
    "time": "its time is over, or has not come",
    "proof": "it is bound to a key that the sender did not prove, or not to the one that they proved",
    "ended": "its session is not signed in any more",
    "revoked": "it was revoked",
}
_WHY_PROOF = {
    "malformed": "it is no proof of this form",
    "algorithm": "its algorithm is not allowed, or is not its key's",
    "key": "the key in it is none that we take, or not a public one",
    "signature": "its signature is not by the key in it",
    "claims": "something that must be in it is missing",
    "request": "it was made for another request",
    "time": "it was not made just now",
    "token": "it was made for another token",
    "nonce": "the nonce in it is missing or over",
    "replay": "it was used before",
}


class AccessTokenIssued(Event, frozen=True, kw_only=True):
    """Say that a session got an access token for an audience."""

    code = "access-token-issued"
    requirement = "R81"
    audience: str
    client: str = ""

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"An access token for {self.audience} was issued to the session."


class AccessTokenRefused(Event, frozen=True, kw_only=True):
    """Say that an access token was refused, and why; `session` only if the token was authentic."""

    code = "access-token-refused"
    severity = "warning"
    requirement = "R79"
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"An access token was refused: {_WHY_TOKEN.get(self.why, self.why)}."


class AccessTokenRevoked(Event, frozen=True, kw_only=True):
    """Say that a client gave an access token back before its time (RFC 7009)."""

    code = "access-token-revoked"
    requirement = "R86"
    client: str = ""

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "An access token was revoked by its client; the session goes on."


class ProofRefused(Event, frozen=True, kw_only=True):
    """Say that a DPoP proof was refused, and why (RFC 9449 §4.3)."""

    code = "proof-refused"
    severity = "warning"
    requirement = "R60"
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A proof of possession was refused: {_WHY_PROOF.get(self.why, self.why)}."


class SigningKeyTurned(Event, frozen=True, kw_only=True):
    """Say that a key that signs tokens was added to the ring of all nodes, or left it."""

    code = "signing-key-turned"
    severity = "notice"
    requirement = "R79"
    kid: str
    algorithm: str
    what: Literal["added", "removed"]

    def sentence(self) -> str:
        """Say in plain words what happened."""
        if self.what == "added":
            return f"A new {self.algorithm} key for tokens was published: {self.kid[:8]}."
        return f"The {self.algorithm} key {self.kid[:8]} for tokens left; what it signed is refused from now on."


# -- refresh tokens ----------------------------------------------------------------------------------------------------

_WHY_REFRESH = {
    "client": "another client sent it than the one that it was given to",
    "key": "its sender did not prove the key that it is bound to",
    "parent": "the session that it hangs on is not signed in any more",
    "scope": "it was asked for more than it grants",
}


class TokenFamilyBegun(Event, frozen=True, kw_only=True):
    """Say that a client got a refresh token: `session` is its family's id, `parent` that of the session it hangs on."""

    code = "token-family-begun"
    severity = "notice"
    requirement = "R84"
    audience: str
    client: str
    parent: str | None = None

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"The client {self.client} may ask for access tokens for {self.audience}."


class TokenFamilyDisplaced(Event, frozen=True, kw_only=True):
    """Say that a client's refresh token ended because its session, `parent`, got more of them than it may have."""

    code = "token-family-displaced"
    severity = "warning"
    requirement = "R84"
    client: str
    parent: str
    allowed: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"The oldest refresh token of {self.client} ended: a session may have {self.allowed}."


class RefreshRefused(Event, frozen=True, kw_only=True):
    """Say that a living refresh token was refused, and why; it goes on living unless its parent has ended."""

    code = "refresh-refused"
    severity = "warning"
    requirement = "R84"
    why: Literal["client", "key", "parent", "scope"]

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A refresh token was refused: {_WHY_REFRESH[self.why]}."


# -- passkeys ----------------------------------------------------------------------------------------------------------

_WHY_PASSKEY = {
    "malformed": "what came is no answer of an authenticator",
    "challenge": "the session was not asked for it, or not for this, or too long ago",
    "replay": "it was used before",
    "unknown": "nobody has such a key",
    "user": "the key is another user's",
    "response": "it was made on another site, or for another purpose",
    "verification": "the authenticator did not verify the user",
    "signature": "it is not signed by the key, or for another site",
    "backup": "the key cannot have become one that is synchronised, or ceased to be one",
    "algorithm": "the key is not fit for its algorithm",
    "known": "the key is somebody's already",
    "full": "the user has as many keys as allowed",
    "clone": "its counter did not grow",
}


class PasskeyAdded(Event, frozen=True, kw_only=True):
    """Say that a user registered a key, of which kind, and whether it is synchronised between devices."""

    code = "passkey-added"
    severity = "notice"
    requirement = "R63"
    kind: str
    algorithm: int
    synced: bool

    def sentence(self) -> str:
        """Say in plain words what happened."""
        what = "security key" if self.kind == "security-key" else "passkey"
        return f"A {what} was added{', which is synchronised between devices' if self.synced else ''}."


class PasskeyRemoved(Event, frozen=True, kw_only=True):
    """Say that a user removed a key."""

    code = "passkey-removed"
    severity = "notice"
    requirement = "R63"

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "A passkey was removed; it opens nothing any more."


class PasskeyRenamed(Event, frozen=True, kw_only=True):
    """Say that a user gave a key another name."""

    code = "passkey-renamed"
    requirement = "R95"

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return "A passkey was given another name."


class PasskeyRefused(Event, frozen=True, kw_only=True):
    """Say that an authenticator's answer was refused, and why; `user` is whose key it named, or who added one."""

    code = "passkey-refused"
    severity = "warning"
    requirement = "R93"
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A passkey was refused: {_WHY_PASSKEY.get(self.why, self.why)}."


class CloneSuspected(Event, frozen=True, kw_only=True):
    """Say that an authentic signature carried a counter that had been seen: there may be two of that key (R93)."""

    code = "clone-suspected"
    severity = "alert"
    requirement = "R93"
    stored: int
    came: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A key's counter came as {self.came} after {self.stored}: somebody may hold a copy of it."


# -- factors, and attempts at them -------------------------------------------------------------------------------------


class FactorChanged(Event, frozen=True, kw_only=True):
    """Say that a user added, changed or removed a factor; their other sessions were ended (R63)."""

    code = "factor-changed"
    severity = "notice"
    requirement = "R63"
    factor: str
    what: Literal["added", "changed", "removed"]

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A factor was {self.what} ({self.factor}); the user's other sessions were ended."


class ProofFailed(Event, frozen=True, kw_only=True):
    """Say that what somebody gave as a factor was wrong; `user` is whose it should have been, None if nobody's."""

    code = "proof-failed"
    severity = "warning"
    requirement = "R91"
    factor: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A proof was refused ({self.factor}): it was wrong, was used before, or came too late."


class AttemptsLimited(Event, frozen=True, kw_only=True):
    """Say that an attempt was not even looked at. `locked`: waiting does not help, the user must reset the factor."""

    code = "attempts-limited"
    severity = "alert"
    requirement = "R91"
    factor: str
    locked: bool

    def sentence(self) -> str:
        """Say in plain words what happened."""
        if self.locked:
            return f"Too many attempts failed in a row ({self.factor}): it is locked until its user resets it."
        return f"Too many attempts failed ({self.factor}): the next ones must wait."


class RecoveryCodeUsed(Event, frozen=True, kw_only=True):
    """Say that a recovery code was used up, and how many are left."""

    code = "recovery-code-used"
    severity = "notice"
    requirement = "R92"
    left: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A recovery code was used; {self.left} are left."


class RecoveryCodesLow(Event, frozen=True, kw_only=True):
    """Say that a user has few recovery codes left and should make new ones while that is still possible."""

    code = "recovery-codes-low"
    severity = "warning"
    requirement = "R92"
    left: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"Only {self.left} recovery codes are left: it is time for new ones."


class CodeSent(Event, frozen=True, kw_only=True):
    """Say that a code was sent by e-mail, or, if `delivered` is false, that the sender failed."""

    code = "code-sent"
    requirement = "R95"
    delivered: bool

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return (
            "A code was sent by e-mail." if self.delivered else "A code could not be sent by e-mail: the sender failed."
        )


# -- signing out with a provider ---------------------------------------------------------------------------------------

WHY_LOGOUT = {
    "request": "it is no form with one logout token",
    "malformed": "it is no signed token of this form",
    "type": "it is of another type than logout+jwt",
    "algorithm": "its algorithm is not allowed",
    "key": "no key of the provider is named in it, or one for another algorithm",
    "signature": "its signature is not by the provider's key",
    "claims": "its claims are not those of a logout token",
    "issuer": "another issuer made it",
    "audience": "it is for another client, or not for this one alone",
    "time": "it was not made just now, or its time is over",
    "event": "it does not say that somebody signed out, and nothing else",
    "nonce": "it carries a nonce",
    "subject": "it names neither a user nor a session",
    "replay": "it was used before",
}


class LogoutTokenRefused(Event, frozen=True, kw_only=True):
    """Say that a logout token was refused, and why; no session was touched."""

    code = "logout-token-refused"
    severity = "warning"
    requirement = "R70"
    provider: str
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A logout token was refused ({self.provider}): {WHY_LOGOUT.get(self.why, self.why)}."


class ProviderSignedOut(Event, frozen=True, kw_only=True):
    """Say that a provider signed a user out of how many sessions here, by which channel, and how surely."""

    code = "provider-signed-out"
    severity = "notice"
    requirement = "R69"
    provider: str
    channel: Literal["back", "front"]
    sessions: int
    confirmed: bool = True

    def sentence(self) -> str:
        """Say in plain words what happened."""
        what = "one session" if self.sessions == 1 else f"{self.sessions} sessions"
        sure = "" if self.confirmed else "; the store has not confirmed it yet"
        return f"The provider {self.provider} signed a user out of {what} ({self.channel}-channel){sure}."


# -- signing in with a provider ----------------------------------------------------------------------------------------

WHY_SIGN_ON = {
    "unknown": "this browser has begun no such sign-in, or has finished it",
    "expired": "it took too long",
    "provider": "another provider answered than was asked",
    "denied": "the user or the provider said no",
    "code": "the provider does not know the code",
    "token": "the ID token is not what was asked for",
    "level": "the sign-in at the provider is too old or too weak",
    "user": "nobody here is that user",
    "signed-out": "the provider signed the user out meanwhile",
}


class SignOnRefused(Event, frozen=True, kw_only=True):
    """Say that a sign-in at a provider did not end in one here, and why; `more` is the part that was wrong."""

    code = "sign-on-refused"
    severity = "warning"
    requirement = "R76"
    provider: str
    why: str
    more: str = ""

    def sentence(self) -> str:
        """Say in plain words what happened."""
        more = f" ({self.more})" if self.more else ""
        return f"A sign-in by {self.provider} was refused: {WHY_SIGN_ON.get(self.why, self.why)}{more}."


class SignOnChecked(Event, frozen=True, kw_only=True):
    """Say whether a provider still vouches for a user whose session hangs on it."""

    code = "sign-on-checked"
    severity = "notice"
    requirement = "R75"
    provider: str
    stands: bool

    def sentence(self) -> str:
        """Say in plain words what happened."""
        if self.stands:
            return f"The provider {self.provider} still vouches for the user."
        return f"The provider {self.provider} does not vouch for the user any more: the session ended."


# -- shared signals ----------------------------------------------------------------------------------------------------

_WHY_SIGNAL = {
    "request": "it is no request with one security event token",
    "authorization": "its sender did not show what the transmitter was given",
    "malformed": "it is no signed token of this form",
    "type": "it is of another type than secevent+jwt",
    "algorithm": "its algorithm is not allowed",
    "key": "no key of the transmitter is named in it, or one for another algorithm",
    "signature": "its signature is not by the transmitter's key",
    "claims": "its claims are not those of a security event token",
    "issuer": "another issuer made it",
    "audience": "it is for another receiver",
    "time": "it is too old, or from the future",
    "event": "it does not tell of one event, or says it wrongly",
    "subject": "what it is about cannot be read",
    "state": "its state is not the one that was asked for",
}
_WHY_IGNORED = {
    "replay": "it was used before",
    "loop": "it is an echo of what was told or heard before",
    "type": "events of that type mean nothing here",
    "nobody": "it is about nobody who is known here",
    "policy": "the policy does nothing then",
}


class SignalRefused(Event, frozen=True, kw_only=True):
    """Say that a security event token was refused, and why; no session was touched."""

    code = "signal-refused"
    severity = "warning"
    requirement = "R77"
    transmitter: str
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A signal of {self.transmitter} was refused: {_WHY_SIGNAL.get(self.why, self.why)}."


class SignalIgnored(Event, frozen=True, kw_only=True):
    """Say that a genuine signal was acknowledged and changed nothing, and why."""

    code = "signal-ignored"
    requirement = "R77"
    transmitter: str
    kind: str
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        why = _WHY_IGNORED.get(self.why, self.why)
        return f"A signal of {self.transmitter} ({self.kind}) changed nothing: {why}."


class SignalReceived(Event, frozen=True, kw_only=True):
    """Say that a signal of another application was carried out, and how many sessions it concerned."""

    code = "signal-received"
    severity = "notice"
    requirement = "R77"
    transmitter: str
    kind: str
    sessions: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        what = "one session" if self.sessions == 1 else f"{self.sessions} sessions"
        return f"{self.transmitter} sent a signal ({self.kind}): {what} ended or lost a factor."


class SignalSent(Event, frozen=True, kw_only=True):
    """Say that a receiver took a signal of ours."""

    code = "signal-sent"
    requirement = "R78"
    receiver: str
    kind: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"{self.receiver} took a signal ({self.kind})."


class SignalDelayed(Event, frozen=True, kw_only=True):
    """Say that a receiver could not be reached, or refused a signal; it is sent again later."""

    code = "signal-delayed"
    severity = "warning"
    requirement = "R78"
    receiver: str
    why: str
    tries: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A signal to {self.receiver} waits, after {self.tries} failures: {self.why}."


class SignalGivenUp(Event, frozen=True, kw_only=True):
    """Say that a receiver did not take a signal for so long that it is sent no more."""

    code = "signal-given-up"
    severity = "alert"
    requirement = "R78"
    receiver: str
    kind: str
    tries: int

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"{self.receiver} was never told of a signal ({self.kind}): it was given up."


class SignalNotKept(Event, frozen=True, kw_only=True):
    """Say that a session ended and other applications will not learn of it, because the vault failed."""

    code = "signal-not-kept"
    severity = "alert"
    requirement = "R78"
    kind: str
    why: str

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"A session ended here, and no other application will be told ({self.kind}): the vault failed."


class StreamChanged(Event, frozen=True, kw_only=True):
    """Say what a transmitter told of its stream to us: verified, enabled, paused or disabled."""

    code = "stream-changed"
    severity = "notice"
    requirement = "R77"
    transmitter: str
    status: str
    why: str = ""

    def sentence(self) -> str:
        """Say in plain words what happened."""
        return f"The stream of signals from {self.transmitter} is {self.status}."
