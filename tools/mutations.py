"""Remove the guard of each invariant, one at a time, in a copy of the tree, and show which named tests notice.

    python tools/mutations.py        # needs the development environment; about two minutes

A mutation that no test of its invariant notices makes the exit status 1.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutation(NamedTuple):
    """Hold one guard: which invariant it belongs to, where it stands, and what is left when it is gone."""

    invariant: str
    guard: str
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation(
        "TestLoginIsRotationAndTheOldTokenIsDead",
        "the renewal replaces the old session",
        "core/engine.py",
        "replaces = self._replaces(session, now) if takes_over else None",
        "replaces = None",
    ),
    Mutation(
        "TestTheEndIsFinal",
        "a sign-out ends the record, not the cookie alone",
        "core/engine.py",
        "ending = await self.store.end(sid, self._tombstone(EndReason.LOGOUT, user))",
        "ending = Ending(((sid, user),))",
    ),
    Mutation(
        "TestAResponseThatCarriesASessionIsNeverCacheable",
        "Cache-Control of a response with a session",
        "core/answers.py",
        "if self.cookie is not None or self.carries:",
        "if False:",
    ),
    Mutation(
        "TestWhatCannotBeVerifiedIsRefusedAndAnOutageFailsClosed",
        "the tag is compared",
        "core/ids.py",
        "if not hmac.compare_digest(mac.digest()[:TAG_BYTES], raw[BODY_BYTES:]):",
        "if False:",
    ),
    Mutation(
        "TestAPartlyAuthenticatedSessionIsNotAuthenticated",
        "a pending session is refused by require()",
        "core/session.py",
        'if control.pending:\n            raise StepUpRequired("pending"',
        'if False:\n            raise StepUpRequired("pending"',
    ),
    Mutation(
        "TestEverythingIsBoundToTheBrowserThatStartedIt",
        "a branch that was left behind is a replay",
        "core/rotation.py",
        "return Verdict(Standing.IN_FLIGHT if now - left <= grace else Standing.REPLAY, control)",
        "return Verdict(Standing.LIVE, control)",
    ),
    Mutation(
        "TestLoginIsRotationAndTheOldTokenIsDead",
        "another user's data is left behind at a sign-in",
        "core/session.py",
        "control.user is not None and control.user != user:\n            self._forget(_NO_KEYS)",
        "control.user is not None and control.user != user:\n            pass",
    ),
    Mutation(
        "TestNoRequestEverSeesAnotherUsersSession",
        "every request has a session object of its own",
        "core/engine.py",
        "session = opened.kind(self.rules, record, sid)",
        'session = self.__dict__.setdefault("shared", opened.kind(self.rules, record, sid))',
    ),
)


def main() -> int:
    """Run all mutations; print one line each."""
    survived = 0
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for part in ("src", "tests", "docs", "tools"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for mutation in MUTATIONS:
            path = copy / "src" / "sessile" / mutation.file
            text = path.read_text()
            if mutation.old not in text:
                print(f"STALE     {mutation.invariant}: {mutation.guard}: the guard no longer reads like this")
                survived += 1
                continue
            path.write_text(text.replace(mutation.old, mutation.new))
            failed, passed = _run(copy, mutation.invariant)
            path.write_text(text)
            survived += failed == 0
            print(
                f"{'noticed' if failed else 'SURVIVED':<9} {mutation.invariant}: {mutation.guard}: "
                f"{failed} fail, {passed} pass"
            )
    return 1 if survived else 0


def _run(copy: Path, invariant: str) -> tuple[int, int]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/invariants/test_invariants.py"]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    done = subprocess.run(
        [*command, "-k", invariant], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (failed|passed)", done.stdout)}
    return counts.get("failed", 0), counts.get("passed", 0)


if __name__ == "__main__":
    raise SystemExit(main())
