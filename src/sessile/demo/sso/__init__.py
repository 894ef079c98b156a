"""The single sign-on part of the demo: a real provider, two applications, and a page that shows them side by side."""

from __future__ import annotations

from ...errors import ExtraMissing

try:
    import httpx as _httpx
    import joserfc as _joserfc
except ImportError as error:
    raise ExtraMissing("The demo of single sign-on", "demo,oidc") from error

from .run import run

del _httpx, _joserfc

__all__ = ["run"]
