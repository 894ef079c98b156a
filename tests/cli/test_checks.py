"""What `doctor` decides: each unsafe choice is found, named with its requirement, and a safe configuration is clean."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

pytest.importorskip("typer")

from sessile import Binding, CookieRules, CrossSiteGuard, Policy, Proxies
from sessile.cli.checks import Finding, examine
from sessile.cli.deployment import BridgeFacts, Deployment, FileFacts, FrameworkFacts, KeyFacts, StoreFacts
from tests.support.requirements import requirement

PRIVATE = FileFacts("shop.db", 0o100600, 0o40700, filesystem="ext4")
SQLITE = StoreFacts(kind="sqlite", files=(PRIVATE,), journal="wal")
MEMORY = StoreFacts(kind="memory")
SAFE: dict[str, Any] = {"production": True, "keys": KeyFacts(ids=(1, 0)), "store": SQLITE}


def found(**changes: Any) -> dict[str, Finding]:
    """Examine the safe configuration with changes; return what is not in order, by code."""
    return {one.code: one for one in examine(Deployment(**{**SAFE, **changes})) if one.severity != "ok"}


def insecure_cookie() -> CookieRules:
    """Make the rules that warn when they are made."""
    with pytest.warns(UserWarning, match="no __Host- prefix"):
        return CookieRules("sid", insecure_name_is_my_decision=True)


def test_a_safe_configuration_has_nothing_to_mend() -> None:
    """The defaults, a configured key and a private database are clean."""
    assert found() == {}


CASES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("warn", "production", "R20", {"production": False}),
    ("fail", "key-missing", "R10", {"keys": None}),
    ("fail", "development-key", "R10", {"keys": KeyFacts(ids=(0,), development=True)}),
    ("warn", "development-key", "R10", {"keys": KeyFacts(ids=(0,), development=True), "production": False}),
    (
        "fail",
        "key-file-mode",
        "R10",
        {"keys": KeyFacts(ids=(0,), development=True, file=FileFacts("shop.db.key", 0o100640))},
    ),
    (
        "warn",
        "key-file-owner",
        "R10",
        {"keys": KeyFacts(ids=(0,), development=True, file=FileFacts("shop.db.key", 0o100600, owner_is_us=False))},
    ),
    ("warn", "old-keys", "R10", {"keys": KeyFacts(ids=(3, 2, 1, 0))}),
    ("fail", "memory-store", "R61", {"store": MEMORY}),
    ("fail", "memory-store", "R61", {"store": MEMORY, "production": False, "workers": 4}),
    (
        "fail",
        "database-mode",
        "R99",
        {"store": StoreFacts(kind="sqlite", files=(PRIVATE, FileFacts("shop.db-wal", 0o100644)))},
    ),
    (
        "fail",
        "database-folder",
        "R46",
        {"store": StoreFacts(kind="sqlite", files=(FileFacts("shop.db", 0o100600, 0o40777),))},
    ),
    (
        "fail",
        "database-network",
        "R42",
        {"store": StoreFacts(kind="sqlite", files=(FileFacts("shop.db", 0o100600, 0o40700, filesystem="nfs4"),))},
    ),
    ("warn", "database-journal", "R43", {"store": StoreFacts(kind="sqlite", files=(PRIVATE,), journal="delete")}),
    ("warn", "user-index", "R62", {"store": StoreFacts(kind="Own", lacks=frozenset({"index"}))}),
    ("warn", "epochs", "R64", {"store": StoreFacts(kind="Own", lacks=frozenset({"epochs"}))}),
    ("warn", "cookie-name", "R12", {"cookie": CookieRules("__Secure-id", domain="example.org")}),
    (
        "warn",
        "cookie-samesite",
        "R13",
        {"cookie": CookieRules(samesite="None", cross_site_cookie_is_my_decision=True)},
    ),
    ("warn", "cookie-persistent", "R16", {"cookie": CookieRules(max_age=3600)}),
    ("warn", "cookie-persistent", "R17", {"cookie": CookieRules(max_age=86_401)}),
    ("fail", "limits-claimed", "R34", {"policy": Policy(absolute=86_401)}),
    ("fail", "limits-claimed", "R34", {"policy": Policy(name="AAL3")}),
    ("fail", "limits", "R34", {"policy": Policy(name="ours", absolute=31 * 86_400)}),
    ("warn", "limits", "R34", {"policy": Policy.aal1()}),
    ("warn", "policy-grace", "R29", {"policy": Policy(grace=60)}),
    ("warn", "policy-rotation-interval", "R29", {"policy": Policy(rotation=18_000)}),
    ("warn", "policy-binding", "R53", {"policy": Policy(binding=Binding(network="end"))}),
    ("warn", "clock-skew", "R38", {"policy": Policy(clock_skew=16)}),
    ("fail", "clock", "R33", {"real_clock": False}),
    ("fail", "proxies", "R20", {"proxies": Proxies(["0.0.0.0/0"])}),
    ("fail", "proxies", "R20", {"proxies": Proxies(["::/0"])}),
    ("warn", "proxies", "R20", {"proxies": Proxies(["64.0.0.0/2"])}),
    ("fail", "trusted-origin", "R22", {"guard": CrossSiteGuard(trusted_origins=["http://admin.example.org"])}),
    ("fail", "guard-exempt", "R22", {"guard": CrossSiteGuard(exempt_paths=["/"])}),
    ("warn", "guard-exempt", "R22", {"guard": CrossSiteGuard(exempt_paths=["/saml/"])}),
    ("warn", "clear-site-data", "R68", {"clear_site_data": ("cookies",)}),
    ("warn", "bridge-over", "R89", {"bridges": (BridgeFacts("flask", 1.8e9, -1.0),)}),
    ("warn", "bridge-long", "R89", {"bridges": (BridgeFacts("flask", 1.8e9, 91 * 86_400.0),)}),
    ("warn", "bridge-outage", "R45", {"bridges": (BridgeFacts("flask", 1.8e9, 86_400.0, ignores_outage=True),)}),
    ("fail", "sinks", "R95", {"sinks": ()}),
    ("warn", "development-hosts", "R20", {"production": False, "development_hosts": frozenset({"intra.example"})}),
    ("fail", "debug", "R45", {"framework": FrameworkFacts("Flask", debug=True)}),
    ("fail", "start-error", "R41", {"errors": ("Django's SessionMiddleware cannot carry Sessile's sessions.",)}),
    ("warn", "start-warning", "R41", {"warnings": ("SESSION_COOKIE_NAME has no effect on Sessile's sessions",)}),
]


@requirement("R20", "R34", "R41")
@pytest.mark.parametrize(("severity", "code", "number", "changes"), CASES, ids=[case[1] for case in CASES])
def test_each_unsafe_choice_is_found_and_says_how_to_mend_it(
    severity: str, code: str, number: str, changes: dict[str, Any]
) -> None:
    """The finding has the severity, the requirement, what it means and what to do."""
    finding = found(**changes)[code]
    assert (finding.severity, finding.requirement) == (severity, number)
    assert finding.found
    assert finding.means
    assert finding.mend


def test_a_cookie_without_a_prefix_fails() -> None:
    """The ugly name that makes it possible does not make it safe."""
    assert found(cookie=insecure_cookie())["cookie-name"].severity == "fail"


@pytest.mark.parametrize(
    "changes",
    [
        {"proxies": Proxies(["10.0.0.0/8", "fd00::/16", "unix"])},
        {"guard": CrossSiteGuard(trusted_origins=["https://admin.example.org", "http://localhost:3000"])},
        {"policy": Policy.aal3()},
        {"policy": Policy.high_value()},
        {"store": StoreFacts(kind="sqlite", files=(FileFacts("shop.db", 0o100600, 0o41777),))},
        {"store": StoreFacts(kind="sqlite", files=(FileFacts("shop.db", None, 0o40755),))},
        {"workers": 8},
        {"framework": FrameworkFacts("Django")},
        {"bridges": (BridgeFacts("flask", 1.8e9, 86_400.0),)},
    ],
    ids=["proxies", "origins", "aal3", "high value", "sticky folder", "no file yet", "workers", "django", "bridge"],
)
def test_what_is_safe_is_not_complained_about(changes: dict[str, Any]) -> None:
    """A tool that cries wolf is switched off."""
    assert found(**changes) == {}


def test_the_worst_comes_first() -> None:
    """Whoever reads three lines reads the three that matter."""
    severities = [one.severity for one in examine(Deployment(**{**SAFE, "production": False, "keys": None}))]
    assert severities == sorted(severities, key=["fail", "warn", "ok"].index)
    assert severities[0] == "fail"


def test_every_fact_is_looked_at_by_some_check() -> None:
    """A fact that no case of this module changes would be collected for nothing."""
    changed = {name for *_, changes in CASES for name in changes}
    assert {field.name for field in fields(Deployment)} <= changed
