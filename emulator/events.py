"""What happens while a lab is built or verified, told to whoever listens.

Steps are declared before they run; a late listener gets the history first, then live events.
"""

from __future__ import annotations

from collections.abc import Callable

from emulator.frozen import dataclass


@dataclass(frozen=True)
class Event:
    """A step of a stage: `done` of `total` steps are finished, `text` says what is going on."""

    stage: str
    text: str
    done: int = 0
    total: int = 0


Listener = Callable[[Event], None]


class Bus:
    """Passes events to listeners, and to those who come late the past ones too."""

    def __init__(self) -> None:
        self._history: list[Event] = []
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` for every event so far, then for each new one."""
        for event in self._history:
            listener(event)
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Record `event` and tell every listener."""
        self._history.append(event)
        for listener in self._listeners:
            listener(event)
