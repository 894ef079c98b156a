"""How the pages look: a handful of CSS custom properties, for light and for dark, and a logo.

They are served as a stylesheet, for the policy allows no style in a page. What is written here goes into it as it is,
so only what can be a value may: no semicolon, no brace, no address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ...errors import ConfigurationError

KINDS: Final = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}
_NAME: Final = re.compile(r"[a-z][a-z-]{0,30}", re.ASCII)
_VALUE: Final = re.compile(r"[\w #.,%()\"'+*/-]{1,200}", re.ASCII)
_MAX_LOGO: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Say how the pages look.

    `light` and `dark` set properties of `static/account.css` by name (`{"accent": "#7c3aed"}`); `font`, `radius` and
    `logo` (a file) are for both. Contrast is yours to keep: text on `paper`, `raised` and `accent` needs 4.5 to 1.

    Raises:
        ConfigurationError: a value cannot stand in a stylesheet, or the logo is no picture.
    """

    light: Mapping[str, str] = field(default_factory=dict[str, str])
    dark: Mapping[str, str] = field(default_factory=dict[str, str])
    font: str | None = None
    radius: str | None = None
    logo: Path | None = None

    def __post_init__(self) -> None:
        both = {"font": self.font, "radius": self.radius}
        for name, value in [*self.light.items(), *self.dark.items(), *both.items()]:
            if value is not None and (
                not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or "url(" in value.lower()
            ):
                raise ConfigurationError(f"--{name}: {value!r} cannot stand in a stylesheet")
        if self.logo is not None and Path(self.logo).suffix.lower() not in KINDS:
            raise ConfigurationError(f"a logo is one of {', '.join(KINDS)}")

    def stylesheet(self) -> str:
        """Return the theme as CSS."""
        both = {name: value for name, value in (("font", self.font), ("radius", self.radius)) if value is not None}
        light = _rule({**self.light, **both})
        dark = _rule(self.dark)
        return light + (f"@media (prefers-color-scheme: dark) {{\n{dark}}}\n" if dark else "")

    def picture(self) -> tuple[str, bytes] | None:
        """Return the logo's media type and bytes.

        Raises:
            ConfigurationError: it cannot be read, or is larger than a megabyte.
        """
        if self.logo is None:
            return None
        path = Path(self.logo)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the logo cannot be read: {error}") from error
        if len(data) > _MAX_LOGO:
            raise ConfigurationError("a logo has up to a megabyte")
        return KINDS[path.suffix.lower()], data


def _rule(properties: Mapping[str, str]) -> str:
    lines = "".join(f"  --{name}: {value};\n" for name, value in properties.items())
    return f":root {{\n{lines}}}\n" if lines else ""
