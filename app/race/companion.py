"""The continuous mode: a second method solves the simulation's systems beside the one at work."""

from __future__ import annotations

from collections import deque

import numpy as np

from app.engine import HISTORY_FRAMES, Engine
from app.race import solving
from app.race.helper import Helper, Job
from app.race.lane import CONVERGED
from app.race.system import System


class Companion:
    """``method`` solves every frame that it can keep up with, from the start that the simulation's own solve
    had; empty: off. ``solved`` and ``skipped`` count frames since it was chosen; ``trouble``: what is wrong
    with its last solve.
    """

    def __init__(self, engine: Engine, helper: Helper) -> None:
        self.method = ""
        self.solved = self.skipped = 0
        self.trouble = ""
        self._engine, self._helper = engine, helper
        self._frame = 0  # the last one seen
        self._job: Job | None = None
        self._rows: deque[tuple[int, int, float]] = deque(maxlen=HISTORY_FRAMES)

    def choose(self, method: str) -> None:
        """Let ``method`` go along from the next frame on; empty for none."""
        self.method, self.solved, self.skipped, self.trouble = method, 0, 0, ""
        self._frame, self._job = self._engine.frame, None
        self._rows.clear()

    def history(self) -> dict[str, np.ndarray]:
        """Frame, iterations and milliseconds (set-up, inference and solve) of its solves, float64."""
        columns = np.array(list(self._rows), dtype=np.float64).reshape(-1, 3).T
        return dict(zip(("frame", "iterations", "ms"), np.ascontiguousarray(columns), strict=True))

    def refresh(self) -> None:
        """Take what it has solved, and give it the frame that is new, if it is free and no race is on."""
        if not self.method:
            return
        job, frame = self._job, self._engine.frame
        if job is not None:
            self._helper.poll()
            if job.done:
                self._job = None
                self._take(job)
        if frame < self._frame:  # the scene began anew
            self._rows.clear()
        if frame != self._frame and frame > 0:
            free = not self._helper.busy
            self.skipped += max(frame - self._frame - 1, 0) + (not free)
            if free:
                self._job = self._helper.submit(solving.follow, System.of(self._engine), self.method)
        self._frame = frame

    def _take(self, job: Job) -> None:
        if not job.results:
            self.skipped, self.trouble = self.skipped + 1, job.failure
            return
        (result,) = job.results
        self.solved += 1
        self.trouble = "" if result.outcome == CONVERGED else f"{result.outcome}: {result.reason}"
        if result.frame <= self._engine.frame:
            self._rows.append((result.frame, result.iterations, result.milliseconds))
