"""The loop of PCG on the CPU: every decision on the host, vectors in BLAS.

At these sizes a tensor operation costs as much to call as to run, so vectors go to BLAS through SciPy, in
place: half the time of eager torch.
"""

from __future__ import annotations

import math

import torch
from scipy.linalg.blas import daxpy, dcopy, ddot, dnrm2, dscal
from torch import Tensor

from precond.krylov.report import Outcome
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner

REPLACEMENT = 50  # iterations after which the recursive residual is compared with the true one
DRIFT = 0.1  # their difference, as a share of the true one, up to which the true one takes its place
WORST_START = 10.0  # residual of a start, zero's being one, above which zero serves better
PROGRESS = 0.5  # a restart must bring the true residual below this share of what it was at the last one


class CpuCG:
    """Iterates on buffers of its own; `run` leaves the solution, in b's scale, in ``x`` (nx, ny) float64.
    ``preconditioner`` may be changed between runs.
    """

    def __init__(self, operator: PoissonOperator, preconditioner: Preconditioner):
        self.operator, self.preconditioner = operator, preconditioner
        buffers = torch.zeros((8, *operator.shape), dtype=torch.float64)
        self._b, self.x, self._r, self._z, self._p, self._ap, self._r_before, self._best = buffers
        self._multiply_p = operator.bind(self._p, self._ap)
        self._multiply_x = operator.bind(self.x, self._ap)
        self._flat = [buffer.view(-1).numpy() for buffer in buffers]

    def run(
        self, b: Tensor, x0: Tensor | None, rtol: float, limit: int, atol: float = 0.0
    ) -> tuple[Outcome, list[float], float, float]:
        """Solve for ``b`` (nx, ny) from ``x0`` (nx, ny) or zero. x is finite and no worse than the start or
        zero, whatever happens.

        Returns the outcome, the relative residuals of the recurrence (the last one true where it converged),
        the true one of x, and the norm that was taken out of b.
        """
        scale = self._load(b, x0)
        if scale == 0.0 or not math.isfinite(scale):
            outcome = Outcome.CONVERGED if scale == 0.0 else Outcome.NOT_FINITE
            return outcome, [scale * 0.0], scale * 0.0, scale
        begun = self._residual()
        if x0 is not None and not begun <= WORST_START and bool(torch.isfinite(x0).all()):
            self.x.zero_()
            begun = self._residual()
        dcopy(self._flat[1], self._flat[7])
        outcome, history, residual = self._iterate(max(rtol, atol / scale), limit, begun)
        if not residual <= min(begun, 1.0) and math.isfinite(begun):  # zero's is one
            self.x.copy_(self._best if begun <= 1.0 else torch.zeros(()))
            residual = min(begun, 1.0)
        return outcome, history, residual, scale

    def _load(self, b: Tensor, x0: Tensor | None) -> float:
        """Fill b (projected, unit norm) and x (x0 in that scale); returns the norm taken out of b."""
        self._b.copy_(b)
        self.operator.project(self._b)
        self.x.zero_()
        largest = float(torch.linalg.vector_norm(self._b, math.inf))  # first, so that squares cannot overflow
        if not math.isfinite(largest) or largest == 0.0:
            return largest
        self._b.div_(largest)
        norm = float(torch.linalg.vector_norm(self._b))
        self._b.div_(norm)
        if x0 is not None:
            self.x.copy_(x0).div_(norm * largest)
            self.operator.project(self.x)
        return norm * largest

    def _residual(self, out: Tensor | None = None) -> float:
        """``out``, by default r, <- b - A x, projected; returns its norm (b has norm one)."""
        out = self._r if out is None else out
        torch.sub(self._b, self._multiply_x(), out=out)
        return float(torch.linalg.vector_norm(self.operator.project(out)))

    def _final_residual(self) -> float:
        """As `_residual`, of an x that is projected first."""
        self.operator.project(self.x)
        return self._residual()

    def _corrected(self, residual: float) -> float:
        """Add the preconditioner's initial correction to x, if it has one; returns the norm of r."""
        if not self.preconditioner.initial_correction(self._r, self._z):
            return residual
        if not math.isfinite(float(torch.linalg.vector_norm(self.operator.project(self._z)))):
            return residual  # the first application will say so, and x stays finite
        self.x.add_(self._z)
        return self._residual()

    def _compare(self) -> None:
        """The true residual in the place of the recursive one, unless rounding has driven them apart: see
        precond.krylov.pcg.
        """
        _, _, r, z, _, ap, _, _ = self._flat
        true = self._residual(self._z)
        dcopy(z, ap)
        daxpy(r, ap, a=-1.0)
        if dnrm2(ap) <= DRIFT * true:
            dcopy(z, r)

    def _iterate(self, tolerance: float, limit: int, begun: float) -> tuple[Outcome, list[float], float]:
        """From b, x and r as they are; returns outcome, history and the true residual of x."""
        history = [self._corrected(begun) if limit > 0 and begun > tolerance else begun]
        if not math.isfinite(history[0]):
            self.x.zero_()
            return Outcome.NOT_FINITE, history, self._residual()
        if history[0] <= tolerance:
            return Outcome.CONVERGED, history, history[0]
        preconditioner = self.preconditioner
        flexible = not preconditioner.symmetric_positive_definite
        _, x, r, z, p, ap, r_before, _ = self._flat
        second_chance, since, rz_before, restarted = True, 0, math.inf, math.inf
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
                    return outcome, history, self._final_residual()
                second_chance = False  # rounding breaks down too: ask the true residual, once
            else:
                daxpy(p, x, a=alpha)
                history.append(math.sqrt(rr))
                since, rz_before = since + 1, rz
                if history[-1] > tolerance:
                    if since % REPLACEMENT == 0:
                        self._compare()
                    continue
            history[-1] = self._final_residual()
            if history[-1] <= tolerance:
                return Outcome.CONVERGED, history, history[-1]
            if outcome is None and not history[-1] <= PROGRESS * restarted:
                return Outcome.STAGNATED, history, history[-1]
            restarted = history[-1]  # the recurrence drifted: begin again from the true residual
            history[-1] = self._corrected(restarted)
            if history[-1] <= tolerance:
                return Outcome.CONVERGED, history, history[-1]
            since, rz_before = 0, math.inf
            p[:] = 0.0
        return Outcome.ITERATION_LIMIT, history, self._final_residual()


def _breakdown(rz: float, p_ap: float) -> Outcome | None:
    """The guard that an iteration tripped, or None."""
    if not (math.isfinite(rz) and math.isfinite(p_ap)):
        return Outcome.NOT_FINITE
    if rz <= 0:
        return Outcome.INDEFINITE_PRECONDITIONER
    return Outcome.INDEFINITE_OPERATOR if p_ap <= 0 else None
