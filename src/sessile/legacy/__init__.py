"""Bridges: adopt the sessions of another library, so that changing to Sessile logs nobody out.

    AsyncSessions("redis://…", legacy=[StarletteCookie(secret_key=…, until="2027-03-31")])

    bridge                what it adopts                                           what it reads
    FlaskCookie           Flask's signed cookie                                    tagged JSON
    FlaskSessionRedis     Flask-Session 0.8 on Redis                               MessagePack, JSON
    StarletteCookie       Starlette's and FastAPI's SessionMiddleware              JSON
    StarsessionsCookie    starsessions with CookieStore                            JSON
    StarsessionsRedis     starsessions with RedisStore                             JSON
    DjangoDatabase        django.contrib.sessions.backends.db and cached_db        signed JSON
    DjangoCache           django.contrib.sessions.backends.cache on Redis          JSON, MessagePack
    DjangoCookie          django.contrib.sessions.backends.signed_cookies          signed JSON
    ExpressRedis          express-session with connect-redis                       JSON

The old libraries need not be installed: signatures are HMACs, and are checked here in constant time. What was pickled
is refused. See `core.legacy` for the port, if yours is another library.
"""

from __future__ import annotations

from .django import DjangoCache, DjangoCookie, DjangoDatabase
from .express import ExpressRedis
from .flask import FlaskCookie, FlaskSessionRedis
from .starlette import StarletteCookie, StarsessionsCookie, StarsessionsRedis

__all__ = [
    "DjangoCache",
    "DjangoCookie",
    "DjangoDatabase",
    "ExpressRedis",
    "FlaskCookie",
    "FlaskSessionRedis",
    "StarletteCookie",
    "StarsessionsCookie",
    "StarsessionsRedis",
]
