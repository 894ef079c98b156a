"""The session cookie: attributes, what may stand together, and how planted ones are refused."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from sessile.core.cookies import DUPLICATE, CookieRules, read, uncacheable, vary_on
from sessile.errors import CookieTooLarge, UnsafeCookie
from tests.support.requirements import requirement

NAME = "__Host-id"


@requirement("R9", "R11", "R16")
def test_the_default_cookie_is_the_strictest_that_works_everywhere() -> None:
    """__Host-, Secure, HttpOnly, Path=/, SameSite=Lax, no Domain, gone with the browser."""
    assert CookieRules().set("v") == "__Host-id=v; Path=/; Secure; HttpOnly; SameSite=Lax"


@requirement("R18")
@pytest.mark.parametrize(
    "rules", [CookieRules(), CookieRules(name="__Secure-id", path="/app", domain="example.org", samesite="Strict")]
)
def test_deleting_repeats_the_attributes_of_setting(rules: CookieRules) -> None:
    """Else browsers refuse it for prefixed names, or delete another cookie."""
    for attribute in rules.set("v").split("; ")[1:]:
        assert attribute in rules.delete().split("; ")
    assert rules.delete().startswith(f"{rules.name}=; ")
    assert "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT" in rules.delete()


@requirement("R11", "R12", "R13", "R15")
@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "example.org"},
        {"path": "/app"},
        {"name": "__HOST-id", "path": "/app"},
        {"name": "__Host-Http-id", "domain": "example.org"},
        {"name": "id"},
        {"name": "__Host-id; x"},
        {"name": "__Host-i d"},
        {"name": ""},
        {"name": "__Host-é"},
        {"samesite": "None"},
        {"samesite": "none"},
        {"samesite": ""},
        {"max_age": 0},
        {"max_age": 400 * 86400 + 1},
        {"max_age": 1.5},
        {"max_age": True},
        {"max_age": float("nan")},
        {"name": "__Secure-id", "path": "app"},
        {"name": "__Secure-id", "path": "/a;b"},
        {"name": "__Secure-id", "path": "/\x00"},
        {"name": "__Secure-id", "path": "/\r\nSet-Cookie:x=1"},
        {"name": "__Secure-id", "domain": "a b"},
        {"name": "__Secure-id", "domain": "bücher.example"},
        {"name": "__Secure-id", "path": "/" + "a" * 1024},
    ],
    ids=str,
)
def test_contradictions_are_errors_at_start(wrong: dict[str, Any]) -> None:
    """What a browser would refuse, or would widen silently, is refused before it serves."""
    with pytest.raises(UnsafeCookie):
        CookieRules(**wrong)


@requirement("R11", "R13")
def test_the_insecure_choices_have_ugly_names_and_warn() -> None:
    """They are possible, deliberate, and said aloud."""
    assert "SameSite=None; " in CookieRules(samesite="None", cross_site_cookie_is_my_decision=True).set("v") + "; "
    with pytest.warns(UserWarning, match="sibling host can plant it"):
        rules = CookieRules(name="sid", insecure_name_is_my_decision=True)
    assert "; Secure; HttpOnly; " in rules.set("v")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CookieRules(name="__Secure-id", insecure_name_is_my_decision=True)


@requirement("R15")
def test_a_persistent_cookie_is_bounded() -> None:
    """Up to 400 days, and only if it was asked for."""
    assert CookieRules(max_age=400 * 86400).set("v").endswith("; Max-Age=34560000")


@requirement("R14")
def test_a_cookie_that_no_browser_keeps_raises() -> None:
    """Name and value together: 4096 bytes pass, 4097 do not."""
    rules = CookieRules()
    assert rules.set("v" * (4096 - len(NAME)))
    with pytest.raises(CookieTooLarge, match="4097"):
        rules.set("v" * (4097 - len(NAME)))


@requirement("R21")
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("", None),
        ("__Host-id=v", "v"),
        ("a=1; __Host-id=v; b=2", "v"),
        ("a=1;__Host-id=v;b=2", "v"),
        ("a=1 ;\t__Host-id=v ; b=2", "v"),
        ("  __Host-id=v", None),
        ("__Host-id=", ""),
        ("__Host-id=a=b", "a=b"),
        ('__Host-id="v"', '"v"'),  # quotes are part of the value: no token has any
        ("__Host-id", None),
        ("__Host-id =v", None),
        ("__host-id=v", None),
        ("x__Host-id=v", None),
        ("x=__Host-id=v", None),
        # A sibling host's cookie whose value looks like ours: a space, a comma or a quote is no separator.
        ("foo=x __Host-id=planted", None),
        ("foo=x, __Host-id=planted", None),
        ('foo="; __Host-id=v', "v"),
        ('foo="x __Host-id=planted"', None),
        ("foo=x\t__Host-id=planted; __Host-id=v", "v"),
        ("foo=x __Host-id=planted; __Host-id=v", "v"),
        ("__Host-id=v; foo=x __Host-id=planted", "v"),
        ("=__Host-id=planted", None),  # the nameless cookie
        ("; __Host-id=v", "v"),
        ("__Host-id=a; __Host-id=b", DUPLICATE),
        ("__Host-id=a; x=1; __Host-id=a", DUPLICATE),
        ("__Host-id=a;__Host-id=", DUPLICATE),
        ("__Host-id=; __Host-id=b", DUPLICATE),
        ("__Host-id=a; __Host-id=b; __Host-id=c", DUPLICATE),
    ],
)
def test_a_cookie_is_read_as_browsers_separate_them(header: str, value: Any) -> None:
    """Only a whole pair between semicolons counts, and two of one name are refused."""
    assert read(header, NAME) == value


@pytest.mark.parametrize(
    ("header", "value"), [("id=1; sid=2", "1"), ("sid=2; id=1", "1"), ("sid=2", None), ("a.d=1", None)]
)
def test_a_short_name_is_not_found_inside_a_longer_one(header: str, value: str | None) -> None:
    """Names are compared whole, and are no patterns."""
    assert read(header, "id") == value


@requirement("R19")
@pytest.mark.parametrize(
    ("present", "after"),
    [
        (None, "Cookie"),
        ("", "Cookie"),
        ("*", "*"),
        ("Accept", "Accept, Cookie"),
        ("accept, COOKIE", "accept, COOKIE"),
        ("Accept, *", "*"),
        ("Cookie-Monster", "Cookie-Monster, Cookie"),
    ],
)
def test_vary_gains_cookie_once(present: str | None, after: str) -> None:
    """What the application varies on stays."""
    assert vary_on("Cookie", present) == after


@requirement("R19")
@pytest.mark.parametrize(
    ("present", "sets", "after"),
    [
        (None, False, "no-store"),
        (None, True, "no-store"),
        ("private, max-age=60", False, "private, max-age=60"),
        ("private, max-age=60", True, "no-store"),
        ("no-store, must-revalidate", False, "no-store, must-revalidate"),
        ("public, max-age=60", False, "no-store"),
        ("public, private", False, "no-store"),
        ("max-age=60", False, "no-store"),
        ("PRIVATE", False, "PRIVATE"),
        ('x="private"', False, "no-store"),
        ("s-maxage=60, private-ish", False, "no-store"),
    ],
)
def test_what_carries_a_session_is_kept_out_of_shared_caches(present: str | None, sets: bool, after: str) -> None:
    """With a cookie it is no-store whatever the application says; without, its own value stands if it is private."""
    assert uncacheable(present, sets_cookie=sets) == after
