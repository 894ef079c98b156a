"""One Django project for all tests of a process: Django can be configured only once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command

OURS = "sessile.adapters.django.SessionMiddleware"


def configure() -> None:
    """Configure Django, if nobody has, and make its tables in a file of this process."""
    if settings.configured:
        return
    directory = Path(tempfile.mkdtemp(prefix="sessile-django-"))
    settings.configure(
        SECRET_KEY="a key for tests",
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        USE_TZ=True,
        ROOT_URLCONF="tests.support.django_urls",
        STATIC_URL="/static/",
        LOGGING_CONFIG=None,
        LOGIN_URL="/sign-in/",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(directory / "django.db")}},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
        ],
        MIDDLEWARE=[
            OURS,
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        SESSION_ENGINE="sessile.adapters.django",
        SESSILE={"store": "memory://"},
    )
    django.setup()
    call_command("migrate", verbosity=0)


def use(**options: Any) -> None:
    """Let the process use these settings of SESSILE from now on."""
    from sessile.adapters.django.doors import reopen

    settings.SESSILE = options
    reopen()
