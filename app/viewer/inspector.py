"""What the partition panel shows: numbers of the present factors, renewed only while somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.engine import Engine
from precond import Preconditioner
from precond.analysis.inspection import Inspection, LeafBasis, inspect, leaf_basis, leaf_count

SECONDS = 0.5  # at least between two inspections,
WAIT = 10.0  # and this many times what the last one took
AUTOMATIC_LEAVES = 512  # above that an inspection takes seconds, and waits to be asked for


class Inspector:
    """Inspections of an engine's preconditioner, and the leaf under the mouse.

    ``quantity`` is what colours a tile, "norm" or "rank". ``follow``: show the leaf under the mouse.
    ``shown``: somebody looks at the panel. ``inspection`` is of frame ``frame`` and took ``seconds``; where
    it is None, ``reason`` says why. ``leaf``: the leaf to show with its basis; None where there is none.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.quantity = "norm"
        self.follow = False
        self.shown = False
        self.inspection: Inspection | None = None
        self.reason = ""
        self.frame = 0
        self.seconds = 0.0
        self.leaf: LeafBasis | None = None
        self._engine = engine
        self._clock = clock
        self._preconditioner: Preconditioner | None = None  # that was inspected
        self._due = 0.0
        self._asked = False
        self._cell: tuple[int, int] | None = None

    @property
    def preconditioner(self) -> Preconditioner:
        """The one at work."""
        return self._engine.preconditioner

    @property
    def has_partition(self) -> bool:
        """Whether there are leaves to look at."""
        return leaf_count(self.preconditioner) > 0

    @property
    def waits(self) -> bool:
        """Whether inspections wait until they are asked for."""
        return self.preconditioner.is_set_up and leaf_count(self.preconditioner) > AUTOMATIC_LEAVES

    def ask(self) -> None:
        """Inspect at the next refresh, however long it takes."""
        self._asked = True

    def refresh(self) -> None:
        """Inspect the present factors if they are new and it is time, or somebody asked; find the leaf."""
        preconditioner, leaves = self.preconditioner, leaf_count(self.preconditioner)
        asked, self._asked = self._asked, False
        if preconditioner is not self._preconditioner:
            self.inspection, self._preconditioner, self._due = None, preconditioner, 0.0
        if not leaves:
            self.reason = (
                f"{preconditioner.name} has no hierarchical partition: "
                "coarse-learned, hmatrix, coarse-monomial and coarse-geneo have one"
            )
        elif not preconditioner.is_set_up:
            self.reason = f"{preconditioner.name} has no factors before its first step"
        elif asked or (not self.waits and self._is_due()):
            self._inspect(preconditioner)
        elif self.inspection is None and self.waits:
            self.reason = f"{leaves} leaves: this takes seconds, so it waits for the button"
        self.leaf = self._find_leaf(preconditioner) if leaves and self.follow else None

    def _is_due(self) -> bool:
        is_new = self.inspection is None or self._engine.frame != self.frame
        return is_new and self._clock() >= self._due

    def _inspect(self, preconditioner: Preconditioner) -> None:
        started = self._clock()
        self.reason, self.frame = "", self._engine.frame
        try:
            self.inspection = inspect(preconditioner)
        except (ArithmeticError, RuntimeError) as error:  # torch.linalg gave up, for one
            self.inspection, self.reason = None, str(error)
        now = self._clock()
        self.seconds = now - started
        self._due = now + max(SECONDS, WAIT * self.seconds)

    def _find_leaf(self, preconditioner: Preconditioner) -> LeafBasis | None:
        nx, ny = self._engine.simulation.shape
        i, j = self._cell or (nx, ny)
        if i >= nx or j >= ny or not preconditioner.is_set_up:
            return None
        return leaf_basis(preconditioner, i * ny + j)

    def point_at(self, i: int, j: int) -> None:
        """The mouse is on cell (i, j); the leaf stays when it leaves the picture."""
        self._cell = (i, j)
