"""The hypothesis profiles: `ci` is bounded and always the same, `quick` is less of it, `thorough` searches on and on.

HYPOTHESIS_PROFILE=thorough python -m pytest --timeout=0 tests/properties
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=_SLOW,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=25)
settings.register_profile(
    "thorough",
    max_examples=5000,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=_SLOW,
)


def load_profile() -> None:
    """Load the profile that HYPOTHESIS_PROFILE names; `ci` without it."""
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
