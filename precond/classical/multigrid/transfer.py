"""Between two levels of black box multigrid: interpolation from the stencil, the Galerkin product,
restriction, prolongation.

Coarse cell (I, J) sits on fine cell (2 I, 2 J); its footprint is that cell and its eight neighbours. Dendy,
J. Comput. Phys. 48 (1982). Everything is gathered through strided views of padded arrays, so a set-up is a
few dozen tensor operations a level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from precond.classical.multigrid.level import TINY, Level

# Offsets d for which the Galerkin product computes the coarse stencil's rows 0 to 3; symmetry gives the other
# four.
OFFSETS = ((1, 1), (1, 0), (1, -1), (0, 1))
# For one direction of d: fine offsets from 2 I that both I's stencil row reaches and I + d interpolates to.
REACH = {0: (-1, 0, 1), 1: (1, 2), -1: (-2, -1)}

ROUNDING = 1e-13  # relative to its parts, an energy of a coarse function that only rounding leaves
VANISHING = 1e-13  # a coarse diagonal entry below this share of A's largest is rounding


class Edges:
    """Interpolation to the fine cells between two coarse neighbours along one axis."""

    def __init__(self, fine: Level, coarse: Level, axis: int, weights: Tensor, exists: Tensor):
        """``weights`` and ``exists``: (2, coarse.size), to the fine cells before and after each cell."""
        step, side, line = ((fine.pitch, 3, 1), (1, 1, 3))[axis]
        side, line = side * fine.row, line * fine.row
        cx = coarse.shape[0]
        # The couplings of fine cell 2 I -+ step back towards I, in the three lines beside each other: (2, 3,
        # cx, pitch).
        self._back = fine.stencil.as_strided(
            (2, 3, cx, coarse.pitch), (2 * step + 2 * side, line, 2 * fine.pitch, 2), fine.pad - step
        )
        self._weights = weights
        self._exists = exists.contiguous()
        self._tie = TINY * self._exists  # halves where neither side is coupled
        towards = coarse.zeros(2, coarse.row)
        total = coarse.zeros(coarse.row)
        shift = (coarse.pitch, 1)[axis]
        self._towards = coarse.inside(towards)
        self._towards_grid = self._towards.unflatten(-1, (cx, coarse.pitch))
        self._from_next = towards[0, coarse.pad + shift : coarse.pad + shift + coarse.size]
        self._total_padded = total
        self._total = coarse.inside(total)
        self._totals = total.as_strided((2, coarse.size), (shift, 1), coarse.pad - shift)

    def interpolate(self) -> None:
        """Weights in proportion to the collapsed couplings; the two of a fine cell add up to one."""
        torch.sum(self._back, 1, out=self._towards_grid)
        self._towards.clamp_(min=0.0)
        torch.addcmul(self._tie, self._exists, self._towards, out=self._towards)
        torch.add(self._towards[1], self._from_next, out=self._total)
        self._total_padded.clamp_(min=TINY * TINY)
        torch.div(self._towards, self._totals, out=self._weights)


class Transfer:
    """The way from ``fine`` to ``coarse`` and back; ``coarse`` belongs to this transfer."""

    def __init__(self, fine: Level):
        nx, ny = fine.shape
        self.fine = fine
        self.coarse = Level(((nx + 1) // 2, (ny + 1) // 2), fine.device)
        self._prepare_interpolation()
        self._prepare_galerkin()
        self._prepare_cycle()

    def _seen(self, v: Tensor, start: int, *lead: tuple[int, int]) -> Tensor:
        """Entries at 2 I + ``start`` of a fine array, behind leading (size, stride) dimensions."""
        sizes, strides = zip(*lead, strict=True)
        cells = (self.coarse.shape[0], self.coarse.pitch)
        offset = v.storage_offset() + self.fine.pad + start
        return v.as_strided((*sizes, *cells), (*strides, 2 * self.fine.pitch, 2), offset)

    def _cells(self, v: Tensor) -> Tensor:
        """(..., coarse.size) as (..., cx, pitch)."""
        return v.unflatten(-1, (self.coarse.shape[0], self.coarse.pitch))

    def _prepare_interpolation(self) -> None:
        """Weights (3, 3, coarse.row): entry (fx, fy) of coarse I leads to fine 2 I + (fx - 1, fy - 1)."""
        fine, coarse = self.fine, self.coarse
        pitch, row = fine.pitch, fine.row
        exists = coarse.zeros(3, 3, coarse.size)
        cells = coarse.grid(exists)
        x, y = (2 * torch.arange(size, device=fine.device) for size in coarse.shape)
        for fx in range(3):
            for fy in range(3):
                along_x = (x + fx >= 1) & (x + fx - 1 < fine.shape[0])
                along_y = (y + fy >= 1) & (y + fy - 1 < fine.shape[1])
                cells[fx, fy] = (along_x[:, None] & along_y).double()
        self._weights = coarse.zeros(3, 3, coarse.row)
        inside = coarse.inside(self._weights)
        inside[1, 1] = exists[1, 1]
        self._edges = (
            Edges(fine, coarse, 0, inside[::2, 1], exists[::2, 1]),
            Edges(fine, coarse, 1, inside[1, ::2], exists[1, ::2]),
        )
        # Fine cell X = 2 I + (a, b), a and b -1 or 1: to I directly, through its x neighbour, through its y
        # neighbour.
        start = -pitch - 1
        both_x, both_y = 2 * pitch + 6 * row, 2 + 2 * row
        self._corner = self._seen(fine.stencil, start, (2, both_x), (2, both_y))
        self._corner_x = self._seen(fine.stencil, start + row, (2, both_x), (2, 2))
        self._corner_y = self._seen(fine.stencil, start + 3 * row, (2, 2 * pitch), (2, both_y))
        self._corner_centre = self._seen(fine.stencil, start + 4 * row, (2, 2 * pitch), (2, 2))
        self._corner_exists = self._cells(exists[::2, ::2].contiguous())
        self._corner_sum = torch.zeros_like(self._corner_exists)
        self._corner_total = torch.zeros_like(self._corner_exists)
        weights = self._cells(inside)
        self._corner_weights = weights[::2, ::2]
        self._through_x, self._through_y = weights[1:2, ::2], weights[::2, 1:2]

    def _prepare_galerkin(self) -> None:
        """Constant 0/1 matrices and views: footprint rows -> A P where needed -> P^T A P."""
        fine, coarse = self.fine, self.coarse
        used = [k for rows in fine.rows for k in range(9)[rows]]
        weighted = coarse.zeros(3, 3, len(used), coarse.size)  # footprint, stencil row, coarse cell
        self._weights_cells = self._cells(coarse.inside(self._weights))[:, :, None]
        self._weighted_rows = weighted.view(9 * len(used), coarse.size)
        self._footprints = []
        neighbours, start = ((3, fine.pitch), (3, 1)), -fine.pitch - 1
        for rows in fine.rows:
            first, count, step = rows.start, len(range(9)[rows]), rows.step or 1
            seen = self._seen(fine.stencil, start + first * fine.row, *neighbours, (count, step * fine.row))
            position = used.index(first)
            self._footprints.append((seen, self._cells(weighted[:, :, position : position + count])))
        # (9 used, 2): fine offset from 2 I that a footprint entry and a stencil row lead to.
        reached = torch.tensor([(f // 3 - k // 3, f % 3 - k % 3) for f in range(9) for k in used])
        pairs = [[(ex, ey) for ex in REACH[dx] for ey in REACH[dy]] for dx, dy in OFFSETS]
        needed = torch.tensor([e for group in pairs for e in group])  # (20, 2)
        self._gather = (reached == needed[:, None]).all(2).double().to(fine.device)  # (20, 9 used)
        self._pair_sums = coarse.zeros(len(needed), coarse.size)
        self._pair_products = torch.zeros_like(self._pair_sums)
        self._reduce = coarse.zeros(4, len(needed))
        self._pairs, self._mirrors = [], []
        count = 0
        for row, ((dx, dy), group) in enumerate(zip(OFFSETS, pairs, strict=True)):
            rows = slice(count, count + len(group))
            count += len(group)
            self._reduce[row, rows] = 1.0
            shift = dx * coarse.pitch + dy
            fx, fy = group[0][0] - 2 * dx + 1, group[0][1] - 2 * dy + 1
            shape = (len(REACH[dx]), len(REACH[dy]), coarse.size)
            start = coarse.pad + shift
            partner = self._weights[fx : fx + shape[0], fy : fy + shape[1], start : start + coarse.size]
            self._pairs.append(
                (self._pair_sums[rows].view(shape), partner, self._pair_products[rows].view(shape))
            )
            start = coarse.pad - shift
            self._mirrors.append(
                (coarse.stencil_inside[8 - row], coarse.stencil[row, start : start + coarse.size])
            )
        self._row_total = coarse.zeros(coarse.size)
        self._kept = coarse.zeros(coarse.row)
        starts = [coarse.pad + dx * coarse.pitch + dy for dx, dy in OFFSETS]
        self._kept_partners = [self._kept[start : start + coarse.size] for start in starts]

    def _prepare_cycle(self) -> None:
        """Scaled weights, fine vectors seen from coarse cells, parities that prolongation adds up."""
        fine, coarse = self.fine, self.coarse
        neighbours = ((3, fine.pitch), (3, 1))
        start = -fine.pitch - 1
        self._root_seen = self._seen(fine.root, start, *neighbours)
        self._residual_seen = self._seen(fine.residual, start, *neighbours)
        self._scaled = torch.zeros_like(self._root_seen, memory_format=torch.contiguous_format)
        self._restricted = torch.zeros_like(self._scaled)
        self._coarse_scale = self._cells(coarse.scale_inside)
        self._coarse_x = self._cells(coarse.x_inside)
        spread = coarse.zeros(3, 3, coarse.row)
        inside = coarse.inside(spread)
        self._spread = self._cells(inside)
        next_x, next_y = (
            spread[..., coarse.pad + s : coarse.pad + s + coarse.size] for s in (coarse.pitch, 1)
        )
        self._join_x = (inside[2], next_x[0])  # fine cells after I in x, also reached from I + 1
        self._join_y = (inside[1:, 2], next_y[1:, 0])
        self._parities = coarse.grid(inside)[1:, 1:]  # (2, 2, cx, cy), the fine cells (2 I, 2 I + 1)
        self._x_parities = self._seen(fine.x, 0, (2, fine.pitch), (2, 1))[..., : coarse.shape[1]]

    def coarsen(self, drop_empty: bool, finest_diagonal: Tensor) -> None:
        """Interpolation weights from the fine stencil and its scaling, then the coarse stencil P^T A P.

        ``drop_empty``: rows that are nothing but rounding beside ``finest_diagonal``, A's largest entry,
        become zero.
        """
        self._finest_diagonal = finest_diagonal
        for edges in self._edges:
            edges.interpolate()
        torch.addcmul(self._corner, self._corner_x, self._through_x, out=self._corner_sum)
        self._corner_sum.addcmul_(self._corner_y, self._through_y)
        torch.sub(self._corner_centre, TINY, out=self._corner_total)
        torch.div(self._corner_sum, self._corner_total, out=self._corner_weights)
        self._corner_weights.mul_(self._corner_exists).neg_()
        for seen, weighted in self._footprints:
            torch.mul(seen, self._weights_cells, out=weighted)
        torch.mm(self._gather, self._weighted_rows, out=self._pair_sums)
        for sums, partner, products in self._pairs:
            torch.mul(sums, partner, out=products)
        torch.mm(self._reduce, self._pair_products, out=self.coarse.stencil_inside[:4])
        self._complete_stencil()
        torch.mul(self._weights_cells[:, :, 0], self._root_seen, out=self._scaled)
        if drop_empty:
            self._drop_empty_rows()

    def _complete_stencil(self) -> None:
        """Coarse rows 5 to 8 by symmetry, then the centre."""
        stencil = self.coarse.stencil_inside
        for mirrored, row in self._mirrors:
            mirrored.copy_(row)
        stencil[4].zero_()
        torch.sum(stencil, 0, out=self._row_total)
        torch.neg(self._row_total, out=stencil[4])

    def _drop_empty_rows(self) -> None:
        """Zero the rows of pure rounding: a function constant on a closed pocket has no energy."""
        torch.mul(self._scaled, self._scaled, out=self._restricted)
        torch.sum(self._restricted.view(9, self.coarse.size), 0, out=self._row_total)
        self._row_total.mul_(ROUNDING).addcmul_(self.coarse.cells, self._finest_diagonal, value=VANISHING)
        self._row_total.add_(self.coarse.stencil_inside[4])
        self.coarse.inside(self._kept).copy_(self._row_total < 0)
        for row, partner in zip(self.coarse.stencil_inside, self._kept_partners, strict=False):
            row.mul_(partner).mul_(self.coarse.inside(self._kept))
        self._complete_stencil()

    def scale(self) -> None:
        """Finish the cycle's weights, D^1/2 P D_c^-1/2; the coarsest level has no D_c."""
        self._scaled.mul_(self._coarse_scale)

    def restrict(self) -> None:
        """coarse.r <- the fine residual through the transposed interpolation."""
        torch.mul(self._scaled, self._residual_seen, out=self._restricted)
        torch.sum(self._restricted.view(9, self.coarse.size), 0, out=self.coarse.r_inside)

    def prolong_add(self) -> None:
        """fine.x += the interpolation of coarse.x."""
        torch.mul(self._scaled, self._coarse_x, out=self._spread)
        for target, other in (self._join_x, self._join_y):
            target.add_(other)
        self._x_parities.add_(self._parities)
