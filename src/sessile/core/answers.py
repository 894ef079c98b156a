"""What a commit asks of the response: the headers, decided once for every adapter (R19, R68)."""

from __future__ import annotations

from typing import Final, NamedTuple

from .cookies import uncacheable, vary_on


class Answer(NamedTuple):
    """Hold what the response must carry.

    `cookie`: the Set-Cookie value, if any. `vary`: the session was read. `carries`: a session stood behind what was
    read.
    `clear_site_data`: the header's value after a sign-out, if any. `more`: further Set-Cookie values: the parts of a
    session that lives in cookies, the deletion of a cookie of another library. `by_token`: an Authorization header
    opened the session.
    """

    cookie: str | None = None
    vary: bool = False
    carries: bool = False
    clear_site_data: str | None = None
    more: tuple[str, ...] = ()
    by_token: bool = False

    def __repr__(self) -> str:
        sets = "a cookie" if self.sets_cookie else "no cookie"
        return f"<Answer with {sets} vary={self.vary} carries={self.carries}>"

    @property
    def sets_cookie(self) -> bool:
        """Tell whether the response sets or deletes any cookie of ours."""
        return self.cookie is not None or bool(self.more)

    @property
    def is_private(self) -> bool:
        """Tell whether no shared cache may keep the response; then headers in `cookies.TARGETED` must go (R19)."""
        return self.carries or self.sets_cookie

    def headers(self, cache_control: str | None, vary: str | None) -> list[tuple[str, str]]:
        """Return the headers to set, given the two that the application has set itself.

        `cache-control` and `vary` replace the present ones; `set-cookie` is added to what is there.
        """
        headers: list[tuple[str, str]] = []
        if self.vary:
            headers.append(("vary", vary_on("Authorization" if self.by_token else "Cookie", vary)))
        if self.is_private:
            headers.append(("cache-control", uncacheable(cache_control, sets_cookie=self.sets_cookie)))
        if self.cookie is not None:
            headers.append(("set-cookie", self.cookie))
        headers += [("set-cookie", cookie) for cookie in self.more]
        if self.clear_site_data is not None:
            headers.append(("clear-site-data", self.clear_site_data))
        return headers


NOTHING: Final = Answer()
LOOKED: Final = Answer(vary=True)
READ: Final = Answer(vary=True, carries=True)
