"""Codes, addresses for authenticators and their pictures, by pyotp and segno."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from typing import Final

from ...errors import ExtraMissing
from .rules import PERIOD, Algorithm, Settings

_DIGESTS: Final = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}


def check_installed() -> None:
    """Refuse to start without the packages.

    Raises:
        ExtraMissing: pyotp or segno is not installed.
    """
    try:
        import pyotp
        import segno
    except ImportError as error:
        raise ExtraMissing("TOTP", "mfa") from error
    del pyotp, segno


def text_of(secret: bytes) -> str:
    """Return a secret in base32."""
    return base64.b32encode(secret).decode().rstrip("=")


def coder(secret: bytes, algorithm: Algorithm, digits: int) -> Callable[[int], str]:
    """Return what makes the code of a step."""
    from pyotp.totp import TOTP

    totp = TOTP(text_of(secret), digits=digits, digest=_DIGESTS[algorithm], interval=PERIOD)
    return lambda step: totp.generate_otp(step) if step >= 0 else ""


def address(secret: bytes, settings: Settings, account: str) -> str:
    """Return the otpauth address that authenticators read."""
    from pyotp.totp import TOTP

    totp = TOTP(text_of(secret), digits=settings.digits, digest=_DIGESTS[settings.algorithm], interval=PERIOD)
    return totp.provisioning_uri(name=account.replace(":", "") or "account", issuer_name=settings.issuer)


def picture(text: str) -> str:
    """Return a QR code as SVG, with no script and no style."""
    import segno

    drawn = io.BytesIO()
    segno.make(text, error="m", micro=False).save(drawn, kind="svg", scale=4, border=4, xmldecl=False, light="#fff")
    return drawn.getvalue().decode()
