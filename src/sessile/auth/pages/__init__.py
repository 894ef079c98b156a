"""Account pages that are ready: sign-in, sign-up, factors, devices, activity, below any path of any framework.

    app = Starlette(routes=[Mount("/account", asgi(AccountPages(accounts)))])

Rendered on the server, without a build, under a policy that allows nothing inline; passkeys alone need JavaScript.

    site        which pages there are, and who may reach them
    entrance    signing in and up, codes and links, the forgotten password, signing out
    proof       the second factor, and proving it once more
    overview    the account at a glance, and what happened to it
    keys  app  recovery  password  devices      one module a page
    views       templates, texts, static files
    theme       colours, font, logo
"""

from __future__ import annotations

from .site import AccountPages
from .theme import Theme

__all__ = ["AccountPages", "Theme"]
