"""What the window knows beside the engine (view, brush, message), and every action a key or button has."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from app.engine import Engine
from app.picture import Picture, View, draw, render, save_png
from app.recording.recorder import Recorder
from app.viewer.history import History
from app.viewer.inspector import Inspector
from precond import available_preconditioners, registered_preconditioners
from precond.errors import UsageError
from sim.scenes import available_scenes
from sim.simulation import PAINTS

RUNS = Path("runs")
TEXTURE_PIXELS = (
    512  # the longer side of the picture on its way to the screen; the screen's own filter does the rest
)
SCREENSHOT_PIXELS = 1280
MESSAGE_SECONDS = 8.0
WARNING_SECONDS = 1.5  # a warning about a single frame must be readable


@dataclass
class Brush:
    """``radius`` is a share of the domain's shorter side, ``strength`` the fluid's speed over the mouse's."""

    paint: str = PAINTS[0]  # or another of PAINTS
    radius: float = 0.08
    strength: float = 1.0

    def resize(self, factor: float) -> None:
        """Scale the radius, within bounds."""
        self.radius = min(max(self.radius * factor, 0.01), 0.5)


@dataclass(frozen=True)
class Message:
    """A line for the person at the window, gone after ``until`` (clock of time.monotonic)."""

    text: str
    error: bool
    until: float


class Session:
    """The window's state and actions. Nothing here knows the toolkit, nothing raises for a wrong setting."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.view = View(engine.settings.view, engine.settings.colormap)
        self.brush = Brush()
        self.history = History()
        self.inspector = Inspector(engine)
        self.show_help = False
        self.picture: Picture = draw(engine.simulation, self.view)
        self.scenes = available_scenes()
        self.preconditioners = registered_preconditioners()  # name to description
        self.available = set(available_preconditioners())
        self._ranges: dict[str, tuple[float, float]] = {}  # fixed ranges by field
        self._colormaps: dict[str, str | None] = {self.view.field: self.view.colormap}
        self._recorder: Recorder | None = None
        self._message: Message | None = None
        self._warning: Message | None = None
        self.notice = engine.notice  # stays beside the preconditioner until another one is chosen
        if self.notice:
            self.say(self.notice, error=True)

    def advance(self) -> None:
        """Take a step unless paused."""
        if self.engine.advance() is not None:
            self._after_step()

    def draw(self) -> Picture:
        """Draw the current state, fine enough for the screen."""
        scale = max(1, TEXTURE_PIXELS // max(self.engine.simulation.shape))
        self.picture = draw(self.engine.simulation, self.view, scale)
        return self.picture

    def _after_step(self) -> None:
        report = self.engine.last
        self.history.add(report)
        chosen = self.engine.settings.simulation.preconditioner
        text = ""
        if report.fallback:
            text = f"{chosen} failed on frame {report.frame}: {report.preconditioner} solved it instead"
        elif report.outcome != "converged":
            text = (
                f"the pressure solve did not converge on frame {report.frame}: {report.outcome} after "
                f"{report.iterations} iterations"
            )
            if math.isfinite(report.relative_residual):
                text += f", residual {report.relative_residual:.1e}"
        if text:
            self._warning = Message(text, True, time.monotonic() + WARNING_SECONDS)

    def say(self, text: str, error: bool = False) -> None:
        """Show a line for some seconds."""
        self._message = Message(text, error, time.monotonic() + MESSAGE_SECONDS)

    @property
    def message(self) -> Message | None:
        """The line to show now, if any; what stopped the engine comes first."""
        if self.engine.message:
            return Message(self.engine.message, True, math.inf)
        if self._recorder and self._recorder.message:
            self.say(self._recorder.message, error=True)
            self._recorder = None
        return self._message if self._message and time.monotonic() < self._message.until else None

    @property
    def warning(self) -> str:
        """What went wrong in the last solves; empty when nothing did. Stays while paused."""
        if self._warning and (self.engine.paused or time.monotonic() < self._warning.until):
            return self._warning.text
        return ""

    def change(self, name: str, value: Any) -> None:
        """Change a simulation setting; what is refused is said in the window."""
        try:
            self.engine.set(name, value)
        except UsageError as error:
            self.say(str(error), error=True)
            return
        self._message = None
        if name == "preconditioner":
            self.notice = ""
        if self.engine.last is None:  # a new simulation
            self._forget()

    def toggle_pause(self) -> None:
        """Pause, or go on."""
        self.engine.paused = not self.engine.paused

    def step(self) -> None:
        """One frame; pauses first when running."""
        self.engine.paused = True
        if self.engine.single_step() is not None:
            self._after_step()

    def reset(self) -> None:
        """Back to the scene's initial state."""
        self.engine.reset()
        self._forget()

    def _forget(self) -> None:
        self.history.clear()
        self._warning = None

    def toggle_help(self) -> None:
        """Show or hide the list of keys."""
        self.show_help = not self.show_help

    def toggle_leaf(self) -> None:
        """Outline the leaf under the mouse and show its far field, or no longer."""
        self.inspector.toggle_follow()

    def save_screenshot(self) -> None:
        """Write the current view as a large PNG and say where."""
        simulation = self.engine.simulation
        scale = max(1, SCREENSHOT_PIXELS // max(simulation.shape))
        scene = Path(self.engine.settings.simulation.scene).stem
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        path = RUNS / "screenshots" / f"{scene}-{self.view.field}-{stamp}.png"
        try:
            save_png(path, render(simulation, self.view, scale))
        except OSError as error:
            self.say(f"the screenshot could not be written: {error}", error=True)
        else:
            self.say(f"screenshot: {path}")

    def toggle_recording(self) -> None:
        """Start recording every frame, or stop; says where."""
        if self.recording:
            directory = self._recorder.stop()
            self.say(self._recorder.message or f"recorded: {directory}", error=bool(self._recorder.message))
            return
        scene = Path(self.engine.settings.simulation.scene).stem
        try:
            self._recorder = Recorder.start(self.engine, self.engine.settings.out or RUNS / scene)
        except UsageError as error:
            self.say(f"recording: {error}", error=True)
        else:
            self.say(f"recording to {self._recorder.directory}")

    @property
    def recording(self) -> bool:
        """Whether every frame is being recorded."""
        return self._recorder is not None and self._recorder.running

    def show_field(self, field: str) -> None:
        """Choose the field to show; each field keeps the colormap and the range it had."""
        self.view = replace(
            self.view, field=field, colormap=self._colormaps.get(field), range=self._ranges.get(field, "auto")
        )

    def choose_colormap(self, name: str) -> None:
        """Show the current field in these colours."""
        self._colormaps[self.view.field] = name
        self.view = replace(self.view, colormap=name)

    def show_interface(self, on: bool) -> None:
        """Draw the line between the fluids, or not."""
        self.view = replace(self.view, interface=on)

    def fix_range(self, low: float, high: float) -> None:
        """Keep the colours between two values; what makes no range is said in the window."""
        try:
            self.view = replace(self.view, range=(low, high))
        except ValueError as error:
            self.say(str(error), error=True)
        else:
            self._ranges[self.view.field] = (low, high)

    def free_range(self) -> None:
        """Let the colours follow the field."""
        self._ranges.pop(self.view.field, None)
        self.view = replace(self.view, range="auto")

    @property
    def brush_radius(self) -> float:
        """Radius of the brush in metres."""
        return self.brush.radius * min(self.engine.simulation.domain)

    def stir(self, begin: tuple[float, float], end: tuple[float, float], seconds: float) -> None:
        """Drag the fluid along a stroke (metres) that took ``seconds``. Does nothing while paused."""
        if self.engine.paused or seconds <= 0.0:
            return
        velocity = [self.brush.strength * (b - a) / seconds for a, b in zip(begin, end, strict=True)]
        speed = math.hypot(*velocity)
        limit = 4.0 * max(self.engine.simulation.domain)  # a jump of the mouse is no jet
        if speed > limit:
            velocity = [v * limit / speed for v in velocity]
        for x, y in self._along(begin, end, self.brush_radius, most=4):
            self.engine.stir(x, y, *velocity, self.brush_radius)

    def paint(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Paint along a stroke (metres) with the chosen phase or solid."""
        for x, y in self._along(begin, end, 0.5 * self.brush_radius, most=24):
            self.engine.paint(x, y, self.brush_radius, self.brush.paint)

    @staticmethod
    def _along(
        begin: tuple[float, float], end: tuple[float, float], spacing: float, most: int
    ) -> list[tuple[float, float]]:
        """Points from just after ``begin`` to ``end``, at most ``spacing`` apart if ``most`` allow it."""
        count = min(most, max(1, math.ceil(math.dist(begin, end) / spacing)))
        return [
            (begin[0] + (end[0] - begin[0]) * k / count, begin[1] + (end[1] - begin[1]) * k / count)
            for k in range(1, count + 1)
        ]
