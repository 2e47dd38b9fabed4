"""Preconditioned conjugate gradients with guards that name what went wrong.

References: Hestenes and Stiefel (1952); the flexible (Polak-Ribiere) update of Golub and Ye, SIAM J. Sci.
Comput. 21 (1999).

Departures from the textbook: the system is solved for b / ||b||, so float32 preconditioners never see tiny or
huge residuals; the true residual b - A x replaces the recursive one every 50 iterations, and is computed when
the recurrence says converged: if it disagrees the iteration restarts from it, as it does once when a guard
trips; x is updated after the guards, so a breakdown leaves the last good iterate.
"""

from __future__ import annotations

import enum
import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from precond.operator import PoissonOperator
from precond.preconditioner import Preconditioner

REPLACEMENT = 50  # iterations after which the recursive residual is replaced by the true one


class Outcome(enum.Enum):
    """How a solve ended."""

    CONVERGED = "converged"
    ITERATION_LIMIT = "iteration limit"
    INDEFINITE_OPERATOR = "indefinite operator"
    INDEFINITE_PRECONDITIONER = "indefinite preconditioner"
    NOT_FINITE = "not finite"


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

    ``preconditioner``, ``rtol`` and ``max_iterations`` may be changed between solves; the preconditioner must
    be set up.

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
    ):
        self.operator = operator
        self.preconditioner = preconditioner
        self.rtol = rtol
        self.max_iterations = max_iterations
        buffers = torch.zeros((7, *operator.shape), dtype=torch.float64, device=operator.device)
        self._b, self._x, self._r, self._z, self._p, self._ap, self._r_old = buffers
        self._flat = {
            name: getattr(self, name).view(-1) for name in ("_b", "_r", "_z", "_p", "_ap", "_r_old")
        }
        self._scalars = torch.zeros(3, dtype=torch.float64, device=operator.device)
        self._rz, self._p_ap, self._rr = self._scalars
        self._alpha, self._beta, self._rz_old = torch.zeros(3, dtype=torch.float64, device=operator.device)
        self._multiply_p = operator.bind(self._p, self._ap)
        self._multiply_x = operator.bind(self._x, self._ap)

    def solve(self, b: torch.Tensor | np.ndarray, x0: torch.Tensor | np.ndarray | None = None) -> SolveReport:
        """Solve for ``b`` (nx, ny), from ``x0`` (nx, ny) or zero; neither is modified. Raises ValueError for
        other shapes.
        """
        started = time.perf_counter()
        flexible = not self.preconditioner.symmetric_positive_definite
        scale = self._load(b, x0)
        if not math.isfinite(scale) or scale == 0.0:
            self._x.zero_()
            outcome, history, residual = Outcome.CONVERGED, [0.0], 0.0
            if scale != 0.0:
                outcome, history, residual = Outcome.NOT_FINITE, [math.nan], math.nan
        else:
            outcome, history = self._run(flexible)
            self.operator.project(self._x)
            residual = self._true_residual()
            if outcome is Outcome.CONVERGED and not residual <= self.rtol * (1 + 1e-6):
                outcome = Outcome.ITERATION_LIMIT
        x = self._x * scale if math.isfinite(scale) else self._x.clone()
        seconds = {**self.preconditioner.seconds, "solve": time.perf_counter() - started}
        return SolveReport(x, outcome, len(history) - 1, residual, history, seconds, flexible)

    def _load(self, b: torch.Tensor | np.ndarray, x0: torch.Tensor | np.ndarray | None) -> float:
        """Fill b (projected, unit norm) and x (x0 in that scale); returns the norm taken out of b."""
        for name, value in (("b", b), ("x0", x0)):
            if value is not None and tuple(value.shape) != self.operator.shape:
                raise ValueError(
                    f"{name} must have the operator's shape {self.operator.shape}, not {tuple(value.shape)}"
                )
        self._b.copy_(torch.as_tensor(b))
        self.operator.project(self._b)
        largest = float(torch.linalg.vector_norm(self._b, math.inf))  # first, so that squares cannot overflow
        if not math.isfinite(largest) or largest == 0.0:
            return largest
        self._b.div_(largest)
        norm = float(torch.linalg.vector_norm(self._b))
        self._b.div_(norm)
        self._x.zero_()
        if x0 is not None:
            self._x.copy_(torch.as_tensor(x0)).div_(norm * largest)
            self.operator.project(self._x)
        return norm * largest

    def _replace_residual(self) -> None:
        """r <- b - A x, projected."""
        torch.sub(self._b, self._multiply_x(), out=self._r)
        self.operator.project(self._r)

    def _true_residual(self) -> float:
        """r <- b - A x, projected; returns its norm (b has norm one)."""
        self._replace_residual()
        return float(torch.linalg.vector_norm(self._r))

    def _start(self, residual: float) -> float:
        """Add the preconditioner's own part to x, if it has one, and follow with r; returns the norm of r."""
        if not self.preconditioner.start(self._r, self._z):
            return residual
        self.operator.project(self._z)
        if not math.isfinite(float(torch.linalg.vector_norm(self._z))):
            return residual  # the first application will say so, and x stays finite
        self._x.add_(self._z)
        return self._true_residual()

    def _run(self, flexible: bool) -> tuple[Outcome, list[float]]:
        """Iterate from the loaded b and x; leaves the solution in x, finite whatever happens."""
        history = [self._true_residual()]
        if self.max_iterations > 0 and history[0] > self.rtol:
            history[0] = self._start(history[0])
        if not math.isfinite(history[0]):
            self._x.zero_()
            return Outcome.NOT_FINITE, history
        if history[0] <= self.rtol:
            return Outcome.CONVERGED, history
        fresh, second_chance = True, True
        for _ in range(self.max_iterations):
            self._step(fresh, flexible)
            rz, p_ap, rr = self._scalars.tolist()  # the only host sync of an iteration
            outcome = self._breakdown(rz, p_ap, rr)
            if outcome is not None:
                if fresh or not second_chance or outcome is Outcome.NOT_FINITE:
                    return outcome, history
                fresh, second_chance = True, False  # rounding breaks down too: ask the true residual, once
                history[-1] = self._start(self._true_residual())
                if history[-1] <= self.rtol:
                    return Outcome.CONVERGED, history
                continue
            self._x.addcmul_(self._p, self._alpha)
            history.append(math.sqrt(rr))
            fresh = False
            if history[-1] <= self.rtol:
                history[-1] = self._true_residual()
                if history[-1] <= self.rtol:
                    return Outcome.CONVERGED, history
                history[-1] = self._start(history[-1])
                if history[-1] <= self.rtol:
                    return Outcome.CONVERGED, history
                fresh = True  # the recurrence drifted: restart from the true residual
            elif len(history) % REPLACEMENT == 0:
                self._replace_residual()
        return Outcome.ITERATION_LIMIT, history

    def _step(self, fresh: bool, flexible: bool) -> None:
        """Everything of one iteration but the update of x, on static buffers and without a host sync."""
        flat = self._flat
        self.preconditioner.apply(self._r, self._z)
        torch.dot(flat["_r"], flat["_z"], out=self._rz)
        if fresh:
            self._p.copy_(self._z)
        else:
            if flexible:
                torch.dot(flat["_r_old"], flat["_z"], out=self._beta)
                torch.sub(self._rz, self._beta, out=self._beta).div_(self._rz_old)
            else:
                torch.div(self._rz, self._rz_old, out=self._beta)
            torch.addcmul(self._z, self._p, self._beta, out=self._p)
        self._rz_old.copy_(self._rz)
        if flexible:
            self._r_old.copy_(self._r)
        self._multiply_p()
        torch.dot(flat["_p"], flat["_ap"], out=self._p_ap)
        torch.div(self._rz, self._p_ap, out=self._alpha)
        self._r.addcmul_(self._ap, self._alpha, value=-1)
        torch.dot(flat["_r"], flat["_r"], out=self._rr)

    @staticmethod
    def _breakdown(rz: float, p_ap: float, rr: float) -> Outcome | None:
        """The guard that the last step tripped, or None. A step with p.Ap = 0 leaves infinities behind: test
        signs first.
        """
        if not (math.isfinite(rz) and math.isfinite(p_ap)):
            return Outcome.NOT_FINITE
        if rz <= 0:
            return Outcome.INDEFINITE_PRECONDITIONER
        if p_ap <= 0:
            return Outcome.INDEFINITE_OPERATOR
        return None if math.isfinite(rr) else Outcome.NOT_FINITE
