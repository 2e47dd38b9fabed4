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
from app.picture import MOST_PIXELS, Picture, Tracers, View, blank, draw, render, save_png, size_of
from app.race.beside import Beside
from app.recording.recorder import Recorder
from app.viewer.inspector import Inspector
from app.viewer.marks import Marks
from app.viewer.materials import MOVE
from app.worker import Worker
from precond import available_preconditioners, registered_preconditioners
from precond.errors import UsageError
from precond.host.compiled import compiled_anew
from sim.fields import Snapshot
from sim.scenes import available_scenes, load_scene
from sim.simulation import PAINTS

RUNS = Path("runs")
SCREENSHOT_PIXELS = 1280  # along the longer side
MESSAGE_SECONDS = 8.0
FIRST_HELP = "drag to stir, right-drag to paint, F1 for keys"
WARNING_SECONDS = 1.5  # a warning about a single frame must be readable
STEPPING_SECONDS = 0.012  # of a frame of the window in which steps are taken without a thread
STATES = RUNS / "states"
BRUSH_LIMITS = {"radius": (0.01, 0.5), "strength": (0.1, 10.0)}
COMPILING_SECONDS = 40  # that it usually takes
FRAMES = 300  # of the history
RATE_PICTURES = 30
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

    The panels ``ask`` for actions while they read mouse and keyboard; ``worker`` does them, takes the steps
    and looks at the partition; ``draw`` makes the picture of the newest one.
    """

    def __init__(self, engine: Engine, worker: Worker | None = None) -> None:
        self.engine = engine
        self.worker = worker or Worker(engine)
        self.worker.ready = lambda: not self.compiling
        self.worker.after_turn = self._look_beside
        self.view = View(engine.settings.view, engine.settings.colormap)
        self.brush = Brush()
        self.beside = Beside(engine)
        self.marks = Marks(engine)
        self.inspector = Inspector(engine, self.beside.studying)
        self._begun = time.monotonic()
        self.compilation: Compilation | None = None  # for which the fluids wait
        self.show_help = False
        self.explained = True  # the first line of help is not needed: somebody has stirred or painted
        self.asks_for_layout = False  # the one that the window came with
        self.front = ""  # the tab that is asked to come to the front
        self.shown: Snapshot = self.worker.snapshot  # what the picture is of
        self.side = 512.0  # pixels along the picture's longer side, as the window has room
        self.blue_first = False  # the order of colours in the picture
        self.tracers = Tracers()
        self.theme = engine.settings.theme
        self.picture: Picture = blank(self.shown.shape)
        self.show_gallery = False  # asks for it to open, or to close
        self._held: Point | None = None  # where the hand holds an obstacle, in metres
        scenes = {name: load_scene(name) for name in available_scenes()}
        self.scenes = {  # name to description
            name: textwrap.fill(f"{scene.title}: {scene.description}", 60) for name, scene in scenes.items()
        }
        self.preconditioners = registered_preconditioners()  # name to description
        self.available = set(available_preconditioners())
        self.notice = engine.notice  # stays beside the preconditioner until another one is chosen
        self._views = {self.view.field: self.view}
        self._drawn: tuple | None = None  # the picture's view, size and order of colours
        self._message = self._warning = Message()
        self._warned_of: FrameReport | None = None
        self._recorder: Recorder | None = None
        self._told_of: Recorder | None = None  # whose end was said
        self._pictures: deque[float] = deque(maxlen=RATE_PICTURES)  # when they were drawn
        self._rows: deque[list[float]] = deque(maxlen=FRAMES)
        engine.subscribe(self._on_frame, self._on_event)
        if self.notice:
            self.say(self.notice, error=True)

    def ask(self, action: Callable[..., object], *arguments: Any) -> None:
        """Have ``action`` done before the next step."""
        self.worker.ask(partial(action, *arguments))

    def advance(self) -> bool:
        """Unless a thread does so, do what was asked for and take a step, or as many as the speed asks for;
        False while the first one is still compiled.
        """
        if not self.worker.threaded:
            until = time.monotonic() + STEPPING_SECONDS
            while self.worker.turn() and self.worker.speed < math.inf and time.monotonic() < until:
                pass
        return not self.compiling

    def _look_beside(self) -> None:
        """Exchange what is computed beside the window, while the engine holds still."""
        self.inspector.refresh()
        self.beside.refresh()
        compilation = self.compilation
        if compilation is not None and (compilation.done or (compilation.can_draw and not compiled_anew())):
            self.beside.prepare()

    @property
    def compiling(self) -> bool:
        """Whether the first step is still compiled."""
        return self.compilation is not None and not self.compilation.ready

    def draw(self) -> Picture:
        """Draw the newest state, fine enough for the screen; nothing while that is still compiled."""
        snapshot = self.worker.look()
        wanted = self.view, size_of(snapshot.shape, self.side, MOST_PIXELS), self.blue_first
        can_draw = self.compilation is None or self.compilation.can_draw
        if can_draw and (snapshot is not self.shown or wanted != self._drawn):
            self.picture = draw(snapshot, *wanted[:2], self.tracers, self.blue_first)
            self.shown, self._drawn = snapshot, wanted
        return self.picture

    def note_picture(self, seconds: float) -> None:
        """Tell that a picture was drawn, and what that took."""
        self.engine.draw_ms = 1e3 * seconds
        self._pictures.append(time.monotonic())

    @property
    def pictures_a_second(self) -> float:
        """Of the last ones; 0 before the second."""
        span = self._pictures[-1] - self._pictures[0] if self._pictures else 0.0
        return (len(self._pictures) - 1) / span if span > 0.0 else 0.0

    def history(self) -> dict[str, np.ndarray]:
        """Frame, iterations, fps and milliseconds by phase of the last FRAMES frames, oldest first, float64.

        "failed solve" is left out where no solve failed.
        """
        names = ("frame", "iterations", "fps", *PHASES)
        columns = np.array(list(self._rows), dtype=np.float64).reshape(-1, len(names)).T
        history = dict(zip(names, np.ascontiguousarray(columns), strict=True))
        if not history["failed solve"].any():
            del history["failed solve"]
        return history

    def _on_frame(self, report: FrameReport) -> None:
        phases = (sum(getattr(report, part) for part in parts) for _, *parts in PHASES.values())
        self._rows.append([report.frame, report.iterations, report.fps, *phases])
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
            self._warning = Message()

    def say(self, text: str, error: bool = False) -> None:
        """Show a line for some seconds."""
        self._message = Message(text, error, time.monotonic() + MESSAGE_SECONDS)

    @property
    def message(self) -> Message | None:
        """The line to show now, if any; what stopped the engine comes first."""
        recorder = self._recorder
        if recorder and recorder.message and recorder is not self._told_of:
            self.say(recorder.message, error=True)
            self._told_of = recorder
        if self.engine.message:
            return Message(self.engine.message, True, math.inf)
        fresh = self._message if time.monotonic() < self._message.until else None
        if not (fresh or self.explained or self.compiling):
            return Message(FIRST_HELP, until=math.inf)
        if self.compiling and not (fresh and fresh.error):
            seconds = time.monotonic() - self._begun
            usual = f"{seconds:.0f} s of about {COMPILING_SECONDS}"
            late = f"takes longer than usual: {seconds:.0f} s"
            return Message(f"{COMPILING}: {usual if seconds <= COMPILING_SECONDS else late}", False, math.inf)
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

    def change_speed(self, name: str, value: float) -> None:
        """Set how fast the simulation may go, in simulated seconds a second; what is refused is said."""
        try:
            setattr(self.engine.settings, name, value)
        except UsageError as error:
            self.say(str(error), error=True)
        else:
            self.worker.speed = value

    def toggle_pause(self) -> None:
        """Pause, or go on."""
        self.engine.paused = not self.engine.paused

    def step(self) -> None:
        """One frame; pauses first when running."""
        self.engine.paused = True
        if not self.compiling:
            self.engine.single_step()

    def undo(self) -> None:
        """Take back the last stroke, change or reset, flow included."""
        self._travel(self.engine.undo, "undone: ", "there is nothing to undo")

    def redo(self) -> None:
        """Do again what was taken back."""
        self._travel(self.engine.redo, "done again: ", "there is nothing to do again")

    def _travel(self, how: Callable[[], str], done: str, nothing: str) -> None:
        try:
            what = how()
        except UsageError as error:
            self.say(str(error), error=True)
        else:
            self.say(done + what.replace("_", " ") if what else nothing)

    def save_state(self) -> None:
        """Write the whole state to a file and say where."""
        scene = Path(self.engine.settings.simulation.scene).stem
        path = STATES / f"{scene}-{_stamp()}.safetensors"
        try:
            self.engine.save(path)
        except OSError as error:
            self.say(f"the state could not be written: {path}: {error.strerror or error}", error=True)
        else:
            self.say(f"saved: {path}")

    def load_state(self, path: Path) -> None:
        """Go on from a saved state; what is wrong with it is said."""
        try:
            self.engine.load(path)
        except UsageError as error:
            self.say(str(error), error=True)
        else:
            self.say(f"loaded: {path}")

    @staticmethod
    def saved_states() -> list[Path]:
        """The files of saved states, the newest first."""
        return sorted(STATES.glob("*.safetensors"), reverse=True, key=lambda path: path.stem[-19:])

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
        if inspector.follow and not inspector.shown:
            self.front = "Partition"
        if inspector.follow and (why := inspector.why_no_leaves):
            self.say(why)

    def start_race(self) -> None:
        """Race on the last frame's system and show it."""
        self.beside.race.start()
        self.front = "Race"

    def save_screenshot(self) -> None:
        """Write the current view as a large PNG and say where."""
        simulation = self.engine.simulation
        scene = Path(self.engine.settings.simulation.scene).stem
        path = RUNS / "screenshots" / f"{scene}-{self.view.field}-{_stamp()}.png"
        try:
            save_png(path, render(simulation, self.view, SCREENSHOT_PIXELS))
        except OSError as error:
            reason = error.strerror or error
            self.say(f"the screenshot could not be written: {path}: {reason}", error=True)
        else:
            self.say(f"screenshot: {path}")

    @property
    def recording(self) -> bool:
        """Whether frames are being recorded."""
        recorder = self._recorder
        return recorder is not None and recorder.running

    def restore_window(self) -> None:
        """Layout, view and brush as on the first day."""
        self.asks_for_layout = True
        self.view = View()
        self._views = {self.view.field: self.view}
        self.brush, self.theme, self.explained = Brush(), "dark", False
        self.change_speed("speed", 1.0)

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
            self.say(f"recording to {self._recorder.directory}; undo begins anew")

    def change_view(self, **changes: Any) -> None:
        """Change parts of the View; each field keeps its colormap and range; what is refused is said."""
        field = changes.get("field", self.view.field)
        kept = self._views.get(field, View(field))
        try:
            same = {name: getattr(self.view, name) for name in ("interface", "light")}
            self.view = replace(kept, **same | changes)
            self._views[field] = self.view
        except ValueError as error:
            self.say(str(error), error=True)

    @property
    def brush_radius(self) -> float:
        """Radius of the brush in metres."""
        return self.brush.radius * min(self.engine.simulation.domain)

    def stir(self, begin: Point, end: Point, seconds: float) -> None:
        """Drag the fluid along a stroke (metres) that took ``seconds``; says so where a pause hinders."""
        self.explained = True
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
        self.explained = True
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


def _stamp() -> str:
    """The time of day in a file's name, to the millisecond."""
    return datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]


def _along(begin: Point, end: Point, spacing: float, most: int) -> list[Point]:
    """Points from just after ``begin`` to ``end``, at most ``spacing`` apart if ``most`` allow it."""
    count = min(most, max(1, math.ceil(math.dist(begin, end) / spacing)))
    return np.linspace(begin, end, count + 1)[1:].tolist()
