"""A race: one frame's system solved by many methods, one after the other, while the fluids go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from app.engine import Engine
from app.race import solving
from app.race.helper import Helper, Job
from app.race.lane import FAILED, STOPPED, Lane
from app.race.system import System
from precond import UsageError, available_preconditioners, registered_preconditioners

SECONDS = 2.5  # of the processor for all methods together on CELLS cells, and in proportion on more
CELLS = 8192
PATIENCE = 15.0  # s beyond its share, after which a method that does not come back is cut off
TYPICAL_MS = {  # on CELLS cells: the quick ones run first; what a race measured takes their place
    "multigrid": 6,
    "coarse-learned": 30,
    "coarse-iterated": 20,
    "direct": 30,
    "jacobi": 25,
    "amg": 50,
    "coarse-monomial": 75,
    "coarse-geneo": 90,
    "none": 100,
    "block-jacobi": 130,
    "neural-spai": 140,
    "ic0": 150,
    "hmatrix": 180,
}


def racers() -> list[str]:
    """Every method, those that cannot run here too, but none that chooses among others: one solve alone tells
    nothing of those.
    """
    choosing = set(available_preconditioners()) - set(available_preconditioners(choosing=False))
    return [name for name in registered_preconditioners() if name not in choosing]


class Race:
    """Asks a helper to solve the engine's last system with the ``chosen`` of all ``names``; `refresh` takes
    the results as they come. The simulation is only read, once, by `start`.

    ``system``: what is raced on, None before the first race. ``lanes``: results in the order of running.
    ``now``: who is running. ``message``: why there is no race; mostly empty.
    """

    def __init__(self, engine: Engine, helper: Helper, clock: Callable[[], float] = time.monotonic) -> None:
        self.names = racers()
        self.chosen = set(self.names)
        self.system: System | None = None
        self.lanes: list[Lane] = []
        self.now: solving.Started | None = None
        self.message = ""
        self._engine, self._helper, self._clock = engine, helper, clock
        self._costs = dict(TYPICAL_MS)
        self._left: list[str] = []  # who has not run yet
        self._job: Job | None = None
        self._taken = 0  # of the job's results
        self._since = 0.0
        self._awaited = -1  # the frame to begin on

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._job is not None

    @property
    def left(self) -> int:
        """How many methods have not run yet."""
        return len(self._left)

    @property
    def seconds(self) -> float:
        """What all methods together may take, set-ups that cannot be stopped left aside."""
        cells = math.prod(self.system.shape) if self.system else CELLS
        return SECONDS * max(1.0, cells / CELLS)

    def start(self) -> None:
        """Race on the system of the engine's last frame, or of the next one where grid or solids have changed
        since; what hinders is said.
        """
        self.message, self._awaited = "", -1
        if not self.chosen:
            self.message = "no method is ticked"
            return
        try:
            self.system = System.of(self._engine)
        except UsageError as error:
            self.message = str(error)
            self._awaited = -1 if self._engine.paused else self._engine.frame + 1
            return
        self.lanes = []
        self._left = sorted(self.chosen, key=lambda name: (self._costs.get(name, math.inf), name))
        self._go_on()

    def _go_on(self) -> None:
        self.now, self._taken = None, 0
        if not self._left:
            self._job = None
            return
        seconds = self.seconds - sum(lane.total_ms for lane in self.lanes) / 1e3
        self._job = self._helper.submit(solving.race, self.system, tuple(self._left), seconds)

    def refresh(self) -> None:
        """Take the results that have arrived; a method that took the process with it, or does not come back,
        has failed, and the race goes on without it.
        """
        if 0 < self._awaited <= self._engine.frame:
            self.start()
        job = self._job
        if job is None:
            return
        self._helper.poll()
        for result in job.results[self._taken :]:
            if isinstance(result, Lane):
                self._note(result)
            else:
                self.now, self._since = result, self._clock()
        self._taken = len(job.results)
        if job.done:
            if job.failure and self._left:
                self._note(Lane(self.now.method if self.now else self._left[0], FAILED, job.failure))
            self._go_on()
        elif self.now and self.now.seconds is not None:
            waited = self._clock() - self._since
            if waited > self.now.seconds + PATIENCE:
                self._helper.stop("cut off")
                spent = {"setup": waited, "inference": 0.0, "solve": 0.0}
                self._note(Lane(self.now.method, STOPPED, "its set-up did not end in time", seconds=spent))
                self._go_on()

    def _note(self, lane: Lane) -> None:
        self.lanes.append(lane)
        self._left.remove(lane.method)
        self.now = None
        if lane.total_ms > 0.0:
            self._costs[lane.method] = lane.total_ms
