"""The pages of the Django project that tests use."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import alogin, alogout, authenticate, login, logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from sessile.adapters.django import SessionRequiredMixin, requires


def home(request: HttpRequest) -> HttpResponse:
    """Count visits, and say who this is."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"], "user": str(request.user), "id": request.session.id})


def plain(_request: HttpRequest) -> HttpResponse:
    """Look at no session."""
    return HttpResponse("plain")


@csrf_exempt
def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in with contrib.auth."""
    user = authenticate(request, username=request.POST["name"], password=request.POST["password"])
    if user is None:
        return HttpResponse("no", status=401)
    login(request, user)
    messages.info(request, "welcome")
    return HttpResponse("in")


@csrf_exempt
def sign_out(request: HttpRequest) -> HttpResponse:
    """Sign out with contrib.auth."""
    logout(request)
    return HttpResponse("out")


@csrf_exempt
def change_password(request: HttpRequest) -> HttpResponse:
    """Change the password, and keep this session."""
    request.user.set_password(request.POST["password"])
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse("changed")


def said(request: HttpRequest) -> HttpResponse:
    """Show the messages."""
    return JsonResponse({"messages": [str(message) for message in messages.get_messages(request)]})


async def async_home(request: HttpRequest) -> HttpResponse:
    """Count visits from an async view."""
    visits = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", visits)
    return JsonResponse({"visits": visits, "user": str(await request.auser())})


@csrf_exempt
async def async_sign(request: HttpRequest, how: str) -> HttpResponse:
    """Sign in or out from an async view."""
    if how == "in":
        from django.contrib.auth.models import User

        await alogin(request, await User.objects.aget(username="ada"), "django.contrib.auth.backends.ModelBackend")
    else:
        await alogout(request)
    return HttpResponse(how)


def save_now(request: HttpRequest) -> HttpResponse:
    """Save in the midst of a view, as some packages do to get a key, and go on."""
    request.session["first"] = 1
    request.session.save()
    key = request.session.session_key
    request.session["second"] = 2
    return JsonResponse({"key": key})


async def async_save_now(request: HttpRequest) -> HttpResponse:
    """The same, from an async view."""
    request.session["first"] = 1
    await request.session.asave()
    request.session["second"] = 2
    return JsonResponse({"key": request.session.session_key})


def broken(request: HttpRequest) -> HttpResponse:
    """Write, then answer with a 503."""
    request.session["broken"] = True
    return HttpResponse("broken", status=503)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Write before streaming."""
    request.session["streamed"] = True
    return StreamingHttpResponse(iter([b"a", b"b"]))


def everything(request: HttpRequest) -> HttpResponse:
    """Show the data."""
    return JsonResponse({key: value for key, value in request.session.items() if not key.startswith("_")})


@requires(factor="password", max_age=300)
def vault(request: HttpRequest) -> HttpResponse:
    """Open to fresh proof only."""
    return HttpResponse(request.session.require())


@requires(factor="totp")
async def async_vault(_request: HttpRequest) -> HttpResponse:
    """Open to a second factor only."""
    return HttpResponse("open")


class Members(SessionRequiredMixin, View):
    """Open to users only."""

    def get(self, _request: HttpRequest, *_: Any) -> HttpResponse:
        """Answer."""
        return HttpResponse("members")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("", home),
    path("plain", plain),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("password", change_password),
    path("said", said),
    path("async", async_home),
    path("async/<how>", async_sign),
    path("save", save_now),
    path("asave", async_save_now),
    path("broken", broken),
    path("stream", stream),
    path("data", everything),
    path("vault", vault),
    path("async-vault", async_vault),
    path("members", Members.as_view()),
]
