"""What one response tells of several commits: `save()` stores in the midst of a request, the response once more."""

from __future__ import annotations

from ...core.answers import Answer


def joined(first: Answer, second: Answer) -> Answer:
    """Return what a response must carry that tells of two commits; of their cookies, the later one is valid."""
    clear = first.clear_site_data or second.clear_site_data
    if second.cookie is not None and second.clear_site_data is None and clear is not None:
        # The first signed out, the second began anew: its cookie must not be cleared with the old one.
        clear = ", ".join(kind for kind in clear.split(", ") if kind != '"cookies"') or None
    later = {_name(line) for line in second.more}
    return Answer(
        cookie=second.cookie or first.cookie,
        vary=first.vary or second.vary,
        carries=first.carries or second.carries,
        clear_site_data=clear,
        by_token=first.by_token or second.by_token,
        more=(*(line for line in first.more if _name(line) not in later), *second.more),
    )


def _name(line: str) -> str:
    return line.partition("=")[0]
