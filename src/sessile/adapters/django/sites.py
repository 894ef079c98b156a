"""Sites among a Django project's addresses: `path("account/", include(urls(site)))`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.request import RawPostDataException
from django.urls import URLPattern, re_path
from django.views.decorators.csrf import csrf_exempt

from ...auth.exchange import MAX_BODY_BYTES, TOO_LARGE, Ask, Reply, Site
from ...core.bridge import drive
from ..sites import ask_of, session_in


def urls(site: Site) -> list[URLPattern]:
    """Return the addresses of a site, to be included below a path that ends with a slash.

    The view is plain or async, as the site is. Sessile's middleware has judged where each request comes from, so the
    view is exempt from Django's CSRF check, which knows nothing of programs that post here.
    """

    def serve(request: HttpRequest, path: str) -> HttpResponse:
        ask = _asked(request, path)
        return _response(request, TOO_LARGE if ask is None else drive(site.answer(ask)))

    async def serve_async(request: HttpRequest, path: str) -> HttpResponse:
        ask = _asked(request, path)
        return _response(request, TOO_LARGE if ask is None else await site.answer(ask))

    view: Any = csrf_exempt(serve if site.blocking else serve_async)
    # To the very end: "$" would leave out a line break, and where the site is mounted is reckoned from the rest.
    return [re_path(r"^(?P<path>(?s:.*))\Z", view)]


def _asked(request: HttpRequest, path: str) -> Ask | None:
    root = request.path[: len(request.path) - len(path)].rstrip("/")
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    body = None if length > MAX_BODY_BYTES else _body(request)
    if body is not None and len(body) > MAX_BODY_BYTES:
        body = None
    environ: dict[str, Any] = {**request.META, "REQUEST_METHOD": request.method or "GET"}
    return ask_of(environ, session_in(getattr(request, "session", None)), root, "/" + path, body)


def _body(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RawPostDataException:  # another middleware read it as the parts of a form, which no site takes
        return b""


def _response(request: HttpRequest, reply: Reply) -> HttpResponse:
    response = HttpResponse(b"" if request.method == "HEAD" else reply.body, status=reply.status)
    del response.headers["Content-Type"]
    for name, value in reply.headers:
        known = response.headers.get(name)  # Django has one line for each name
        response.headers[name.title()] = value if known is None else f"{known}, {value}"
    return response
