"""One level of black box multigrid: nine-point stencils, interpolation from them, and the Galerkin product.

Grid vectors are flat with rows of ny + 1 entries, the last of each row zero, and zeros before and after, so
that a neighbour in any direction is a shift of the flat array and the nine neighbours of all cells are one
strided view. Coarse cell (I, J) sits on fine cell (2I, 2J). All views are made at construction; no host sync
and no data-dependent shape anywhere.

Stencils hold G = -A: weights of the couplings off the centre, minus their sum at the centre. Row k = 3 kx +
ky of ``stencil`` couples a cell to the one at offset (1 - kx, 1 - ky).
"""

from __future__ import annotations

import torch

from precond.operator import PoissonOperator

TINY = 1e-30  # decides between equal interpolation weights where a cell has no coupling towards its coarse neighbours

# Coupling offsets of which the Galerkin product computes the stencil row, in row order 0..3; symmetry gives the rest.
OFFSETS = ((1, 1), (1, 0), (1, -1), (0, 1))


def _pairs() -> list[list[tuple[int, int]]]:
    """For each of OFFSETS the fine offsets e from a coarse cell I that I's stencil reaches and that I + d
    interpolates to.
    """
    reach = {0: (-1, 0, 1), 1: (1, 2), -1: (-2, -1)}
    return [[(ex, ey) for ex in reach[dx] for ey in reach[dy]] for dx, dy in OFFSETS]


class Level:
    """Stencil, interpolation weights and work vectors of one (nx, ny) level."""

    def __init__(self, shape: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32):
        self.shape, self.device, self.dtype = shape, device, dtype
        nx, ny = shape
        self.pitch = ny + 1
        self.size = nx * self.pitch
        self.pad = 3 * self.pitch + 8
        self.row = self.size + 2 * self.pad
        self.stencil = self._zeros(9, self.row)
        self.inside = self.stencil[:, self.pad : self.pad + self.size]
        self.r, self.x, self.residual = self._zeros(3, self.row)
        self.row_sum, self.scale, self.root = self._zeros(3, self.row)  # D, D^-1/2, D^1/2
        self.r_flat, self.x_flat, self.residual_flat = (self.flat(v) for v in (self.r, self.x, self.residual))
        self.scale_flat = self.flat(self.scale)
        self.r_around, self.x_around, self.residual_around = (
            self.around(v) for v in (self.r, self.x, self.residual)
        )
        self.y = self._zeros(self.size)
        self.scaled = self._zeros(
            3, 3, self.size
        )  # -S, entry (kx, ky) couples to the cell at offset (kx - 1, ky - 1)
        self._products = self._zeros(3, 3, self.size)
        self._empty = torch.zeros(self.size, dtype=torch.bool, device=device)
        self._transposed = self.stencil.as_strided(
            (3, 3, self.size), (3 * self.row + self.pitch, self.row + 1, 1), self.pad - self.pitch - 1
        )
        self._scale_around = self.around(self.scale)
        self.cells = self._zeros(self.size)
        self.grid_flat(self.cells)[:, :ny] = 1.0

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def flat(self, v: torch.Tensor) -> torch.Tensor:
        """The cells of a padded vector, rows of pitch entries."""
        return v[self.pad : self.pad + self.size]

    def grid_flat(self, v: torch.Tensor) -> torch.Tensor:
        """A vector without padding as (nx, pitch)."""
        return v.view(self.shape[0], self.pitch)

    def grid(self, v: torch.Tensor) -> torch.Tensor:
        """A padded vector as (nx, pitch)."""
        return self.grid_flat(self.flat(v))

    def around(self, v: torch.Tensor) -> torch.Tensor:
        """The nine neighbours of every cell of a padded vector, (3, 3, size), entry (kx, ky) at offset (kx -
        1, ky - 1).
        """
        return v.as_strided(
            (3, 3, self.size), (self.pitch, 1, 1), v.storage_offset() + self.pad - self.pitch - 1
        )

    def make_coarse(self) -> Level:
        """The next coarser level, with the views and weights that lead to it."""
        nx, ny = self.shape
        coarse = Level(((nx + 1) // 2, (ny + 1) // 2), self.device, self.dtype)
        self._connect(coarse)
        return coarse

    def _connect(self, coarse: Level) -> None:
        """Interpolation weights (3, 3, coarse.row): entry (fx, fy) of cell I leads to fine cell 2 I + (fx -
        1, fy - 1).
        """
        nx, ny = self.shape
        cx, cy = coarse.shape
        pad, pitch, row = self.pad, self.pitch, self.row
        self.weights = self._zeros(3, 3, coarse.row)
        self.weights_inside = self.weights[:, :, coarse.pad : coarse.pad + coarse.size]
        exists = self._zeros(3, 3, cx, coarse.pitch)
        for fx in (-1, 0, 1):
            for fy in (-1, 0, 1):
                first = int(fx < 0), int(fy < 0)
                last = (nx - fx + 1) // 2, (ny - fy + 1) // 2
                exists[fx + 1, fy + 1, first[0] : min(last[0], cx), first[1] : min(last[1], cy)] = 1.0
        exists = exists.view(3, 3, coarse.size)
        self.weights_inside[1, 1] = exists[1, 1]

        def fine_view(start: int, *lead: tuple[int, int]) -> torch.Tensor:
            """Stencil entries at cells 2 I + const: leading (size, stride) dimensions, then (cx,
            coarse.pitch).
            """
            sizes, strides = zip(*lead, strict=True)
            return self.stencil.as_strided((*sizes, cx, coarse.pitch), (*strides, 2 * pitch, 2), pad + start)

        # Edges: the couplings from fine cell 2 I + (a, 0) back towards I, a = -1, 1, then the same along y.
        self._edges = []
        for start, step, side, line in ((-pitch, pitch, 3 * row, row), (-1, 1, row, 3 * row)):
            view = fine_view(start, (2, 2 * step + 2 * side), (3, line))
            exists_edge = exists[::2, 1] if step == pitch else exists[1, ::2]
            out = self.weights_inside[::2, 1] if step == pitch else self.weights_inside[1, ::2]
            shift = coarse.pitch if step == pitch else 1
            towards = self._zeros(2, coarse.row)
            total = self._zeros(coarse.row)
            self._edges.append(
                (view, exists_edge.contiguous(), exists_edge * TINY, towards, total, shift, out)
            )
        # Corners: from fine cell X = 2 I + (a, b) to I directly, through its x neighbour and through its y neighbour.
        start = -pitch - 1
        side_x, side_y = 2 * pitch + 6 * row, 2 + 2 * row
        self._corner = fine_view(start, (2, side_x), (2, side_y))
        self._corner_x = fine_view(start + row, (2, side_x), (2, 2))
        self._corner_y = fine_view(start + 3 * row, (2, 2 * pitch), (2, side_y))
        self._corner_centre = fine_view(start + 4 * row, (2, 2 * pitch), (2, 2))
        self._corner_exists = exists[::2, ::2].reshape(2, 2, cx, coarse.pitch).contiguous()
        self._corner_sum = self._zeros(2, 2, cx, coarse.pitch)
        self._corner_total = self._zeros(2, 2, cx, coarse.pitch)
        weights = self.weights_inside.view(3, 3, cx, coarse.pitch)
        self._corner_out = weights[::2, ::2]
        self._through_x = weights[1:2, ::2]  # x neighbour of X: fine cell 2 I + (0, b)
        self._through_y = weights[::2, 1:2]

        # Galerkin product: stencil rows of the nine fine cells that I interpolates to, and the sums of them that are needed.
        self._footprint = self.stencil.as_strided(
            (3, 3, 9, cx, coarse.pitch), (pitch, 1, row, 2 * pitch, 2), pad - pitch - 1
        )
        self._weighted = self._zeros(3, 3, 9, cx, coarse.pitch)
        groups = _pairs()
        gather = self._zeros(sum(map(len, groups)), 81)
        reduce = self._zeros(len(groups), len(gather))
        self._pair_sums = self._zeros(len(gather), coarse.size)
        self._pair_products = self._zeros(len(gather), coarse.size)
        self._pair_views = []
        count = 0
        for index, ((dx, dy), group) in enumerate(zip(OFFSETS, groups, strict=True)):
            rows = slice(count, count + len(group))
            reduce[index, rows] = 1.0
            for pair, (ex, ey) in enumerate(group, count):
                for column in range(81):
                    (fx, fy), (kx, ky) = divmod(column // 9, 3), divmod(column % 9, 3)
                    if (fx - 1 + 1 - kx, fy - 1 + 1 - ky) == (ex, ey):
                        gather[pair, column] = 1.0
            ex, ey = group[0]
            fx, fy = ex - 2 * dx + 1, ey - 2 * dy + 1
            wide, high = len({e for e, _ in group}), len({e for _, e in group})
            start = coarse.pad + dx * coarse.pitch + dy
            partner = self.weights[fx : fx + wide, fy : fy + high, start : start + coarse.size]
            shape = (wide, high, coarse.size)
            self._pair_views.append(
                (self._pair_sums[rows].view(shape), partner, self._pair_products[rows].view(shape))
            )
            count += len(group)
        self._gather, self._reduce = gather, reduce

        # The cycle: scaled weights, the fine residual and iterate seen from the coarse cells.
        self._transfer = self._zeros(3, 3, cx, coarse.pitch)
        self._root_seen = self.root.as_strided(
            (3, 3, cx, coarse.pitch), (pitch, 1, 2 * pitch, 2), self.root.storage_offset() + pad - pitch - 1
        )
        self._residual_seen = self.residual.as_strided(
            (3, 3, cx, coarse.pitch),
            (pitch, 1, 2 * pitch, 2),
            self.residual.storage_offset() + pad - pitch - 1,
        )
        self._restricted = self._zeros(3, 3, cx, coarse.pitch)
        self._spread = self._zeros(3, 3, coarse.row)
        spread = self._spread[:, :, coarse.pad : coarse.pad + coarse.size]
        self._spread_all = spread.unflatten(2, (cx, coarse.pitch))
        shifted = self._spread[:, :, coarse.pad + coarse.pitch : coarse.pad + coarse.pitch + coarse.size]
        self._spread_x = (spread[2], shifted[0])
        shifted = self._spread[:, :, coarse.pad + 1 : coarse.pad + 1 + coarse.size]
        self._spread_y = (spread[1:, 2], shifted[1:, 0])
        self._spread_phases = self._spread_all[1:, 1:, :, :cy]
        self._x_phases = self.x.as_strided(
            (2, 2, cx, cy), (pitch, 1, 2 * pitch, 2), self.x.storage_offset() + pad
        )

    def load(self, operator: PoissonOperator) -> None:
        """The finest level: the five-point stencil of ``operator``."""
        grids = self.inside.view(9, self.shape[0], self.pitch)[:, :, : self.shape[1]]
        wx, wy = operator.face_weights_x, operator.face_weights_y
        grids[1].copy_(wx[1:])
        grids[7].copy_(wx[:-1])
        grids[3].copy_(wy[:, 1:])
        grids[5].copy_(wy[:, :-1])
        torch.neg(operator.diagonal(), out=grids[4]) if self.dtype == torch.float64 else grids[4].copy_(
            operator.diagonal()
        ).neg_()

    def interpolate(self) -> None:
        """Interpolation weights from the stencil (Dendy 1982); constants are interpolated exactly."""
        for view, exists, tie, towards, total, shift, out in self._edges:
            size = out.shape[-1]
            pad = (total.shape[0] - size) // 2
            inside = towards[:, pad : pad + size]
            torch.sum(view, 1, out=inside.view(view.shape[0], *view.shape[2:]))
            inside.clamp_(min=0.0)
            torch.addcmul(tie, exists, inside, out=inside)
            torch.add(inside[1], towards[0, pad + shift : pad + shift + size], out=total[pad : pad + size])
            total[pad : pad + size].add_(TINY * 1e-4)
            torch.div(inside[1], total[pad : pad + size], out=out[1])
            torch.div(inside[0], total[pad - shift : pad - shift + size].add(TINY * 1e-4), out=out[0])
        torch.addcmul(self._corner, self._corner_x, self._through_x, out=self._corner_sum)
        self._corner_sum.addcmul_(self._corner_y, self._through_y)
        torch.add(self._corner_centre, -TINY, out=self._corner_total)
        self._corner_sum.mul_(self._corner_exists)
        torch.div(self._corner_sum, self._corner_total, out=self._corner_out).neg_()

    def scale_stencil(self) -> None:
        """D, its roots, and -S."""
        flat = self.flat(self.row_sum)
        torch.linalg.vector_norm(self.inside, 1, dim=0, out=flat)
        torch.le(flat, TINY, out=self._empty)
        torch.rsqrt(flat, out=self.scale_flat)
        self.scale_flat.masked_fill_(self._empty, 0.0)
        torch.mul(flat, self.scale_flat, out=self.flat(self.root))
        torch.mul(self._transposed, self._scale_around, out=self.scaled)
        self.scaled.mul_(self.scale_flat)

    def scale_interpolation(self, coarse: Level, is_last: bool) -> None:
        """D^1/2 P D_c^-1/2 (the coarsest level is not scaled)."""
        torch.mul(
            self.weights_inside.unflatten(2, (coarse.shape[0], coarse.pitch)),
            self._root_seen,
            out=self._transfer,
        )
        if not is_last:
            self._transfer.mul_(coarse.grid(coarse.scale))

    def invert(self, shift: float, factor: float) -> None:
        """The dense inverse of the coarsest operator times ``factor``, its null vectors shifted away."""
        if not hasattr(self, "inverse"):
            n = self.size
            index = torch.arange(n, device=self.device)
            offsets = torch.tensor(
                [(1 - kx) * self.pitch + 1 - ky for kx in range(3) for ky in range(3)], device=self.device
            )
            columns = index[None, :] + offsets[:, None]
            self._columns_ok = (columns >= 0) & (columns < n)
            self._where = (index[None, :] * n + columns)[self._columns_ok]
            self._from = torch.arange(9 * n, device=self.device).view(9, n)[self._columns_ok]
            self._dense = torch.zeros(n, n, dtype=torch.float64, device=self.device)
            self._ones = torch.outer(self.cells, self.cells).double()
            self.inverse = self._zeros(n, n)
        dense = self._dense
        values = self.inside.reshape(-1)[self._from].double().neg_()
        dense.zero_().view(-1).index_copy_(0, self._where, values)
        diagonal = dense.diagonal()
        level = diagonal.mean()
        empty = (diagonal <= TINY).double()
        diagonal.mul_(1 + shift).addcmul_(empty, level)
        dense.addcmul_(self._ones, level / self.size)
        self.inverse.copy_(torch.linalg.inv_ex(dense)[0].mul_(factor))

    def product(self, around: torch.Tensor) -> None:
        """y <- -S v from the neighbours of v."""
        torch.mul(self.scaled, around, out=self._products)
        torch.sum(self._products, (0, 1), out=self.y)

    def restrict(self, coarse: Level) -> None:
        """coarse.r <- transposed interpolation of the residual."""
        torch.mul(self._transfer, self._residual_seen, out=self._restricted)
        torch.sum(self._restricted.view(9, coarse.size), 0, out=coarse.r_flat)

    def prolong_add(self, coarse: Level) -> None:
        """x += interpolation of coarse.x."""
        torch.mul(self._transfer, coarse.grid(coarse.x), out=self._spread_all)
        self._spread_x[0].add_(self._spread_x[1])
        self._spread_y[0].add_(self._spread_y[1])
        self._x_phases.add_(self._spread_phases)


def coarsen(fine: Level, coarse: Level) -> None:
    """Interpolation from the fine stencil, then the coarse stencil P^T A P."""
    fine.interpolate()
    torch.mul(
        fine._footprint, fine.weights_inside.view(3, 3, 1, *fine._footprint.shape[3:]), out=fine._weighted
    )
    torch.mm(fine._gather, fine._weighted.view(81, coarse.size), out=fine._pair_sums)
    for sums, partner, products in fine._pair_views:
        torch.mul(sums, partner, out=products)
    torch.mm(fine._reduce, fine._pair_products, out=coarse.inside[:4])
    for index, (dx, dy) in enumerate(OFFSETS):
        start = coarse.pad - dx * coarse.pitch - dy
        coarse.inside[8 - index].copy_(coarse.stencil[index, start : start + coarse.size])
    coarse.inside[4].zero_()
    torch.sum(coarse.inside, 0, out=coarse.y)
    torch.neg(coarse.y, out=coarse.inside[4])
