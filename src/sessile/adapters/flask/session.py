"""`flask.session`, with everything that Flask documents of it and everything that Sessile adds."""

from __future__ import annotations

from typing import Any, Final, cast

from flask import current_app, g
from flask.sessions import SessionMixin
from msgspec.structs import replace

from ...core.factors import Factor
from ...core.record import Record
from ...core.session import Keep, Rules, Session
from ...errors import DataError, StoreError
from ..replies import Endpoint, Reply

_PERMANENT: Final = "_permanent"
_CSRF: Final = "csrf_token"


class FlaskSession(Session, SessionMixin):
    """Be one request's session: Sessile's, with Flask's properties.

    `new`: nothing is stored for this visitor yet. `modified`: something changed, nested changes included; setting it
    is never needed. `accessed`: it was looked at. `permanent` is kept as data, and alone it is not worth a record;
    the cookie's life is `CookieRules(max_age=…)`.
    """

    # Whether a request is being served: `session_transaction()` and friends have no response to put an error in.
    served = False
    # Which of Sessile's own endpoints the request is for, if any.
    asks_for: Endpoint | None = None
    _said_modified = False

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Tell whether nothing is stored for this visitor yet."""
        return self.base is None

    @property
    def modified(self) -> bool:
        """Tell whether this request changed something."""
        if self._said_modified or self.intent is not None or self.signed_out:
            return True
        if self.is_untouched:
            return False
        try:
            return any(self.changes())
        except DataError:
            return True

    @modified.setter
    def modified(self, value: bool) -> None:
        self._said_modified = value

    def login(
        self, user_id: str | int | object, *, factor: str = "password", keep: Keep | None = None, pending: bool = False
    ) -> None:
        """Sign a user in: new token, new id, the old ones dead (R25), and a new CSRF token (R23)."""
        super().login(user_id, factor=factor, keep=keep, pending=pending)
        name = _CSRF
        if current_app:
            # Flask-WTF keeps what it has shown in this request beside the session.
            name = cast("dict[str, str]", current_app.config).get("WTF_CSRF_FIELD_NAME", _CSRF)
            g.pop(name, None)
        if name in self:
            del self[name]

    def prove_again(self) -> None:
        """Take what the application did as a proof of who the user is: new token, absolute timeout reset (R35)."""
        control = self.control
        if control is not None and control.user is not None and self.intent is None:
            # A factor that is still due stays due: only `add_factor` completes a sign-in (invariant 5).
            self.add_factor("application", complete=False)

    def prove_nothing(self) -> None:
        """Let a sign-in by a remembered cookie stand for the user, and for no factor: it is no proof (R89, R94)."""
        control = self.control
        if control is not None and self.intent == "sign-in":
            self.factor = Factor("remembered", self.now)
            self._control = replace(control, factors=())

    def forsake(self) -> None:
        """Be as stored again, for good: the commit failed, so nothing of what was intended was done."""
        rules, base, session_id, served, opened = self._rules, self.base, self.id, self.served, self.opened
        vars(self).clear()
        self.__init__(rules, base, session_id)  # type: ignore[misc]
        self.served, self.opened = served, opened
        self.closed = True

    def whole(self) -> dict[str, Any]:
        """Return all data as a new record holds it; being permanent alone is nothing to remember (R27)."""
        data = super().whole()
        return {} if len(data) == 1 and _PERMANENT in data and self.control is None else data


class Unopened(FlaskSession):
    """Stand for a session that was not opened: the store failed, or the request is answered before it is needed.

    Until the request is refused, looking at it raises the store's error: it must not pass for nobody's (R45). From
    then on it is empty and forgets what is written, so that error pages can be made.
    """

    def __init__(self, rules: Rules, base: Record | None = None, session_id: str | None = None) -> None:
        self._error: StoreError | None = None
        self.reply: Reply | None = None
        super().__init__(rules, base, session_id)

    @classmethod
    def because(cls, rules: Rules, outcome: StoreError | Reply) -> Unopened:
        """Return one for a request whose answer is settled."""
        session = cls(rules)
        if isinstance(outcome, StoreError):
            session._error = outcome
        else:
            session.reply = outcome
        return session

    @property
    def accessed(self) -> bool:
        """Tell that nothing of it was looked at: there is nothing."""
        return False

    @accessed.setter
    def accessed(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if value and self._error is not None:
            raise self._error

    def refuse(self) -> Reply:
        """Return the answer of the request.

        Raises:
            StoreError: the store failed; it is raised for the application's error handlers to see.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error
        assert self.reply is not None
        return self.reply
