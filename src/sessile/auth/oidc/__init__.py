"""Single sign-on with OpenID Connect, and single sign-out with it (R68-R76).

http providers    how providers are asked, what is said of them, and what they publish
id_tokens         what an ID token must be (decide)
flow doors        sign in, with PKCE, state, nonce and the issuer's name; the coupling to the provider's session
links replays     which sessions came from where; which tokens were used
logout_tokens     what a logout token must be (decide)
receivers         what providers ask of us: back-channel and front-channel
logout            signing out where the user stands: here first, there next
site              all routes, to be mounted anywhere
"""

from __future__ import annotations

from .doors import AsyncSignOn, SignOn
from .id_tokens import IdToken
from .providers import Provider
from .rules import Coupling, Identity, Refused, Signed

__all__ = ["AsyncSignOn", "Coupling", "IdToken", "Identity", "Provider", "Refused", "SignOn", "Signed"]
