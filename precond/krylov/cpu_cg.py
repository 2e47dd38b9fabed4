"""The loop of PCG on the CPU: every decision on the host, vectors in BLAS.

At these sizes a tensor operation costs as much to call as to run, so vectors go to BLAS through SciPy, in
place. Jacobi's iteration on bubbles of contrast 100, us, the fastest of five solves (three at 65,536),
one thread of an AMD EPYC, 2026-11-25:

| N | eager torch | torch.compile | this | numba | one serial Taichi kernel |
|---|---|---|---|---|---|
| 1,024 | 30 | 27 | 20 | 5 | 8 |
| 8,192 | 51 | 55 | 41 | 38 | 67 |
| 65,536 | 239 | 221 | 222 | 331 | 554 |

numba is no dependency, and a kernel that holds the whole loop could hold no other preconditioner.
"""

from __future__ import annotations

import math

import torch
from scipy.linalg.blas import daxpy, dcopy, ddot, dscal

from precond.krylov.outcome import Outcome
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner

REPLACEMENT = 50  # iterations after which the recursive residual is replaced by the true one


class CpuCG:
    """Iterates on buffers of its own; `run` leaves the solution in ``x`` (nx, ny) float64."""

    def __init__(self, operator: PoissonOperator):
        self.operator = operator
        buffers = torch.zeros((7, *operator.shape), dtype=torch.float64)
        self._b, self.x, self._r, self._z, self._p, self._ap, self._r_before = buffers
        self._multiply_p = operator.bind(self._p, self._ap)
        self._multiply_x = operator.bind(self.x, self._ap)
        self._flat = [buffer.view(-1).numpy() for buffer in buffers]

    def load(self, b: torch.Tensor, x0: torch.Tensor | None) -> float:
        """Fill b (projected, unit norm) and x (x0 in that scale); returns the norm taken out of b."""
        self._b.copy_(b)
        self.operator.project(self._b)
        largest = float(torch.linalg.vector_norm(self._b, math.inf))  # first, so that squares cannot overflow
        if not math.isfinite(largest) or largest == 0.0:
            self.x.zero_()
            return largest
        self._b.div_(largest)
        norm = float(torch.linalg.vector_norm(self._b))
        self._b.div_(norm)
        self.x.zero_()
        if x0 is not None:
            self.x.copy_(x0).div_(norm * largest)
            self.operator.project(self.x)
        return norm * largest

    def residual(self) -> float:
        """r <- b - A x, projected; returns its norm (b has norm one)."""
        torch.sub(self._b, self._multiply_x(), out=self._r)
        self.operator.project(self._r)
        return float(torch.linalg.vector_norm(self._r))

    def _final_residual(self) -> float:
        """As `residual`, of an x that is projected first."""
        self.operator.project(self.x)
        return self.residual()

    def _start(self, preconditioner: Preconditioner, residual: float) -> float:
        """Add the preconditioner's own part to x, if it has one, and follow with r; returns the norm of r."""
        if not preconditioner.start(self._r, self._z):
            return residual
        self.operator.project(self._z)
        if not math.isfinite(float(torch.linalg.vector_norm(self._z))):
            return residual  # the first application will say so, and x stays finite
        self.x.add_(self._z)
        return self.residual()

    def run(
        self, preconditioner: Preconditioner, rtol: float, limit: int
    ) -> tuple[Outcome, list[float], float]:
        """Iterate from the loaded b and x; x is finite whatever happens. Returns the outcome, the
        relative residuals of the recurrence (the last one true where it converged) and the true one of x.
        """
        outcome, history = self._iterate(preconditioner, rtol, limit)
        return outcome, history, history[-1] if outcome is Outcome.CONVERGED else self._final_residual()

    def _iterate(
        self, preconditioner: Preconditioner, rtol: float, limit: int
    ) -> tuple[Outcome, list[float]]:
        """As `run`; where it converged the last residual is the true one."""
        history = [self.residual()]
        if limit > 0 and history[0] > rtol:
            history[0] = self._start(preconditioner, history[0])
        if not math.isfinite(history[0]):
            self.x.zero_()
            return Outcome.NOT_FINITE, history
        if history[0] <= rtol:
            return Outcome.CONVERGED, history
        flexible = not preconditioner.symmetric_positive_definite
        _, x, r, z, p, ap, r_before = self._flat
        second_chance, since, rz_before = True, 0, math.inf
        p[:] = 0.0
        for _ in range(limit):
            preconditioner.apply(self._r, self._z)
            rz = ddot(r, z)
            turn = rz - ddot(r_before, z) if flexible and since else rz
            dscal(turn / rz_before, p)
            daxpy(z, p)
            self._multiply_p()
            p_ap = ddot(p, ap)
            outcome = _breakdown(rz, p_ap)
            if outcome is None:
                alpha = rz / p_ap
                if flexible:
                    dcopy(r, r_before)
                daxpy(ap, r, a=-alpha)
                rr = ddot(r, r)
                outcome = None if math.isfinite(rr) else Outcome.NOT_FINITE
            if outcome is not None:
                if since == 0 or not second_chance or outcome is Outcome.NOT_FINITE:
                    return outcome, history
                second_chance = False  # rounding breaks down too: ask the true residual, once
                history[-1] = self._start(preconditioner, self._final_residual())
            else:
                daxpy(p, x, a=alpha)
                history.append(math.sqrt(rr))
                since, rz_before = since + 1, rz
                if history[-1] > rtol:
                    if since % REPLACEMENT == 0:
                        self.residual()
                    continue
                history[-1] = self._final_residual()
                if history[-1] <= rtol:
                    return Outcome.CONVERGED, history
                history[-1] = self._start(preconditioner, history[-1])  # the recurrence drifted
            if history[-1] <= rtol:
                return Outcome.CONVERGED, history
            since, rz_before = 0, math.inf  # restart from the true residual
            p[:] = 0.0
        return Outcome.ITERATION_LIMIT, history


def _breakdown(rz: float, p_ap: float) -> Outcome | None:
    """The guard that an iteration tripped, or None."""
    if not (math.isfinite(rz) and math.isfinite(p_ap)):
        return Outcome.NOT_FINITE
    if rz <= 0:
        return Outcome.INDEFINITE_PRECONDITIONER
    return Outcome.INDEFINITE_OPERATOR if p_ap <= 0 else None
