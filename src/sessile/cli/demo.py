"""`sessile demo`: serve the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ExtraMissing


def demo(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, metavar="N", help="The port; 0 takes a free one.")
    ] = 8000,
    directory: Annotated[
        Path, typer.Option("--directory", file_okay=False, help="Where the demo keeps its databases.")
    ] = Path(".demo"),
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Serve a small shop whose sessions you can attack."""
    try:
        from ..demo import run
    except ModuleNotFoundError as error:
        raise ExtraMissing("The demo", "demo") from error
    run(host=host, port=port, directory=directory, open_browser=browser)
