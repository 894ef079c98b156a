"""`sessile doctor`: examine a configuration, name what is unsafe and which requirement it fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final

import typer

from ..errors import ConfigurationError
from . import targets
from .checks import Finding, examine, examine_vault, refused, sorted_by_weight
from .output import JsonOption, clean, is_terminal, note, say_json, say_row
from .store import ENVIRONMENT

_MARKS: Final = {"fail": ("✗", "bold red"), "warn": ("!", "bold yellow"), "ok": ("✓", "green")}


def doctor(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:ATTRIBUTE]",
            help="A Sessions object or an application, as in shop.main:app or shop:create_app().",
            show_default=False,
        ),
    ] = None,
    django: Annotated[
        str | None, typer.Option("--django", metavar="SETTINGS", help="A Django project, by its settings module.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", "--store", envvar=ENVIRONMENT, metavar="URL", help="A store alone, if no target is given."
        ),
    ] = None,
    vault: Annotated[
        str | None,
        typer.Option("--vault", metavar="URL", help="A vault, alone or beside the others.", show_default=False),
    ] = None,
    production: Annotated[
        bool | None,
        typer.Option(
            "--production/--development",
            help="Judge as for production, or not. Default: what the configuration says.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Examine a configuration and say what is unsafe.

    Each finding names the requirement that it fails and how to mend it. Exits with 1 if something is unsafe.
    """
    findings = _findings(target, django, url, production) if target or django or url or not vault else ()
    if vault:
        findings = sorted_by_weight((*findings, *examine_vault(targets.of_vault(vault))))
    failed = sum(one.severity == "fail" for one in findings)
    if as_json:
        say_json({"failed": failed, "findings": [one._asdict() for one in findings]})
    elif is_terminal():
        _print(findings)
    else:
        for one in findings:
            say_row((one.severity, one.requirement, one.code, one.found, one.means, one.mend))
    if failed:
        raise typer.Exit(1)


def _findings(target: str | None, django: str | None, url: str | None, production: bool | None) -> tuple[Finding, ...]:
    if target is not None and django is not None:
        raise ConfigurationError("give a target or --django, not both")
    if production is not None:
        # Read when the application starts, unless its code says otherwise; then the judgement alone is another.
        os.environ["SESSILE_PRODUCTION"] = "1" if production else "0"
    try:
        if django is not None:
            deployment = targets.of_django(django)
        elif target is not None:
            deployment = targets.of_object(target)
        elif url:
            deployment = targets.of_url(url)
        else:
            raise ConfigurationError("what is to be examined? Give module:attribute, --django SETTINGS or --url URL")
    except targets.Refused as refusal:
        return (refused(refusal.error.code, str(refusal)),)
    return examine(deployment if production is None else replace(deployment, production=production))


def _print(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for one in findings:
        mark, style = _MARKS[one.severity]
        console.print(Text.assemble((f"{mark} ", style), clean(one.found), ("  " + one.requirement, "dim")))
        for text in filter(None, (one.means, one.mend)):
            console.print(Padding(Text(clean(text), style="dim" if text is one.means else ""), (0, 0, 0, 2)))
    counted = {severity: sum(one.severity == severity for one in findings) for severity in _MARKS}
    note(f"\n{counted['fail']} unsafe, {counted['warn']} to look at, {counted['ok']} as they should be")
