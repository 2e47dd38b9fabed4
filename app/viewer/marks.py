"""Where in the plots something was changed."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from app.engine import HISTORY_FRAMES, REBUILT_BY, Engine, Event, FrameReport
from app.viewer import theme

SETTINGS = ("preconditioner", "contrast", "scene", "grid")
TOGETHER = 5  # frames within which one slider's changes are one


class Mark(NamedTuple):
    """After ``frame`` the setting ``name`` got the value that ``text`` tells."""

    frame: int
    name: str
    text: str


class Marks:
    """The changes of method, contrast, scene and grid in the frames that the plots show.

    ``latest`` are those, oldest first. A method that `auto` changes to counts as well.
    """

    def __init__(self, engine: Engine) -> None:
        self.latest: deque[Mark] = deque(maxlen=HISTORY_FRAMES)
        self._engine = engine
        self._method = ""
        engine.subscribe(self._on_frame, self._on_event)

    def _on_event(self, event: Event) -> None:
        name = event.data.get("name", "")
        if event.kind == "reset" or name in REBUILT_BY:  # frames count from 0 again
            self.latest.clear()
            self._method = ""
        if event.kind == "set" and name in SETTINGS:
            frame = self._engine.frame
            value = event.data["value"]
            if name == "preconditioner":
                self._method = ""
                text = f"method: {value}"
            elif name == "grid":
                text = f"grid: {value[0]} x {value[1]}"
            else:
                text = f"{name}: {value if name == 'scene' else theme.number(value)}"
            self._add(Mark(frame, name, text))

    def _on_frame(self, report: FrameReport) -> None:
        method = report.choice.partition(":")[0]
        if method and self._method and method != self._method:
            self._add(Mark(report.frame - 1, "choice", f"auto: {method}"))
        self._method = method

    def _add(self, mark: Mark) -> None:
        last = self.latest[-1] if self.latest else None
        if last and last.name == mark.name and mark.frame - last.frame <= TOGETHER:
            self.latest.pop()
        self.latest.append(mark)
