"""What the partition panel shows: numbers of the method at work, computed in a process beside the window and
renewed only while somebody looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from app.engine import Engine
from app.race import study
from app.race.helper import Helper, Job
from app.race.system import System, present_method
from precond import Preconditioner
from precond.analysis.inspection import Inspection, LeafBasis, leaf_basis, leaf_count, leaf_labels
from precond.auto import Auto
from precond.multilevel.preconditioner import LeafHierarchy
from precond.registry import with_leaves

SECONDS = 0.5  # at least between two inspections,
WAIT = 3.0  # and this many times what the last one took: the machine has other things to do


class Inspector:
    """Inspections of an engine's preconditioner by a helper, which sets it up anew for the last frame, and
    the leaf under the mouse.

    ``quantity`` is what colours a tile, "norm" or "rank". ``follow``: show the leaf under the mouse;
    ``all_leaves``: every leaf over the picture, and ``labels`` (nx, ny) int64 are their numbers, or None.
    ``shown``: somebody looks at the panel. ``cell`` (i, j) is what the mouse was on last. ``inspection`` is
    of frame ``frame`` and took ``seconds``; where it is None, ``reason`` says why.
    """

    def __init__(self, engine: Engine, helper: Helper, clock: Callable[[], float] = time.monotonic) -> None:
        self.quantity = "norm"
        self.follow = False
        self.shown = False
        self.all_leaves = False
        self.labels: np.ndarray | None = None
        self.cell: tuple[int, int] | None = None
        self.inspection: Inspection | None = None
        self.reason = ""
        self.frame = 0
        self.seconds = 0.0
        self._leaf: tuple[LeafBasis, tuple[int, int]] | None = None  # with the grid that it is of
        self._engine, self._helper = engine, helper
        self._clock = clock
        self._job: Job | None = None
        self._asked = 0  # frame of the job
        self._preconditioner: Preconditioner | None = None  # that was inspected
        self._due = 0.0

    @property
    def preconditioner(self) -> Preconditioner:
        """The one at work; of `auto` the method in use."""
        chosen = self._engine.preconditioner
        return chosen.method if isinstance(chosen, Auto) else chosen

    @property
    def leaf(self) -> LeafBasis | None:
        """The leaf under the mouse."""
        return self._leaf[0] if self._leaf else None

    def leaf_on(self, grid: tuple[int, int]) -> LeafBasis | None:
        """The same, unless it is of another ``grid``."""
        found = self._leaf
        return found[0] if found and found[1] == grid else None

    @property
    def leaves(self) -> int:
        """How many there are to look at; 0 where there is no partition."""
        return leaf_count(self.preconditioner)

    @property
    def why_no_leaves(self) -> str:
        """Why no leaf can be outlined; empty where there are leaves."""
        preconditioner = self.preconditioner
        if leaf_labels(preconditioner) is not None:
            return ""
        *most, last = with_leaves()
        return f"{preconditioner.name} has no leaves: {', '.join(most)} and {last} have them"

    def refresh(self) -> None:
        """Take an inspection that is done and ask for another if there is a new frame and it is time; find
        the leaf. Nothing while nobody looks.
        """
        preconditioner, leaves = self.preconditioner, self.leaves
        if preconditioner is not self._preconditioner:
            self.inspection, self._preconditioner, self._due = None, preconditioner, 0.0
            self._job, self._asked, self.labels = None, 0, None
        if self._job is not None:
            self._helper.poll()
            if self._job.done:
                self._take(self._job)
        if not self.shown:
            return
        is_new = self._engine.frame not in (0, self._asked)
        levels = isinstance(preconditioner, LeafHierarchy)
        if not (levels or leaves):
            self.reason = self.why_no_leaves
        elif not preconditioner.is_set_up:
            self.reason = f"{preconditioner.name} is set up with the first step; then it is shown here"
        elif levels:
            self.inspection, self.reason = None, f"{preconditioner.name}: {preconditioner.describe()}"
        elif self._helper.busy and self._job is None and self.inspection is None:
            self.reason = f"{leaves} leaves: looked into as soon as tab Method's look is done"
        elif is_new and self._job is None and not self._helper.busy and self._clock() >= self._due:
            self._asked, self.reason = self._engine.frame, f"{leaves} leaves: looking into them"
            name = present_method(self._engine)
            self._job = self._helper.submit(study.tiles, System.of(self._engine), name)
        nx, ny = self._engine.simulation.shape
        i, j = self.cell or (nx, ny)  # the grid may have become smaller
        found = (leaves or levels) and self.follow and i < nx and j < ny and preconditioner.is_set_up
        self._leaf = (leaf_basis(preconditioner, i * ny + j), (nx, ny)) if found else None
        if self.all_leaves and self.labels is None:
            self.labels = leaf_labels(preconditioner)

    def _take(self, job: Job) -> None:
        self._job, self.frame = None, self._asked
        if job.results:
            (self.inspection, self.seconds), self.reason = job.results[0], ""
        else:
            self.inspection, self.reason = None, job.failure
        self._due = self._clock() + max(SECONDS, WAIT * self.seconds)
