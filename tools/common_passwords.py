"""Make `sessile/auth/passwords/common.txt.gz` from the list that an installed Django brings along (BSD-3-Clause).

python -m tools.common_passwords
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import django.contrib.auth

COUNT: Final = 10_000
SOURCE: Final = Path(django.contrib.auth.__file__).parent / "common-passwords.txt.gz"
TARGET: Final = Path(__file__).parents[1] / "src/sessile/auth/passwords/common.txt.gz"


def chosen() -> list[str]:
    """Return the passwords that are taken: the first of the list, which begins with the most common ones."""
    listed = gzip.decompress(SOURCE.read_bytes()).decode().split("\n")
    return sorted({word.strip().casefold() for word in listed[:COUNT]} - {""})


if __name__ == "__main__":
    TARGET.write_bytes(gzip.compress("\n".join(chosen()).encode(), mtime=0))
