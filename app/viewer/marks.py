"""Where in the plots something was changed."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from app.engine import HISTORY_FRAMES, Engine, Event, FrameReport

SETTINGS = ("preconditioner", "contrast", "scene", "grid")
TOGETHER = 5  # frames within which one slider's changes are one


class Mark(NamedTuple):
    """After ``frame`` the setting ``name`` got ``value``; "auto": the method that it changed to."""

    frame: int
    name: str
    value: Any


class Marks:
    """The changes of method, contrast, scene and grid in the frames that the plots show.

    ``latest`` are those, oldest first. A method that `auto` changes to counts as well.
    """

    def __init__(self, engine: Engine) -> None:
        self.latest: deque[Mark] = deque(maxlen=HISTORY_FRAMES)
        self._engine = engine
        self._method = ""
        self._known = self._present()
        engine.subscribe(self._on_frame, self._on_event)

    def _present(self) -> dict[str, Any]:
        """The settings whose changes count, as they are."""
        settings = self._engine.settings.simulation
        return {name: getattr(settings, name) for name in SETTINGS}

    def _on_event(self, _event: Event) -> None:
        if self._engine.last is None:  # frames count from 0 again
            self.latest.clear()
            self._method = ""
        known, self._known = self._known, self._present()
        for name, value in self._known.items():  # an undo changes some as well
            if value != known[name]:
                self._method = "" if name == "preconditioner" else self._method
                self._add(Mark(self._engine.frame, name, value))

    def _on_frame(self, report: FrameReport) -> None:
        method = report.choice.partition(":")[0]
        if method and self._method and method != self._method:
            self._add(Mark(report.frame - 1, "auto", method))
        self._method = method

    def _add(self, mark: Mark) -> None:
        last = self.latest[-1] if self.latest else None
        if last and last.name == mark.name and mark.frame - last.frame <= TOGETHER:
            self.latest.pop()
        self.latest.append(mark)
