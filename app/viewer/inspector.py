"""What the partition panel shows: numbers of the present factors, renewed only while somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.engine import Engine
from precond import Preconditioner
from precond.analysis.inspection import Inspection, LeafBasis, inspect, leaf_basis, leaf_count
from precond.auto import Auto
from precond.multilevel.preconditioner import LeafHierarchy

SECONDS = 0.5  # at least between two inspections,
WAIT = 10.0  # and this many times what the last one took
AUTOMATIC_LEAVES = 512  # above that an inspection takes seconds, and waits to be asked for


class Inspector:
    """Inspections of an engine's preconditioner, and the leaf under the mouse.

    ``quantity`` is what colours a tile, "norm" or "rank". ``follow``: show the leaf under the mouse.
    ``shown``: somebody looks at the panel. ``asked``: inspect at the next refresh, however long it takes.
    ``cell`` (i, j) is what the mouse was on last, ``leaf`` its leaf with the basis; None where there is none.
    ``inspection`` is of frame ``frame`` and took ``seconds``; where it is None, ``reason`` says why.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.quantity = "norm"
        self.follow = False
        self.shown = False
        self.asked = False
        self.cell: tuple[int, int] | None = None
        self.inspection: Inspection | None = None
        self.reason = ""
        self.frame = 0
        self.seconds = 0.0
        self.leaf: LeafBasis | None = None
        self._engine = engine
        self._clock = clock
        self._preconditioner: Preconditioner | None = None  # that was inspected
        self._due = 0.0

    @property
    def preconditioner(self) -> Preconditioner:
        """The one at work; of `auto` the method in use."""
        chosen = self._engine.preconditioner
        return chosen.method if isinstance(chosen, Auto) else chosen

    @property
    def leaves(self) -> int:
        """How many there are to look at; 0 where there is no partition."""
        return leaf_count(self.preconditioner)

    @property
    def waits(self) -> bool:
        """Whether inspections wait until they are asked for."""
        return self.preconditioner.is_set_up and self.leaves > AUTOMATIC_LEAVES

    def refresh(self) -> None:
        """Inspect the present factors if they are new and it is time, or somebody asked; find the leaf."""
        preconditioner, leaves = self.preconditioner, self.leaves
        asked, self.asked = self.asked, False
        if preconditioner is not self._preconditioner:
            self.inspection, self._preconditioner, self._due = None, preconditioner, 0.0
        is_new = self.inspection is None or self._engine.frame != self.frame
        levels = isinstance(preconditioner, LeafHierarchy)
        if levels:
            self.inspection, self.reason = None, f"{preconditioner.name}: {preconditioner.describe()}"
        elif not leaves:
            self.reason = (
                f"{preconditioner.name} has no hierarchical partition: "
                "hmatrix, coarse-monomial and coarse-geneo have one"
            )
        elif not preconditioner.is_set_up:
            self.reason = f"{preconditioner.name} has no factors before its first step"
        elif asked or (not self.waits and is_new and self._clock() >= self._due):
            self._inspect(preconditioner)
        elif self.inspection is None and self.waits:
            self.reason = f"{leaves} leaves: this takes seconds, so it waits for the button"
        nx, ny = self._engine.simulation.shape
        i, j = self.cell or (nx, ny)  # the grid may have become smaller
        found = (leaves or levels) and self.follow and i < nx and j < ny and preconditioner.is_set_up
        self.leaf = leaf_basis(preconditioner, i * ny + j) if found else None

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
