"""Checks of how the application runs and starts: production, framework, sinks, and what it was told at its start."""

from __future__ import annotations

from collections.abc import Iterator

from ...core.network import is_loopback_host
from ..deployment import Deployment
from .finding import Finding


def refused(code: str, message: str) -> Finding:
    """Return the finding for an application whose start was refused with an error."""
    requirement = {"key-missing": "R10", "unsafe-cookie": "R11", "store-schema": "R46"}.get(code, "R41")
    return Finding("fail", code, requirement, message, "The application refuses to start.")


def mode(deployment: Deployment) -> Iterator[Finding]:
    """Look at whether people use this, and for whom plain http is accepted."""
    if deployment.production:
        yield Finding("ok", "production", "R20", "production is on")
    else:
        yield Finding(
            "warn",
            "production",
            "R20",
            "production is off",
            "Keys may be made by themselves, and plain http is accepted for the hosts of development.",
            "Where people use it, pass production=True or set SESSILE_PRODUCTION=1.",
        )
    hosts = sorted(host for host in deployment.development_hosts - {"testserver"} if not is_loopback_host(host))
    if hosts:
        yield Finding(
            "warn",
            "development-hosts",
            "R20",
            f"plain http is accepted for {', '.join(hosts)}",
            "Anybody on the way to these hosts can read the session cookie.",
            "Serve https there, and drop them from development_hosts.",
        )


def sinks(deployment: Deployment) -> Iterator[Finding]:
    """Look at who hears of events."""
    if deployment.sinks:
        yield Finding("ok", "sinks", "R95", f"events go to {', '.join(deployment.sinks)}")
    else:
        yield Finding(
            "fail" if deployment.production else "warn",
            "sinks",
            "R95",
            "events go nowhere",
            "Nobody will know that a token was replayed, or who ended which session.",
            "Leave `sinks` out (events go to the log), or name one.",
        )


def framework(deployment: Deployment) -> Iterator[Finding]:
    """Look at the application's framework."""
    framework = deployment.framework
    if framework is None:
        return
    if framework.debug and deployment.production:
        yield Finding(
            "fail",
            "debug",
            "R45",
            f"{framework.name} is in debug mode",
            "An error shows its visitor the code and what variables hold.",
            "Switch debug off in production.",
        )


def start(deployment: Deployment) -> Iterator[Finding]:
    """Look at what Sessile said when the application started."""
    for error in deployment.errors:
        yield Finding(
            "fail",
            "start-error",
            "R41",
            error,
            "The application does not have the sessions that its settings describe.",
            "Follow the adapter's page: what Sessile needs, in place of what.",
        )
    for warning in deployment.warnings:
        yield Finding(
            "warn",
            "start-warning",
            "R41",
            warning,
            "Two places say different things; one of them is not heard.",
            "Remove the setting without effect, or say the same to Sessile.",
        )
