"""Preconditioned conjugate gradients with guards that name what went wrong.

References: Hestenes and Stiefel (1952); the flexible (Polak-Ribiere) update of Golub and Ye, SIAM J. Sci.
Comput. 21 (1999).

Departures from the textbook: the system is solved for b / ||b||, so float32 preconditioners never see tiny or
huge residuals; the true residual b - A x replaces the recursive one every 50 iterations, and is computed when
the recurrence says converged: if it disagrees the iteration restarts from it, as it does once when a guard
trips; x is updated after the guards, so a breakdown leaves the last good iterate, but for an overflow of r
on a device, which is seen when x has moved.

The loop itself is precond.krylov.cpu_cg on a CPU and precond.krylov.cuda_cg, captured, on a CUDA device: as
blocks of iterations, or as one launch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from precond.device.graph import Clock
from precond.device.while_node import missing
from precond.krylov.cpu_cg import CpuCG
from precond.krylov.cuda_cg import CudaCG
from precond.krylov.outcome import Outcome
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, PreconditionerError


@dataclass
class SolveReport:
    """One solve.

    x: (nx, ny) float64, finite, mean-zero over each component. relative_residual: ||b - A x|| / ||b||
    computed from x, b projected (NaN when b is not finite, 0 when b is 0). history: relative residual norms,
    iterations + 1 entries. seconds: "setup" and "inference" of the preconditioner's last set-up, "solve" of
    this solve. flexible: the Polak-Ribiere update was used because the preconditioner does not promise to be
    symmetric positive definite.
    """

    x: torch.Tensor
    outcome: Outcome
    iterations: int
    relative_residual: float
    history: list[float]
    seconds: dict[str, float]
    flexible: bool

    @property
    def converged(self) -> bool:
        """Whether the true residual met the tolerance."""
        return self.outcome is Outcome.CONVERGED


class PCG:
    """Solves A x = b on mean-zero vectors to ||b - A x|| <= rtol ||b||, b projected first.

    ``preconditioner``, ``rtol``, ``max_iterations`` and ``single_launch`` may be changed between solves; the
    preconditioner must be set up. With ``single_launch`` a captured loop ends by itself
    (precond.device.while_node) where it can; counts and x are the same.

    | outcome | when |
    |---|---|
    | CONVERGED | the true residual is within rtol |
    | ITERATION_LIMIT | it is not, after max_iterations |
    | INDEFINITE_OPERATOR | p.Ap <= 0 |
    | INDEFINITE_PRECONDITIONER | r.z <= 0 |
    | NOT_FINITE | b, x0, the operator or the preconditioner holds NaN or infinity |
    """

    def __init__(
        self,
        operator: PoissonOperator,
        preconditioner: Preconditioner,
        rtol: float = 1e-8,
        max_iterations: int = 5000,
        single_launch: bool = False,
    ):
        self.operator = operator
        self.preconditioner = preconditioner
        self.rtol = rtol
        self.max_iterations = max_iterations
        self.single_launch = single_launch
        self._cpu_cg: CpuCG | None = None
        self._cuda_cg: CudaCG | None = None

    def prepare(self) -> None:
        """Make what a solve needs, captured programs on a device for instance, so that the first one need not
        wait for it. Raises RuntimeError when the preconditioner is not set up, and PreconditionerError for
        one that cannot be captured on a device.
        """
        if not self.preconditioner.is_set_up:
            raise RuntimeError(f"{self.preconditioner.name}: call setup() before solving")
        if self._on_host:
            self._cpu_cg = self._cpu_cg or CpuCG(self.operator)
            return
        if not self.preconditioner.capturable:
            raise PreconditionerError(f"{self.preconditioner.name} runs on the CPU only")
        loop, limit, single = self._cuda_cg, self.max_iterations, self.single_launch
        if loop is None or not loop.fits(self.preconditioner, self.operator, limit, single):
            self._cuda_cg = CudaCG(self.operator, self.preconditioner, limit, single_launch=single)

    @property
    def note(self) -> str:
        """Why there is no single launch although it was asked for; else empty."""
        if self.single_launch and self._on_host:
            return f"no single launch: {missing(self.operator.device)}"
        return self._cuda_cg.note if self._cuda_cg else ""

    @property
    def _on_host(self) -> bool:
        return self.operator.device.type == "cpu"

    def solve(self, b: torch.Tensor | np.ndarray, x0: torch.Tensor | np.ndarray | None = None) -> SolveReport:
        """Solve for ``b`` (nx, ny), from ``x0`` (nx, ny) or zero; neither is modified. Raises ValueError for
        other shapes.
        """
        for name, value in (("b", b), ("x0", x0)):
            if value is not None and tuple(value.shape) != self.operator.shape:
                raise ValueError(
                    f"{name} must have the operator's shape {self.operator.shape}, not {tuple(value.shape)}"
                )
        self.prepare()
        clock = Clock(self.operator.device)
        b, x0 = torch.as_tensor(b), None if x0 is None else torch.as_tensor(x0)
        run = self._solve_on_host if self._on_host else self._solve_on_device
        x, outcome, history, residual = run(b, x0)
        if not bool(torch.isfinite(x).all()):
            x, outcome = torch.zeros_like(x), Outcome.NOT_FINITE
        if outcome is Outcome.CONVERGED and not residual <= self.rtol * (1 + 1e-6):
            outcome = Outcome.ITERATION_LIMIT
        seconds = {**self.preconditioner.seconds, "solve": clock.seconds()}
        flexible = not self.preconditioner.symmetric_positive_definite
        return SolveReport(x, outcome, len(history) - 1, residual, history, seconds, flexible)

    def _solve_on_host(
        self, b: torch.Tensor, x0: torch.Tensor | None
    ) -> tuple[torch.Tensor, Outcome, list[float], float]:
        """x, outcome, relative residuals and the true one of x."""
        loop = self._cpu_cg
        scale = loop.load(b, x0)
        if scale == 0.0:
            return loop.x.clone(), Outcome.CONVERGED, [0.0], 0.0
        if not math.isfinite(scale):
            return loop.x.clone(), Outcome.NOT_FINITE, [math.nan], math.nan
        outcome, history, residual = loop.run(self.preconditioner, self.rtol, self.max_iterations)
        return loop.x * scale, outcome, history, residual

    def _solve_on_device(
        self, b: torch.Tensor, x0: torch.Tensor | None
    ) -> tuple[torch.Tensor, Outcome, list[float], float]:
        """As on the host."""
        loop = self._cuda_cg
        outcome, history, residual, scale = loop.run(b, x0, self.rtol, self.max_iterations)
        return loop.x * scale, outcome, history, residual
