"""The last frames' reports as arrays, ready to plot."""

from __future__ import annotations

import numpy as np

from app.engine import FrameReport

COLUMNS = (
    "frame",
    "iterations",
    "sim_ms",
    "setup_ms",
    "inference_ms",
    "solve_ms",
    "draw_ms",
    "frame_ms",
    "fps",
)
FRAMES = 300


class History:
    """The last FRAMES reports; ``history["sim_ms"]`` is a contiguous float64 array, oldest first."""

    def __init__(self) -> None:
        self._rows = np.zeros(
            (len(COLUMNS), 2 * FRAMES)
        )  # twice as long, so that the window seldom moves back
        self._end = 0

    def __len__(self) -> int:
        return min(self._end, FRAMES)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._rows[COLUMNS.index(name), max(0, self._end - FRAMES) : self._end]

    def add(self, report: FrameReport) -> None:
        """Append one frame."""
        if self._end == self._rows.shape[1]:
            self._rows[:, : FRAMES - 1] = self._rows[:, 1 - FRAMES :]
            self._end = FRAMES - 1
        self._rows[:, self._end] = [getattr(report, name) for name in COLUMNS]
        self._end += 1

    def clear(self) -> None:
        """Forget everything."""
        self._end = 0

    def mean(self, name: str, frames: int = 20) -> float:
        """Mean over the last ``frames`` frames; 0 before the first one."""
        values = self[name][-frames:]
        return float(values.mean()) if values.size else 0.0
