"""Templates, texts and static files: what every page needs to be shown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any, Final

from ...errors import ConfigurationError, ExtraMissing
from .. import exchange
from ..accounts import Accounts, AsyncAccounts
from ..exchange import Ask, Reply
from ..texts import ENGLISH
from ..throttle import Held
from .theme import KINDS, Theme

try:
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
    from markupsafe import Markup, escape
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("the account pages", "auth") from error

_HERE: Final = Path(__file__).parent
_STATIC: Final = {
    "account.css": ("text/css; charset=utf-8", _HERE / "static" / "account.css"),
    "account.js": ("text/javascript; charset=utf-8", _HERE / "static" / "account.js"),
    "passkeys.js": ("text/javascript; charset=utf-8", _HERE.parent / "passkeys" / "passkeys.js"),
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_DONE: Final = frozenset(key.removeprefix("done.") for key in ENGLISH if key.startswith("done."))
_PASSKEY_WORDS: Final = tuple(key.removeprefix("passkey.") for key in ENGLISH if key.startswith("passkey."))


class Views:
    """Show pages, and hold what all handlers share.

    Raises:
        ConfigurationError: the folder of templates is none, `home` is no path, or the logo cannot be read.
    """

    def __init__(
        self, accounts: AsyncAccounts | Accounts, *, theme: Theme, home: str, templates: str | Path | None
    ) -> None:
        if exchange.local(home, "") != home:
            raise ConfigurationError("home is a path of this host, such as /")
        if templates is not None and not Path(templates).is_dir():
            raise ConfigurationError(f"there is no folder of templates at {templates}")
        self.doors = accounts.doors
        self.plan = accounts.doors.plan
        self.ground = accounts.ground
        self.users = accounts.users
        self.text = accounts.doors.plan.texts
        self.home = home
        self._files = _files(theme)
        self._versions = {name: hashlib.sha256(data).hexdigest()[:12] for name, (_, data) in self._files.items()}
        self._logo = next((name for name in self._files if name.startswith("logo")), None)
        self._environment = _environment(templates)
        shared: dict[str, Any] = {"t": self.said, "passkey_words": _PASSKEY_WORDS}
        self._environment.globals.update(shared)

    def has(self, way: str) -> bool:
        """Tell whether a way to sign in is on."""
        return way in self.plan.ways

    def said(self, key: str, **values: Any) -> Markup:
        """Return a text as markup; what fills its places is escaped, unless it is markup itself (a time)."""
        return escape(self.text.raw(key)).format(**{"name": self.plan.name, **values})

    def page(self, ask: Ask, template: str, status: int = 200, **shown: Any) -> Reply:
        """Return a page; `errors` maps a field to what is wrong with it."""
        done = ask.query.get("done", "")
        number = ask.query.get("n", "")

        def static(name: str) -> str:
            return self._address(ask, name)

        context: dict[str, Any] = {
            "ask": ask,
            "url": ask.url,
            "static": static,
            "logo": None if self._logo is None else static(self._logo),
            "name": self.plan.name,
            "home": self.home,
            "has": self.has,
            "open": self.doors.registry is not None,
            "signed_in": ask.session.is_authenticated,
            "done": self.said(f"done.{done}", n=int(number) if number.isdigit() and len(number) < 6 else 0)
            if done in _DONE
            else None,
            "errors": {},
            **shown,
        }
        return exchange.html(self._environment.get_template(template).render(context), status)

    def wrong(self, ask: Ask, template: str, errors: Mapping[str, str], **shown: Any) -> Reply:
        """Return a page that says what is wrong with what was sent."""
        return self.page(ask, template, 422, errors=errors, **shown)

    def held(self, ask: Ask, template: str, field: str, why: Held, **shown: Any) -> Reply:
        """Return a page that says how long to wait."""
        reply = self.page(ask, template, 429, errors={field: self.waiting(why)}, **shown)
        retry = [] if why.retry_after is None else [("retry-after", str(ceil(why.retry_after)))]
        return reply._replace(headers=(*reply.headers, *retry))

    def confirm(
        self,
        ask: Ask,
        key: str,
        path: str,
        fields: Mapping[str, str],
        cancel: str,
        *,
        errors: Mapping[str, str] | None = None,
        **said: Any,
    ) -> Reply:
        """Ask whether something is meant: `key` begins the ids of its texts, `path` takes the form."""
        shown: dict[str, Any] = {
            "title": self.said(f"{key}.title"),
            "text": self.said(f"{key}.text", **said),
            "button": self.said(f"{key}.button"),
            "path": path,
            "fields": fields,
            "cancel": cancel,
        }
        return self.page(ask, "confirm.html", 422 if errors else 200, errors=errors or {}, **shown)

    def waiting(self, why: Held) -> str:
        """Return how long to wait, in words."""
        if why.retry_after is None:
            return self.said("wrong.locked")
        seconds = max(1, ceil(why.retry_after))
        wait = (
            self.text("wait.seconds", n=seconds) if seconds < 120 else self.text("wait.minutes", n=ceil(seconds / 60))
        )
        return self.said("wrong.wait", wait=wait)

    def missing(self, ask: Ask, text: str = "missing.text") -> Reply:
        """Say that nothing is here."""
        return self.page(ask, "message.html", 404, title=self.said("missing.title"), lines=[self.said(text)])

    def file(self, ask: Ask) -> Reply:
        """Return a static file; the address that pages name says its version, so it may be kept for ever."""
        version, _, name = ask.path.removeprefix("/static/").partition("/")
        if name not in self._files:
            return exchange.NOT_FOUND
        kind, data = self._files[name]
        kept = _FOR_EVER if version == self._versions[name] else "no-cache"
        headers = tuple(one for one in exchange.SECURITY_HEADERS if one != exchange.NO_STORE)
        return Reply(200, (*headers, ("cache-control", kept), ("content-type", kind)), data)

    def _address(self, ask: Ask, name: str) -> str:
        return ask.url(f"/static/{self._versions[name]}/{name}")


def _files(theme: Theme) -> dict[str, tuple[str, bytes]]:
    files = {name: (kind, path.read_bytes()) for name, (kind, path) in _STATIC.items()}
    files["theme.css"] = ("text/css; charset=utf-8", theme.stylesheet().encode())
    logo = theme.picture()
    if logo is not None:
        suffix = next(suffix for suffix, kind in KINDS.items() if kind == logo[0])
        files[f"logo{suffix}"] = logo
    return files


def _environment(templates: str | Path | None) -> Environment:
    own = FileSystemLoader(_HERE / "templates")
    other = [] if templates is None else [FileSystemLoader(templates)]
    # A template that replaces one of ours can still extend it: {% extends "sessile/sign_in.html" %}.
    loader = ChoiceLoader([*other, own, PrefixLoader({"sessile": own})])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["when"] = when
    return environment


def when(seconds: float) -> Markup:
    """Return a time (seconds since 1970) as an element; the script puts it into the words of the browser's place."""
    moment = datetime.fromtimestamp(seconds, UTC)
    machine, people = moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%d %b %Y, %H:%M UTC")
    return Markup('<time datetime="{}">{}</time>').format(machine, people)
