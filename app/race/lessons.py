"""What the panel on the method shows, renewed in the background while somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from app.engine import Engine
from app.race import study
from app.race.helper import Helper, Job
from app.race.system import System, present_method

SECONDS = 0.5  # at least between two lessons


class Lessons:
    """``lesson``: the last one, of the method at work; None where ``reason`` says why. ``error``: one of
    study.ERRORS. ``shown``: somebody looks at the panel.
    """

    def __init__(self, engine: Engine, helper: Helper, clock: Callable[[], float] = time.monotonic) -> None:
        self.lesson: study.Lesson | None = None
        self.error = "random"
        self.reason = ""
        self.shown = False
        self._engine, self._helper, self._clock = engine, helper, clock
        self._job: Job | None = None
        self._asked: tuple = ()  # frame, method and error of the last job
        self._due = 0.0

    def refresh(self) -> None:
        """Take a lesson that is done, and ask for another if there is a new frame, method or error."""
        if self._job is not None:
            self._helper.poll()
            if self._job.done:
                self._take(self._job)
                self._job = None
        engine = self._engine
        wanted = engine.frame, present_method(engine), self.error
        if not self.shown or wanted == self._asked:
            return
        if self._helper.busy:
            if self.lesson is None and self._job is None:
                self.reason = f"{wanted[1]} is looked into as soon as tab Partition's look is done"
            return
        if wanted[1:] == self._asked[1:] and self._clock() < self._due:
            return
        if engine.last is None:
            self.lesson, self.reason = None, "there is no pressure solve before the first frame"
            return
        solve = engine.last.solve
        coefficients = solve.coefficients if solve else np.empty((0, 2))
        self._asked = wanted
        if self.lesson is None:
            self.reason = f"looking into {wanted[1]}, in a process that may have to start first"
        self._job = self._helper.submit(study.lesson, System.of(engine), *wanted[1:], coefficients)

    def _take(self, job: Job) -> None:
        self._due = self._clock() + SECONDS
        self.lesson, self.reason = (job.results[0], "") if job.results else (None, job.failure)
