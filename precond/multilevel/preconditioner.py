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
from precond.multilevel import cycle, kinds, setup
from precond.multilevel.kinds import FACES
from precond.multilevel.levels import SIDE, forget, kinds_of, leaves_of, levels_of
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, Stage
from precond.two_level.preconditioner import TwoLevelIterated

LEAF_ITERATIONS, BLOCK_ITERATIONS = 16, 8  # v <- D^-1 W v before columns of leaves and of blocks are chosen
THRESHOLD = 0.5  # share of its length that a column keeps in each to be taken
LARGE = 2  # from this level on columns cost more than the iterations that they save, and fewer are taken:
REST = 0.8  # what one may lose in each iteration is that share of what it may below
DRIFT = 0.1  # change of a face's weight, as a share of it, up to which `update` keeps what was made with it


def coarse_iterated(
    operator: PoissonOperator, two_level: bool | None = None, **options: Any
) -> LeafHierarchy | TwoLevelIterated:
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

    Attributes: leaves, levels: precond.multilevel.levels. starts: (G, 16, m), what is proposed for kinds of
    leaves.
    """

    name = "coarse-iterated"
    cpu_only = True

    def __init__(
        self,
        operator: PoissonOperator,
        leaf_iterations: int = LEAF_ITERATIONS,
        block_iterations: int = BLOCK_ITERATIONS,
        threshold: float = THRESHOLD,
        drift: float = DRIFT,
        columns: int = 0,
    ):
        super().__init__(operator)
        if not available():
            raise ValueError("it needs compiled loops, and those need numba")
        given = {"leaf_iterations": leaf_iterations, "block_iterations": block_iterations}
        for option, value in given.items():
            if type(value) is not int or value not in (2, 4, 8, 16, 32):
                raise ValueError(f"{option} must be a power of two from 2 to 32, not {value}")
        if not 0.0 <= threshold < 1.0:
            raise ValueError(f"threshold must be from 0 to below 1, not {threshold}")
        self._doublings, self.threshold, self._drift = int(math.log2(block_iterations)), threshold, drift
        self._iterations_of_leaves, self._threshold_of_leaves = int(math.log2(leaf_iterations)), threshold
        self._apart = False  # whether leaves that are alike may differ in what is proposed
        self.leaves = leaves_of(operator.shape)
        self.levels, self._cycled = levels_of(operator.shape)
        self._kinds = kinds_of(self.leaves.kind, 2 * FACES + 1)
        self._pairs = [kinds_of(level.link, 4) for level in self.levels]
        self._blocks = [kinds_of(level.source, 8) for level in self.levels]
        self.starts = np.zeros((len(self.leaves.kind), SIDE**2, columns))
        self._stale = [np.zeros(level.size.shape, dtype=np.bool_) for level in self.levels]
        self._stale.append(np.zeros((1, 1), dtype=np.bool_))
        self._cells = operator.fluid.numel()

    def new_kinds(self) -> np.ndarray:
        """The kinds of leaves that need columns, int64."""
        return self._kinds.made[: self._kinds.count[1]]

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
        columns = self.leaves.basis[self.leaves.kind[a * gy + b], :count].T
        lengths = np.linalg.norm(columns, axis=0)
        columns = (columns / np.where(lengths > 0.0, lengths, 1.0)).astype(np.float32)
        return a * gy + b, cells[exists], columns[exists], count

    def describe(self) -> str:
        """Its levels in words."""
        columns = ", ".join(f"{level.size.mean():.1f}" for level in self.levels)
        count, alike = len(self.leaves.kind), np.count_nonzero(self._kinds.users)
        return (
            f"{count} leaves of {alike} kinds; columns of a leaf, of a block of leaves and so on: {columns}"
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
        for one in (self._kinds, *self._pairs, *self._blocks):
            forget(one)

    def _take_weights(self) -> None:
        x, y = self.operator.face_weights_x.numpy(), self.operator.face_weights_y.numpy()
        setup.take_weights(self.leaves, x, y, self._drift, self._stale[0])
        kinds.number_leaves(self.leaves, self.levels[0], self._kinds, self._stale[0], self._apart)

    def _build(self) -> None:
        leaves, children, rank, constant = self.leaves, self._kinds, self.leaves.rank, self.leaves.constant
        numbers = self._iterations_of_leaves, self._threshold_of_leaves
        self._share(partial(setup.set_up_leaves, leaves, children, self.starts, *numbers), children.count[1])
        couple = partial(setup.couple_leaves, leaves, children)
        for k, level in enumerate(self.levels):
            is_top, pairs, blocks = k + 1 == len(self.levels), self._pairs[k], self._blocks[k]
            above = level if is_top else self.levels[k + 1]
            stale = self._stale[k : k + 2]
            kinds.number_blocks(level, above, is_top, children, rank, pairs, blocks, *stale)
            self._share(partial(couple, level, pairs), pairs.count[1] + level.wanted[-1])
            threshold = self.threshold if k < LARGE else 1.0 - REST * (1.0 - self.threshold)
            numbers = is_top, self._doublings, threshold
            make = partial(setup.set_up_blocks, level, children, constant, blocks, *numbers)
            self._share(make, blocks.count[1])
            couple = partial(setup.couple_blocks, level, blocks, rank)
            children, rank, constant = blocks, level.rank, level.constant

    def _share(self, call: Callable[[int, int], None], number: int) -> None:
        """``call(begin, end)`` on a list of so many, in several threads."""
        if number:
            threads.run_rows(call, number, threads.chunks(number, self._cells, 1), even=False)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        cycle.run(residual.numpy(), self.leaves, self._cycled, out.numpy())
