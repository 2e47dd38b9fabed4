"""Between two levels of black box multigrid: interpolation from the stencil, the Galerkin product,
restriction, prolongation.

Coarse cell (I, J) sits on fine cell (2 I, 2 J); its footprint is that cell and its eight neighbours. Dendy,
J. Comput. Phys. 48 (1982). Everything is gathered through strided views of padded arrays, so a set-up is a
few dozen tensor operations a level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from precond.classical.multigrid.compiled import ROUNDING, TINY, VANISHING
from precond.classical.multigrid.level import Level, strided

# Offsets d for which the Galerkin product computes the coarse stencil's rows 0 to 3; symmetry gives the other
# four.
OFFSETS = ((1, 1), (1, 0), (1, -1), (0, 1))
# For one direction of d: fine offsets from 2 I that both I's stencil row reaches and I + d interpolates to.
REACH = {0: (-1, 0, 1), 1: (1, 2), -1: (-2, -1)}


class Edges:
    """Interpolation to the fine cells between two coarse neighbours along one axis."""

    def __init__(
        self, coarse: Level, shift: int, back: Tensor, weights: Tensor, exists: Tensor, ground: Tensor | None
    ):
        """``back`` (2, 3, nx, pitch), ``weights`` and ``exists`` (2, coarse.size): of the fine cells before
        and after each coarse cell; the next coarse cell is ``shift`` entries on. ``ground`` (nx, pitch): of
        the fine cells after each, what couples them to openings.
        """
        self._back, self._weights, self._exists = back, weights, exists.contiguous()
        self._tie = TINY * self._exists  # halves where neither side is coupled
        self._towards, self._total = coarse.padded(2), coarse.padded()
        self._towards_lines, self._total_lines = coarse.lines(self._towards), coarse.lines(self._total)
        self._ground = ground
        self._from_next = strided(self._towards[0], shift, (coarse.size, 1))
        self._total_padded = strided(self._total, -coarse.pad, (coarse.row, 1))
        self._totals = strided(self._total, -shift, (2, shift), (coarse.size, 1))

    def interpolate(self) -> None:
        """Weights in proportion to the collapsed couplings; the two of a fine cell add up to one."""
        torch.sum(self._back, 1, out=self._towards_lines)
        self._towards.clamp_(min=0.0)
        torch.addcmul(self._tie, self._exists, self._towards, out=self._towards)
        torch.add(self._towards[1], self._from_next, out=self._total)
        if self._ground is not None:
            self._total_lines.add_(self._ground)
        self._total_padded.clamp_(min=TINY * TINY)
        torch.div(self._towards, self._totals, out=self._weights)


class Transfer:
    """The way from ``fine`` to ``coarse`` and back; ``coarse`` belongs to this transfer."""

    def __init__(self, fine: Level):
        nx, ny = fine.shape
        self.fine = fine
        self._open_box = fine.ground is not None
        self.coarse = coarse = Level(((nx + 1) // 2, (ny + 1) // 2), fine.device, open_box=self._open_box)
        # Entry (fx, fy) of coarse I leads to fine 2 I + (fx - 1, fy - 1).
        self._weights = coarse.padded(3, 3)
        self._weight_lines = coarse.lines(self._weights)
        self._prepare_interpolation()
        self._prepare_galerkin()
        self._prepare_cycle()

    def _seen(self, v: Tensor, start: int, *lead: tuple[int, int]) -> Tensor:
        """Entries at 2 I + ``start`` of a fine array, behind leading (size, stride) dimensions."""
        nx, pitch = self.coarse.shape[0], self.coarse.pitch
        return strided(v, start, *lead, (nx, 2 * self.fine.pitch), (pitch, 2))

    def _footprints(self, v: Tensor, *lead: tuple[int, int]) -> Tensor:
        """The footprints of all coarse cells in a fine array: (3, 3, *lead, nx, pitch)."""
        return self._seen(v, -self.fine.pitch - 1, (3, self.fine.pitch), (3, 1), *lead)

    def _prepare_interpolation(self) -> None:
        """Views for the weights of the fine cells between two coarse ones and between four."""
        fine, coarse, weights = self.fine, self.coarse, self._weights
        pitch, row = fine.pitch, fine.row
        exists = coarse.zeros(3, 3, coarse.size)
        offset = torch.arange(-1, 2, device=fine.device)[:, None]
        targets = [2 * torch.arange(n, device=fine.device) + offset for n in coarse.shape]
        inside = [(x >= 0) & (x < n) for x, n in zip(targets, fine.shape, strict=True)]
        coarse.grid(exists).copy_(inside[0][:, None, :, None] & inside[1][:, None, :])
        weights[1, 1] = exists[1, 1]
        # The couplings of fine cell 2 I -+ step back towards I, in the three lines beside each other.
        back_x = self._seen(fine.stencil, -pitch, (2, 2 * pitch + 6 * row), (3, row))
        back_y = self._seen(fine.stencil, -1, (2, 2 + 2 * row), (3, 3 * row))
        ground = None, None
        if self._open_box:
            ground = self._seen(fine.ground, pitch), self._seen(fine.ground, 1)
        self._edges = (
            Edges(coarse, coarse.pitch, back_x, weights[::2, 1], exists[::2, 1], ground[0]),
            Edges(coarse, 1, back_y, weights[1, ::2], exists[1, ::2], ground[1]),
        )
        # Fine cell X = 2 I + (a, b), a and b -1 or 1: to I directly, through its x neighbour, through its y
        # neighbour, and to itself.
        along_x, along_y = ((2, 2 * pitch + 6 * row), (2, 2 * pitch)), ((2, 2 + 2 * row), (2, 2))
        corners = [(kx, ky, (3 * kx + ky) * row - pitch - 1) for kx in (0, 1) for ky in (0, 1)]
        self._corner, self._corner_x, self._corner_y, self._corner_centre = (
            self._seen(fine.stencil, start, along_x[kx], along_y[ky]) for kx, ky, start in corners
        )
        self._corner_exists = coarse.lines(exists[::2, ::2].contiguous())
        self._corner_sum = torch.zeros_like(self._corner_exists)
        self._corner_total = torch.zeros_like(self._corner_exists)
        self._corner_weights = self._weight_lines[::2, ::2]
        self._through_x, self._through_y = self._weight_lines[1:2, ::2], self._weight_lines[::2, 1:2]

    def _prepare_galerkin(self) -> None:
        """Constant 0/1 matrices and views: footprint rows -> A P where needed -> P^T A P."""
        fine, coarse = self.fine, self.coarse
        used = [k for rows in fine.rows for k in range(9)[rows]]
        weighted = coarse.zeros(3, 3, len(used), coarse.size)  # footprint, stencil row, coarse cell
        self._weighted_rows = weighted.view(9 * len(used), coarse.size)
        footprints = self._footprints(fine.stencil, (9, fine.row))
        parts = coarse.lines(weighted).split([len(range(9)[rows]) for rows in fine.rows], dim=2)
        self._parts = [(footprints[:, :, rows], part) for rows, part in zip(fine.rows, parts, strict=True)]
        # (9 used, 2): fine offset from 2 I that a footprint entry and a stencil row lead to.
        reached = torch.tensor([(f // 3 - k // 3, f % 3 - k % 3) for f in range(9) for k in used])
        needed = torch.tensor([(ex, ey) for dx, dy in OFFSETS for ex in REACH[dx] for ey in REACH[dy]])
        self._gather = (reached == needed[:, None]).all(2).double().to(fine.device)  # (20, 9 used)
        self._pair_sums, self._pair_products = coarse.zeros(2, len(needed), coarse.size)
        counts = [len(REACH[dx]) * len(REACH[dy]) for dx, dy in OFFSETS]
        self._reduce = torch.block_diag(*(coarse.zeros(1, count) + 1 for count in counts))
        self._pairs, self._mirrors, self._kept_partners = [], [], []
        self._kept, self._row_total = coarse.padded(), coarse.zeros(coarse.size)
        places = zip(OFFSETS, self._pair_sums.split(counts), self._pair_products.split(counts), strict=True)
        for row, ((dx, dy), sums, products) in enumerate(places):
            shift = dx * coarse.pitch + dy
            shape = (len(REACH[dx]), len(REACH[dy]), coarse.size)
            first = self._weights[REACH[dx][0] - 2 * dx + 1, REACH[dy][0] - 2 * dy + 1]
            partner = strided(first, shift, *zip(shape, self._weights.stride(), strict=True))
            self._pairs.append((sums.view(shape), partner, products.view(shape)))
            mirror = strided(coarse.stencil[row], -shift, (coarse.size, 1))
            self._mirrors.append((coarse.stencil[8 - row], mirror))
            self._kept_partners.append(strided(self._kept, shift, (coarse.size, 1)))

    def _prepare_cycle(self) -> None:
        """Scaled weights, fine vectors seen from coarse cells, parities that prolongation adds up."""
        fine, coarse = self.fine, self.coarse
        self._root_seen, self._residual_seen = self._footprints(fine.root), self._footprints(fine.residual)
        self._scaled = coarse.lines(coarse.zeros(3, 3, coarse.size))
        self._restricted = torch.zeros_like(self._scaled)
        self._coarse_scale, self._coarse_x = coarse.lines(coarse.scale), coarse.lines(coarse.x)
        spread = coarse.padded(3, 3)
        self._spread = coarse.lines(spread)
        # Fine cells after I in x are reached from I + 1 too, and those after it in y from J + 1.
        next_x = strided(spread[0], coarse.pitch, (3, coarse.row), (coarse.size, 1))
        next_y = strided(spread[1:, 0], 1, (2, 3 * coarse.row), (coarse.size, 1))
        self._joins = (spread[2], next_x), (spread[1:, 2], next_y)
        self._parities = coarse.grid(spread)[1:, 1:]  # (2, 2, cx, cy), the fine cells (2 I, 2 I + 1)
        self._x_parities = self._seen(fine.x, 0, (2, fine.pitch), (2, 1))[..., : coarse.shape[1]]

    def coarsen(self, drop_empty: bool) -> None:
        """Interpolation weights from the fine stencil and its scaling, then the coarse stencil P^T A P.

        ``drop_empty``: rows that are nothing but rounding beside A's largest entry become zero.
        """
        for edges in self._edges:
            edges.interpolate()
        torch.addcmul(self._corner, self._corner_x, self._through_x, out=self._corner_sum)
        self._corner_sum.addcmul_(self._corner_y, self._through_y)
        torch.sub(self._corner_centre, TINY, out=self._corner_total)
        torch.div(self._corner_sum, self._corner_total, out=self._corner_weights)
        self._corner_weights.mul_(self._corner_exists).neg_()
        for seen, part in self._parts:
            torch.mul(seen, self._weight_lines[:, :, None], out=part)
        torch.mm(self._gather, self._weighted_rows, out=self._pair_sums)
        for sums, partner, products in self._pairs:
            torch.mul(sums, partner, out=products)
        torch.mm(self._reduce, self._pair_products, out=self.coarse.stencil[:4])
        if self._open_box:
            self._coarsen_ground()
        self._complete_stencil()
        torch.mul(self._weight_lines, self._root_seen, out=self._scaled)
        if drop_empty:
            self._drop_empty_rows()

    def _coarsen_ground(self) -> None:
        """The row sums of P^T A P, P^T A times the interpolated constant, which is one but near openings."""
        fine = self.fine
        fine.x.zero_()
        self._spread.copy_(self._weight_lines)
        self._add_spread()
        fine.residual.zero_()
        for row, entries in enumerate(fine.stencil):
            fine.residual.addcmul_(entries, fine.around(fine.x)[2 - row // 3, 2 - row % 3], value=-1.0)
        fine.x.zero_()
        torch.mul(self._weight_lines, self._residual_seen, out=self._restricted)
        torch.sum(self._restricted.view(9, self.coarse.size), 0, out=self.coarse.ground)

    def _complete_stencil(self) -> None:
        """Coarse rows 5 to 8 by symmetry, then the centre."""
        stencil = self.coarse.stencil
        for mirrored, row in self._mirrors:
            mirrored.copy_(row)
        stencil[4].zero_()
        torch.sum(stencil, 0, out=self._row_total)
        torch.neg(self._row_total, out=stencil[4])
        if self._open_box:
            stencil[4].sub_(self.coarse.ground)

    def _drop_empty_rows(self) -> None:
        """Zero the rows of pure rounding: a function constant on a closed pocket has no energy."""
        torch.mul(self._scaled, self._scaled, out=self._restricted)
        torch.sum(self._restricted.view(9, self.coarse.size), 0, out=self._row_total)
        self._row_total.mul_(ROUNDING).add_(self.coarse.cells, alpha=VANISHING)
        self._row_total.add_(self.coarse.stencil[4])
        self._kept.copy_(self._row_total < 0)
        for row, partner in zip(self.coarse.stencil, self._kept_partners, strict=False):
            row.mul_(partner).mul_(self._kept)
        if self._open_box:
            self.coarse.ground.mul_(self._kept)
        self._complete_stencil()

    def scale(self) -> None:
        """Finish the cycle's weights, D^1/2 P D_c^-1/2; the coarsest level has no D_c."""
        self._scaled.mul_(self._coarse_scale)

    def restrict(self) -> None:
        """coarse.r <- the fine residual through the transposed interpolation."""
        torch.mul(self._scaled, self._residual_seen, out=self._restricted)
        torch.sum(self._restricted.view(9, self.coarse.size), 0, out=self.coarse.r)

    def prolong_add(self) -> None:
        """fine.x += the interpolation of coarse.x."""
        torch.mul(self._scaled, self._coarse_x, out=self._spread)
        self._add_spread()

    def _add_spread(self) -> None:
        """fine.x += what every coarse cell spreads over its footprint."""
        for target, other in self._joins:
            target.add_(other)
        self._x_parities.add_(self._parities)
