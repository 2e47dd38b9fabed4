"""Black box multigrid: one V-cycle with operator-dependent interpolation and Galerkin coarse operators.

References: Alcouffe, Brandt, Dendy and Painter, SIAM J. Sci. Stat. Comput. 2 (1981); Dendy, J. Comput. Phys.
48 (1982); polynomial smoothing after Lottes, Numer. Linear Algebra Appl. 30 (2023), and Phillips and Fischer
(2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from precond.classical.multigrid.compiled import CompiledCycle
from precond.classical.multigrid.level import CoarsestInverse, Level
from precond.classical.multigrid.transfer import Transfer
from precond.host.compiled import available
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, Stage

# The optimised fourth-kind Chebyshev polynomial of degree two on (0, 1]: x = (FIRST + SECOND S) r.
BETA = (1.02387287570313, 1.26408905371085)
FIRST = 4 / 3 * BETA[0] + 8 / 3 * BETA[1]
SECOND = -16 / 5 * BETA[1]
RATIO = SECOND / FIRST

COARSEST = 200  # entries that a level solved densely may have
SHIFT = 1e-12  # relative shift of the coarsest operator against rounding ...
SHIFT_WITH_SOLIDS = 1e-9  # ... and where closed pockets may each bring a null vector


class Multigrid(Preconditioner):
    """One V(2,2) cycle, counted in matrix products; equal smoothing before and after makes it symmetric.

    S = D^-1/2 A D^-1/2 has its eigenvalues in [0, 1] on every level, so the smoother's coefficients are
    constants. The stencils are in a unit in which A's largest entry is about one, so that what counts as
    nothing does not depend on the density's unit. Every level keeps its iterate divided by FIRST, which saves
    a pass over each vector. All is float64 here: in float32 bubbles at contrast 10,000 took half as many
    iterations again. On a CPU the loops are compiled (precond.classical.multigrid.compiled), and
    `update` makes anew what depends on the face weights that changed.
    """

    name = "multigrid"
    capturable = True
    own_products = 4  # of S on the finest level: two smoothings and two residuals

    def __init__(self, operator: PoissonOperator):
        super().__init__(operator)
        self._compiled = None
        if operator.device.type == "cpu" and available():
            self._compiled = CompiledCycle(operator.shape, COARSEST, FIRST, RATIO)
            return
        open_box = operator.openings is not None
        self._finest = level = Level(operator.shape, operator.device, five_point=True, open_box=open_box)
        self._transfers: list[Transfer] = []
        while not self._transfers or level.size > COARSEST:
            self._transfers.append(Transfer(level))
            level = self._transfers[-1].coarse
        self._coarsest = CoarsestInverse(level)
        self._r = self._finest.grid(self._finest.r)
        self._x = self._finest.grid(self._finest.x)
        self._scale_out = torch.zeros_like(self._finest.scale)
        self._scale_out_grid = self._finest.grid(self._scale_out)

    def _setup(self, everything: bool = True) -> None:
        has_solid = self.operator.has_solid
        shift = SHIFT_WITH_SOLIDS if has_solid else SHIFT
        if self._compiled:
            self._compiled.setup(self.operator, shift, everything)
            return
        largest = self.operator.diagonal().max()
        _, exponent = torch.frexp(largest)
        half = torch.ldexp(torch.ones_like(largest), -(exponent // 2))
        unit = half * half  # a power of four: scaling by it, or by its root, rounds nothing
        self._finest.load(self.operator, unit)
        for transfer in self._transfers:
            transfer.fine.scale_stencil()
            transfer.coarsen(has_solid)
        for transfer in self._transfers[:-1]:
            transfer.scale()
        self._coarsest.setup(shift, 1 / FIRST, self.operator.nullity == self.operator.components)
        torch.mul(self._finest.scale, FIRST * unit, out=self._scale_out)

    def _update_stages(self) -> list[Stage]:
        if not self._compiled:
            return self._stages()
        return [("setup", lambda: self._setup(everything=False))]

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._compiled:
            self._compiled.apply(residual, out)
            return
        self._r.copy_(residual)
        self._finest.r.mul_(self._finest.scale)
        self._cycle(0)
        torch.mul(self._x, self._scale_out_grid, out=out)

    def _cycle(self, index: int) -> None:
        """x <- (V-cycle of r) / FIRST on level ``index``; r is kept."""
        if index == len(self._transfers):
            self._coarsest.solve()
            return
        transfer = self._transfers[index]
        level = transfer.fine
        level.product(level.r_terms)
        torch.add(level.r, level.y, alpha=-RATIO, out=level.x)
        self._residual(level)
        transfer.restrict()
        self._cycle(index + 1)
        transfer.prolong_add()
        self._residual(level)
        level.product(level.residual_terms)
        level.x.add_(level.residual).add_(level.y, alpha=-RATIO)

    @staticmethod
    def _residual(level: Level) -> None:
        """residual <- r - S x."""
        level.product(level.x_terms)
        torch.add(level.r, level.y, alpha=FIRST, out=level.residual)
