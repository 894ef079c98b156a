"""What the account pages and their messages say, by ids: one place for whoever translates them.

    AsyncAccounts(…, texts={"sign-in.title": "Anmelden", "lang": "de"})

`{name}` is the application's name in every text. Ids of several words in a family (`log.…`, `done.…`, `way.…`) are put
together from what happened; an id that is not here is a mistake, and refused at start.
"""

# ruff: noqa: E501 - a text in one piece is easier to translate

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any, Final

from ..errors import ConfigurationError

ENGLISH: Final[dict[str, str]] = {
    "lang": "en",
    # -- every page
    "skip": "Skip to the content",
    "nav": "Your account",
    "nav.home": "Overview",
    "nav.devices": "Devices",
    "nav.activity": "Activity",
    "back": "Back to your account",
    "cancel": "Cancel",
    "error.prefix": "Error: ",
    "error.summary": "There is a problem",
    "needs-script": "Passkeys need JavaScript, which is switched off in this browser.",
    "or": "or",
    # -- fields
    "field.name": "Name",
    "field.email": "E-mail address",
    "field.password": "Password",
    "field.password.new": "New password",
    "field.password.hint": "At least {minimum} characters. A few words in a row are easy to remember and hard to guess.",
    "field.totp": "Code from your authenticator app",
    "field.totp.hint": "{digits} digits. Each code works once.",
    "field.recovery": "Recovery code",
    "field.recovery.hint": "One of the codes that you keep on paper, like ABCD-1234-EFGH-5678. Each works once.",
    "field.code": "Code from the e-mail",
    "field.code.hint": "Eight digits. Spaces do not matter.",
    "field.label": "Name of the passkey (optional)",
    "field.label.hint": "So that you recognise it later, such as “Phone”.",
    "field.app": "Name of the app or device (optional)",
    "field.rename": "New name",
    # -- what may be wrong
    "wrong.login": "Name and password do not belong together. Check both.",
    "wrong.login.email": "E-mail address and password do not belong together. Check both.",
    "wrong.password": "That is not your password.",
    "wrong.totp": "That code is not right, or it has been used. Wait for the next one and try again.",
    "wrong.totp.stale": "That took too long. Scan the new code below.",
    "wrong.totp.full": "You have as many authenticator apps as allowed. Remove one first.",
    "wrong.recovery": "That is none of your recovery codes, or it has been used.",
    "wrong.code": "That code is not right, or it is over. You can ask for another one.",
    "wrong.name": "Choose a name of 1 to 254 characters without spaces.",
    "wrong.address": "Enter an e-mail address, such as name@example.org.",
    "wrong.taken": "This name is taken. Choose another one.",
    "wrong.short": "The password must have at least {minimum} characters.",
    "wrong.long": "The password is too long, or has a character that cannot be typed everywhere.",
    "wrong.common": "This password is among the first that are guessed. Choose another one.",
    "wrong.obvious": "This password is little more than your name. Choose another one.",
    "wrong.wait": "Too many attempts. Try again in {wait}.",
    "wrong.locked": "Too many attempts failed. This way to sign in is locked; use another one.",
    "wrong.last": "This is your only way to sign in. Add another one first.",
    "wrong.gone": "It is not there any more.",
    "wait.seconds": "{n} s",
    "wait.minutes": "{n} min",
    # -- signing in
    "sign-in.title": "Sign in",
    "sign-in.continue": "Sign in to go on.",
    "sign-in.button": "Sign in",
    "sign-in.email": "Send me a code by e-mail",
    "sign-in.passkey": "Sign in with a passkey",
    "sign-in.forgotten": "Forgotten your password?",
    "sign-in.new": "New here?",
    "sign-in.sign-up": "Create an account",
    # -- signing up
    "sign-up.title": "Create an account",
    "sign-up.button": "Create account",
    "sign-up.passkey": "Create account with a passkey",
    "sign-up.email": "We send a code to this address, so that nobody can sign up in your name.",
    "sign-up.email.button": "Send the code",
    "sign-up.known": "Have an account already?",
    # -- codes by e-mail
    "code.title": "Check your mail",
    "code.sent": "If the address is right, a code is on its way. It is good for ten minutes, in this browser.",
    "code.button": "Go on",
    "code.again": "Nothing came? Look into the spam folder, or begin again.",
    "link.title": "Sign in to {name}",
    "link.text": "You opened the link from your e-mail. Press the button to go on.",
    "link.button": "Go on",
    "link.elsewhere.title": "This link does not work here",
    "link.elsewhere": "It works once, for ten minutes, and only in the browser in which it was asked for. Open it there, or type the code from the e-mail.",
    "link.again": "Sign in another way",
    "forgotten.title": "Forgotten password",
    "forgotten.text": "We send a code to your address. With it you can choose a new password.",
    "forgotten.button": "Send the code",
    "reset.title": "Choose a new password",
    "reset.text": "All devices are signed out then, this one too. You sign in with the new password.",
    "reset.button": "Set the new password",
    # -- proofs
    "challenge.title": "One more step",
    "challenge.text": "Prove that it is you.",
    "challenge.moved": "Your session was used from somewhere else. Prove that it is you.",
    "challenge.stuck": "There is nothing here with which you could go on. Ask the people who run {name}.",
    "challenge.over": "Sign in as somebody else",
    "step-up.title": "Prove that it is you",
    "step-up.text": "This is important, so you are asked once more.",
    "step-up.aal": "This needs more than what you proved so far.",
    "step-up.more": "This needs a second factor, and you have none yet. Add one:",
    "step-up.email.button": "Send me a code by e-mail",
    "step-up.none": "Your account has no way to sign in yet, and the time to add one is over.",
    "step-up.restart": "Remove the account and begin again",
    "step-up.again": "Sign out and sign in again",
    "proof.passkey": "Use a passkey",
    "proof.button": "Go on",
    "proof.others": "Other ways",
    # -- signing out
    "sign-out": "Sign out",
    "sign-out.title": "Sign out",
    "sign-out.here": "Sign out on this device",
    "sign-out.everywhere": "Sign out on all devices",
    "signed-out.title": "You are signed out",
    "signed-out.here": "This device is signed out.",
    "signed-out.everywhere": "All your devices are signed out.",
    "signed-out.unsure": "Not every server has confirmed it yet. It is repeated until they have; until then, a stolen copy of the session might still work for a moment.",
    "signed-out.again": "Sign in again",
    # -- overview
    "home.title": "Your account",
    "home.who": "Signed in as {login}.",
    "home.level": "Strength of this sign-in: {level}.",
    "home.level.1": "one factor",
    "home.level.2": "two factors",
    "home.level.3": "two factors, with a hardware key",
    "home.level.0": "nothing proved",
    "home.next": "Recommended next step",
    "home.next.passkey": "Add a passkey: quicker than a password, and nobody can steal it by a false page.",
    "home.next.passkey.button": "Add a passkey",
    "home.next.first": "Your account has no way to sign in yet. Add one now, or you cannot come back.",
    "home.next.totp": "Add an authenticator app, so that your password alone opens nothing.",
    "home.next.totp.button": "Add an authenticator app",
    "home.next.recovery": "Make recovery codes, for the day when your device is lost.",
    "home.next.recovery.button": "Make recovery codes",
    "home.next.low": "You have {n} recovery codes left. Make new ones in time.",
    "home.next.low.button": "Make new recovery codes",
    "home.ways": "How you sign in",
    "home.passkeys": "Passkeys",
    "home.passkeys.none": "You have none yet.",
    "home.passkeys.some": "You have {n}.",
    "home.password": "Password",
    "home.password.none": "You have none.",
    "home.password.some": "Last changed {when}.",
    "home.totp": "Authenticator app",
    "home.totp.none": "Not set up.",
    "home.totp.some": "Apps set up: {n}.",
    "home.recovery": "Recovery codes",
    "home.recovery.none": "None made yet.",
    "home.recovery.some": "{n} left.",
    "home.email": "E-mail",
    "home.email.some": "Codes go to {email}.",
    "home.manage": "Manage",
    "home.add": "Add",
    "home.change": "Change",
    "home.make": "Make",
    "home.devices": "Devices",
    "home.devices.some": "Where you are signed in: {n}.",
    "home.devices.unknown": "Sign out all others.",
    "home.activity": "Activity",
    "home.activity.text": "What happened to your account.",
    "home.see": "See",
    # -- passkeys
    "passkeys.title": "Passkeys",
    "passkeys.text": "A passkey is kept by your device or password manager, and works with your finger, face or PIN.",
    "passkeys.none": "You have no passkey yet.",
    "passkeys.add": "Add a passkey",
    "passkeys.added": "Added {when}.",
    "passkeys.used": "Last used {when}.",
    "passkeys.unused": "Not used yet.",
    "passkeys.backed": "Synchronised between your devices.",
    "passkeys.unbacked": "Can be synchronised, but is on one device only.",
    "passkeys.bound": "On this one device only: if it is lost, so is the passkey.",
    "passkeys.hardware": "Security key",
    "passkeys.rename": "Rename",
    "passkeys.rename.of": "Rename {label}",
    "passkeys.rename.button": "Save the name",
    "passkeys.remove": "Remove",
    "passkeys.remove.of": "Remove {label}",
    "passkeys.remove.title": "Remove this passkey?",
    "passkeys.remove.text": "“{label}” opens nothing here any more. Remove it from your device or password manager as well. Your other devices are signed out.",
    "passkeys.remove.button": "Remove the passkey",
    "passkey-new.title": "Add a passkey",
    "passkey-new.first": "Your account is there. Add a passkey, so that you can sign in again.",
    "passkey-new.text": "Your browser asks where to keep it, and for your finger, face or PIN.",
    "passkey-new.signs-out": "Your other devices are signed out.",
    "passkey-new.button": "Make the passkey",
    "passkey-new.password": "Set a password instead",
    "passkey-new.later": "Not now",
    # -- what passkeys.js says
    "passkey.busy": "Follow the instructions of your browser.",
    "passkey.done": "Done.",
    "passkey.cancelled": "Nothing happened: it was cancelled, took too long, or no passkey fits.",
    "passkey.exists": "This device has a passkey of yours already.",
    "passkey.failed": "That did not work. Try again.",
    "passkey.full": "You have as many passkeys as allowed. Remove one first.",
    "passkey.refused": "This passkey was not accepted.",
    "passkey.site": "Passkeys do not work at this address.",
    "passkey.stale": "That took too long. Try again.",
    "passkey.unsupported": "This browser cannot use passkeys.",
    # -- authenticator apps
    "totp.title": "Authenticator app",
    "totp.text": "An app that shows a new code every 30 seconds. You are asked for one after your password.",
    "totp.none": "You have none set up.",
    "totp.add": "Add an authenticator app",
    "totp.remove": "Remove",
    "totp.remove.of": "Remove {label}",
    "totp.remove.title": "Remove this authenticator app?",
    "totp.remove.text": "Codes of “{label}” are not accepted any more. Your other devices are signed out.",
    "totp.remove.button": "Remove the app",
    "totp-new.title": "Add an authenticator app",
    "totp-new.scan": "Scan this with the app",
    "totp-new.picture": "QR code for the authenticator app",
    "totp-new.key": "Or type this key into it",
    "totp-new.confirm": "Then type the code that it shows",
    "totp-new.button": "Confirm",
    # -- recovery codes
    "recovery.title": "Recovery codes",
    "recovery.text": "Ten codes that work once each, in place of your second factor. Keep them on paper, away from your device.",
    "recovery.none": "You have made none yet.",
    "recovery.some": "You have {n} left.",
    "recovery.low": "That is few. Make new ones.",
    "recovery.make": "Make recovery codes",
    "recovery.again": "Make new codes",
    "recovery.again.text": "The old ones stop working at once. Your other devices are signed out.",
    "recovery.show.title": "Your recovery codes",
    "recovery.show.text": "They are shown this once. Print them or write them down now.",
    "recovery.show.list": "Recovery codes",
    "recovery.print": "Print",
    "recovery.kept": "I have kept them",
    "recovery.of": "{name}, {login}",
    # -- password
    "password.title": "Change your password",
    "password.title.first": "Set a password",
    "password.text": "Your other devices are signed out.",
    "password.button": "Save the password",
    # -- devices
    "devices.title": "Devices",
    "devices.text": "Where you are signed in. End what you do not need, or do not know.",
    "devices.unlisted": "Other devices cannot be listed here. You can sign out all of them.",
    "devices.this": "This device",
    "devices.seen": "Last used {when}.",
    "devices.since": "Signed in {when}.",
    "devices.place": "Signed in near {place}.",
    "devices.pending": "Has not finished signing in.",
    "devices.end": "Sign out",
    "devices.end.of": "Sign out {label}",
    "devices.not-me": "This wasn’t me",
    "devices.not-me.of": "This wasn’t me: {label}",
    "devices.others": "Sign out all other devices",
    "devices.end.title": "Sign out this device?",
    "devices.end.text": "“{label}” is signed out at once.",
    "devices.end.button": "Sign it out",
    "devices.others.title": "Sign out all other devices?",
    "devices.others.text": "Only this device stays signed in.",
    "devices.others.button": "Sign them out",
    "devices.not-me.title": "Somebody else used your account?",
    "devices.not-me.text": "“{label}” and all your other devices are signed out at once. Then prove that it is you, and change your password: whoever was there may know it.",
    "devices.not-me.button": "Sign all of them out",
    # -- activity
    "activity.title": "Activity",
    "activity.text": "The last things that happened to your account. What you do not recognise may have been somebody else.",
    "activity.none": "Nothing yet.",
    "activity.times": "{n} times, last {when}",
    "activity.on": "on {device}",
    "activity.doubt": "Something you do not recognise?",
    "activity.doubt.link": "See your devices",
    "log.signed-in": "Signed in with {factor}.",
    "log.begun": "Somebody gave the right {factor}, and a second factor was asked for.",
    "log.proved": "Proved {factor}.",
    "log.added": "Added: {factor}.",
    "log.changed": "Changed: {factor}.",
    "log.removed": "Removed: {factor}.",
    "log.recovery-used": "A recovery code was used.",
    "log.failed": "A wrong {factor} was refused.",
    "log.limited": "Too many wrong attempts ({factor}): the next ones had to wait.",
    "log.clone": "A copy of one of your passkeys may exist. Remove it and add a new one.",
    "log.replay": "A copy of a session was used, and the session was ended.",
    "log.moved": "A session was used from another network or browser.",
    "log.ended-logout": "Signed out.",
    "log.ended-user": "Another device was signed out.",
    "log.ended-replay": "A session ended, because a copy of it was used.",
    "log.ended-binding": "A session ended, because it moved to another browser.",
    "log.ended-admin": "The people who run {name} ended a session.",
    "log.ended-provider": "Signed out by the provider that you sign in with.",
    "log.ended-signal": "Signed out, because you were signed out of another application.",
    "log.ended-all": "Signed out on all devices.",
    "way.password": "password",
    "way.totp": "authenticator code",
    "way.recovery": "recovery code",
    "way.passkey": "passkey",
    "way.security-key": "security key",
    "way.touch": "touch of a security key",
    "way.email": "e-mail code",
    "way.other": "another way",
    # -- what was done
    "done.passkey-added": "The passkey was added.",
    "done.passkey-renamed": "The passkey has a new name.",
    "done.passkey-removed": "The passkey was removed.",
    "done.totp-added": "The authenticator app was added.",
    "done.totp-removed": "The authenticator app was removed.",
    "done.password": "The password was changed. Your other devices are signed out.",
    "done.reset": "The password was changed, and all devices are signed out. Sign in with the new password.",
    "done.ended": "Signed out: {n}.",
    "done.ended-unsure": "Signed out: {n}. Not every server has confirmed it yet; it is repeated until they have.",
    "done.others": "All other devices are signed out.",
    "done.others-unsure": "All other devices are signed out. Not every server has confirmed it yet; it is repeated until they have.",
    "done.not-me": "All other devices are signed out. Now choose a new password.",
    "done.not-me-passkey": "All other devices are signed out. Now look through your passkeys, and remove what you do not know.",
    "done.welcome": "Welcome. Your account is there.",
    # -- nothing here
    "missing.title": "Not here",
    "missing.text": "There is nothing at this address.",
    "closed.text": "Accounts are made by the people who run {name}.",
    # -- messages
    "mail.changed.subject": "Your account at {name} has changed",
    "mail.changed.text": "This happened to your account at {name}:\n\n    {what}\n\nIf it was you, you need do nothing. If not, sign out all other devices and change your password:\n\n    {url}\n",
}


class Texts:
    """Say things: `texts(id, **values)`.

    Raises:
        ConfigurationError: an id is unknown, or a text has a place that its English has not.
    """

    def __init__(self, other: Mapping[str, str]) -> None:
        for key, text in other.items():
            if key not in ENGLISH:
                raise ConfigurationError(f"there is no text {key!r}; see sessile.auth.texts")
            if not _places(text) <= _places(ENGLISH[key]) | {"name"}:
                raise ConfigurationError(f"the text {key!r} has places that are not filled: {ENGLISH[key]!r}")
        self._texts = {**ENGLISH, **other}

    def __call__(self, key: str, /, **values: Any) -> str:
        """Return a text with its places filled."""
        return self._texts[key].format(**values)

    def raw(self, key: str) -> str:
        """Return a text with its places, for who fills them with markup."""
        return self._texts[key]

    def line(self, code: str, about: str, **values: Any) -> str:
        """Return what an entry of the activity says."""
        return self(f"log.{code}", factor=self(f"way.{about}") if about else "", **values)


def _places(text: str) -> set[str]:
    try:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError:
        raise ConfigurationError(f"the text {text!r} has a brace too many or too few") from None
