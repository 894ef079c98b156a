"""The token cells: what it costs to verify an access token, beside the bare call of the library that does it.

The bare call is what an application without Sessile writes: `jwt.decode` with the public key at hand, one algorithm,
audience and issuer. Ours finds the key by the header, holds the claims to RFC 9068, and returns a typed value. One
hundred tokens in turn, so that nothing is answered from memory: what is kept is the header of each key, never a token.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

import jwt

from benchmarks.harness import Cell
from sessile import Sessions
from sessile.auth.ground import Ground
from sessile.auth.tokens import Tokens, Verifier, jose
from sessile.core.bridge import drive
from sessile.core.keys import KeyRing
from sessile.core.requests import Facts, no_headers

ISSUER: Final = "https://id.example"
API: Final = "https://api.example"
COUNT: Final = 100
FAMILIES: Final = {"ES256": "token ES256", "EdDSA": "token EdDSA", "ML-DSA-44": "token ML-DSA-44"}


def cells() -> list[Cell]:
    """Return all token cells."""
    return [cell for algorithm, family in FAMILIES.items() for cell in _cells(algorithm, family)]


def _cells(algorithm: str, family: str) -> list[Cell]:
    tokens, texts = _issued(algorithm)
    alone = Verifier(jwks=tokens.jwks, issuer=ISSUER, audience=API)
    with_ends = Verifier(jwks=tokens.jwks, ended=lambda: tokens.ended().text, issuer=ISSUER, audience=API)
    ways: dict[str, Callable[[str], object]] = {
        "bare": lambda _text: True,
        "pyjwt": _bare(tokens, algorithm),
        "sessile tokens": lambda text: tokens.verify(text, API),
        "sessile tokens, session asked": lambda text: tokens.admit(text, API),
        "sessile verifier": alone.verify,
        "sessile verifier with ends": with_ends.verify,
    }
    return [Cell(family, name, "verify", _each(verify, texts)) for name, verify in ways.items()]


def _issued(algorithm: Any) -> tuple[Tokens, list[str]]:
    sessions = Sessions("memory://", keys=KeyRing({0: bytes(range(32))}), sinks=())
    tokens = Tokens(Ground(sessions, "memory://"), issuer=ISSUER, algorithm=algorithm, lifetime=3600)
    texts: list[str] = []
    for number in range(COUNT):
        session = sessions.open(Facts("GET", "https", "app.example", "/", "192.0.2.7", "", no_headers))
        session.login(f"user {number}")
        sessions.commit(session)
        texts.append(tokens.issue(session, audience=API, client="web", scope="read write"))
    return tokens, texts


def _bare(tokens: Tokens, algorithm: str) -> Callable[[str], object]:
    if algorithm not in jwt.algorithms.get_default_algorithms():
        jwt.register_algorithm(algorithm, jose._JWS.get_algorithm_by_name(algorithm))
    [key] = drive(tokens.flow.keys.current()).public.by_kid.values()
    required = {"require": ["exp", "iat", "aud", "iss", "sub"]}
    return lambda text: jwt.decode(
        text, key.key, algorithms=[algorithm], audience=API, issuer=ISSUER, leeway=5, options=required
    )


def _each(verify: Callable[[str], object], texts: list[str]) -> Callable[[int], object]:
    turn: Iterator[str] = itertools.cycle(texts)

    def verify_all(times: int) -> None:
        for _ in range(times):
            if not verify(next(turn)):
                raise AssertionError("a token was refused")

    return verify_all
