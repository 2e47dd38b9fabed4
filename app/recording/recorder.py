"""The recorder: every frame's report as a CSV row, with what is needed to repeat the run beside it.

A directory holds one recording: timings.csv (flushed row by row, so that whatever ends the program loses
nothing), run.yaml (settings, versions, hardware, live changes, at the end a summary), final.png and, if asked
for, run.mp4. An earlier recording is never overwritten.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import sys
from collections.abc import Callable, Generator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import yaml
from PIL import Image
from tqdm import tqdm

from app.config.settings import DEFAULT_FRAMES, AppSettings
from app.engine import Engine, FrameReport
from app.environment import describe
from app.output import OutputError, command_line, free_directory, now, stop_signals, usable_directory
from app.picture import View, render, save_png

if TYPE_CHECKING:
    from sim.simulation import Simulation

PICTURE_SIZE = 768  # pixels along the longer side of final.png, where whole pixels per cell allow it
COLUMNS = [f"{column.name} [{column.metadata['unit']}]" for column in fields(FrameReport)]
PHASES = [column.name for column in fields(FrameReport) if column.metadata["unit"] == "ms"]


class Recorder:
    """One recording. Raises OutputError when it cannot be started, OSError when it cannot be continued."""

    def __init__(self, directory: str | Path, settings: AppSettings) -> None:
        self._view = View(settings.view, settings.colormap)
        self._video_fps = settings.video_fps
        self._video = Video(settings.video_fps) if settings.video else None
        self.directory = usable_directory(directory)
        self.rows = 0
        self.summary: dict[str, Any] | None = None
        self._header = {
            "command": command_line(),
            "started": now(),
            "seed": settings.simulation.seed,
            "settings": settings.as_dict(),
            **describe(),
        }
        self._changes: list[dict[str, Any]] = []
        self._table: TextIO | None = None
        try:
            self._table = (self.directory / "timings.csv").open("x", newline="", encoding="utf-8")
            self._writer = csv.writer(self._table)
            self._writer.writerow(COLUMNS)
            self._table.flush()
            self._write_run()
        except OSError as error:
            self.abandon()
            raise OutputError(f"{self.directory}: cannot be written: {error.strerror}") from None

    def write(self, report: FrameReport, simulation: Simulation) -> None:
        """Add one frame: its row at once, its picture when the video's next moment has come."""
        self._writer.writerow([getattr(report, column.name) for column in fields(report)])
        self._table.flush()
        self.rows += 1
        if self._video is not None:
            self._video.show(
                self.directory / "run.mp4", report.time_step_s, lambda: self._picture(simulation)
            )

    def note_change(self, frame: int, name: str, value: Any) -> None:
        """Keep in run.yaml that setting ``name`` was changed after ``frame``."""
        value = list(value) if isinstance(value, tuple) else value
        self._changes.append({"frame": frame, "name": name, "value": value})
        self._write_run()

    def close(self, simulation: Simulation, ended: str = "completed") -> dict[str, Any]:
        """Write the summary and the final picture, finish the video; returns the summary."""
        self._table.close()
        self.summary = {"ended": ended, "finished": now(), **summarise(self.directory / "timings.csv")}
        self._write_run()
        if self._video is not None:
            self._video.close()
        save_png(self.directory / "final.png", self._picture(simulation))
        return self.summary

    def abandon(self) -> None:
        """Let go of the files after an OSError; what is in them stays."""
        with contextlib.suppress(OSError):
            if self._table is not None:
                self._table.close()
        with contextlib.suppress(OSError):
            if self._video is not None:
                self._video.close()

    def _picture(self, simulation: Simulation) -> np.ndarray:
        return render(simulation, self._view, max(1, PICTURE_SIZE // max(simulation.shape)))

    def _write_run(self) -> None:
        content = {**self._header, "changes": self._changes, "summary": self.summary}
        part = self.directory / "run.yaml.part"
        part.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        part.replace(self.directory / "run.yaml")


class Video:
    """An mp4 in simulated time, playable up to its last second even when the program was killed."""

    def __init__(self, fps: float) -> None:
        try:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            raise OutputError("--video needs ffmpeg: pip install 'htp-fluid[video]'") from None
        self._fps = fps
        self._time = 0.0  # simulated seconds shown, which go on when the simulation is reset
        self._pictures = 0
        self._stream: Generator[None, Any, None] | None = None
        self._size = (0, 0)

    def show(self, path: Path, time_step: float, picture: Callable[[], np.ndarray]) -> None:
        """Add pictures up to the end of a frame that took ``time_step`` simulated seconds."""
        self._time += time_step
        due = 1 + int(self._time * self._fps + 1e-9) - self._pictures
        if due <= 0:
            return
        pixels = np.ascontiguousarray(picture()[..., :3])
        if self._stream is None:
            self._open(path, pixels.shape[1], pixels.shape[0])
        if pixels.shape[1::-1] != self._size:
            pixels = np.asarray(Image.fromarray(pixels).resize(self._size, Image.Resampling.NEAREST))
        for _ in range(due):
            self._stream.send(pixels)
        self._pictures += due

    def _open(self, path: Path, width: int, height: int) -> None:
        from imageio_ffmpeg import write_frames

        self._size = (width + width % 2, height + height % 2)  # the format has no odd sizes
        fragmented = ["-movflags", "frag_keyframe+empty_moov", "-g", str(round(self._fps))]
        self._stream = write_frames(
            str(path),
            self._size,
            fps=self._fps,
            macro_block_size=2,
            quality=8,
            ffmpeg_log_level="error",
            output_params=fragmented,
        )
        self._stream.send(None)

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._stream.close()


def summarise(table: Path) -> dict[str, Any]:
    """Means, medians and 95th percentiles over all rows of a timings.csv; an empty one gives rows: 0.

    Means carry what medians hide, set-ups and inference that not every frame has; they leave out the first
    frame, which compiles.
    """
    with table.open(newline="", encoding="utf-8") as stream:
        columns = {name: [] for name in ("iterations", "outcome", "fallback", *PHASES)}
        for row in csv.reader(itertools.islice(stream, 1, None)):
            for column, text in zip(fields(FrameReport), row, strict=True):
                if column.name in columns:
                    columns[column.name].append(text)
    rows = len(columns["outcome"])
    if rows == 0:
        return {"rows": 0}
    milliseconds = {name: np.array(columns[name], dtype=float) for name in PHASES}
    measures = {
        "mean": _mean_after_first,
        "median": np.median,
        "p95": lambda values: np.percentile(values, 95),
    }
    return {
        "rows": rows,
        "fps_mean": round(1e3 / _mean_after_first(milliseconds["frame_ms"]), 2),
        "fps_median": round(1e3 / float(np.median(milliseconds["frame_ms"])), 2),
        "iterations_mean": round(float(np.mean(np.array(columns["iterations"], dtype=int))), 2),
        "unconverged": sum(outcome != "converged" for outcome in columns["outcome"]),
        "fallbacks": columns["fallback"].count("True"),
        **{
            measure: {name: round(float(of(values)), 4) for name, values in milliseconds.items()}
            for measure, of in measures.items()
        },
    }


def _mean_after_first(values: np.ndarray) -> float:
    return float(np.mean(values[1:] if len(values) > 1 else values))


def record(settings: AppSettings) -> int:
    """Run without a window and record every frame; returns the exit code (0, 1 bad frame, 128 + signal)."""
    simulation = settings.simulation
    default = free_directory(Path("runs") / f"{Path(simulation.scene).stem}-{simulation.preconditioner}")
    engine = Engine(settings)
    recorder = engine.recording = Recorder(settings.out or default, settings)
    frames = settings.frames or DEFAULT_FRAMES
    with stop_signals() as received, tqdm(total=frames, unit="frame", disable=None, file=sys.stderr) as bar:
        for _ in range(frames):
            engine.step()
            bar.update()
            if received or engine.message:
                break
    ended = f"interrupted by {received[0].name}" if received else engine.message or "completed"
    try:
        summary = recorder.close(engine.simulation, ended)
    except OSError as error:
        print(
            f"htp-fluid record: {recorder.directory}: the end could not be written: {error}", file=sys.stderr
        )
        return 1
    _print_summary(recorder.directory, summary)
    if engine.simulation.projection.note:
        print(f"htp-fluid record: {engine.simulation.projection.note}", file=sys.stderr)
    if engine.message:
        print(f"htp-fluid record: {engine.message}", file=sys.stderr)
    return 128 + received[0] if received else int(bool(engine.message))


def _print_summary(directory: Path, summary: dict[str, Any]) -> None:
    print(f"{directory}: {summary['rows']} frames, {summary['ended']}")
    if summary["rows"] == 0:
        return
    print(
        f"{summary['fps_mean']:.1f} frames/s (median frame {summary['fps_median']:.1f}), "
        f"{summary['iterations_mean']:.1f} iterations (mean), "
        f"{summary['unconverged']} unconverged, {summary['fallbacks']} fallbacks"
    )
    print("ms      " + "".join(f"{name.removesuffix('_ms'):>11}" for name in PHASES))
    for row in ("mean", "median", "p95"):
        print(f"{row:<8}" + "".join(f"{summary[row][name]:11.3f}" for name in PHASES))
