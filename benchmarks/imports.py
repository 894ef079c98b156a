"""What `import sessile` costs beside the imports that any such library needs, as whole processes in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

NEEDED = "import json, sqlite3, hmac, msgspec, asyncio"
OURS = "import sessile"


def ratio(runs: int) -> float:
    """Return the median time of ours over the median time of what is needed anyway."""
    samples: dict[str, list[float]] = {NEEDED: [], OURS: []}
    # What is installed has its bytecode: one run writes it, wherever the environment says otherwise.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", OURS], check=True, env=environment)
    for _ in range(runs):
        for code, listed in samples.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            listed.append(time.perf_counter() - start)
    return statistics.median(samples[OURS]) / statistics.median(samples[NEEDED])
