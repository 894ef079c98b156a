"""The session as the application sees it: a mapping that does no I/O, and the intents that commit carries out.

    kind            who                            what it grants
    anonymous       nobody                         its own data
    pending         a user, not completely proved  nothing but finishing the sign-in (R88)
    authenticated   a user                         what `require` lets through

Values stay encoded until they are asked for. Only what was decoded can have changed, and is compared at commit, key by
key, so nested changes count without any `modified = True`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final, Literal, Self
from uuid import UUID

import msgspec
from msgspec.structs import replace

from ..errors import NotByToken, SessionClosed, SessionTooLarge, StepUpRequired, UserInvalid
from . import values
from .bearers import Grant
from .factors import Factor, aal
from .policy import Policy
from .record import SCHEMA, Control, EndReason, Record

Kind = Literal["anonymous", "pending", "authenticated"]
Keep = Literal["all", "none"] | frozenset[str] | set[str] | tuple[str, ...] | list[str]
Intent = Literal["sign-in", "factor", "rotate"]

# In UTF-8: more than any identity provider's `sub`, less than an index of any store takes.
MAX_USER_BYTES: Final = 1024
_NO_DATA: Final[Mapping[str, msgspec.Raw | bytes]] = {}
_NO_KEYS: Final[frozenset[str]] = frozenset()
_MISSING: Final = object()


class Rules(msgspec.Struct, frozen=True):
    """Hold what an engine's sessions share: policy, clock, and the keys by which applications sign in.

    `challenge` is what WWW-Authenticate says to who is not signed in, "" where no access token is taken.
    """

    policy: Policy
    clock: Callable[[], float]
    user_keys: frozenset[str] = _NO_KEYS
    challenge: str = ""


class Session(MutableMapping[str, Any]):
    """Be one request's view of its session.

    Use it as a dict. `login`, `add_factor`, `rotate` and `logout` record intent; the commit before the response
    carries it out, and if that fails, the response is an error instead. After the commit every change raises
    `SessionClosed`.
    """

    # Most requests change none of these, so they are not set one by one for each.
    accessed: bool = False
    closed: bool = False
    damaged: bool = False
    everywhere: bool = False
    left_behind: bool = False  # its token was, a moment ago: it is served, and must not become anything that lasts
    insist: bool = False  # be stored even with nothing to remember, for frameworks that ask for that
    raise_on_conflict: bool = False
    signed_out: bool = False
    ended: EndReason | None = None
    factor: Factor | None = None
    grant: Grant | None = None  # what the access token grants that opened it, for this request alone
    intent: Intent | None = None
    kept: frozenset[str] | None = None
    # Asked once a sign-in is stored, before anybody is told: False means that it must not stand.
    confirm: Callable[[], Awaitable[bool]] | None = None
    opened: Any = None
    _control: Control | None = None
    _dropped: frozenset[str] = _NO_KEYS
    _raw: Mapping[str, msgspec.Raw | bytes] = _NO_DATA

    def __init__(self, rules: Rules, base: Record | None = None, session_id: str | None = None) -> None:
        self._rules = rules
        self.base = base
        self.id = session_id
        self._live: dict[str, Any] = {}
        if base is not None:
            self._control = control = base.control
            self._raw = base.data if not (control.pending or control.challenged) else self._unclaimed(base.data)

    # -- the mapping ---------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        self.accessed = True
        value = self._live.get(key, _MISSING)
        if value is _MISSING:
            value = self._decoded(key)
            if value is _MISSING:
                raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._change()
        if type(key) is not str:
            if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"a session's keys are text, not {type(key).__name__}")
            key = str.__str__(key)
        if key in self._rules.user_keys:
            self._declare(key, value)
        self._live[key] = value
        if key in self._dropped:
            self._dropped = self._dropped - {key}

    def __delitem__(self, key: str) -> None:
        self._change()
        if key not in self:
            raise KeyError(key)
        signs_out = self._names_user(key)
        self._live.pop(key, None)
        if key in self._raw:
            self._dropped = self._dropped | {key}
        if signs_out:
            self._undeclare()

    def __iter__(self) -> Iterator[str]:
        self.accessed = True
        stored = [key for key in self._raw if key in self]
        yield from stored
        yield from [key for key in self._live if key not in self._raw]

    def __len__(self) -> int:
        self.accessed = True
        return len(self._raw) - len(self._dropped) + sum(key not in self._raw for key in self._live)

    def __contains__(self, key: object) -> bool:
        self.accessed = True
        return key in self._live or (isinstance(key, str) and self._decoded(key) is not _MISSING)

    def _decoded(self, key: str) -> Any:
        raw = self._raw.get(key)
        if raw is None or key in self._dropped:
            return _MISSING
        try:
            value = values.decode(raw)
        except ValueError:
            # Not what we wrote: refused by the one decoder, reported at commit, absent to the application (R46).
            self.damaged = True
            self._raw = {name: other for name, other in self._raw.items() if name != key}
            return _MISSING
        if type(value) not in values.ATOMS:
            self._live[key] = value  # it can be changed in place, so commit must look at it again
        return value

    def __repr__(self) -> str:
        name = self.id[:8] if self.id else "not stored"
        return f"<{type(self).__name__} {name} {self._kind()} keys={sorted(self)}>"

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`."""
        self.accessed = True
        value = self._live.get(key, _MISSING)
        if value is _MISSING:
            value = self._decoded(key)
        return default if value is _MISSING else value

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove `key` and return its value, or `default`."""
        if key in self:
            value = self[key]
            del self[key]
            return value
        if self._names_user(key):
            self._undeclare()
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        """Remove the last key and return it with its value, as a dict does."""
        keys = list(self)
        if not keys:
            raise KeyError("the session is empty")
        return keys[-1], self.pop(keys[-1])

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other}

    def __ior__(self, other: Mapping[str, Any]) -> Self:
        self.update(other)
        return self

    def copy(self) -> dict[str, Any]:
        """Return the data as a plain dict."""
        return dict(self)

    def clear(self) -> None:
        """Remove all data. In a session with a user this is a sign-out, as in every framework."""
        self.logout()

    # -- who -----------------------------------------------------------------------------------------------------------

    def _kind(self) -> Kind:
        control = self._control
        if control is None or control.user is None:
            return "anonymous"
        return "pending" if control.pending or control.challenged else "authenticated"

    @property
    def kind(self) -> Kind:
        """Tell what the session is: anonymous, pending or authenticated."""
        self.accessed = True
        return self._kind()

    @property
    def user_id(self) -> str | None:
        """Return the user who is signed in, completely; None while a factor is due (invariant 5)."""
        self.accessed = True
        control = self._control
        if control is None or control.user is None or control.pending or control.challenged:
            return None
        return control.user

    @property
    def pending_user_id(self) -> str | None:
        """Return the user whose sign-in waits for another factor, for the pages that finish it and no others."""
        self.accessed = True
        control = self._control
        return control.user if control is not None and (control.pending or control.challenged) else None

    @property
    def is_authenticated(self) -> bool:
        """Tell whether somebody is signed in completely."""
        return self.user_id is not None

    @property
    def is_new(self) -> bool:
        """Tell whether nothing is stored for this visitor yet."""
        self.accessed = True
        return self.base is None

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Return what was proved, with times."""
        self.accessed = True
        return () if self._control is None else self._control.factors

    @property
    def aal(self) -> int:
        """Return the assurance level of the session: 0 unless it is authenticated (R89)."""
        return aal(factor.name for factor in self.factors) if self.kind == "authenticated" else 0

    @property
    def created_at(self) -> float | None:
        """Return when the session began (seconds since 1970)."""
        self.accessed = True
        return None if self._control is None else self._control.created_at

    @property
    def last_seen(self) -> float | None:
        """Return when the session was last used, as stored (seconds since 1970; up to `policy.touch` old)."""
        self.accessed = True
        return None if self.base is None else self.base.seen_at

    @property
    def expires_at(self) -> float | None:
        """Return when the session ends if nobody uses it again (seconds since 1970, without the idle tolerance)."""
        self.accessed = True
        control, policy = self._control, self._rules.policy
        if control is None:
            return None
        return min(self._rules.clock() + policy.idle, control.authenticated_at + policy.absolute)

    @property
    def now(self) -> float:
        """Return the time by the sessions' own clock (seconds since 1970)."""
        return self._rules.clock()

    @property
    def idle_deadline(self) -> float:
        """Return when the session ends if nobody uses it again, from its stored last use (seconds since 1970)."""
        seen_at = self._rules.clock() if self.base is None else self.base.seen_at
        return seen_at + self._rules.policy.idle

    @property
    def control(self) -> Control | None:
        """Return Sessile's half of the record, intents included."""
        return self._control

    # -- intents -------------------------------------------------------------------------------------------------------

    def login(
        self, user_id: str | int | object, *, factor: str = "password", keep: Keep | None = None, pending: bool = False
    ) -> None:
        """Sign a user in: new token, new id, the old ones dead (R25).

        `keep` says what comes along from an anonymous session: "all", "none" or the named keys (default: the policy's);
        another user's data never does (R26). `pending=True` says that another factor is due: until `add_factor`, the
        session grants nothing (R88).

        Raises:
            UserInvalid: it is neither text nor a whole number nor a UUID, or empty.
            NotByToken: an access token opened the session.
            SessionClosed: the response has begun.
        """
        self._renew("login")
        user = user_name(user_id)
        now = self._rules.clock()
        control = self._control
        if control is not None and control.user is not None and control.user != user:
            self._forget(_NO_KEYS)
        elif control is None or control.user is None:
            self._carry_over(self._rules.policy.keep if keep is None else keep)
        self.factor = Factor(factor, now)
        self._control = Control(
            schema=SCHEMA,
            created_at=now,
            authenticated_at=now,
            rotated_at=now,
            user=user,
            factors=(self.factor,),
            pending=pending,
        )
        if self.base is not None:
            self._raw = self._in_view(self.base.data)
        self.intent = "sign-in"

    def add_factor(self, factor: str, *, complete: bool = True) -> None:
        """Record that the session's user proved a further factor: new token, absolute timeout reset (R35, R88).

        `complete=False` leaves a pending session pending.

        Raises:
            StepUpRequired: nobody has begun to sign in.
            NotByToken: an access token opened the session.
            SessionClosed: the response has begun.
        """
        self._renew("add_factor")
        control = self._control
        if control is None or control.user is None:
            raise StepUpRequired("login", factor=factor)
        self.factor = Factor(factor, self._rules.clock())
        self._control = with_factor(control, self.factor, complete=complete)
        if self.base is not None:
            self._raw = self._in_view(self.base.data)
        if self.intent != "sign-in":
            self.intent = "factor"

    def rotate(self) -> None:
        """Give the session a new token and id, as after any change of privilege (R25); one not stored has none.

        Raises:
            NotByToken: an access token opened the session.
            SessionClosed: the response has begun.
        """
        self._renew("rotate")
        if self.base is not None and self.intent is None and not self.signed_out:
            self.intent = "rotate"

    def logout(self, *, everywhere: bool = False) -> None:
        """End the session: its data is gone, its token dead for every copy (R61). Idempotent (R67).

        `everywhere=True` ends all sessions of its user. What is written afterwards, in the same request, begins a new
        anonymous session.
        """
        self._change()
        self.everywhere = self.everywhere or everywhere
        self.signed_out = True
        self.intent = None
        self.factor = None
        self._control = None
        self._forget(_NO_KEYS)

    def require(self, *, factor: str | None = None, max_age: float | None = None, aal: int | None = None) -> str:
        """Return the user id if the session proves enough; the guard of every route that needs a user (R90).

        `factor` must have been proved; `max_age` (seconds) bounds how long ago that was, or, without `factor`, how
        long ago any factor was; `aal` is the least assurance level.

        Raises:
            StepUpRequired: it proves less; its `reason` says what is missing.
        """
        self.accessed = True
        control = self._control
        if control is None or control.user is None:
            raise self._step_up("login", factor, max_age, aal)
        if control.pending:
            raise self._step_up("pending", factor, max_age, aal)
        if control.challenged:
            raise self._step_up("challenged", factor, max_age, aal)
        proved = [one for one in control.factors if factor is None or one.name == factor]
        if factor is not None and not proved:
            raise StepUpRequired("factor", factor=factor, max_age=max_age, aal=aal)
        # Written so that a NaN age never passes.
        if max_age is not None and not any(self._rules.clock() - one.at <= max_age for one in proved):
            raise StepUpRequired("age", factor=factor, max_age=max_age, aal=aal)
        if aal is not None and self.aal < aal:
            raise StepUpRequired("aal", factor=factor, max_age=max_age, aal=aal)
        return control.user

    def _step_up(self, reason: str, factor: str | None, max_age: float | None, level: int | None) -> StepUpRequired:
        challenge = self._rules.challenge
        return StepUpRequired(reason, factor=factor, max_age=max_age, aal=level, challenge=challenge)

    # -- an application that signs in through a key --------------------------------------------------------------------

    def _declare(self, key: str, value: Any) -> None:
        control = self._control
        if value is None or value is False or value == "":
            if self._names_user(key):
                self._undeclare()
            return
        try:
            user = user_name(value)
        except UserInvalid:
            if isinstance(value, str):
                raise
            # It may name somebody to the application: then the token that a visitor came with must die (R25).
            if self.get(key) != value:
                self.rotate()
            return
        if control is not None and control.user == user and (control.pending or not control.challenged):
            return
        self.login(user, factor="application")
        if self._control is not None:
            self._control = replace(self._control, user_key=key)

    def _names_user(self, key: str) -> bool:
        """Tell whether this key says who is signed in: taking it away is a sign-out, even where it is out of sight."""
        control = self._control
        if control is None or control.user is None or key not in self._rules.user_keys:
            return False
        return control.user_key == key or control.pending or control.challenged or str(self.get(key)) == control.user

    def _unclaimed(self, data: Mapping[str, msgspec.Raw | bytes]) -> Mapping[str, msgspec.Raw | bytes]:
        """Return the data without the keys that name a user: who must prove more is nobody to those who go by them.

        What is partly authenticated is not authenticated (invariant 5), and a challenged session must not open what it
        opened before (R53). The keys come back with the factor.
        """
        claims = self._rules.user_keys
        return {key: value for key, value in data.items() if key not in claims}

    def _undeclare(self) -> None:
        """Sign out, and keep what this very request wrote: the farewell message, not the user's data (R26)."""
        written = {key: value for key, value in self._live.items() if self._is_changed(key, value)}
        self.logout()
        self._live = written

    # -- what commit asks for ------------------------------------------------------------------------------------------

    def _change(self) -> None:
        if self.closed:
            raise SessionClosed
        self.accessed = True

    def _renew(self, verb: str) -> None:
        self._change()
        if self.grant is not None:
            raise NotByToken(verb)

    def _forget(self, keep: frozenset[str]) -> None:
        """Leave everything but `keep` behind, in view and in what a renewal carries over."""
        self.kept = keep if self.kept is None else self.kept & keep
        self._live = {key: value for key, value in self._live.items() if key in keep}
        self._raw = self._carried(self._raw)
        self._dropped = _NO_KEYS

    def _carried(self, data: Mapping[str, msgspec.Raw | bytes]) -> Mapping[str, msgspec.Raw | bytes]:
        return data if self.kept is None else {key: value for key, value in data.items() if key in self.kept}

    def _in_view(self, data: Mapping[str, msgspec.Raw | bytes]) -> Mapping[str, msgspec.Raw | bytes]:
        control, carried = self._control, self._carried(data)
        waits = control is not None and (control.pending or control.challenged)
        return self._unclaimed(carried) if waits else carried

    def hide(self, key: str) -> None:
        """Keep what stands under a key out of the application's sight."""
        self._raw = {name: value for name, value in self._raw.items() if name != key}

    def rebase(self, base: Record) -> None:
        """Put this request's changes, and only those, on top of the record as others have changed it meanwhile."""
        put, drop = self.changes()
        self.base = base
        if self.intent == "factor" and self.factor is not None and self._control is not None:
            self._control = with_factor(base.control, self.factor, complete=not self._control.pending)
        elif self.intent == "rotate":
            self._control = base.control
        self._raw = self._in_view(base.data)
        self._live = {key: value for key, value in self._live.items() if key in put}
        self._dropped = drop & self._raw.keys()

    def whole(self) -> dict[str, msgspec.Raw | bytes]:
        """Return all data as a new record holds it, encoded.

        Raises:
            DataError: a value cannot be stored; it names the key.
        """
        put, drop = self.changes()
        stored = _NO_DATA if self.base is None else self._carried(self.base.data)
        data = {key: value for key, value in stored.items() if key not in drop}
        data.update(put)
        return data

    def _carry_over(self, keep: Keep) -> None:
        if keep == "all":
            return
        self._forget(_NO_KEYS if isinstance(keep, str) else frozenset(keep))

    def _is_changed(self, key: str, value: Any) -> bool:
        raw = self._raw.get(key)
        return raw is None or values.encode(key, value) != bytes(raw)

    @property
    def is_untouched(self) -> bool:
        """Tell, without encoding anything, that nothing can have changed."""
        return not self._live and not self._dropped and self.intent is None and not self.signed_out and not self.insist

    def changes(self) -> tuple[dict[str, bytes], frozenset[str]]:
        """Return what this request changed: key to new encoded value, and the removed keys.

        Raises:
            DataError: a value cannot be stored, or all together are too large; it names the key.
        """
        put: dict[str, bytes] = {}
        raw = self._raw
        for key, value in self._live.items():
            encoded = values.encode(key, value)
            before = raw.get(key)
            if before is None or encoded != bytes(before):
                if not key.isascii():
                    values.check_key(key)
                put[key] = encoded
        drop = self._dropped - put.keys()
        if put:
            size = sum(len(key) + len(value) for key, value in put.items())
            size += sum(
                len(key) + len(bytes(value)) for key, value in raw.items() if key not in put and key not in drop
            )
            limit = self._rules.policy.max_bytes
            if size > limit:
                raise SessionTooLarge(max(put, key=lambda key: len(put[key])), size, limit)
        return put, drop

    def close(self, session_id: str | None) -> None:
        """Freeze the session after its commit, under the id that it is stored by now."""
        self.closed = True
        self.id = session_id
        # Its facts know the request, and the request knows the session: without this, only the collector frees them.
        self.opened = None


def user_name(user_id: object) -> str:
    """Return the one text by which stores know a user.

    An object's text may be the name that pages show, or an address in memory that the next user's object gets; what
    `check_password` returns is True for everybody.

    Raises:
        UserInvalid: it is neither text nor a whole number nor a UUID, empty, too long, or no Unicode.
    """
    if isinstance(user_id, str):
        name = str.__str__(user_id)
    elif (isinstance(user_id, int) and not isinstance(user_id, bool)) or _is_uuid(user_id):
        name = int.__repr__(user_id) if isinstance(user_id, int) else str(user_id)
    else:
        raise UserInvalid(f"a user id is text, a whole number or a UUID, not {type(user_id).__name__}")
    try:
        size = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError:
        raise UserInvalid("a user id with surrogates is not Unicode") from None
    if not 0 < size <= MAX_USER_BYTES:
        raise UserInvalid(f"a user id has between 1 and {MAX_USER_BYTES} bytes, not {size:,}")
    return name


def _is_uuid(value: object) -> bool:
    return isinstance(value, UUID) or type(value).__name__ == "UUID"


def with_factor(control: Control, factor: Factor, *, complete: bool) -> Control:
    """Return the state after a further factor was proved; proving it again renews its time."""
    others = tuple(one for one in control.factors if one.name != factor.name)
    return replace(
        control,
        authenticated_at=factor.at,
        factors=(*others, factor),
        pending=control.pending and not complete,
        challenged=False,
    )


def anonymous(now: float) -> Control:
    """Return the state of a new session that belongs to nobody."""
    return Control(schema=SCHEMA, created_at=now, authenticated_at=now, rotated_at=now)
