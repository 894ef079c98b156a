"""A store that counts the calls it gets, to show which requests reach it at all."""

from __future__ import annotations

from typing import Any, Final

_COUNTED: Final = frozenset({"load", "create", "save", "touch", "end"})


class CountingStore:
    """Pass everything on, and count the five verbs."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if name not in _COUNTED:
            return attribute

        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.calls += 1
            return attribute(*arguments, **keywords)

        return counted
