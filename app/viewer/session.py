"""What the window knows beside the engine (view, brush, message), and every action a key or button has."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from app.engine import Engine, Event, FrameReport
from app.recording.recorder import Recorder
from app.picture import Picture, View, draw, render, save_png
from app.viewer.history import History
from app.viewer.inspector import Inspector
from precond import available_preconditioners, registered_preconditioners
from precond.errors import UsageError
from sim.scenes import available_scenes, load_scene
from sim.simulation import PAINTS

RUNS = Path("runs")
TEXTURE_PIXELS = 512  # the picture's longer side on its way to the screen, whose own filter does the rest
SCREENSHOT_PIXELS = 1280
MESSAGE_SECONDS = 8.0
WARNING_SECONDS = 1.5  # a warning about a single frame must be readable
RADII = (0.01, 0.5)
STRENGTHS = (0.1, 10.0)

Point = tuple[float, float]


@dataclass
class Brush:
    """``radius`` is a share of the domain's shorter side, ``strength`` the fluid's speed over the mouse's.

    Both stay within RADII and STRENGTHS whatever is assigned; what is no number changes nothing.
    """

    paint: str = PAINTS[0]  # or another of PAINTS
    radius: float = 0.08
    strength: float = 1.0

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "paint":
            if math.isnan(value):
                return
            low, high = RADII if name == "radius" else STRENGTHS
            value = min(max(value, low), high)
        super().__setattr__(name, value)


class Message(NamedTuple):
    """A line for the person at the window, gone after ``until`` (clock of time.monotonic)."""

    text: str
    error: bool
    until: float


NO_MESSAGE = Message("", False, 0.0)


class Session:
    """The window's state and actions. Nothing here knows the toolkit, nothing raises for a wrong setting.

    The panels ``ask`` for actions while they read mouse and keyboard; ``advance`` does them, takes the step
    and looks at the partition; ``draw`` makes the picture of that very step.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.view = View(engine.settings.view, engine.settings.colormap)
        self.brush = Brush()
        self.history = History()
        self.inspector = Inspector(engine)
        self.show_help = False
        self.show_partition = False  # asks for its tab to come to the front
        self.picture: Picture = draw(engine.simulation, self.view)
        self.scenes = {name: _description(name) for name in available_scenes()}
        self.preconditioners = registered_preconditioners()  # name to description
        self.available = set(available_preconditioners())
        self.notice = engine.notice  # stays beside the preconditioner until another one is chosen
        self._ranges: dict[str, tuple[float, float]] = {}  # fixed ranges by field
        self._colormaps: dict[str, str | None] = {self.view.field: self.view.colormap}
        self._message = self._warning = NO_MESSAGE
        self._warned_of: FrameReport | None = None
        self._asked: list[Callable[[], object]] = []
        self._recorder: Recorder | None = None
        engine.subscribe(self._on_frame, self._on_event)
        if self.notice:
            self.say(self.notice, error=True)

    def ask(self, action: Callable[..., object], *arguments: Any) -> None:
        """Have ``action`` done by the next ``advance``, before its step."""
        self._asked.append(partial(action, *arguments))

    def advance(self) -> None:
        """Do what was asked for, take a step unless paused, and inspect the factors if somebody looks."""
        asked, self._asked = self._asked, []
        for action in asked:
            action()
        self.engine.advance()
        if self.inspector.shown:
            self.inspector.refresh()

    def draw(self) -> Picture:
        """Draw the current state, fine enough for the screen."""
        scale = max(1, TEXTURE_PIXELS // max(self.engine.simulation.shape))
        self.picture = draw(self.engine.simulation, self.view, scale)
        return self.picture

    def _on_frame(self, report: FrameReport) -> None:
        self.history.add(report)
        if report.fallback:
            chosen = self.engine.settings.simulation.preconditioner
            text = f"{chosen} failed on frame {report.frame}: {report.preconditioner} solved it instead"
        elif report.outcome not in ("converged", "failed"):  # the engine itself tells of a failed frame
            text = (
                f"the pressure solve did not converge on frame {report.frame}: {report.outcome} after "
                f"{report.iterations} iterations, residual {report.relative_residual:.1e}"
            )
        else:
            return
        self._warning, self._warned_of = Message(text, True, time.monotonic() + WARNING_SECONDS), report

    def _on_event(self, _event: Event) -> None:
        if self.engine.last is None:  # the scene starts anew
            self.history.clear()
            self._warning = NO_MESSAGE

    def say(self, text: str, error: bool = False) -> None:
        """Show a line for some seconds."""
        self._message = Message(text, error, time.monotonic() + MESSAGE_SECONDS)

    @property
    def message(self) -> Message | None:
        """The line to show now, if any; what stopped the engine comes first."""
        if self._recorder and self._recorder.message:
            self.say(self._recorder.message, error=True)
            self._recorder = None
        if self.engine.message:
            return Message(self.engine.message, True, math.inf)
        return self._message if time.monotonic() < self._message.until else None

    @property
    def warning(self) -> str:
        """What went wrong in a solve just now; of the last frame as long as it is paused; else empty."""
        stays = self.engine.paused and self.engine.last is self._warned_of
        return self._warning.text if stays or time.monotonic() < self._warning.until else ""

    def change(self, name: str, value: Any) -> None:
        """Change a simulation setting; what is refused is said in the window."""
        try:
            self.engine.set(name, value)
        except UsageError as error:
            self.say(str(error), error=True)
            return
        self._message = NO_MESSAGE
        if name == "preconditioner":
            self.notice = ""

    def toggle_pause(self) -> None:
        """Pause, or go on."""
        self.engine.paused = not self.engine.paused

    def step(self) -> None:
        """One frame; pauses first when running."""
        self.engine.paused = True
        self.engine.single_step()

    def reset(self) -> None:
        """Back to the scene's initial state."""
        self.engine.reset()

    def toggle_help(self) -> None:
        """Show or hide the list of keys."""
        self.show_help = not self.show_help

    def toggle_leaf(self) -> None:
        """Outline the leaf under the mouse and show its far field, or no longer; opens a hidden panel."""
        inspector = self.inspector
        inspector.follow = not (inspector.follow and inspector.shown)
        self.show_partition = inspector.follow and not inspector.shown

    def save_screenshot(self) -> None:
        """Write the current view as a large PNG and say where."""
        simulation = self.engine.simulation
        scale = max(1, SCREENSHOT_PIXELS // max(simulation.shape))
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        path = RUNS / "screenshots" / f"{self._scene}-{self.view.field}-{stamp}.png"
        try:
            save_png(path, render(simulation, self.view, scale))
        except OSError as error:
            reason = error.strerror or error
            self.say(f"the screenshot could not be written: {path}: {reason}", error=True)
        else:
            self.say(f"screenshot: {path}")

    @property
    def recording(self) -> bool:
        """Whether frames are being recorded."""
        return self._recorder is not None and self._recorder.running

    def toggle_recording(self) -> None:
        """Start recording every frame, or stop; says where."""
        if self.recording:
            directory, trouble = self._recorder.stop(), self._recorder.message
            self.say(trouble or f"recorded: {directory}", error=bool(trouble))
            return
        try:
            self._recorder = Recorder.start(self.engine, self.engine.settings.out or RUNS / self._scene)
        except UsageError as error:
            self.say(f"recording: {error}", error=True)
        else:
            self.say(f"recording to {self._recorder.directory}")

    def close(self) -> None:
        """End a recording that still runs."""
        if self.recording:
            self._recorder.stop()

    @property
    def _scene(self) -> str:
        return Path(self.engine.settings.simulation.scene).stem

    def show_field(self, field: str) -> None:
        """Choose the field to show; each field keeps the colormap and the range it had."""
        own = {"colormap": self._colormaps.get(field), "range": self._ranges.get(field, "auto")}
        self.view = replace(self.view, field=field, **own)

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

    def stir(self, begin: Point, end: Point, seconds: float) -> None:
        """Drag the fluid along a stroke (metres) that took ``seconds``; says so where a pause hinders."""
        if self.engine.paused:
            self.say("paused: stirring does nothing until the fluids move again (Space)")
            return
        if seconds <= 0.0:
            return
        limit = 4.0 * max(self.engine.simulation.domain)  # a jump of the mouse is no jet
        speed = self.brush.strength * math.dist(begin, end) / seconds
        factor = self.brush.strength / seconds * limit / max(speed, limit)
        velocity = [factor * (b - a) for a, b in zip(begin, end, strict=True)]
        for x, y in _along(begin, end, self.brush_radius, most=4):
            self.engine.stir(x, y, *velocity, self.brush_radius)

    def paint(self, begin: Point, end: Point) -> None:
        """Paint along a stroke (metres) with the chosen phase or solid."""
        for x, y in _along(begin, end, 0.5 * self.brush_radius, most=24):
            self.engine.paint(x, y, self.brush_radius, self.brush.paint)


def _description(scene: str) -> str:
    found = load_scene(scene)
    return textwrap.fill(f"{found.title}: {found.description}", 60)


def _along(begin: Point, end: Point, spacing: float, most: int) -> list[Point]:
    """Points from just after ``begin`` to ``end``, at most ``spacing`` apart if ``most`` allow it."""
    count = min(most, max(1, math.ceil(math.dist(begin, end) / spacing)))
    return [
        (begin[0] + (end[0] - begin[0]) * k / count, begin[1] + (end[1] - begin[1]) * k / count)
        for k in range(1, count + 1)
    ]
