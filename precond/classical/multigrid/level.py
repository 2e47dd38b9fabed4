"""One level of black box multigrid: its nine-point stencil, scaling and work vectors, and the inverse of the
coarsest one.

Grid vectors are flat with rows of ny + 1 entries, the last of each row zero, and zeros before and after, so
that a neighbour in any direction is a shift of the flat array, and the nine neighbours of all cells are one
strided view. All views are made at construction; nothing here makes a host sync or has a data-dependent
shape.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from precond.factorisation import inverse_of_factors
from precond.poisson import PoissonOperator

TINY = 1e-30  # below any coupling: decides only where there is none
CROSS = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # (kx, ky) of a five-point stencil


class Neighbours(NamedTuple):
    """Views of a vector: the nine neighbours of every cell, (3, 3, size), and those of CROSS one by one."""

    nine: Tensor
    cross: list[Tensor]


class Level:
    """Stencil and work vectors, all float64, of an (nx, ny) level.

    The stencil holds G = -A: the couplings off the centre, minus their sum at the centre. Row k = 3 kx + ky
    couples a cell to the one at offset (1 - kx, 1 - ky). The cycle works on S = D^-1/2 A D^-1/2, D the sums
    of absolute values of A's rows.
    """

    def __init__(self, shape: tuple[int, int], device: torch.device, five_point: bool = False):
        """``five_point``: couplings to diagonal neighbours stay zero, and work on them is left out."""
        self.shape, self.device = shape, device
        # Slices of the stencil's rows that hold couplings; together they are every row that is used.
        self.rows = (slice(1, 9, 2), slice(4, 5)) if five_point else (slice(0, 9),)
        nx, ny = shape
        self.pitch = ny + 1
        self.size = nx * self.pitch
        self.pad = 3 * self.pitch + 8
        self.row = self.size + 2 * self.pad
        self.stencil = self.zeros(9, self.row)
        self.stencil_inside = self.inside(self.stencil)
        self.cells = self.zeros(self.size)  # 1 in cells, 0 in the entry that ends each row
        self.cells.view(nx, self.pitch)[:, :ny] = 1.0
        self.r, self.x, self.residual, self.scale, self.root = self.zeros(5, self.row)
        self.r_inside, self.x_inside, self.residual_inside, self.scale_inside, self.root_inside = (
            self.inside(v) for v in (self.r, self.x, self.residual, self.scale, self.root)
        )
        self._scale_around = self._around(self.scale)
        self.r_around, self.x_around, self.residual_around = (
            Neighbours(nine := self._around(v), [nine[kx, ky] for kx, ky in CROSS])
            for v in (self.r, self.x, self.residual)
        )
        self.y = self.zeros(self.size)
        # -S, entry (kx, ky) for the cell at offset (kx - 1, ky - 1).
        self._scaled = self.zeros(3, 3, self.size)
        self._cross = [self._scaled[kx, ky] for kx, ky in CROSS] if five_point else []
        self._products = self.zeros(3, 3, self.size)
        self._row_sum = self.zeros(self.size)
        self._empty = torch.zeros(self.size, dtype=torch.bool, device=device)
        # By symmetry the coupling to a neighbour is the row of the neighbour's stencil that leads back.
        self._transposed = self.stencil.as_strided(
            (3, 3, self.size), (3 * self.row + self.pitch, self.row + 1, 1), self.pad - self.pitch - 1
        )

    def zeros(self, *shape: int) -> Tensor:
        """A float64 buffer on this level's device."""
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def inside(self, v: Tensor) -> Tensor:
        """``v`` (..., row) without its zeros before and after: (..., size)."""
        return v[..., self.pad : self.pad + self.size]

    def grid(self, inside: Tensor) -> Tensor:
        """The cells of an (..., size) vector: (..., nx, ny)."""
        return inside.unflatten(-1, (self.shape[0], self.pitch))[..., : self.shape[1]]

    def _around(self, v: Tensor) -> Tensor:
        """The neighbours of every cell of ``v`` (row): (3, 3, size), (kx, ky) at offset (kx - 1, ky - 1)."""
        start = v.storage_offset() + self.pad - self.pitch - 1
        return v.as_strided((3, 3, self.size), (self.pitch, 1, 1), start)

    def load(self, operator: PoissonOperator, unit: Tensor) -> None:
        """Take ``unit`` () times the five-point stencil of ``operator``, which has this level's shape."""
        wx, wy = operator.face_weights_x, operator.face_weights_y
        couplings = {1: wx[1:], 7: wx[:-1], 3: wy[:, 1:], 5: wy[:, :-1]}
        for row, weights in couplings.items():
            torch.mul(weights, unit, out=self.grid(self.stencil_inside[row]))
        torch.mul(operator.diagonal(), -unit, out=self.grid(self.stencil_inside[4]))

    def scale_stencil(self) -> None:
        """D^-1/2, D^1/2 and -S from the stencil; rows of zeros (solid and isolated cells) get D^-1/2 = 0."""
        torch.abs(self.stencil_inside, out=self._products.view(9, self.size))
        torch.sum(self._products, (0, 1), out=self._row_sum)
        torch.le(self._row_sum, TINY, out=self._empty)
        torch.rsqrt(self._row_sum, out=self.scale_inside).masked_fill_(self._empty, 0.0)
        torch.mul(self._row_sum, self.scale_inside, out=self.root_inside)
        torch.mul(self._transposed, self._scale_around, out=self._scaled).mul_(self.scale_inside)

    def product(self, around: Neighbours) -> None:
        """y <- -S v, from the neighbours of v."""
        if self._cross:
            torch.mul(self._cross[0], around.cross[0], out=self.y)
            for weights, neighbour in zip(self._cross[1:], around.cross[1:], strict=True):
                self.y.addcmul_(weights, neighbour)
            return
        torch.mul(self._scaled, around.nine, out=self._products)
        torch.sum(self._products, (0, 1), out=self.y)


class CoarsestInverse:
    """The dense inverse of the stencil of a small level; its null vectors are shifted away."""

    def __init__(self, level: Level):
        self.level = level
        n = level.size
        cell = torch.arange(n, device=level.device)
        row = torch.arange(9, device=level.device)
        offset = (1 - row // 3) * level.pitch + 1 - row % 3
        column = cell + offset[:, None]  # (9, n)
        in_range = (column >= 0) & (column < n)
        self._target = (cell * n + column)[in_range]  # entries of the dense matrix ...
        self._source = (row[:, None] * level.row + level.pad + cell)[in_range]  # ... and of the stencil
        self._dense = level.zeros(n, n)
        self._constant = torch.outer(level.cells, level.cells)
        self._inverse = level.zeros(n, n)

    def setup(self, shift: float, factor: float) -> None:
        """Keep ``factor`` times the inverse; ``shift``, relative, covers null vectors but the constant."""
        level, dense = self.level, self._dense
        values = level.stencil.view(-1).index_select(0, self._source).neg_()
        dense.zero_().view(-1).index_copy_(0, self._target, values)
        diagonal = dense.diagonal()
        mean = diagonal.mean()
        mean = mean + (mean <= TINY)  # no row at all: the identity
        diagonal.addcmul_((diagonal <= TINY).double(), mean).mul_(1 + shift)
        dense.addcmul_(self._constant, mean / level.size)
        factorised, _ = torch.linalg.cholesky_ex(dense)
        torch.mul(inverse_of_factors(factorised), factor, out=self._inverse)

    def solve(self) -> None:
        """level.x <- factor times the inverse of level.r."""
        torch.mv(self._inverse, self.level.r_inside, out=self.level.x_inside)
