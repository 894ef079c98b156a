"""`sessile demo`: serve the demo."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigurationError


def demo(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, metavar="N", help="The port; 0 takes a free one.")
    ] = 8000,
    directory: Annotated[
        Path, typer.Option("--directory", file_okay=False, help="Where the demo keeps its databases.")
    ] = Path(".demo"),
    sso: Annotated[
        bool, typer.Option("--sso", help="Show single sign-on: a real provider and two applications (needs Node).")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Serve a small shop whose sessions you can attack."""
    from ..demo import run

    try:
        if sso:
            from ..demo import sso as single

            single.run(port=port, directory=directory, open_browser=browser and _has_screen())
            return
        run(host=host, port=port, directory=directory, open_browser=browser and _has_screen())
    except OSError as error:
        raise ConfigurationError(f"the demo cannot be served: {error.strerror or error}") from error


def _has_screen() -> bool:
    """Tell whether a browser has a window to open in; a text browser would take the terminal away from the demo."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
