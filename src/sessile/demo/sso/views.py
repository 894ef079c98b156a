"""The pages of the demo of single sign-on, and the policy that they carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from ..pages import POLICY, ago

_HERE = Path(__file__).parent


class Views:
    """Render templates."""

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        filters: dict[str, Any] = {"ago": ago}
        self._templates.filters.update(filters)

    def render(self, template: str, **values: Any) -> str:
        """Return a page."""
        return self._templates.get_template(template).render(**values)

    def policy(self, issuer: str = "") -> dict[str, str]:
        """Return the security headers; a sign-out's form leads on to the provider, which counts as its target."""
        policy = POLICY.replace("form-action 'self'", f"form-action 'self' {issuer}".rstrip())
        return {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
            "cache-control": "no-store",
        }
