"""`sessile sessions …`: find and end sessions from outside the application.

Sessions are named by their ids, which grant nothing; the first six characters do if no other session begins with them.
Deadlines are those that the application stored, whatever its policy. Values of the application's data are not shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
import typer

from ..core.bridge import drive
from ..core.ids import is_session_id
from ..core.info import Ended, SessionInfo, describe
from ..core.ports import InCookies, Sweeping
from ..core.record import EndReason, Record, Tombstone, Unreadable
from ..core.sessions import Sessions
from ..errors import ConfigurationError, Unsupported
from .output import (
    JsonOption,
    Progress,
    instant,
    is_terminal,
    note,
    relative,
    say,
    say_json,
    say_pairs,
    say_row,
    say_table,
)
from .store import StoreOption, existing

PAGE: Final = 500
SHORTEST: Final = 6
SHOWN: Final = 12
ON_A_TERMINAL: Final = 100

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The user id, as the application signs in with it.")]

app = typer.Typer(help="Find and end sessions.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_sessions(
    store: StoreOption = "",
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="Only this user's.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=0,
            metavar="N",
            help=f"At most so many; 0: all. Default: {ON_A_TERMINAL} on a terminal, else all.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List live sessions.

    In a pipe, a line holds: id, user, kind, device, created, last used, end. With --json it is an object.
    """
    people = is_terminal() and not as_json
    most = (ON_A_TERMINAL if people else 0) if limit is None else limit
    with existing(store) as sessions, Progress("Reading", lambda: sessions.stats().live) as advance:
        found = _of_user(sessions, user) if user is not None else _all(sessions, advance)
        shown = islice(found, most) if most else found
        if not people:
            for one in shown:
                say_json(_object(one)) if as_json else say_row(_row(one))
            return
        listed = list(shown)
        more = next(found, None) is not None
    now = time.time()
    columns = ("id", "user", "kind", "device", "last used", "ends")
    say_table(columns, [_cells(one, now) for one in listed], styles=["cyan"] * len(listed))
    if more:
        note(f"There are more than these {len(listed)}; --limit 0 lists all.")
    elif not listed:
        note("No live session.")


@app.command()
def show(
    session: Annotated[str, typer.Argument(metavar="ID", help="A session id, or its first 6 characters or more.")],
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one session.

    Of its data, the keys and sizes are shown, the values are not.
    """
    with existing(store) as sessions:
        [sid] = _resolved(sessions, [session])
        found = drive(sessions.engine.store.load(sid))
    now = time.time()
    if isinstance(found, Record) and found.expires_at > now:
        details = _details(sid, found)
    elif isinstance(found, Tombstone) and found.expires_at > now:
        details = {"id": sid, "kind": "ended", "user": found.user, "reason": str(found.reason), "ended_at": found.at}
    elif isinstance(found, Unreadable):
        details = {"id": sid, "kind": "unreadable", "why": found.why}
    else:
        raise _unknown()
    if as_json:
        say_json(details)
        return
    say_pairs((name, _worded(name, value, now)) for name, value in details.items())


@app.command()
def end(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Session ids, or their first 6 characters or more.")
    ],
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """End sessions, for every copy of their tokens, at once.

    Applications that share signals are not told: `sessile signals end-user` tells them.
    """
    with existing(store) as sessions:
        outcomes = [(sid, _end(sessions, sid)) for sid in _resolved(sessions, ids)]
    for sid, outcome in outcomes:
        say_json({"id": sid, "outcome": outcome}) if as_json else say_row((sid, outcome))
    if any(outcome == "unknown" for _, outcome in outcomes):
        raise typer.Exit(1)


@app.command("end-user")
def end_user(user: UserArgument, store: StoreOption = "", as_json: JsonOption = False) -> None:
    """End all sessions of a user.

    Exits with 1 if there was none. Applications that share signals are not told: `sessile signals end-user` tells them.
    """
    with existing(store) as sessions:
        count = sessions.end_all(user, reason=EndReason.ADMIN)
        nobody_knows = isinstance(sessions.engine.store, InCookies)
    if nobody_knows:
        _told_all("Ended every session of this user; how many that were, only their browsers know.", count, as_json)
        return
    _told("ended", count, as_json, f"Ended {_counted(count)}.{_surely(count)}")
    if not count:
        raise typer.Exit(1)


@app.command("end-all")
def end_all(
    store: StoreOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End every session of every user, in one step.

    Applications that share signals are not told.
    """
    with existing(store) as sessions:
        nobody_knows = isinstance(sessions.engine.store, InCookies)
        live = 0 if nobody_knows else sessions.stats().live
        if not yes:
            if not sys.stdin.isatty():
                raise ConfigurationError("this signs everybody out; say --yes")
            question = "End every session?" if nobody_knows else f"End all {_counted(live)}?"
            typer.confirm(question, abort=True, err=True)
        ended = sessions.end_everything()
    if nobody_knows:
        _told_all("Ended every session; how many that were, only their browsers know.", ended, as_json)
        return
    swept = "`sessile sessions sweep` removes what is left of them."
    _told("ended", live, as_json, f"Ended {_counted(live)}. {swept}{_surely(ended)}")


@app.command()
def sweep(store: StoreOption = "", as_json: JsonOption = False) -> None:
    """Remove what has ended or expired.

    Applications do it by themselves too, little by little.
    """
    removed = 0
    with existing(store) as sessions, Progress("Sweeping") as advance:
        if not isinstance(sessions.engine.store, Sweeping):
            raise Unsupported("this store removes what has expired by itself")
        while count := sessions.sweep(PAGE):
            removed += count
            advance(count)
    _told("removed", removed, as_json, f"Removed {removed:,} rows.")


@app.command()
def stats(store: StoreOption = "", as_json: JsonOption = False) -> None:
    """Count live sessions, signed-in ones, users and tombstones."""
    with existing(store) as sessions:
        counts = sessions.stats()._asdict()
    if as_json:
        say_json(counts)
    else:
        say_pairs((name, str(count)) for name, count in counts.items())


# -- finding -----------------------------------------------------------------------------------------------------------


def _scanned(sessions: Sessions, advance: Callable[[int], None]) -> Iterator[tuple[str, Record]]:
    cursor: str | None = None
    while True:
        page = sessions.scan(cursor, limit=PAGE)
        yield from page.sessions
        advance(len(page.sessions))
        if page.cursor is None:
            return
        cursor = page.cursor


def _all(sessions: Sessions, advance: Callable[[int], None]) -> Iterator[SessionInfo]:
    now = time.time()
    for sid, record in _scanned(sessions, advance):
        if record.expires_at > now:
            yield describe(sid, record, deadline=record.expires_at)


def _of_user(sessions: Sessions, user: str) -> Iterator[SessionInfo]:
    now = time.time()
    for sid, record in drive(sessions.engine.index.of_user(user)):
        if record.expires_at > now:
            yield describe(sid, record, deadline=record.expires_at)


def _resolved(sessions: Sessions, names: Sequence[str]) -> list[str]:
    """Return the whole ids that `names` begin.

    Raises:
        ConfigurationError: one is no beginning of an id, of none that lives, or of several. It is never repeated: it
            may be a token, pasted by mistake.
    """
    wanted = {name: name.strip().lower() for name in names}
    for text in wanted.values():
        if len(text) < SHORTEST or text.strip("0123456789abcdef") or len(text) > 40:
            raise ConfigurationError(
                f"a session id is 40 hexadecimal digits, or the first {SHORTEST} of them or more; a token is no id"
            )
    short = {text: set[str]() for text in wanted.values() if not is_session_id(text)}
    if short:
        with Progress("Looking", lambda: sessions.stats().live) as advance:
            for sid, _ in _scanned(sessions, advance):
                for text, found in short.items():
                    if sid.startswith(text):
                        found.add(sid)
    for text, found in short.items():
        if not found:
            raise _unknown()
        if len(found) > 1:
            raise ConfigurationError(f"{len(found)} sessions begin with {text}; give more of the id")
    return list(dict.fromkeys(next(iter(short[text])) if text in short else text for text in wanted.values()))


def _unknown() -> ConfigurationError:
    return ConfigurationError("there is no session with this id, alive or ended lately")


def _surely(ended: Ended) -> str:
    return "" if ended.confirmed else " Not every copy of the store has confirmed it: run this again."


def _end(sessions: Sessions, sid: str) -> str:
    if isinstance(sessions.engine.store, InCookies):
        ended = sessions.end(sid)
        return "had ended" if not ended else "ended" if ended.confirmed else "ended, unconfirmed"
    before = drive(sessions.engine.store.load(sid))
    user = before.control.user if isinstance(before, Record) else None
    if ended := sessions.end(sid, user=user):
        return "ended" if ended.confirmed else "ended, unconfirmed"
    return f"had ended ({before.reason})" if isinstance(before, Tombstone) else "unknown"


# -- saying ------------------------------------------------------------------------------------------------------------


def _object(one: SessionInfo) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(one)
    del built["current"]
    built["factors"] = [{"name": factor.name, "at": factor.at} for factor in one.factors]
    return built


def _row(one: SessionInfo) -> tuple[str, ...]:
    times = map(instant, (one.created_at, one.seen_at, one.expires_at))
    return (one.id, one.user or "", one.kind, one.label, *times)


def _cells(one: SessionInfo, now: float) -> tuple[str, ...]:
    times = (relative(one.seen_at, now), relative(one.expires_at, now))
    return (one.id[:SHOWN], one.user or "-", one.kind, one.label, *times)


def _details(sid: str, record: Record) -> dict[str, Any]:
    control = record.control
    details = _object(describe(sid, record, deadline=record.expires_at))
    details["generation"] = control.generation
    details["rotated_at"] = control.rotated_at
    details["challenged"] = control.challenged
    details["data"] = {key: len(bytes(value)) for key, value in record.data.items()}
    return details


def _worded(name: str, value: Any, now: float) -> str:
    if name.endswith("_at"):
        return f"{instant(value)} ({relative(value, now)})" if is_terminal() else instant(value)
    if name == "factors":
        return ", ".join(f"{one['name']} {instant(one['at'])}" for one in value)
    if name == "data":
        return ", ".join(f"{key} ({size} bytes)" for key, size in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _counted(count: int) -> str:
    return "1 session" if count == 1 else f"{count:,} sessions"


def _told_all(sentence: str, ended: Ended, as_json: bool) -> None:
    if as_json:
        say_json({"ended": None, "outcome": ended.outcome})
    else:
        say(sentence + _surely(ended) if is_terminal() else ended.outcome)


def _told(name: str, count: int, as_json: bool, sentence: str) -> None:
    if as_json:
        say_json({name: count})
    else:
        say(sentence if is_terminal() else str(count))
