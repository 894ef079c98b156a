"""The old Django project: a view that writes a session as its developers do, and one that says what is there."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.urls import path

DATA: dict[str, Any] = {}


class JsonInCache:
    """Write a cache as JSON, as a project that had thought of it would."""

    def dumps(self, value: Any) -> bytes:
        """Return the bytes."""
        return json.dumps(value).encode()

    def loads(self, raw: bytes) -> Any:
        """Return the value."""
        return json.loads(raw)


def write(request: HttpRequest) -> JsonResponse:
    """Sign in by contrib.auth if the data says so, and keep the rest."""
    data = dict(DATA)
    user = data.pop("_auth_user_id", None)
    if user is not None:
        found, _ = User.objects.get_or_create(pk=int(user), defaults={"username": f"user-{user}"})
        login(request, found, backend="django.contrib.auth.backends.ModelBackend")
    expiry = data.pop("expiry", None)
    if expiry is not None:
        request.session.set_expiry(expiry)
    request.session.update(data)
    return JsonResponse({})


def read(request: HttpRequest) -> JsonResponse:
    """Say what the session holds."""
    return JsonResponse({key: repr(value) for key, value in request.session.items()})


urlpatterns = [path("write", write), path("read", read)]
