"""The leaf hierarchy as a preconditioner: a multigrid cycle whose smoother solves in leaves, and in blocks of
blocks above them, and whose coarse spaces are made for the coefficients.

On every level blocks are coloured as a chessboard, whose fields of one colour do not touch, and a sweep
solves exactly in those of one colour, then of the other. The symmetric cycle

    first colour, second colour, correction by the next level, second colour, first colour

is definite for any basis. After the second colour nothing is left in its blocks, so only the first colour is
restricted, and only it needs the correction: what the second colour held is solved for again.

A basis is what D^-1 W amplifies (precond.multilevel.setup). As many columns are kept as have eigenvalues near
one, so neither contrast nor thin channels nor size cost iterations; they cost columns, where they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from precond.host import threads
from precond.host.compiled import available
from precond.multilevel import cycle, setup
from precond.multilevel.levels import SIDE, Leaves, Level, leaves_of, levels_of
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, Stage
from precond.two_level.block_jacobi import DRIFT
from precond.two_level.preconditioner import TwoLevelIterated

LEAF_ITERATIONS = 16  # leaf iterations before columns are chosen
THRESHOLD = 0.5  # share of its length that a column keeps in each to be taken


def coarse_iterated(
    operator: PoissonOperator, two_level: bool | None = None, **options: Any
) -> Preconditioner:
    """The form for the operator's device: the hierarchy where loops are compiled for the CPU, else two levels
    (precond.two_level), whose products are batched.
    """
    if two_level is None:
        two_level = operator.device.type != "cpu" or not available()
    return TwoLevelIterated(operator, **options) if two_level else LeafHierarchy(operator, **options)


class LeafHierarchy(Preconditioner):
    """On the CPU; ``columns`` is for those that propose so many columns a leaf (`_propose`), which then take
    the place of leaf iterations on everything.

    `update` makes anew what changed: leaves with a face whose weight is further than ``drift`` from the one
    it was made for, and the blocks above them. All others keep their weights too, so M is always that of one
    A, near the present one.

    Attributes: leaves, levels: precond.multilevel.levels. starts: (G, 16, m), what is proposed.
    """

    name = "coarse-iterated"
    cpu_only = True

    def __init__(
        self,
        operator: PoissonOperator,
        leaf_iterations: int = LEAF_ITERATIONS,
        threshold: float = THRESHOLD,
        drift: float = DRIFT,
        columns: int = 0,
    ):
        super().__init__(operator)
        if not available():
            raise ValueError("it needs compiled loops, and those need numba")
        if type(leaf_iterations) is not int or leaf_iterations not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"leaf_iterations must be a power of two from 1 to 32, not {leaf_iterations}")
        if not 0.0 <= threshold < 1.0:
            raise ValueError(f"threshold must be from 0 to below 1, not {threshold}")
        self._doublings, self.threshold, self._drift = int(math.log2(leaf_iterations)), threshold, drift
        self._iterations_of_leaves, self._threshold_of_leaves = self._doublings, threshold
        self.leaves = leaves_of(operator.shape)
        self.levels, self._cycled = levels_of(operator.shape)
        self.starts = np.zeros((len(self.leaves.weight), SIDE**2, columns))
        self._stale = [np.zeros(level.size.shape, dtype=np.bool_) for level in self.levels]
        self._stale.append(np.zeros((1, 1), dtype=np.bool_))
        self._cells = operator.fluid.numel()

    def asked(self) -> np.ndarray:
        """The stale leaves that need columns: all but those inside one phase, of which one stands for all."""
        stale = self._stale[0].ravel()
        alike = np.flatnonzero(stale & (self.leaves.weight > 0.0))
        which = stale & (self.leaves.weight == 0.0)
        if self.leaves.columns[0] == 0:
            which[alike[:1]] = True
        return np.flatnonzero(which)

    def leaf_columns(self, cell: int) -> tuple[int, np.ndarray, np.ndarray, int]:
        """The leaf with the flat ``cell``: its number, its cells (n,) int64, flat i ny + j, those that exist,
        its columns (n, c) float32, as long as one another, and their number c.
        """
        (nx, ny), gy = self.operator.shape, self.levels[0].size.shape[1]
        a, b = (place // SIDE for place in divmod(cell, ny))
        i, j = np.divmod(np.arange(SIDE**2), SIDE)
        exists = (SIDE * a + i < nx) & (SIDE * b + j < ny)
        cells = (SIDE * a + i) * ny + SIDE * b + j
        count = int(self.levels[0].size[a, b])
        columns = self.leaves.basis[a * gy + b, :count].T
        lengths = np.linalg.norm(columns, axis=0)
        columns = (columns / np.where(lengths > 0.0, lengths, 1.0)).astype(np.float32)
        return a * gy + b, cells[exists], columns[exists], count

    def describe(self) -> str:
        """Its levels in words."""
        columns = ", ".join(f"{level.size.mean():.1f}" for level in self.levels)
        return (
            f"{len(self.leaves.weight)} leaves; columns of a leaf, of a block of leaves and so on: {columns}"
        )

    def _stages(self) -> list[Stage]:
        return [("setup", self._forget), *self._parts()]

    def _update_stages(self) -> list[Stage]:
        return self._parts()

    def _parts(self) -> list[Stage]:
        return [("setup", self._take_weights), ("setup", self._build)]

    def _forget(self) -> None:
        self.leaves.weights_x.fill(np.nan)
        self.leaves.weights_y.fill(np.nan)
        for stage in (self.leaves, *self.levels):
            stage.columns[0] = 0  # what those of one phase share is made anew

    def _take_weights(self) -> None:
        x, y = self.operator.face_weights_x.numpy(), self.operator.face_weights_y.numpy()
        setup.take_weights(self.leaves, x, y, self._drift, self._stale[0])

    def _build(self) -> None:
        leaves, levels, stale = self.leaves, self.levels, self._stale
        starts = self.starts, self._iterations_of_leaves, self._threshold_of_leaves
        alike = stale[0] & (leaves.weight > 0.0).reshape(stale[0].shape)
        self._share(partial(setup.set_up_leaves, leaves, levels[0], stale[0], *starts), alike, leaves)
        self._share(partial(setup.couple_leaves, leaves, levels[0], stale[0]), alike)
        for k, level in enumerate(levels):
            is_top = k + 1 == len(levels)
            above, numbers = level if is_top else levels[k + 1], (self._doublings, self.threshold)
            call = partial(setup.set_up_blocks, level, above, is_top, stale[k], stale[k + 1], *numbers)
            self._share(call, _blocks_alike(level, stale[k]), level)
            if not is_top:
                self._share(partial(setup.couple_blocks, level, above, stale[k + 1]), stale[k + 1])

    def _share(
        self, call: Callable[[int, int], None], alike: np.ndarray, shared: Leaves | Level | None = None
    ) -> None:
        """``call(begin, end)`` on all rows of leaves or blocks, in several threads; ``alike`` (rows, columns)
        bool are those that need what is ``shared``, which is made first.
        """
        rows = len(alike)
        chunks = threads.chunks(rows, self._cells, 1)
        if chunks > 1 and shared is not None and shared.columns[0] == 0:
            for row in np.flatnonzero(alike.any(axis=1))[:1].tolist():
                call(row, row + 1)
        threads.run_rows(call, rows, chunks, even=False)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        cycle.run(residual.numpy(), self.leaves, self._cycled, out.numpy())


def _blocks_alike(level: Level, stale: np.ndarray) -> np.ndarray:
    """Blocks (bx, by) bool of four children that are all alike, one of them ``stale``."""
    found = np.zeros(level.total.shape, dtype=np.bool_)
    nx, ny = (size // 2 for size in level.size.shape)
    four, some = (array[: 2 * nx, : 2 * ny].reshape(nx, 2, ny, 2) for array in (level.alike, stale))
    found[:nx, :ny] = four.all(axis=(1, 3)) & some.any(axis=(1, 3))
    return found
