"""The engine: one simulation, its live settings, and the one report a frame that everybody reads."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config.settings import AppSettings, scene_settings
from app.environment import check_device, use_one_thread
from precond import PreconditionerError, is_learned
from precond.errors import in_one_line
from sim.scenes import load_scene
from sim.settings import SettingsError, SimulationSettings
from sim.simulation import Simulation

if TYPE_CHECKING:
    from app.recording.recorder import Recorder

HISTORY_FRAMES = 600
FPS_FRAMES = 30
SUBSTITUTE = "multigrid"  # at the start of a window, for a learned preconditioner without usable weights
REBUILT_BY = ("scene", "grid", "device", "seed")  # settings that need a new simulation


def _unit(unit: str, timing: bool = False) -> Any:
    """A field that carries its unit ("-" for none); ``timing`` marks what differs between two equal runs."""
    return field(metadata={"unit": unit, "timing": timing})


@dataclass(frozen=True)
class FrameReport:
    """What one frame did and cost: the source of the viewer's plots, the recorder's columns and the tests.

    ``frame_ms`` is the work of the frame: its step and the drawing of the picture before it, without waiting
    for the display. ``fps`` is 1000 over the mean ``frame_ms`` of the last 30 frames, set-ups and all, but
    without the first frame, which compiles. ``outcome`` is the pressure solve's, or "failed" when the step
    itself could not be taken.
    """

    frame: int = _unit("-")
    time_s: float = _unit("s")
    time_step_s: float = _unit("s")
    preconditioner: str = _unit("-")
    outcome: str = _unit("-")
    fallback: bool = _unit("-")
    iterations: int = _unit("-")
    relative_residual: float = _unit("-")
    sim_ms: float = _unit("ms", timing=True)
    setup_ms: float = _unit("ms", timing=True)
    inference_ms: float = _unit("ms", timing=True)
    solve_ms: float = _unit("ms", timing=True)
    draw_ms: float = _unit("ms", timing=True)
    frame_ms: float = _unit("ms", timing=True)
    fps: float = _unit("1/s", timing=True)


class Engine:
    """Runs a simulation frame by frame; a bad frame pauses it with a ``message`` instead of raising.

    Building one raises SettingsError, SceneError or PreconditionerError when the settings cannot be used.
    ``notice`` says what differs from them all the same; mostly empty.
    """

    def __init__(self, settings: AppSettings) -> None:
        use_one_thread()
        check_device(settings.simulation.device)
        self.settings = settings
        self.simulation = self._build(settings.simulation)
        settings.simulation = self.simulation.settings
        self.paused = False
        self.notice = ""
        self.message = ""  # why the last frame went wrong; empty when it did not
        self.frame = 0
        self.last: FrameReport | None = None
        self.residual_history: list[float] = []
        self.history: deque[FrameReport] = deque(maxlen=HISTORY_FRAMES)
        self.recording: Recorder | None = None
        self._draw_ms = 0.0

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
            reason = " ".join(str(error).split()) or "out of memory"
            raise SettingsError(
                f"grid: {nx}x{ny} on {settings.device} cannot be used here: {reason}"
            ) from error

    def step(self) -> FrameReport:
        """Take one time step and report it; pauses with ``message`` set when the frame was bad."""
        start = time.perf_counter()
        failure = ""
        try:
            step = self.simulation.step()
            if not (math.isfinite(step.time_s) and math.isfinite(self.simulation.max_speed())):
                failure = "the flow is no longer finite"
        except (ArithmeticError, RuntimeError, ValueError) as error:  # numpy's LinAlgError is a ValueError
            step = None
            failure = in_one_line(error)
        elapsed_ms = 1e3 * (time.perf_counter() - start) + self._draw_ms
        self.frame += 1
        recent = [report.frame_ms for report in list(self.history)[1 - FPS_FRAMES :] if report.frame > 1]
        common = {
            "frame": self.frame,
            "draw_ms": self._draw_ms,
            "frame_ms": elapsed_ms,
            "fps": 1e3 / statistics.fmean([*recent, elapsed_ms]),
        }
        self._draw_ms = 0.0
        if step is None:
            self.residual_history = []
            self.last = FrameReport(
                time_s=self.simulation.time,
                time_step_s=0.0,
                preconditioner=self.settings.simulation.preconditioner,
                outcome="failed",
                fallback=False,
                iterations=0,
                relative_residual=math.nan,
                sim_ms=0.0,
                setup_ms=0.0,
                inference_ms=0.0,
                solve_ms=0.0,
                **common,
            )
        else:
            self.residual_history = list(step.solve.history)
            self.last = FrameReport(
                time_s=step.time_s,
                time_step_s=step.time_step_s,
                preconditioner=step.preconditioner,
                outcome=step.solve.outcome.value,
                fallback=step.fallback,
                iterations=step.solve.iterations,
                relative_residual=step.solve.relative_residual,
                sim_ms=step.sim_ms,
                setup_ms=step.setup_ms,
                inference_ms=step.inference_ms,
                solve_ms=step.solve_ms,
                **common,
            )
        self.history.append(self.last)
        self.message = ""
        if failure:
            self.paused = True
            self.message = f"frame {self.frame}: {failure}; paused, reset to start again"
        self._record()
        return self.last

    def _record(self) -> None:
        if self.recording is None:
            return
        try:
            self.recording.write(self.last, self.simulation)
        except OSError as error:
            self.message = f"recording stopped: {error}"
            self.recording.abandon()
            self.recording = None

    def advance(self) -> FrameReport | None:
        """Step unless paused."""
        return None if self.paused else self.step()

    def single_step(self) -> FrameReport | None:
        """Step once while paused."""
        return self.step() if self.paused else None

    def note_draw(self, milliseconds: float) -> None:
        """Tell what drawing this frame took; it becomes ``draw_ms`` of the next report."""
        self._draw_ms = milliseconds

    def reset(self) -> None:
        """Back to the scene's initial state, settings kept; the frame count and the plots start anew."""
        if self.recording is not None:
            self.recording.note_change(self.frame, "reset", True)
        self.simulation.reset()
        self._forget()

    def _forget(self) -> None:
        self.frame = 0
        self.last = None
        self.message = ""
        self.residual_history = []
        self.history.clear()
        self._draw_ms = 0.0

    def set(self, name: str, value: Any) -> None:
        """Change one simulation setting while running; the old state stays when an error is raised.

        ``scene``, ``grid``, ``device`` and ``seed`` start the simulation anew. A new scene brings its own
        settings, except those that the settings file or a flag gave. Raises SettingsError, SceneError,
        PreconditionerError.
        """
        if name not in SimulationSettings.names():
            raise SettingsError(f"{name}: unknown setting; allowed: {', '.join(SimulationSettings.names())}")
        current, frame = self.settings.simulation, self.frame
        candidate = current.with_(**{name: value})
        if name in REBUILT_BY:
            if name == "scene":
                candidate = self._with_scene(str(value))
            if name == "device":
                check_device(candidate.device)
            simulation = self._build(candidate)
            self.simulation = simulation
            self.settings.simulation = simulation.settings
            self._forget()
        elif name == "preconditioner":
            self.simulation.select_preconditioner(value)
        else:
            setattr(self.simulation.settings, name, getattr(candidate, name))
        if self.recording is not None:
            self.recording.note_change(frame, name, value)

    def _with_scene(self, scene_name: str) -> SimulationSettings:
        """The settings under another scene: those of the old scene go, those of the new one come."""
        current = self.settings.simulation
        fresh = scene_settings(scene_name, self.settings.given | {"scene": scene_name})
        changed_by_scene = {*load_scene(current.scene).settings, *load_scene(scene_name).settings, "scene"}
        return current.with_(**{name: getattr(fresh, name) for name in changed_by_scene})

    def start_recording(self, out_dir: str | Path) -> Path:
        """Record every frame from now on; returns the directory, ``out_dir`` numbered if that is in use.

        Raises OutputError when it cannot be written. Does nothing while a recording runs.
        """
        from app.output import free_directory
        from app.recording.recorder import Recorder

        if self.recording is None:
            self.recording = Recorder(free_directory(out_dir), self.settings)
        return self.recording.directory

    def stop_recording(self) -> Path | None:
        """End the recording, with its final picture and summary; returns its directory."""
        recording, self.recording = self.recording, None
        if recording is None:
            return None
        try:
            recording.close(self.simulation)
        except OSError as error:
            self.message = f"the recording's end could not be written: {error}"
        return recording.directory
