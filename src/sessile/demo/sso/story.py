"""What happens in the demo of single sign-on, as the page draws it: arrows between four places, newest last."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Final, Literal

from ...core.events import Event

Place = Literal["you", "a", "b", "provider"]
_KEPT: Final = 80
PROVIDER: Final = "provider"


class Story:
    """Remember the latest arrows; told from any thread."""

    def __init__(self) -> None:
        self._arrows: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._number = 0
        self._lock = threading.Lock()

    def arrow(self, start: Place, end: Place, says: str, *, well: bool = True, way: str = "") -> None:
        """Add an arrow; `way` names the kind of sign-out that it belongs to."""
        with self._lock:
            self._number += 1
            self._arrows.append(
                {
                    "number": self._number,
                    "at": time.time(),
                    "from": start,
                    "to": end,
                    "says": says,
                    "well": well,
                    "way": way,
                }
            )

    def since(self, number: int) -> list[dict[str, Any]]:
        """Return the arrows after that number."""
        with self._lock:
            return [arrow for arrow in self._arrows if arrow["number"] > number]

    def sink(self, place: Place) -> Any:
        """Return a sink for the events of an application."""

        def take(event: Event) -> None:
            match event.code:
                case "signed-in":
                    self.arrow("provider", place, "signed in: a code, an ID token, a session of its own")
                case "session-ended" if event.user is not None and getattr(event, "reason", "") == "logout":
                    self.arrow(
                        "you", place, "signed out here: its session and every copy of its token are dead", way="rp"
                    )
                case "sign-on-refused" | "logout-token-refused":
                    self.arrow("provider", place, event.sentence(), well=False)
                case "provider-signed-out":
                    count: int = getattr(event, "sessions", 0)
                    said = f"ended {count} session{'' if count == 1 else 's'}" if count else "nothing was left to end"
                    self.arrow(place, place, said, way="back")
                case _:
                    pass

        return take

    def heard(self, told: dict[str, Any]) -> None:
        """Take what the provider said."""
        match told["what"]:
            case "ended":
                self.arrow("provider", "provider", "the provider's own session ended", way="rp")
            case "told":
                name: Place = "a" if told["client"] == "a" else "b"
                said = "logout token delivered" if told["well"] else f"logout token not taken: {told.get('why', '')}"
                self.arrow("provider", name, said, well=told["well"], way="back")
            case _:
                pass
