"""Who is signed in: what Sessile's `login` tells `contrib.auth`, and what `contrib.auth` tells Sessile (`signals`)."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.middleware.csrf import CSRF_SESSION_KEY
from msgspec.structs import replace

from ...core.factors import Factor
from ...core.session import Keep, Session

_CLAIM: Final = "_sessile_claim"


class SignsIn(Session):
    """Sign users of the project's model in, for `request.user` to be them."""

    def login(
        self, user_id: str | int | object, *, factor: str = "password", keep: Keep | None = None, pending: bool = False
    ) -> None:
        """Sign a user in: new token, new id, the old ones dead (R25).

        `user_id` may be a user of the project's model: then `request.user` is that user, as soon as no factor is due.
        """
        user: Any = user_id
        is_model = hasattr(user, "_meta")
        name = user._meta.pk.value_to_string(user) if is_model else user
        super().login(name, factor=factor, keep=keep, pending=pending)
        self.pop(_CLAIM, None)
        # Whoever knew the CSRF token of the visitor must not know the user's (R23).
        self.pop(CSRF_SESSION_KEY, None)
        if is_model:
            self[_CLAIM] = {
                "_auth_user_id": name,
                "_auth_user_backend": getattr(user, "backend", None) or settings.AUTHENTICATION_BACKENDS[0],
                "_auth_user_hash": user.get_session_auth_hash(),
            }
            self._claim()

    def add_factor(self, factor: str, *, complete: bool = True) -> None:
        """Record that the session's user proved a further factor: new token, absolute timeout reset (R35, R88)."""
        super().add_factor(factor, complete=complete)
        self._claim()

    def _claim(self) -> None:
        """Let `contrib.auth` see who signed in, as soon as no factor is due (invariant 5)."""
        if _CLAIM in self and self.is_authenticated:
            self.update(self.pop(_CLAIM))

    def proved(self, factor: str) -> None:
        """Take `contrib.auth.login` for a proof; of the same user again, it gives a new token (R25, R35)."""
        control = self.control
        if control is None or control.user is None:
            return
        if self.intent == "sign-in":
            if self.factor is not None and self.factor.name == "application":
                self.factor = Factor(factor, self.now)
                self._control = replace(control, factors=(self.factor,))
        elif self.intent is None:
            # A factor that is still due stays due: only `add_factor` completes a sign-in (invariant 5).
            self.add_factor(factor, complete=False)
