"""One level of black box multigrid: its nine-point stencil, scaling and work vectors, and the inverse of the
coarsest one.

Grid vectors are flat with rows of ny + 1 entries, the last of each row zero, and zeros before and after, so
that a neighbour in any direction is a shift of the flat array, and the nine neighbours of all cells are one
strided view. All views are made at construction; nothing here makes a host sync or has a data-dependent
shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from precond.classical.multigrid.compiled import TINY
from precond.factorisation import inverse_of_factors
from precond.poisson import PoissonOperator

CROSS = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # (kx, ky) of a five-point stencil


def strided(v: Tensor, start: int, *dimensions: tuple[int, int]) -> Tensor:
    """The entries of ``v``'s storage from ``start`` past its first on, one (size, stride) a dimension."""
    sizes, strides = zip(*dimensions, strict=True)
    return v.as_strided(sizes, strides, v.storage_offset() + start)


class Level:
    """Stencil and work vectors, all float64, of an (nx, ny) level.

    The stencil holds G = -A: the couplings off the centre, minus their sum at the centre, and minus
    ``ground``, the couplings to openings of the box. Row k = 3 kx + ky couples a cell to the one at offset (1
    - kx, 1 - ky). The cycle works on S = D^-1/2 A D^-1/2, D the sums of absolute values of A's rows.
    """

    def __init__(
        self, shape: tuple[int, int], device: torch.device, five_point: bool = False, open_box: bool = False
    ):
        """``five_point``: couplings to diagonal neighbours stay zero, and work on them is left out;
        ``open_box``: there is ``ground``, None without.
        """
        self.shape, self.device = shape, device
        # Slices of the stencil's rows that hold couplings; together they are every row that is used.
        self.rows = (slice(1, 9, 2), slice(4, 5)) if five_point else (slice(0, 9),)
        nx, ny = shape
        self.pitch = ny + 1
        self.size = nx * self.pitch
        self.pad = 3 * self.pitch + 8
        self.row = self.size + 2 * self.pad
        self.stencil = self.padded(9)
        self.cells = self.zeros(self.size)  # 1 in cells, 0 in the entry that ends each row
        self.grid(self.cells).fill_(1.0)
        self.r, self.x, self.residual, self.scale, self.root = self.padded(5)
        self.ground = self.padded() if open_box else None
        self.y = self.zeros(self.size)
        self._scaled = self.zeros(3, 3, self.size)  # -S: (kx, ky) for the cell at offset (kx - 1, ky - 1)
        self._products = self.zeros(3, 3, self.size)
        self._scale_around = self.around(self.scale)
        vectors = self.r, self.x, self.residual
        self.r_terms, self.x_terms, self.residual_terms = (self._terms(v, five_point) for v in vectors)
        self._bordered_x = strided(self.x, -self.pad, (self.row, 1))
        self._row_sum = self.zeros(self.size)
        self._empty = torch.zeros(self.size, dtype=torch.bool, device=device)
        # By symmetry the coupling to a neighbour is the row of the neighbour's stencil that leads back.
        back = (3, 3 * self.row + self.pitch), (3, self.row + 1), (self.size, 1)
        self._transposed = strided(self.stencil, -self.pitch - 1, *back)

    def zeros(self, *shape: int) -> Tensor:
        """A float64 buffer on this level's device."""
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def padded(self, *lead: int) -> Tensor:
        """Vectors (*lead, size) of zeros, each between ``pad`` more zeros: their strides are ``row``."""
        return self.zeros(*lead, self.row)[..., self.pad : self.pad + self.size]

    def lines(self, v: Tensor) -> Tensor:
        """An (..., size) vector as (..., nx, pitch)."""
        return v.unflatten(-1, (self.shape[0], self.pitch))

    def grid(self, v: Tensor) -> Tensor:
        """The cells of an (..., size) vector: (..., nx, ny)."""
        return self.lines(v)[..., : self.shape[1]]

    def around(self, v: Tensor) -> Tensor:
        """The neighbours of every cell of ``v`` (size): (3, 3, size), (kx, ky) at offset (kx - 1, ky - 1)."""
        return strided(v, -self.pitch - 1, (3, self.pitch), (3, 1), (self.size, 1))

    def _terms(self, v: Tensor, five_point: bool) -> list[tuple[Tensor, Tensor]]:
        """What `product` multiplies: all of -S by all neighbours of ``v``, or those of CROSS one by one."""
        around = self.around(v)
        return [(self._scaled[k], around[k]) for k in CROSS] if five_point else [(self._scaled, around)]

    def load(self, operator: PoissonOperator, unit: Tensor) -> None:
        """Take ``unit`` () times the five-point stencil of ``operator``, which has this level's shape."""
        wx, wy = operator.face_weights_x, operator.face_weights_y
        couplings = {1: wx[1:], 7: wx[:-1], 3: wy[:, 1:], 5: wy[:, :-1]}
        for row, weights in couplings.items():
            torch.mul(weights, unit, out=self.grid(self.stencil[row]))
        if self.ground is not None:
            ground = self.grid(self.ground).zero_()
            cells = ground[0], ground[-1], ground[:, 0], ground[:, -1]
            places = (7, (0,)), (1, (-1,)), (5, (slice(None), 0)), (3, (slice(None), -1))
            for cell, (row, place) in zip(cells, places, strict=True):
                border = self.grid(self.stencil[row])[place]  # of what there is no neighbour to couple to
                cell.add_(border)
                border.zero_()
        torch.mul(operator.diagonal(), -unit, out=self.grid(self.stencil[4]))

    def scale_stencil(self) -> None:
        """D^-1/2, D^1/2 and -S from the stencil; rows of zeros (solid and isolated cells) get D^-1/2 = 0. x
        is emptied with its border, where a NaN would stay.
        """
        self._bordered_x.zero_()
        torch.abs(self.stencil, out=self._products.view(9, self.size))
        torch.sum(self._products, (0, 1), out=self._row_sum)
        if self.ground is not None:
            self._row_sum.add_(self.ground)
        torch.le(self._row_sum, TINY, out=self._empty)
        torch.rsqrt(self._row_sum, out=self.scale).masked_fill_(self._empty, 0.0)
        torch.mul(self._row_sum, self.scale, out=self.root)
        torch.mul(self._transposed, self._scale_around, out=self._scaled).mul_(self.scale)

    def product(self, terms: list[tuple[Tensor, Tensor]]) -> None:
        """y <- -S v, from one of the ``_terms`` of this level."""
        (entries, neighbours), *others = terms
        torch.mul(entries, neighbours, out=self.y if others else self._products)
        for entries, neighbours in others:
            self.y.addcmul_(entries, neighbours)
        if not others:
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
        self._source = (row[:, None] * level.row + cell)[in_range]  # ... and of the stencil, laid flat
        self._flat = strided(level.stencil, 0, (8 * level.row + n, 1))
        self._dense = level.zeros(n, n)
        self._constant = torch.outer(level.cells, level.cells)
        self._inverse = level.zeros(n, n)

    def setup(self, shift: float, factor: float, singular: bool) -> None:
        """Keep ``factor`` times the inverse; ``shift``, relative, covers null vectors but the constant, which
        is one where the operator is ``singular``.
        """
        level, dense = self.level, self._dense
        values = self._flat.index_select(0, self._source).neg_()
        dense.zero_().view(-1).index_copy_(0, self._target, values)
        diagonal = dense.diagonal()
        mean = diagonal.mean()
        mean = mean + (mean <= TINY)  # no row at all: the identity
        diagonal.addcmul_((diagonal <= TINY).double(), mean).mul_(1 + shift)
        if singular:
            dense.addcmul_(self._constant, mean / level.size)
        factorised, _ = torch.linalg.cholesky_ex(dense)
        torch.mul(inverse_of_factors(factorised), factor, out=self._inverse)

    def solve(self) -> None:
        """level.x <- factor times the inverse of level.r."""
        torch.mv(self._inverse, self.level.r, out=self.level.x)
