"""Checks of the way between browser and application: cookie, proxies, other sites, sign-out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...core.network import is_loopback_host
from ...core.policy import duration
from ..deployment import Deployment
from .finding import Finding

# Shorter prefixes than these are no data centre's network any more.
_NARROWEST: Final = {4: 8, 6: 16}


def cookie(deployment: Deployment) -> Iterator[Finding]:
    """Look at the cookie's name and attributes."""
    cookie, policy = deployment.cookie, deployment.policy
    name = cookie.name.lower()
    if name.startswith("__host-"):
        yield Finding("ok", "cookie-name", "R11", f"the cookie {cookie.name} is bound to its host")
    elif name.startswith("__secure-"):
        reach = f"every host below {cookie.domain}" if cookie.domain else "a sibling host"
        yield Finding(
            "warn",
            "cookie-name",
            "R12",
            f"the cookie {cookie.name} has no __Host- prefix",
            f"{reach[0].upper()}{reach[1:]} can plant it{', and reads it' if cookie.domain else ''}.",
            "Use the default name, without Domain and Path, unless several hosts must share sessions.",
        )
    else:
        yield Finding(
            "fail",
            "cookie-name",
            "R11",
            f"the cookie {cookie.name} has no prefix",
            "A sibling host, or anybody on a plain http connection, can plant it.",
            "Use the default name __Host-id.",
        )
    if cookie.samesite == "None":
        yield Finding(
            "warn",
            "cookie-samesite",
            "R13",
            "the cookie goes along with requests of every site",
            "Only the cross-site guard stands between other sites and the user's session.",
            "Use SameSite=Lax unless the application lives in other sites' frames.",
        )
    else:
        yield Finding("ok", "cookie-samesite", "R11", f"the cookie is SameSite={cookie.samesite}")
    if cookie.max_age is None:
        yield Finding("ok", "cookie-persistent", "R16", "the cookie ends with the browser")
    else:
        beyond = cookie.max_age > policy.absolute
        yield Finding(
            "warn",
            "cookie-persistent",
            "R17" if beyond else "R16",
            f"the cookie is kept for {duration(cookie.max_age)}"
            + (f", longer than any session ({duration(policy.absolute)})" if beyond else ""),
            "It outlives the browser's window: on a shared machine the next person is the user.",
            "Leave max_age out, or make it no longer than the absolute timeout.",
        )


def proxies(deployment: Deployment) -> Iterator[Finding]:
    """Look at who may say where a request came from."""
    wide = [net for net in deployment.proxies.networks if net.prefixlen < _NARROWEST[net.version]]
    for network in wide:
        everybody = network.prefixlen == 0
        yield Finding(
            "fail" if everybody else "warn",
            "proxies",
            "R20",
            f"{network} is trusted as a proxy",
            f"{'Everybody' if everybody else 'Whoever is in it'} can claim any address, and https where there is none.",
            "List the addresses of your proxies, nothing else.",
        )
    if not wide:
        trusted = ", ".join(map(str, deployment.proxies.networks)) or ("unix sockets" if deployment.proxies else "none")
        yield Finding("ok", "proxies", "R20", f"trusted proxies: {trusted}")


def guard(deployment: Deployment) -> Iterator[Finding]:
    """Look at which requests of other sites pass."""
    guard = deployment.guard
    for scheme, host, port in guard.trusted_origins:
        if scheme == "http" and not is_loopback_host(host):
            yield Finding(
                "fail",
                "trusted-origin",
                "R22",
                f"http://{host}:{port} is a trusted origin",
                "Anybody on the way can speak for it, and so act as the user.",
                "Trust https origins only.",
            )
    if "/" in guard.exempt_paths:
        yield Finding(
            "fail",
            "guard-exempt",
            "R22",
            "every path is exempt from the cross-site guard",
            "Any site can make the user's browser act here, signing in included.",
            "Exempt the few paths that take posts from elsewhere.",
        )
    elif guard.exempt_paths:
        yield Finding(
            "warn",
            "guard-exempt",
            "R22",
            f"exempt from the cross-site guard: {', '.join(guard.exempt_paths)}",
            "Everything below these prefixes takes posts from any site.",
            "Make sure that it authenticates its messages itself.",
        )
    else:
        yield Finding("ok", "guard", "R22", "the cross-site guard covers every path")


def sign_out(deployment: Deployment) -> Iterator[Finding]:
    """Look at what a sign-out leaves in the browser."""
    missing = [kind for kind in ("cache", "cookies", "storage") if kind not in deployment.clear_site_data]
    if missing:
        yield Finding(
            "warn",
            "clear-site-data",
            "R68",
            f"a sign-out leaves {', '.join(missing)} in the browser",
            "The next person at the machine may go back to pages, or read what scripts stored.",
            'Leave clear_site_data at its default. ("cookies" reaches the whole registrable domain.)',
        )
    else:
        yield Finding("ok", "clear-site-data", "R68", "a sign-out clears cache, cookies and storage")
