"""Black box multigrid: one V-cycle with operator-dependent interpolation and Galerkin coarse operators.

References: Alcouffe, Brandt, Dendy and Painter, SIAM J. Sci. Stat. Comput. 2 (1981); Dendy, J. Comput. Phys.
48 (1982); polynomial smoothing after Lottes, Numer. Linear Algebra Appl. 30 (2023), and Phillips and Fischer
(2022).

Equal polynomials before and after the coarse correction make the cycle symmetric. Each level works on the
scaled operator S = D^-1/2 A D^-1/2 with D the absolute row sums of A, so that every eigenvalue of S is at
most 1 and the smoothing polynomial has constant coefficients. Vectors inside the cycle are float32.
"""

from __future__ import annotations

import torch

from precond.galerkin import Level, coarsen
from precond.operator import PoissonOperator
from precond.preconditioner import Preconditioner

# The optimised fourth-kind Chebyshev polynomial of degree two on (0, 1], x = (FIRST + SECOND S) r (Lottes, table 1).
BETA = (1.02387287570313, 1.26408905371085)
FIRST = 4 / 3 * BETA[0] + 8 / 3 * BETA[1]
SECOND = -16 / 5 * BETA[1]

COARSEST = 200  # unknowns that a dense inverse may have


class Multigrid(Preconditioner):
    """One V(2,2) cycle of black box multigrid: two matrix products to smooth before and after each coarse
    correction.

    Every level but the coarsest keeps the iterate divided by FIRST, which saves a pass over each vector.
    """

    name = "multigrid"
    capturable = True

    def __init__(self, operator: PoissonOperator):
        super().__init__(operator)
        self._levels = [Level(operator.shape, operator.device)]
        while self._levels[-1].size > COARSEST:
            self._levels.append(self._levels[-1].make_coarse())
        nx, ny = operator.shape
        finest = self._levels[0]
        self._r = finest.grid(finest.r)[:, :ny]
        self._x = finest.grid(finest.x)[:, :ny]
        self._scale_out = torch.zeros_like(finest.scale_flat)
        self._scaled = torch.zeros((nx, ny), dtype=finest.r.dtype, device=operator.device)

    def _setup(self) -> float:
        operator = self.operator
        self._levels[0].load(operator)
        for fine, coarse in zip(self._levels[:-1], self._levels[1:], strict=True):
            coarsen(fine, coarse)
        for level in self._levels[:-1]:
            level.scale_stencil()
        self._levels[-1].invert(shift=1e-6 if operator.has_solid else 1e-12, factor=1 / FIRST)
        for fine, coarse in zip(self._levels[:-1], self._levels[1:], strict=True):
            fine.scale_interpolation(coarse, is_last=coarse is self._levels[-1])
        torch.mul(self._levels[0].scale_flat, FIRST, out=self._scale_out)
        return 0.0

    def _apply(self, residual: torch.Tensor, out: torch.Tensor) -> None:
        finest = self._levels[0]
        self._r.copy_(residual)
        finest.r_flat.mul_(finest.scale_flat)
        self._cycle(0)
        ny = self.operator.shape[1]
        torch.mul(self._x, finest.grid_flat(self._scale_out)[:, :ny], out=self._scaled)
        out.copy_(self._scaled)

    def _cycle(self, index: int) -> None:
        """Level ``index``: x <- (V-cycle of r) / FIRST, r kept."""
        level = self._levels[index]
        if index == len(self._levels) - 1:
            torch.mv(level.inverse, level.r_flat, out=level.x_flat)
            return
        ratio = SECOND / FIRST
        level.product(level.r_around)  # -S r
        torch.add(level.r_flat, level.y, alpha=-ratio, out=level.x_flat)
        level.product(level.x_around)
        torch.add(level.r_flat, level.y, alpha=FIRST, out=level.residual_flat)
        coarse = self._levels[index + 1]
        level.restrict(coarse)
        self._cycle(index + 1)
        level.prolong_add(coarse)
        level.product(level.x_around)
        torch.add(level.r_flat, level.y, alpha=FIRST, out=level.residual_flat)
        level.product(level.residual_around)
        level.x_flat.add_(level.residual_flat).add_(level.y, alpha=-ratio)
