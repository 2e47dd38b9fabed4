"""The engine: one simulation, its live settings, what can be undone, and what it tells others: a report a
frame, and events.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.config.settings import AppSettings, scene_settings
from app.environment import check_device, use_one_thread
from precond import Preconditioner, PreconditionerError, is_learned
from precond.errors import UsageError, in_one_line
from sim.scenes import load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation, StepReport
from sim.state import State, load_state, save_state

HISTORY_FRAMES = 600
FPS_FRAMES = 30
SUBSTITUTE = "multigrid"  # at the start of a window, for a learned preconditioner without usable weights
REBUILT_BY = ("scene", "grid", "device", "seed")  # settings that need a new simulation
KEPT_BY = ("grid", "device")  # of those, the ones that what flows lives through
SOLVER = ("preconditioner", "rtol", "max_iterations", "warm_start", "reuse_setup", "single_launch", "device")
UNDO_BYTES = 128 * 2**20  # of states that undo and redo keep, each
SAME_CHANGE = 30  # frames within which changes of one setting, as by a slider, are undone together


@dataclass(frozen=True, kw_only=True)
class FrameReport(StepReport):
    """What one frame did and cost: the source of the viewer's plots, the recorder's columns and the tests.

    ``frame_ms`` is the work of the frame, all of its step; ``draw_ms`` is what the last picture of a window
    took, beside it. ``fps`` is 1000 over the mean ``frame_ms`` of the last 30 frames, set-ups and all, but
    without the first frame, which may compile. ``failure``: why the step could not be taken; mostly empty.
    """

    frame: int
    draw_ms: float
    frame_ms: float
    fps: float
    failure: str

    @property
    def outcome(self) -> str:
        """The pressure solve's, or "failed" when the step could not be taken."""
        return "failed" if self.failure else super().outcome


class _Moment(NamedTuple):
    """Where undo goes back to: before ``what`` was done after ``frame``."""

    what: str
    frame: int
    settings: SimulationSettings
    state: State


@dataclass(frozen=True)
class Event:
    """Something done to the simulation after ``frame``, before the next one; ``data`` holds plain values.

    | kind | data |
    |---|---|
    | set | name, value; for a scene also ``brought``, the settings that it changed |
    | stir | x, y, velocity_x, velocity_y, radius |
    | paint | x, y, radius, what; of a stroke also to_x, to_y |
    | drag | x, y, to_x, to_y, seconds |
    | begin_stroke, undo, redo, reset | none |
    | load | path of a saved state |
    | pause, resume, step | none; step: a single one, while paused |
    | close | ended: why nothing comes any more |

    After a reset and after a new scene or seed frames are counted from 0 again.
    """

    frame: int
    time_s: float
    kind: str
    data: dict[str, Any]


class Engine:
    """Runs a simulation frame by frame; a bad frame pauses it with a ``message`` instead of raising.

    Building one raises UsageError when the settings cannot be used. ``notice`` says what differs from them
    all the same; mostly empty. ``last`` is the last frame's report, ``history`` holds HISTORY_FRAMES of them.
    """

    def __init__(self, settings: AppSettings) -> None:
        use_one_thread()
        check_device(settings.simulation.device)
        self.settings = settings
        self.simulation = self._build(settings.simulation)
        settings.simulation = self.simulation.settings
        self.notice = ""
        self.message = ""  # why the last frame went wrong; empty when it did not
        self.frame = 0
        self.last: FrameReport | None = None
        self.history: deque[FrameReport] = deque(maxlen=HISTORY_FRAMES)
        self.draw_ms = 0.0  # of the window's last picture
        self.touched = False  # something differs from the scene's start
        self._paused = False
        self._undo: list[_Moment] = []
        self._redo: list[_Moment] = []
        self._subscribers: dict[object, tuple[Callable | None, Callable | None]] = {}

    @classmethod
    def with_substitute(cls, settings: AppSettings) -> Engine:
        """An engine that starts with SUBSTITUTE, and a ``notice``, for a learned one that it cannot use.

        Raises what building one raises for anything else.
        """
        chosen = settings.simulation.preconditioner
        try:
            return cls(settings)
        except PreconditionerError as error:
            if not is_learned(chosen):
                raise
            reason = in_one_line(error)
        settings.simulation.preconditioner = SUBSTITUTE
        settings.given["preconditioner"] = SUBSTITUTE  # or a new scene would ask for it again
        engine = cls(settings)
        engine.notice = f"{SUBSTITUTE} solves instead of {chosen}: {reason}"
        return engine

    @staticmethod
    def _build(settings: SimulationSettings) -> Simulation:
        scene = load_scene(settings.scene)
        try:
            return Simulation(settings, scene)
        except (MemoryError, RuntimeError) as error:
            nx, ny = settings.grid
            reason = in_one_line(error).replace("MemoryError", "out of memory")
            raise UsageError(f"grid: {nx}x{ny} on {settings.device} cannot be used here: {reason}") from error

    def subscribe(
        self,
        on_frame: Callable[[FrameReport], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> Callable[[], None]:
        """Call ``on_frame`` after every frame and ``on_event`` after every event, until the function that is
        returned is called.
        """
        key = object()
        self._subscribers[key] = on_frame, on_event

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    def close(self, ended: str = "completed") -> None:
        """Tell all subscribers that nothing comes any more, and why."""
        self._tell(self._event("close", ended=ended))

    def _tell(self, told: FrameReport | Event) -> None:
        for subscriber in list(self._subscribers.values()):
            listener = subscriber[isinstance(told, Event)]
            if listener is not None:
                listener(told)

    def _event(self, kind: str, **data: Any) -> Event:
        return Event(self.frame, self.simulation.time, kind, data)

    @property
    def paused(self) -> bool:
        """Whether `advance` does nothing."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            self._tell(self._event("pause" if paused else "resume"))

    @property
    def preconditioner(self) -> Preconditioner:
        """The one that was chosen, for whoever wants to look into it."""
        return self.simulation.projection.preconditioner

    @property
    def note(self) -> str:
        """What a reader of the solves' numbers must know; mostly empty."""
        return self.simulation.projection.note

    @property
    def residual_history(self) -> list[float]:
        """Relative residuals of the last frame's solve; empty when there was none."""
        last = self.last  # another thread may change it
        return last.solve.history if last and last.solve else []

    def step(self) -> FrameReport:
        """Take one time step, strokes first, and report it; pauses with ``message`` set when it failed."""
        start = time.perf_counter()
        self.message, failure, self.touched = "", "", True
        try:
            step = self.simulation.step()
        except (ArithmeticError, RuntimeError, ValueError) as error:
            failure = in_one_line(error)
            step = StepReport(
                time_s=self.simulation.time,
                time_step_s=0.0,
                transport_steps=0,
                step_ms=1e3 * (time.perf_counter() - start),
                attempts=getattr(error, "attempts", ()),
            )
        elapsed_ms = 1e3 * (time.perf_counter() - start)
        recent = [report.frame_ms for report in list(self.history)[1 - FPS_FRAMES :] if report.frame > 1]
        self.frame += 1
        self.last = FrameReport(
            **vars(step),
            frame=self.frame,
            draw_ms=self.draw_ms,
            frame_ms=elapsed_ms,
            fps=1e3 / statistics.fmean([*recent, elapsed_ms]),
            failure=failure,
        )
        self.history.append(self.last)
        if failure:
            self.message = f"frame {self.frame}: {failure}; paused, reset to start again"
        self._tell(self.last)
        if failure:
            self.paused = True
        return self.last

    def advance(self) -> FrameReport | None:
        """Step unless paused."""
        return None if self.paused else self.step()

    def single_step(self) -> FrameReport | None:
        """Step once while paused."""
        if not self.paused:
            return None
        self._tell(self._event("step"))
        return self.step()

    def stir(self, x: float, y: float, velocity_x: float, velocity_y: float, radius: float) -> None:
        """Pull the fluid in a disc towards a velocity in the next step; metres and m/s. Raises UsageError."""
        stroke = {"x": x, "y": y, "velocity_x": velocity_x, "velocity_y": velocity_y, "radius": radius}
        stroke = {name: float(value) for name, value in stroke.items()}
        self.simulation.stir(*stroke.values())
        self.touched = True
        self._tell(self._event("stir", **stroke))

    def paint(
        self,
        x: float,
        y: float,
        radius: float,
        what: str,
        to_x: float | None = None,
        to_y: float | None = None,
    ) -> None:
        """Turn a disc (metres), or all that it sweeps on its way to (to_x, to_y), into one of
        sim.simulation.PAINTS. Raises UsageError.
        """
        stroke = {"x": float(x), "y": float(y), "radius": float(radius), "what": what}
        ends = {"to_x": to_x, "to_y": to_y}
        stroke |= {name: float(value) for name, value in ends.items() if value is not None}
        self.simulation.paint(**stroke)
        self.touched = True
        self._tell(self._event("paint", **stroke))

    def drag(
        self, x: float, y: float, to_x: float, to_y: float, seconds: float
    ) -> tuple[float, float] | None:
        """Move the obstacle at (x, y) towards a point, metres, as a hand does in ``seconds``; returns where
        it is then held, or None where nothing is solid. Raises UsageError.
        """
        stroke = {"x": x, "y": y, "to_x": to_x, "to_y": to_y, "seconds": seconds}
        stroke = {name: float(value) for name, value in stroke.items()}
        held = self.simulation.drag(*stroke.values())
        if held is not None:
            self.touched = True
            self._tell(self._event("drag", **stroke))
        return held

    def begin_stroke(self) -> None:
        """What follows is one stroke of the hand, which `undo` takes back."""
        self._keep("stroke")
        self._tell(self._event("begin_stroke"))

    def _keep(self, what: str) -> None:
        """Remember the present moment, before ``what``."""
        self._remember(self._moment(what))

    def _moment(self, what: str) -> _Moment:
        simulation = self.simulation
        return _Moment(what, self.frame, simulation.settings.model_copy(), simulation.state())

    def _remember(self, moment: _Moment) -> None:
        self._redo.clear()
        self._undo.append(moment)
        while sum(moment.state.bytes for moment in self._undo[:-1]) > UNDO_BYTES:
            del self._undo[0]

    def undo(self) -> str:
        """Go back to the moment before the last stroke, change or reset, flow included; returns what that
        was, or "" when there is nothing to undo.
        """
        return self._go_to(self._undo, self._redo, "undo")

    def redo(self) -> str:
        """The opposite of `undo`, as long as nothing else was done since."""
        return self._go_to(self._redo, self._undo, "redo")

    def _go_to(self, moments: list[_Moment], others: list[_Moment], how: str) -> str:
        if not moments:
            return ""
        event, moment = self._event(how), moments[-1]
        here = self._moment(moment.what)
        self._become(moment.settings, moment.state)
        moments.pop()
        others.append(here)
        self._tell(event)
        return moment.what

    def _become(self, settings: SimulationSettings, state: State) -> None:
        """Go on from ``state`` with a copy of ``settings``. Raises UsageError."""
        current = self.settings.simulation
        if any(getattr(current, name) != getattr(settings, name) for name in REBUILT_BY):
            self.simulation = self._build(settings.model_copy())
            self.settings.simulation = self.simulation.settings
        else:
            if current.preconditioner != settings.preconditioner:
                self.simulation.select_preconditioner(settings.preconditioner)
            for name in settings.names():
                setattr(current, name, getattr(settings, name))
        self.simulation.restore(state)
        self.touched = True
        self._go_on()

    def _go_on(self) -> None:
        """Forget a failure that another state has cured."""
        failed, self.message = self.message != "", ""
        if failed:
            self.paused = False

    def settle(self) -> None:
        """Make what comes depend on nothing but `Simulation.state` and settings: a recording begins here."""
        if self.touched:
            self.simulation.restore(self.simulation.state())
        self._undo.clear()
        self._redo.clear()

    def save(self, path: str | Path) -> Path:
        """Write the present state with its settings to a file. Raises OSError."""
        return save_state(path, self.simulation.state(), self.settings.simulation)

    def load(self, path: str | Path, given: dict[str, Any] | None = None) -> None:
        """Go on from a state that `save` wrote: its scene, grid and fluids but for settings that are
        ``given``, the present pressure solve and device. Raises UsageError.
        """
        state, saved = load_state(path)
        current = self.settings.simulation
        kept = {name: getattr(current, name) for name in SOLVER}
        kept |= {name: value for name, value in (given or {}).items() if name not in REBUILT_BY}
        try:
            settings = SimulationSettings(**saved | kept)
        except UsageError as error:
            raise UsageError(f"state {path}: {error}") from None
        if settings.grid != state.shape:
            raise UsageError(f"state {path}: its grid is not the one of its settings")
        event, before = self._event("load", path=str(path)), self._moment("loading a state")
        self._become(settings, state)
        self._remember(before)
        self._tell(event)

    def reset(self) -> None:
        """Back to the scene's initial state, settings kept; the frame count and the history start anew."""
        event = self._event("reset")
        if self.touched:
            self._keep("reset")
        self.simulation.reset()
        self._begin_anew(event)

    def _begin_anew(self, event: Event) -> None:
        self.frame, self.last, self.touched = 0, None, False
        self.history.clear()
        self._tell(event)
        self._go_on()

    def set(self, name: str, value: Any, brought: dict[str, Any] | None = None) -> None:
        """Change one simulation setting while running; the old state stays when an error is raised.

        ``scene`` and ``seed`` start the simulation anew. A new scene brings its own settings, except those
        that the settings file or a flag gave, or those of ``brought``. A new grid takes over what flows, if
        anything does and the box keeps its proportions; a new device does. Raises UsageError.
        """
        current = self.settings.simulation
        candidate = current.with_(**{name: value})
        value = getattr(candidate, name)
        event = self._event("set", name=name, value=_plain(value))
        last = self._undo[-1] if self._undo else None
        slides = isinstance(value, float) and last is not None and last.what == name
        before = None if slides and 0 <= self.frame - last.frame <= SAME_CHANGE else self._moment(name)
        self._set(event, candidate, brought)
        if before is not None:
            self._remember(before)

    def _set(self, event: Event, candidate: SimulationSettings, brought: dict[str, Any] | None) -> None:
        name, current = event.data["name"], self.settings.simulation
        if name not in REBUILT_BY:
            value = getattr(candidate, name)
            if name == "preconditioner":
                self.simulation.select_preconditioner(value)
            else:
                setattr(current, name, value)
            self._tell(event)
            return
        if name == "scene":
            event.data["brought"] = self._brought_by(candidate.scene) if brought is None else brought
            candidate = candidate.with_(**event.data["brought"])
        if name == "device":
            check_device(candidate.device)
        old = self.simulation
        self.simulation = self._build(candidate)
        self.settings.simulation = self.simulation.settings
        if name not in KEPT_BY or not self._carry_over(old):
            self._begin_anew(event)
        else:
            self._tell(event)
            self._go_on()

    def _carry_over(self, old: Simulation) -> bool:
        """Go on with what flows in ``old``; False when nothing has happened there, or the box is another."""
        (width, height), (old_width, old_height) = self.simulation.domain, old.domain
        same_box = height == old_height and abs(width - old_width) < 0.05 * width
        if not (same_box and self.touched):
            return False
        self.simulation.restore(old.state().on_grid(self.simulation.shape))
        return True

    def _brought_by(self, scene: str) -> dict[str, Any]:
        """The settings that change with the scene: those of the old one go, those of the new one come."""
        current = self.settings.simulation
        fresh = scene_settings(scene, self.settings.given | {"scene": scene})
        names = {*load_scene(current.scene).settings, *load_scene(scene).settings} - {"scene"}
        return {name: _plain(getattr(fresh, name)) for name in SimulationSettings.names() if name in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
