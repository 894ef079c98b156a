"""`import sessile` is light: the standard library and msgspec, nothing else, and little time."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median

import pytest

ALLOWED = {"msgspec", "sessile"}

# A finder in front of all others hears every import, also one that is tried and caught, and looks who asked:
# msgspec tries typing_extensions, the standard library tries Jython's modules.
LISTEN = """
import json, sys

asked = []

class Listener:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while "importlib" in frame.f_globals.get("__name__", ""):
            frame = frame.f_back
        asked.append((frame.f_globals["__name__"], name))
        return None

sys.meta_path.insert(0, Listener())
import {module}
print(json.dumps(asked))
"""

CLOCK = "import time; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"


def run(code: str) -> str:
    """Run code in a fresh interpreter that inherits nothing."""
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", ["sessile", "sessile.stores.memory", "sessile.stores.sqlite"])
def test_importing_loads_the_standard_library_and_msgspec_alone(module: str) -> None:
    """No framework, no driver, not even tried."""
    asked = json.loads(run(LISTEN.format(module=module)))
    by_sessile = {name.partition(".")[0] for asker, name in asked if asker.partition(".")[0] in {"sessile", "__main__"}}
    assert by_sessile - sys.stdlib_module_names == ALLOWED


@pytest.mark.slow
def test_importing_costs_little_more_than_what_it_stands_on() -> None:
    """At most 1.6 times `import json, sqlite3, hmac, msgspec, asyncio`, medians of interleaved runs."""
    floor, ours = [], []
    for _ in range(15):
        floor.append(float(run(CLOCK.format(modules="json, sqlite3, hmac, msgspec, asyncio"))))
        ours.append(float(run(CLOCK.format(modules="sessile"))))
    assert median(ours) <= 1.6 * median(floor), f"{median(ours) / median(floor):.2f} times"
