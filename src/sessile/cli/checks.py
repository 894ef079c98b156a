"""What `doctor` decides: facts in, findings out, one function a check; no I/O.

severity   means
fail       unsafe as it is: the requirement is not met
warn       safe only if it is meant: look at it
ok         examined, and as it should be
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

from ..core.network import is_loopback_host
from ..core.policy import DAY, HOUR, MINUTE, duration
from .deployment import Deployment, FileFacts, StoreFacts

Severity = Literal["fail", "warn", "ok"]

_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
_STICKY: Final = 0o1000
_NETWORKED: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4"}
    | {"smb3", "smbfs", "vboxsf"}
)
_RING_IS_LONG: Final = 3
_SKEW_IS_LONG: Final = 15.0
# Shorter prefixes than these are no data centre's network any more.
_NARROWEST: Final = {4: 8, 6: 16}


class Finding(NamedTuple):
    """Hold one finding: what was found, what that means, and how to mend it ("" where nothing is amiss)."""

    severity: Severity
    code: str
    requirement: str
    found: str
    means: str = ""
    mend: str = ""


Check = Callable[[Deployment], Iterator[Finding]]


def examine(deployment: Deployment) -> tuple[Finding, ...]:
    """Return what all checks find, the worst first."""
    found = [finding for check in CHECKS for finding in check(deployment)]
    return tuple(sorted(found, key=lambda one: ("fail", "warn", "ok").index(one.severity)))


def refused(code: str, message: str) -> Finding:
    """Return the finding for an application whose start was refused with an error."""
    requirement = {"key-missing": "R10", "unsafe-cookie": "R11", "store-schema": "R46"}.get(code, "R41")
    return Finding("fail", code, requirement, message, "The application refuses to start.")


def _mode(deployment: Deployment) -> Iterator[Finding]:
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


def _keys(deployment: Deployment) -> Iterator[Finding]:
    keys = deployment.keys
    if keys is None:
        yield Finding(
            "fail",
            "key-missing",
            "R10",
            "no token key is configured",
            "With production on, or a store that machines share, the application refuses to start.",
            "Run `sessile keygen`, and set SESSILE_KEYS.",
        )
        return
    if keys.development:
        yield Finding(
            "fail" if deployment.production else "warn",
            "development-key",
            "R10",
            "the token key is a development key",
            "Nobody configured it: other processes may not have it, and a restart may lose it.",
            "Run `sessile keygen`, and set SESSILE_KEYS.",
        )
    else:
        yield Finding("ok", "key", "R10", "a token key is configured")
    if keys.file is not None:
        yield from _private(keys.file, "key-file", "R10", "can sign session tokens", "and make a new key")
    if len(keys.ids) > _RING_IS_LONG:
        yield Finding(
            "warn",
            "old-keys",
            "R10",
            f"the ring holds {len(keys.ids)} keys",
            "All of them verify; whoever still has an old one can use it.",
            f"Drop keys that were replaced more than {duration(deployment.policy.absolute)} ago.",
        )


def _private(file: FileFacts, code: str, requirement: str, power: str, then: str = "") -> Iterator[Finding]:
    if file.mode is None:
        return
    if file.mode & _OTHERS:
        yield Finding(
            "fail",
            f"{code}-mode",
            requirement,
            f"{file.name} has mode {file.mode & 0o777:04o}",
            f"Other users of this machine can read it; whoever does {power}.",
            " ".join(filter(None, [f"chmod 600 {file.name}", then])) + ".",
        )
    elif not file.owner_is_us:
        yield Finding(
            "warn",
            f"{code}-owner",
            requirement,
            f"{file.name} belongs to another user",
            f"Its owner {power}.",
            "Let the user that runs the application own it.",
        )
    else:
        yield Finding("ok", f"{code}-mode", requirement, f"{file.name} is private")


def _store(deployment: Deployment) -> Iterator[Finding]:
    store = deployment.store
    if store.kind == "memory":
        yield from _memory(deployment)
    elif store.kind == "sqlite":
        yield from _sqlite(store)
    powers = (
        ("index", "user-index", "R62", "an index of users", "Nobody can be signed out everywhere."),
        ("epochs", "epochs", "R64", "a way to end everything", "After a break-in, nothing ends all sessions."),
        ("census", "census", "R64", "a listing", "Operators cannot find a session."),
    )
    for power, code, requirement, what, means in powers:
        if power in store.lacks:
            yield Finding("warn", code, requirement, f"the store has not {what}", means, "Choose a store that has it.")


def _memory(deployment: Deployment) -> Iterator[Finding]:
    several = (deployment.workers or 1) > 1
    if deployment.production or several:
        found = f"sessions are in memory, and there are {deployment.workers} workers" if several else ""
        yield Finding(
            "fail",
            "memory-store",
            "R61",
            found or "sessions are in the memory of one process",
            "A restart signs everybody out; another worker knows neither a sign-in nor an end.",
            "Use sqlite:///sessions.db on one machine.",
        )
    else:
        yield Finding("ok", "memory-store", "R61", "sessions are in the memory of one process, for development")


def _sqlite(store: StoreFacts) -> Iterator[Finding]:
    for file in store.files:
        yield from _private(file, "database", "R99", "can read what sessions hold")
    database = store.files[0] if store.files else None
    if database is not None:
        folder = database.folder_mode
        if folder is not None and folder & _OTHERS_WRITE and not folder & _STICKY:
            yield Finding(
                "fail",
                "database-folder",
                "R46",
                f"others can write to the folder of {database.name}",
                "They can put another database in its place, with sessions of their making.",
                "Give the database a folder with mode 700.",
            )
        if database.filesystem in _NETWORKED:
            yield Finding(
                "fail",
                "database-network",
                "R42",
                f"{database.name} is on a network share ({database.filesystem})",
                "SQLite cannot lock it reliably: an ended session may come back, the file may be damaged.",
                "Keep it on a local disk.",
            )
    if store.journal not in ("", "wal"):
        yield Finding(
            "warn",
            "database-journal",
            "R43",
            f"the database is in journal mode {store.journal}",
            "Readers wait for writers until the application has opened it, which switches WAL mode on.",
            "Start the application once; if this stays, the file system does not support WAL.",
        )


def _cookie(deployment: Deployment) -> Iterator[Finding]:
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


def _limits(deployment: Deployment) -> Iterator[Finding]:
    policy = deployment.policy
    limits = f"{duration(policy.absolute)} at most, {duration(policy.idle)} idle"
    claims = {"AAL3": (12 * HOUR, 15 * MINUTE), "AAL2": (DAY, HOUR)}.get(policy.name)
    if claims is not None and (policy.absolute > claims[0] or policy.idle > claims[1]):
        yield Finding(
            "fail",
            "limits-claimed",
            "R34",
            f"the policy calls itself {policy.name} and allows {limits}",
            f"{policy.name} allows {duration(claims[0])} at most, {duration(claims[1])} idle.",
            f"Use Policy.{policy.name.lower()}(), or another name.",
        )
    elif policy.absolute > 30 * DAY:
        yield Finding(
            "fail",
            "limits",
            "R34",
            f"sessions live {limits}",
            "No assurance level of NIST's allows more than 30 days: a stolen session stays stolen.",
            "Use Policy.aal1() or a stricter one.",
        )
    elif policy.absolute > DAY or policy.idle > HOUR:
        yield Finding(
            "warn",
            "limits",
            "R34",
            f"sessions live {limits}",
            "That is AAL1; where a second factor protects anything, NIST asks for 24 h and 1 h (AAL2).",
            "Use Policy.aal2(), unless what is behind the sign-in is worth little.",
        )
    else:
        yield Finding("ok", "limits", "R34", f"sessions live {limits}")
    timed = {"absolute timeout", "idle timeout"}
    for line in policy.report().lines:
        if not line.meets and line.what not in timed:
            yield Finding(
                "warn",
                f"policy-{line.what.replace(' ', '-')}",
                line.source.partition(",")[0],
                f"{line.what}: {line.value}",
                f"Advised: {line.advice} ({line.source}).",
                "Change it in the policy, or write down why not.",
            )


def _clock(deployment: Deployment) -> Iterator[Finding]:
    if not deployment.real_clock:
        yield Finding(
            "fail" if deployment.production else "warn",
            "clock",
            "R33",
            "the clock is not time.time",
            "A clock that stands still never ends a session.",
            "Leave `clock` out; it is for tests.",
        )
    if deployment.policy.clock_skew > _SKEW_IS_LONG:
        yield Finding(
            "warn",
            "clock-skew",
            "R38",
            f"clocks may differ by {duration(deployment.policy.clock_skew)}",
            "Every session lives that much longer than its idle timeout says.",
            "Let NTP set the clocks, and keep clock_skew at a few seconds.",
        )


def _proxies(deployment: Deployment) -> Iterator[Finding]:
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


def _guard(deployment: Deployment) -> Iterator[Finding]:
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


def _sign_out(deployment: Deployment) -> Iterator[Finding]:
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


def _sinks(deployment: Deployment) -> Iterator[Finding]:
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


def _framework(deployment: Deployment) -> Iterator[Finding]:
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


def _start(deployment: Deployment) -> Iterator[Finding]:
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


CHECKS: Final[tuple[Check, ...]] = (
    _mode,
    _keys,
    _store,
    _cookie,
    _limits,
    _clock,
    _proxies,
    _guard,
    _sign_out,
    _sinks,
    _framework,
    _start,
)
