"""The demo: a small shop whose sessions behave as promised, and that you can attack."""

from __future__ import annotations

from ..errors import ExtraMissing

try:
    import argon2 as _argon2
    import jinja2 as _jinja2
    import jwt as _jwt
    import starlette as _starlette
    import uvicorn as _uvicorn
except ImportError as error:
    raise ExtraMissing("The demo", "demo") from error

from .server import run

del _argon2, _jinja2, _jwt, _starlette, _uvicorn

__all__ = ["run"]
