"""What the window knows beside the engine (view, brush, message), and every action a key or button has."""

from __future__ import annotations

import math
import textwrap
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.compilation import NOTE as COMPILING
from app.compilation import Compilation
from app.engine import Engine, Event, FrameReport
from app.picture import Picture, View, draw, render, save_png
from app.recording.recorder import Recorder
from app.viewer.inspector import Inspector
from app.viewer.materials import MOVE
from precond import available_preconditioners, registered_preconditioners
from precond.errors import UsageError
from sim.scenes import available_scenes, load_scene
from sim.simulation import PAINTS

RUNS = Path("runs")
TEXTURE_PIXELS = 512  # the picture's longer side on its way to the screen, whose own filter does the rest
SCREENSHOT_PIXELS = 1280
MESSAGE_SECONDS = 8.0
WARNING_SECONDS = 1.5  # a warning about a single frame must be readable
BRUSH_LIMITS = {"radius": (0.01, 0.5), "strength": (0.1, 10.0)}
FRAMES = 300  # of the history
PHASES = {  # parts of a frame in their order, what they are, and the reports' milliseconds in each
    "sim": ("everything but the pressure solve", "sim_ms"),
    "set-up + inference": (
        "the preconditioner's set-up; the time in its network is counted in",
        "setup_ms",
        "inference_ms",
    ),
    "solve": ("the iterations of conjugate gradients", "solve_ms"),
    "failed solve": ("what a preconditioner took that broke down, before the fallback", "failed_ms"),
    "draw": ("panels, picture, rendering", "draw_ms"),
}

Point = tuple[float, float]


@dataclass
class Brush:
    """``radius`` is a share of the domain's shorter side, ``strength`` the fluid's speed over the mouse's.

    Both stay within BRUSH_LIMITS whatever is assigned; what is not a number becomes the lower limit.
    """

    paint: str = PAINTS[0]  # or another of app.viewer.materials.MATERIALS
    radius: float = 0.08
    strength: float = 1.0

    def __setattr__(self, name: str, value: Any) -> None:
        if name in BRUSH_LIMITS:
            low, high = BRUSH_LIMITS[name]
            value = min(max(low, value), high)
        super().__setattr__(name, value)


class Message(NamedTuple):
    """A line for the person at the window, gone after ``until`` (clock of time.monotonic)."""

    text: str = ""
    error: bool = False
    until: float = 0.0


class Session:
    """The window's state and actions. Nothing here knows the toolkit, nothing raises for a wrong setting.

    The panels ``ask`` for actions while they read mouse and keyboard; ``advance`` does them, takes the step
    and looks at the partition; ``draw`` makes the picture of that very step.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.view = View(engine.settings.view, engine.settings.colormap)
        self.brush = Brush()
        self.inspector = Inspector(engine)
        self._begun = time.monotonic()
        self.compilation: Compilation | None = None  # for which the fluids wait
        self.show_help = False
        self.show_gallery = False  # asks for it to open, or to close
        self._held: Point | None = None  # where the hand holds an obstacle, in metres
        self.show_partition = False  # asks for its tab to come to the front
        self.picture: Picture = draw(engine.simulation, self.view)
        scenes = {name: load_scene(name) for name in available_scenes()}
        self.scenes = {  # name to description
            name: textwrap.fill(f"{scene.title}: {scene.description}", 60) for name, scene in scenes.items()
        }
        self.preconditioners = registered_preconditioners()  # name to description
        self.available = set(available_preconditioners())
        self.notice = engine.notice  # stays beside the preconditioner until another one is chosen
        self._views = {self.view.field: self.view}
        self._message = self._warning = Message()
        self._warned_of: FrameReport | None = None
        self._asked: list[Callable[[], object]] = []
        self._recorder: Recorder | None = None
        self._rows: deque[list[float]] = deque(maxlen=FRAMES)
        self._methods: deque[str] = deque(maxlen=FRAMES)
        engine.subscribe(self._on_frame, self._on_event)
        if self.notice:
            self.say(self.notice, error=True)

    def ask(self, action: Callable[..., object], *arguments: Any) -> None:
        """Have ``action`` done by the next ``advance``, before its step."""
        self._asked.append(partial(action, *arguments))

    def advance(self) -> bool:
        """Do what was asked for, take a step unless paused, and inspect the factors if somebody looks; False,
        and no step, while the first one is still compiled.
        """
        asked, self._asked = self._asked, []
        for action in asked:
            action()
        if self.compiling:
            return False
        self.engine.advance()
        if self.inspector.shown:
            self.inspector.refresh()
        return True

    @property
    def compiling(self) -> bool:
        """Whether the first step is still compiled."""
        return self.compilation is not None and not self.compilation.ready

    def draw(self) -> Picture:
        """Draw the current state, fine enough for the screen."""
        scale = max(1, TEXTURE_PIXELS // max(self.engine.simulation.shape))
        self.picture = draw(self.engine.simulation, self.view, scale)
        return self.picture

    def history(self) -> dict[str, np.ndarray]:
        """Frame, iterations, fps and milliseconds by phase of the last FRAMES frames, oldest first, float64.

        "failed solve" is left out where no solve failed.
        """
        names = ("frame", "iterations", "fps", *PHASES)
        columns = np.array(self._rows, dtype=np.float64).reshape(-1, len(names)).T
        history = dict(zip(names, np.ascontiguousarray(columns), strict=True))
        if not history["failed solve"].any():
            del history["failed solve"]
        return history

    def switches(self) -> np.ndarray:
        """The frames of the history that another method solved than the one before, float64."""
        frames, methods = [row[0] for row in self._rows], list(self._methods)
        changed = [at for at in range(1, len(methods)) if methods[at] != methods[at - 1]]
        return np.array([frames[at] for at in changed], dtype=np.float64)

    def _on_frame(self, report: FrameReport) -> None:
        phases = (sum(getattr(report, part) for part in parts) for _, *parts in PHASES.values())
        self._rows.append([report.frame, report.iterations, report.fps, *phases])
        self._methods.append(report.choice.partition(":")[0] or report.preconditioner)
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
            self._rows.clear()
            self._methods.clear()
            self._warning = Message()

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
        fresh = self._message if time.monotonic() < self._message.until else None
        if self.compiling and not (fresh and fresh.error):
            text = f"{COMPILING}: {time.monotonic() - self._begun:.0f} s of about 30"
            return Message(text, False, math.inf)
        return fresh

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
        self._message = Message()
        if name == "preconditioner":
            self.notice = ""

    def toggle_pause(self) -> None:
        """Pause, or go on."""
        self.engine.paused = not self.engine.paused

    def step(self) -> None:
        """One frame; pauses first when running."""
        self.engine.paused = True
        if not self.compiling:
            self.engine.single_step()

    def take(self, material: str) -> None:
        """Have the brush hold one of MATERIALS."""
        self.brush.paint = material

    def toggle_gallery(self) -> None:
        """Open the gallery of scenes, or close it."""
        self.show_gallery = True

    def toggle_leaf(self) -> None:
        """Outline the leaf under the mouse and show its coarse basis, or no longer; opens a hidden panel."""
        inspector = self.inspector
        inspector.follow = not (inspector.follow and inspector.shown)
        self.show_partition = inspector.follow and not inspector.shown

    def save_screenshot(self) -> None:
        """Write the current view as a large PNG and say where."""
        simulation = self.engine.simulation
        scale = max(1, SCREENSHOT_PIXELS // max(simulation.shape))
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        scene = Path(self.engine.settings.simulation.scene).stem
        path = RUNS / "screenshots" / f"{scene}-{self.view.field}-{stamp}.png"
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
            scene = Path(self.engine.settings.simulation.scene).stem
            self._recorder = Recorder.start(self.engine, self.engine.settings.out or RUNS / scene)
        except UsageError as error:
            self.say(f"recording: {error}", error=True)
        else:
            self.say(f"recording to {self._recorder.directory}")

    def change_view(self, **changes: Any) -> None:
        """Change parts of the View; each field keeps its colormap and range; what is refused is said."""
        field = changes.get("field", self.view.field)
        kept = self._views.get(field, View(field))
        try:
            self.view = replace(kept, **{"interface": self.view.interface, **changes})
            self._views[field] = self.view
        except ValueError as error:
            self.say(str(error), error=True)

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
        for place in _along(begin, end, self.brush_radius, most=4):
            self.engine.stir(*place, *velocity, self.brush_radius)

    def paint(self, begin: Point, end: Point) -> None:
        """Paint along a stroke (metres), without gaps, with the chosen material."""
        if self.brush.paint != MOVE:
            self.engine.paint(*begin, self.brush_radius, self.brush.paint, *end)

    def move(self, begin: Point, end: Point, seconds: float, grabs: bool) -> None:
        """Drag the obstacle that was held where the stroke began, ``grabs`` at its first move, to ``end``."""
        if grabs:
            self._held = begin
        if self._held is not None:
            self._held = self.engine.drag(*self._held, *end, seconds)
            if self._held is None and grabs:
                self.say("nothing is solid here: press on an obstacle to move it")


def _along(begin: Point, end: Point, spacing: float, most: int) -> list[Point]:
    """Points from just after ``begin`` to ``end``, at most ``spacing`` apart if ``most`` allow it."""
    count = min(most, max(1, math.ceil(math.dist(begin, end) / spacing)))
    return np.linspace(begin, end, count + 1)[1:].tolist()
