"""The last frames' reports as arrays, ready to plot."""

from __future__ import annotations

import numpy as np

from app.engine import FrameReport

COLUMNS = ("frame", "iterations", "sim_ms", "setup_ms", "inference_ms", "solve_ms", "draw_ms", "fps")
FRAMES = 300


class History:
    """The last FRAMES reports; ``history["sim_ms"]`` is a contiguous float64 array, oldest first."""

    def __init__(self) -> None:
        self._rows = np.zeros((len(COLUMNS), FRAMES))  # filled from the right
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> np.ndarray:
        return self._rows[COLUMNS.index(name), FRAMES - self._count :]

    def add(self, report: FrameReport) -> None:
        """Append one frame."""
        self._rows[:, :-1] = self._rows[:, 1:]
        self._rows[:, -1] = [getattr(report, name) for name in COLUMNS]
        self._count = min(self._count + 1, FRAMES)

    def clear(self) -> None:
        """Forget everything."""
        self._count = 0

    def phases(self) -> list[np.ndarray]:
        """Milliseconds of a frame's parts: simulation, set-up with inference, solve, drawing."""
        return [self["sim_ms"], self["setup_ms"] + self["inference_ms"], self["solve_ms"], self["draw_ms"]]
