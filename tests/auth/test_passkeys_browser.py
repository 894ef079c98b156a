"""Passkeys in a real Chromium with its virtual authenticator: what the user sees, and what operators are told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from tests.auth.passkey_app import PasskeyApp
from tests.browser.conftest import chromium, context, page, serving  # noqa: F401
from tests.support.requirements import requirement

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

OPTIONS = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
DONE = re.compile("/keys$")


class Site:
    """Hold the application on localhost, one tab, and the authenticator of the tab."""

    def __init__(self, app: PasskeyApp, url: str, tab: Page, tools: Any) -> None:
        self.app, self.url, self.tab, self.tools = app, url, tab, tools
        self.authenticator = self.plug()
        self.violations: list[str] = []
        tab.on("console", lambda said: self.violations.append(said.text) if "Content Security" in said.text else None)
        tab.on("pageerror", lambda error: self.violations.append(str(error)))

    def plug(self, **other: Any) -> str:
        """Plug an authenticator in."""
        added = self.tools.send("WebAuthn.addVirtualAuthenticator", {"options": {**OPTIONS, **other}})
        return added["authenticatorId"]  # type: ignore[no-any-return]

    def cdp(self, verb: str, **more: Any) -> Any:
        """Tell the authenticator something."""
        return self.tools.send(f"WebAuthn.{verb}", {"authenticatorId": self.authenticator, **more})

    def replug(self, **other: Any) -> None:
        """Take the authenticator away and plug another one in."""
        self.cdp("removeVirtualAuthenticator")
        self.authenticator = self.plug(**other)

    def only(self, algorithm: int) -> None:
        """Let pages ask for keys of one algorithm only."""
        self.tab.add_init_script(
            "const made = PublicKeyCredential.parseCreationOptionsFromJSON.bind(PublicKeyCredential);"
            "PublicKeyCredential.parseCreationOptionsFromJSON = (o) => made({...o,"
            f"pubKeyCredParams: o.pubKeyCredParams.filter((one) => one.alg === {algorithm})}});"
        )

    def sign_up(self, user: str = "ada", label: str = "My laptop") -> None:
        """Sign a user up, and register a key."""
        self.tab.goto(self.url + "/sign-up")
        self.tab.get_by_label("Name").fill(user)
        self.tab.get_by_role("button").click()
        self.add(label)
        expect(self.tab.get_by_role("listitem")).to_contain_text(label)

    def add(self, label: str) -> None:
        """Ask for another key."""
        self.tab.get_by_label("Name of the key").fill(label)
        self.tab.get_by_role("button", name="Add").click()

    def prove(self) -> None:
        """Prove the key that there is, as somebody must who changes what there is."""
        self.tab.goto(self.url + "/prove")
        self.tab.get_by_role("button").click()
        expect(self.tab).to_have_url(DONE)

    def forget(self) -> None:
        """Forget the session, not the key."""
        self.tab.context.clear_cookies()

    def sign_in(self, user: str = "") -> None:
        """Sign in by the button."""
        self.tab.goto(self.url + "/sign-in")
        self.tab.get_by_label("Name").fill(user)
        self.tab.get_by_role("button").click()

    def is_in(self, text: str) -> None:
        """Expect the home page to say who is signed in."""
        expect(self.tab.locator("#who")).to_have_text(text)

    def says(self, text: str) -> None:
        """Expect the form to say something."""
        expect(self.tab.get_by_role("status")).to_contain_text(text)

    def credential(self) -> Any:
        """Return the one key in the authenticator."""
        [one] = self.cdp("getCredentials")["credentials"]
        return one


@pytest.fixture
def app() -> PasskeyApp:
    """Return the application."""
    return PasskeyApp()


@pytest.fixture
def site(app: PasskeyApp, page: Page, context: BrowserContext) -> Iterator[Site]:  # noqa: F811
    """Serve the application, and open a tab with an authenticator."""
    with serving(app.app) as url:
        tools = context.new_cdp_session(page)
        tools.send("WebAuthn.enable", {"enableUI": False})
        site = Site(app, url, page, tools)
        yield site
        assert site.violations == []


@requirement("R93")
@pytest.mark.parametrize("algorithm", [-7, -8, -48], ids=["ES256", "EdDSA", "ML-DSA-44"])
def test_a_key_is_registered_and_signs_in_without_a_name(site: Site, algorithm: int) -> None:
    """And by name."""
    site.only(algorithm)
    site.sign_up()
    expect(site.tab.get_by_role("listitem")).to_contain_text(f"(passkey, {algorithm})")
    assert "ada" not in json.dumps(site.credential()["userHandle"])
    for user in ("", "ada"):
        site.forget()
        site.sign_in(user)
        site.is_in("ada by passkey at AAL2")
    assert site.app.codes().count("passkey-added") == 1
    assert site.app.codes()[-1] == "signed-in"
    assert not any("refused" in code for code in site.app.codes())


def test_the_best_algorithm_is_taken_where_the_authenticator_can(site: Site) -> None:
    """It is listed first."""
    site.sign_up()
    expect(site.tab.get_by_role("listitem")).to_contain_text("(passkey, -48)")


def test_a_key_that_is_plugged_in_is_a_security_key(site: Site) -> None:
    """With user verification, it reaches AAL3."""
    site.replug(transport="usb")
    site.sign_up()
    expect(site.tab.get_by_role("listitem")).to_contain_text("(security-key,")
    site.forget()
    site.sign_in()
    site.is_in("ada by security-key at AAL3")


def test_a_synchronised_key_is_shown_as_one(site: Site) -> None:
    """Its flags reach the server."""
    site.replug(defaultBackupEligibility=True, defaultBackupState=True)
    site.sign_up()
    expect(site.tab.get_by_role("listitem")).to_contain_text("synced")
    site.forget()
    site.sign_in()
    site.is_in("ada by passkey at AAL2")


def test_passkeys_are_offered_beside_the_input(site: Site) -> None:
    """Conditional UI: nobody clicks anything but the browser's own suggestion."""
    site.sign_up()
    site.forget()
    site.app.autofill = True
    site.tab.goto(site.url + "/sign-in")
    site.is_in("ada by passkey at AAL2")
    assert site.app.codes()[-1] == "signed-in"


def test_the_button_ends_what_the_input_offers(site: Site) -> None:
    """A browser has one ceremony at a time: the page aborts the one that waits."""
    site.sign_up()
    site.forget()
    site.app.autofill = True
    site.cdp("setAutomaticPresenceSimulation", enabled=False)
    site.tab.goto(site.url + "/sign-in")
    site.tab.wait_for_timeout(500)
    site.cdp("setAutomaticPresenceSimulation", enabled=True)
    site.tab.get_by_role("button").click()
    site.is_in("ada by passkey at AAL2")


@requirement("R93")
def test_who_is_not_verified_does_not_get_in(site: Site) -> None:
    """The authenticator refuses, and the page says so."""
    site.sign_up()
    site.forget()
    site.cdp("setUserVerified", isUserVerified=False)
    site.sign_in()
    site.says("Nothing happened")
    site.tab.goto(site.url)
    site.is_in("None by at AAL0")
    assert site.app.codes().count("signed-in") == 1


@requirement("R93")
def test_an_answer_is_taken_once(site: Site) -> None:
    """The page sends the same one again, in the same session and in another."""
    site.sign_up()
    site.forget()
    site.sign_in()
    site.is_in("ada by passkey at AAL2")
    again = """async (credential) => {
        const reply = await fetch("/passkeys/sign-in", { method: "POST", body: new URLSearchParams({ credential }) });
        return [reply.status, await reply.json()];
    }"""
    stale = [400, {"error": "stale"}]
    assert site.tab.evaluate(again, site.app.answers[-1]) == stale
    site.forget()
    site.tab.goto(site.url + "/sign-in")
    assert site.tab.evaluate(again, site.app.answers[-1]) == stale
    assert site.app.codes()[-1] == "passkey-refused:challenge"


@requirement("R93")
def test_a_stale_challenge_is_told_and_another_one_works(site: Site) -> None:
    """The page asks the user to try again."""
    site.sign_up()
    site.forget()
    late = site.app.ground.engine.clock
    site.tab.route(
        "**/passkeys/sign-in",
        lambda route: (setattr(site.app.ground.engine, "clock", lambda: late() + 301), route.continue_()),
    )
    site.sign_in()
    site.says("took too long")
    assert site.app.codes()[-1] == "passkey-refused:challenge"
    site.tab.unroute("**/passkeys/sign-in")
    site.tab.get_by_role("button").click()
    site.is_in("ada by passkey at AAL2")


@requirement("R93")
def test_a_copy_of_a_key_is_refused(site: Site) -> None:
    """Its counter is wound back, as a copy's would be."""
    site.sign_up()
    for _ in range(2):
        site.forget()
        site.sign_in()
        site.is_in("ada by passkey at AAL2")
    kept = site.credential()
    site.cdp("removeCredential", credentialId=kept["credentialId"])
    site.cdp("addCredential", credential={**kept, "signCount": 0})
    site.forget()
    site.sign_in()
    site.says("not accepted")
    assert site.app.codes()[-2:] == ["clone-suspected", "passkey-refused:clone"]
    site.tab.goto(site.url)
    site.is_in("None by at AAL0")


@requirement("R93")
def test_another_origin_cannot_use_the_keys(site: Site) -> None:
    """The same server by its address: the browser refuses."""
    site.sign_up()
    site.forget()
    site.tab.goto(site.url.replace("localhost", "127.0.0.1") + "/sign-in")
    site.tab.get_by_role("button").click()
    site.says("do not work at this address")


@requirement("R93")
def test_another_origin_of_the_same_domain_is_refused_by_the_server(site: Site) -> None:
    """A page on another port is allowed by the browser, and not by the server."""
    site.sign_up()
    site.forget()
    with serving(site.app.app) as other:
        site.app.doors[other] = site.app.doors[site.url]
        site.tab.goto(other + "/sign-in")
        site.tab.get_by_role("button").click()
        site.says("not accepted")
    assert site.app.codes()[-1] == "passkey-refused:response"


def test_a_device_is_not_registered_twice(site: Site) -> None:
    """The exclude list tells the authenticator, which tells the page."""
    site.sign_up()
    site.prove()
    site.add("Again")
    site.says("has a passkey of yours already")
    assert site.app.codes().count("passkey-added") == 1


def test_keys_are_added_and_removed(site: Site) -> None:
    """By who proves the one there is; what was removed opens nothing."""
    site.sign_up()
    site.add("My key ring")
    expect(site.tab).to_have_url(re.compile("/prove$"))
    site.prove()
    site.replug(transport="usb")
    site.add("My key ring")
    expect(site.tab.get_by_role("listitem")).to_have_count(2)
    site.tab.get_by_role("button", name="Remove My key ring").click()
    expect(site.tab.get_by_role("listitem")).to_have_count(1)
    site.forget()
    site.sign_in()
    site.says("not accepted")
    assert site.app.codes().count("passkey-removed") == 1
    assert site.app.codes()[-1] == "passkey-refused:unknown"


@requirement("R90")
def test_a_key_is_a_second_factor(site: Site) -> None:
    """Of a session that stands at AAL1."""
    site.sign_up()
    site.forget()
    site.tab.goto(site.url + "/sign-up")
    site.tab.get_by_label("Name").fill("ada")
    site.tab.get_by_role("button").click()
    expect(site.tab).to_have_url(DONE)
    site.prove()
    site.tab.goto(site.url)
    site.is_in("ada by sign-up, passkey at AAL2")
    assert site.app.codes()[-1] == "factor-added"


@pytest.mark.parametrize("where", ["javascript:document.title='gone'", "https://evil.example/"])
def test_the_page_goes_to_its_own_site_only(site: Site, where: str) -> None:
    """Whatever an answer says."""
    site.sign_up()
    site.forget()
    answer = json.dumps({"next": where})
    site.tab.route("**/passkeys/sign-in", lambda route: route.fulfill(body=answer, content_type="application/json"))
    site.sign_in()
    site.says("Done")
    expect(site.tab).to_have_title("Sign in")
    expect(site.tab).to_have_url(site.url + "/sign-in")


def test_a_browser_without_passkeys_says_so(site: Site) -> None:
    """And its button does nothing."""
    site.tab.add_init_script("delete self.PublicKeyCredential")
    site.tab.goto(site.url + "/sign-in")
    site.says("cannot use passkeys")
    expect(site.tab.get_by_role("button")).to_be_disabled()
