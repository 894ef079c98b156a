"""The application, for projects that list `sessile.adapters.django` in INSTALLED_APPS: `check` then runs ours."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class SessileConfig(AppConfig):
    """Be an application without models, whose label is no framework's name."""

    name = "sessile.adapters.django"
    label = "sessile"
    verbose_name = "Sessile"

    def ready(self) -> None:
        """Register the checks."""
        import_module(".checks", "sessile.adapters.django")
