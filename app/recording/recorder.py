"""The recorder: every frame's report as a CSV row, with what is needed to repeat the run beside it.

A directory holds one recording: timings.csv, a row a frame; events.jsonl, every change, stroke and reset as
an app.engine.Event in JSON, a line each; run.yaml, written at the start with settings, versions and hardware,
and at the end with a summary; start.safetensors, the state where it began, unless that is the scene's own;
final.safetensors, the one where it ended; loaded-1.safetensors and so on, states that were loaded; final.png
and, if asked for, run.mp4 and report.html. Rows and lines reach the file one by one and whole, so that
whatever ends the program loses nothing. An earlier recording is never overwritten.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import json
import os
import shutil
import sys
from array import array
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from app.compilation import NOTE, Compilation, start_again_if_compiled
from app.config.settings import DEFAULT_FRAMES, AppSettings
from app.engine import Engine, Event, FrameReport
from app.environment import describe
from app.output import (
    FINAL,
    LOADED,
    START,
    command_line,
    free_directory,
    now,
    stop_signals,
    usable_directory,
    write_whole,
    writing,
)
from app.picture import View, render, save_png
from app.recording.page import check_plots, write_page
from app.recording.replay import Replay
from app.recording.summary import STATISTICS
from app.recording.video import Video
from precond.errors import UsageError, in_one_line

PICTURE_SIZE = 1280  # pixels along the longer side of final.png and of the video
HEADER = (  # attributes of FrameReport with their units, then what `_row` says of failed attempts
    "frame [-],time_s [s],time_step_s [s],preconditioner [-],choice [-],outcome [-],fallback [-],"
    "iterations [-],relative_residual [-],sim_ms [ms],setup_ms [ms],inference_ms [ms],solve_ms [ms],"
    "draw_ms [ms],frame_ms [ms],fps [1/s],failed_method [-],failed_outcome [-],failed_iterations [-],"
    "failed_ms [ms],failed_reason [-],"
    "kinetic_energy [J/m],potential_energy [J/m],surface_energy [J/m],divergence [1/s]"
)
COLUMNS = [title.split()[0] for title in HEADER.split(",")]
PHASES = [name for name in COLUMNS if name.endswith("_ms")]


def _row(report: FrameReport) -> list[Any]:
    """The values of COLUMNS. What failed is told apart by "; " where more than one attempt did."""
    failed = report.failed
    values = {
        "failed_method": "; ".join(attempt.method for attempt in failed),
        "failed_outcome": "; ".join(attempt.outcome.value for attempt in failed),
        "failed_iterations": sum(attempt.iterations for attempt in failed),
        "failed_reason": "; ".join(filter(None, [*(attempt.reason for attempt in failed), report.failure])),
    }
    return [values[name] if name in values else getattr(report, name) for name in COLUMNS]


class Recorder:
    """One recording of an engine, from when it is made until `stop`, the engine's end or the first OSError.

    ``message``: why it ended early or incomplete, in one line; mostly empty. ``running`` until it ended.
    Raises OutputError when it cannot be started, and nothing later.
    """

    def __init__(self, engine: Engine, directory: str | Path) -> None:
        settings = engine.settings
        self._engine = engine
        self._view = View(settings.view, settings.colormap)
        self._video = Video(settings.video_fps, settings.speed) if settings.video else None
        self._reports = settings.report
        if self._reports:
            check_plots()
        self.directory = usable_directory(directory)
        self.message = ""
        self._unconverged = self._fallbacks = 0
        self._measured = {name: array("d") for name in ("iterations", *PHASES)}
        self._header = {
            "command": command_line(),
            "started": now(),
            "frame": engine.frame,
            "seed": settings.simulation.seed,
            "replay": Path(settings.replay).name if settings.replay else None,
            "settings": settings.as_dict(),
            **describe(),
        }
        self._loaded = 0
        engine.settle()
        with contextlib.ExitStack() as files, writing(self.directory):
            if engine.touched:
                engine.save(self.directory / START)
            self._table = files.enter_context(_Lines(self.directory / "timings.csv"))
            self._events = files.enter_context(_Lines(self.directory / "events.jsonl"))
            self._table.add(HEADER + "\r\n")
            self._write_run()
            if self._video is not None:
                files.callback(self._video.close)
            self._files = files.pop_all()
        self._unsubscribe = engine.subscribe(self._add_frame, self._add_event)
        self.running = True

    @classmethod
    def start(cls, engine: Engine, directory: str | Path) -> Recorder:
        """Record into ``directory``, numbered if that is in use. Raises OutputError."""
        return cls(engine, free_directory(directory))

    def _add_frame(self, report: FrameReport) -> None:
        """Its row at once, its picture when the video's next moment has come."""
        try:
            self._table.add(_csv_line(_row(report)))
            self._unconverged += report.outcome != "converged"
            self._fallbacks += report.fallback
            for name, values in self._measured.items():
                values.append(getattr(report, name))
            if self._video is not None:
                self._video.show(self.directory / "run.mp4", report.time_step_s, self._picture)
        except OSError as error:
            self._end_early(error)

    def _add_event(self, event: Event) -> None:
        if event.kind == "close":
            self.stop(event.data["ended"])
            return
        try:
            line = asdict(event)
            if event.kind == "load":
                self._loaded += 1
                line["data"]["path"] = LOADED.replace("*", str(self._loaded))
                shutil.copyfile(event.data["path"], self.directory / line["data"]["path"])
            self._events.add(json.dumps(line) + "\n")
        except OSError as error:
            self._end_early(error)

    def _end_early(self, error: OSError) -> None:
        self.message = f"recording stopped: {self.directory}: {_reason(error)}"
        self._end(self.message)

    def stop(self, ended: str = "completed") -> Path:
        """End with a summary, that says how it ``ended``, and the final picture; returns the directory."""
        if self.running:
            self._end(ended)
        return self.directory

    def _end(self, ended: str) -> None:
        self._unsubscribe()
        self.running = False
        try:
            with self._files:
                self._write_run({"ended": ended, "finished": now(), **self.summary()})
                self._engine.save(self.directory / FINAL)
                save_png(self.directory / "final.png", self._picture())
            if self._reports:
                write_page(self.directory)
        except (OSError, UsageError) as error:
            reason = f"{self.directory}: the end could not be written: {_reason(error)}"
            self.message = self.message or reason

    def _picture(self) -> np.ndarray:
        return render(self._engine.simulation, self._view, PICTURE_SIZE)

    def summary(self) -> dict[str, Any]:
        """STATISTICS over all frames so far; without any, rows: 0."""
        rows = len(self._measured["iterations"])
        if rows == 0:
            return {"rows": 0}
        values = {name: np.array(measured) for name, measured in self._measured.items()}
        iterations = values.pop("iterations")
        return {
            "rows": rows,
            "fps_mean": round(1e3 / STATISTICS["mean"](values["frame_ms"]), 2),
            "fps_median": round(1e3 / float(np.median(values["frame_ms"])), 2),
            "iterations_mean": round(float(np.mean(iterations)), 2),
            "unconverged": self._unconverged,
            "fallbacks": self._fallbacks,
            **{
                word: {name: round(of(ms), 4) for name, ms in values.items()}
                for word, of in STATISTICS.items()
            },
        }

    def _write_run(self, summary: dict[str, Any] | None = None) -> None:
        content = {**self._header, "summary": summary}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_whole(self.directory / "run.yaml", text)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or in_one_line(error)


def _csv_line(values: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


class _Lines:
    """A new file that grows by whole lines: one that does not fit is taken back. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, 0
        self._file = path.open("xb", buffering=0)
        self._links = os.fstat(self._file.fileno()).st_nlink

    def add(self, line: str) -> None:
        """Append ``line``; raises OSError also when somebody has removed the file."""
        if os.fstat(self._file.fileno()).st_nlink < self._links:
            raise FileNotFoundError(errno.ENOENT, "was removed", str(self._path))
        data = memoryview(line.encode("utf-8"))
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size = self._file.tell()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def record(settings: AppSettings) -> int:
    """Run without a window and record every frame; returns the exit code (0, 1 bad frame, 128 + signal)."""
    simulation = settings.simulation
    default = free_directory(Path("runs") / f"{Path(simulation.scene).stem}-{simulation.preconditioner}")
    replay = Replay(settings.replay, settings.given) if settings.replay else None
    engine = Engine(settings)
    if settings.load:
        engine.load(settings.load, settings.given)
    if replay:
        replay.begin(engine)
    frames = settings.frames or (None if settings.seconds or replay else DEFAULT_FRAMES)
    seconds = 0.0  # simulated
    with stop_signals() as received, tqdm(total=frames, unit="frame", disable=None, file=sys.stderr) as bar:
        if simulation.device == "cpu":
            bar.set_description(NOTE)
            compilation = Compilation(simulation.preconditioner, replay.methods if replay else ())
            while not (received or compilation.done):
                compilation.wait(0.1)
            compilation.stop()
            bar.set_description()
            if not received:
                start_again_if_compiled()
        recorder = Recorder(engine, settings.out or default)
        for _ in itertools.repeat(None) if frames is None else range(frames):
            try:
                bad = engine.message if replay is None else not replay.advance(engine)
            except UsageError as error:
                recorder.stop(str(error))
                raise
            if received or bad or recorder.message:
                break
            seconds += engine.step().time_step_s
            bar.update()
            if settings.seconds and seconds >= settings.seconds * (1.0 - 1e-12):
                break
    ended = f"interrupted by {received[0].name}" if received else engine.message or recorder.message
    recorder.stop(ended or "completed")
    _print_summary(recorder.directory, ended or "completed", recorder.summary())
    if replay and not recorder.message:
        print(replay.compared(recorder.directory))
    for text in filter(None, (engine.note, engine.message, recorder.message)):
        print(f"htp-fluid record: {text}", file=sys.stderr)
    return 128 + received[0] if received else int(bool(engine.message or recorder.message))


def _print_summary(directory: Path, ended: str, summary: dict[str, Any]) -> None:
    print(f"{directory}: {summary['rows']} frames, {ended}")
    if summary["rows"] == 0:
        return
    print(
        f"{summary['fps_mean']:.1f} frames/s (median frame {summary['fps_median']:.1f}), "
        f"{summary['iterations_mean']:.1f} iterations (mean), "
        f"{summary['unconverged']} unconverged, {summary['fallbacks']} fallbacks"
    )
    print("ms      " + "".join(f"{name.removesuffix('_ms'):>11}" for name in PHASES))
    for row in STATISTICS:
        print(f"{row:<8}" + "".join(f"{summary[row][name]:11.3f}" for name in PHASES))
