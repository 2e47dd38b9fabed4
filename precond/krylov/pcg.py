"""Preconditioned conjugate gradients with guards that name what went wrong.

References: Hestenes and Stiefel (1952); the flexible (Polak-Ribiere) update of Golub and Ye, SIAM J. Sci.
Comput. 21 (1999); on replacing residuals van der Vorst and Ye, SIAM J. Sci. Comput. 22 (2000).

Departures from the textbook: the system is solved for b / ||b||, so float32 preconditioners never see tiny or
huge residuals. A start far worse than zero is dropped. Every 50 iterations the true residual b - A x takes
the place of the recursive one, as long as rounding has not driven them apart: near the attainable level it
would spoil the directions to come. The true one is computed when the recurrence says converged: if it
disagrees the iteration restarts from it, as it does once when a guard trips; a restart that gained less than
a half is stagnation. x is updated after the guards, so a breakdown leaves the last good iterate, but for an
overflow of r on a device, which is seen when x has moved. What is returned is the best of the iterates whose
true residual was computed, every 50th and the last, of the start and of zero.

The loop itself is precond.krylov.cpu_cg on a CPU and precond.krylov.cuda_cg, captured, on a CUDA device: as
blocks of iterations, or as one launch.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from operator import index
from typing import Any

import torch

from precond.device.graph import Clock
from precond.device.while_node import missing
from precond.krylov.cpu_cg import CpuCG
from precond.krylov.cuda_cg import CudaCG
from precond.krylov.report import Outcome, SolveReport
from precond.poisson import NotCopied, PoissonOperator, as_grid
from precond.preconditioner import Preconditioner, PreconditionerError


def _is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _whole(value: Any) -> int | None:
    """A whole number of any kind, else None."""
    try:
        return None if isinstance(value, bool) else index(value)
    except TypeError:
        return None


@dataclass(eq=False, repr=False)
class PCG(NotCopied):
    """Solves A x = b on mean-zero vectors to ||b - A x|| <= max(rtol ||b||, atol), b projected first.

    ``preconditioner``, ``rtol``, ``atol``, ``max_iterations`` and ``single_launch`` may be changed between
    solves; the preconditioner must be set up, for this very operator. One that was set up for earlier
    coefficients is used as it is, which is slower, and with a two-level form for a GPU may not be definite;
    where the solve then fails the report's ``reason`` says so. With ``single_launch`` a captured loop ends by
    itself (precond.device.while_node) where it can; counts and x are the same. On a CPU ``watch`` is called
    with the relative residuals so far whenever there are more; what it raises ends the solve. Raises
    ValueError for values that make no sense.

    | outcome | when |
    |---|---|
    | CONVERGED | the true residual is within the tolerance |
    | ITERATION_LIMIT | it is not, after max_iterations |
    | STAGNATED | it is not, and rounding lets it fall no further |
    | INDEFINITE_OPERATOR | p.Ap <= 0 |
    | INDEFINITE_PRECONDITIONER | r.z <= 0 |
    | NOT_FINITE | b, x0, the operator or the preconditioner holds NaN or infinity |
    """

    operator: PoissonOperator
    preconditioner: Preconditioner
    rtol: float = 1e-8
    max_iterations: int = 5000
    atol: float = 0.0
    single_launch: bool = False
    watch: Callable[[list[float]], object] | None = None

    def __post_init__(self) -> None:
        self._cpu_cg: CpuCG | None = None
        self._cuda_cg: CudaCG | None = None
        self._check()

    def _check(self) -> None:
        """Raise ValueError for the first value that makes no sense; numbers of any kind become Python's."""
        if not isinstance(self.operator, PoissonOperator):
            raise ValueError(f"operator must be a PoissonOperator, not {self.operator!r}")
        if not isinstance(self.preconditioner, Preconditioner):
            raise ValueError(
                f"preconditioner must be one of make_preconditioner, not {self.preconditioner!r}"
            )
        if self.preconditioner.operator is not self.operator:
            raise ValueError(f"{self.preconditioner.name} was made for another operator: make one for this")
        if not _is_real(self.rtol) or not 0.0 < self.rtol < 1.0:
            raise ValueError(f"rtol must be a number between 0 and 1, not {self.rtol!r}")
        if not _is_real(self.atol) or not 0.0 <= self.atol < math.inf:
            raise ValueError(f"atol must be a finite number from 0 on, not {self.atol!r}")
        limit = _whole(self.max_iterations)
        if limit is None or limit < 0:
            raise ValueError(f"max_iterations must be a whole number from 0 on, not {self.max_iterations!r}")
        self.rtol, self.atol, self.max_iterations = float(self.rtol), float(self.atol), limit

    def prepare(self) -> None:
        """Make what a solve needs, as captured programs on a device. Raises RuntimeError when the
        preconditioner is not set up, and PreconditionerError for one that cannot be captured on a device.
        """
        if not self.preconditioner.is_set_up:
            raise RuntimeError(f"{self.preconditioner.name}: call setup() before solving")
        if self._on_host:
            self._cpu_cg = self._cpu_cg or CpuCG(self.operator, self.preconditioner)
            self._cpu_cg.preconditioner, self._cpu_cg.watch = self.preconditioner, self.watch
            return
        if not self.preconditioner.capturable:
            raise PreconditionerError(f"{self.preconditioner.name} runs on the CPU only")
        loop, limit, single = self._cuda_cg, self.max_iterations, self.single_launch
        if loop is None or not loop.fits(self.preconditioner, limit, single):
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

    def solve(self, b: Any, x0: Any = None) -> SolveReport:
        """Solve for ``b`` (nx, ny), from ``x0`` (nx, ny) or zero: tensors, or whatever numpy can make an
        array of; neither is modified. Raises ValueError for other shapes and kinds.
        """
        self._check()
        shape, device = self.operator.shape, self.operator.device
        b = as_grid(b, "b", shape, device)
        x0 = None if x0 is None else as_grid(x0, "x0", shape, device)
        self.prepare()
        clock = Clock(device)
        loop, preconditioner = self._cpu_cg if self._on_host else self._cuda_cg, self.preconditioner
        outcome, history, residual, scale = loop.run(b, x0, self.rtol, self.max_iterations, self.atol)
        x = loop.x * scale if math.isfinite(scale) else torch.zeros_like(loop.x)
        if not math.isfinite(float(torch.linalg.vector_norm(x, math.inf))):
            x, outcome = torch.zeros_like(x), Outcome.NOT_FINITE
        seconds = {**preconditioner.seconds, "solve": clock.seconds()}
        flexible, iterations = not preconditioner.symmetric_positive_definite, len(history) - 1
        reason, choice = self._reason(outcome, iterations, residual), preconditioner.choice
        preconditioner.solved(sum(seconds.values()))
        method = preconditioner.name
        ended = x, outcome, iterations, residual, history, seconds, flexible, method, reason, choice
        return SolveReport(*ended, loop.coefficients)

    def _reason(self, outcome: Outcome, iterations: int, residual: float) -> str:
        """Why it did not converge, for people."""
        if outcome is Outcome.CONVERGED:
            return ""
        name = self.preconditioner.name
        reason = {
            Outcome.ITERATION_LIMIT: f"not converged after {iterations} iterations",
            Outcome.STAGNATED: f"rounding stops it at a relative residual of {residual:.1e}",
            Outcome.INDEFINITE_OPERATOR: "p.Ap is not positive: the matrix is not positive definite",
            Outcome.INDEFINITE_PRECONDITIONER: f"r.z is not positive: {name} is not positive definite",
            Outcome.NOT_FINITE: "there is NaN or infinity in b, x0, the matrix or the preconditioner",
        }[outcome]
        if not self.preconditioner.is_current:
            reason += f"; {name} was set up for earlier coefficients: call its update() before solving"
        return reason
