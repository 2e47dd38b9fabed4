"""The loop of PCG on the CPU: every decision on the host, the iterations between them compiled."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precond.host import grid, iterations, threads
from precond.host.compiled import available
from precond.krylov.report import Outcome
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner

REPLACEMENT = 50  # iterations after which the recursive residual is compared with the true one
DRIFT = 0.1  # their difference, as a share of the true one, up to which the true one takes its place
WORST_START = 10.0  # residual of a start, zero's being one, above which zero serves better
SMALLEST = 1e-140  # of a norm whose squares are told from zero
PROGRESS = 0.5  # a restart must bring the true residual below this share of what it was at the last one


class CpuCG:
    """Iterates on buffers of its own; `run` leaves the solution, in b's scale, in ``x`` (nx, ny) float64.
    ``preconditioner`` may be changed between runs. ``watch``, if any, is called with the relative residuals
    so far whenever there are more of them; what it raises ends the run.
    """

    def __init__(self, operator: PoissonOperator, preconditioner: Preconditioner):
        self.operator, self.preconditioner = operator, preconditioner
        self.watch: Callable[[list[float]], object] | None = None
        vectors = torch.zeros((7, *operator.shape), dtype=torch.float64)
        self.x, self._r, self._z, self._ap, self._r_before, self._b, self._best = vectors
        self._least = 1.0  # the residual of _best
        self._multiply_x, self._compiled = operator.bind(self.x, self._ap), available()
        self._iterations = (CompiledIterations if self._compiled else TorchIterations)(operator, vectors[:5])

    @property
    def coefficients(self) -> np.ndarray:
        """Alpha and beta of the iterations since the last run began, or began again, (k, 2) float64."""
        return np.array(self._iterations.coefficients, dtype=np.float64).reshape(-1, 2)

    def run(
        self, b: Tensor, x0: Tensor | None, rtol: float, limit: int, atol: float = 0.0
    ) -> tuple[Outcome, list[float], float, float]:
        """Solve for ``b`` (nx, ny) from ``x0`` (nx, ny) or zero. x is finite and the best of those whose true
        residual was computed: zero, the start, every 50th, those of restarts and the last one.

        Returns the outcome, the relative residuals of the recurrence (the last one true where it converged),
        the true one of x, and the norm that was taken out of b.
        """
        self._iterations.coefficients = []
        scale = self._load(b, x0)
        if scale == 0.0 or not math.isfinite(scale):
            outcome = Outcome.CONVERGED if scale == 0.0 else Outcome.NOT_FINITE
            return outcome, [scale * 0.0], scale * 0.0, scale
        begun = 1.0 if x0 is None else self._residual()
        if x0 is None or (not begun <= WORST_START and bool(torch.isfinite(x0).all())):
            self.x.zero_()
            self._r.copy_(self._b)
            begun = 1.0
        self._best.zero_()
        self._least = 1.0
        self._keep(begun)
        outcome, history, residual = self._iterate(max(rtol, atol / scale), limit, begun)
        if not residual <= self._least:
            self.operator.project(self.x.copy_(self._best))
            residual = self._least
        return outcome, history, residual, scale

    def _norm(self, v: Tensor) -> float:
        return grid.norm(v.numpy()) if self._compiled else float(torch.linalg.vector_norm(v))

    def _load(self, b: Tensor, x0: Tensor | None) -> float:
        """Fill b (projected, unit norm) and x (x0 in that scale); returns the norm taken out of b."""
        self._b.copy_(b)
        self.operator.project(self._b)
        norm, largest = self._norm(self._b), 1.0
        if not SMALLEST < norm < 1.0 / SMALLEST:  # squares may have overflowed, or vanished
            largest = float(torch.linalg.vector_norm(self._b, math.inf))
            if not math.isfinite(largest) or largest == 0.0:
                self.x.zero_()
                return largest
            norm = self._norm(self._b.div_(largest))
        self._b.div_(norm)
        if x0 is not None:
            self.x.copy_(x0).div_(norm * largest)
            self.operator.project(self.x)
        return norm * largest

    def _residual(self, out: Tensor | None = None) -> float:
        """``out``, by default r, <- b - A x, projected; returns its norm (b has norm one)."""
        out = self._r if out is None else out
        torch.sub(self._b, self._multiply_x(), out=out)
        return self._norm(self.operator.project(out))

    def _final_residual(self) -> float:
        """As `_residual`, of an x that is projected first."""
        self._iterations.settle()
        self.operator.project(self.x)
        return self._residual()

    def _keep(self, residual: float) -> None:
        """x, if ``residual``, its true one, is the least so far."""
        if residual < self._least:
            self._best.copy_(self.x)
            self._least = residual

    def _corrected(self, residual: float) -> float:
        """Add the preconditioner's initial correction to x, if it has one; returns the norm of r."""
        if not self.preconditioner.initial_correction(self._r, self._z):
            return residual
        if not math.isfinite(self._norm(self.operator.project(self._z))):
            return residual  # the first application will say so, and x stays finite
        self.x.add_(self._z)
        return self._residual()

    def _compare(self) -> None:
        """The true residual in the place of the recursive one, unless rounding has driven them apart: see
        precond.krylov.pcg. Keep x if it is the best so far.
        """
        self._iterations.settle()
        true = self._residual(self._z)
        self._keep(true)
        if self._norm(torch.sub(self._z, self._r, out=self._ap)) <= DRIFT * true:
            self._r.copy_(self._z)

    def _iterate(self, tolerance: float, limit: int, begun: float) -> tuple[Outcome, list[float], float]:
        """From b, x and r as they are; returns outcome, history and the true residual of x."""
        history = [self._corrected(begun) if limit > 0 and begun > tolerance else begun]
        if not math.isfinite(history[0]):
            self.x.zero_()
            return Outcome.NOT_FINITE, history, self._residual()
        if history[0] <= tolerance:
            return Outcome.CONVERGED, history, history[0]
        second_chance, spent, since, restarted = True, 0, 0, math.inf
        self._iterations.begin(self.preconditioner)
        while spent < limit:
            due = min(REPLACEMENT - since % REPLACEMENT, limit - spent)
            norms, outcome = self._iterations.advance(due, tolerance)
            history += norms
            since += len(norms)
            spent += len(norms) + (outcome is not None)
            if self.watch is not None:
                self.watch(history)
            if outcome is not None:
                if since == 0 or not second_chance or outcome is Outcome.NOT_FINITE:
                    return outcome, history, self._final_residual()
                second_chance = False  # rounding breaks down too: ask the true residual, once
            elif history[-1] > tolerance:
                if since % REPLACEMENT == 0:
                    self._compare()
                continue
            history[-1] = self._final_residual()
            if history[-1] <= tolerance:
                return Outcome.CONVERGED, history, history[-1]
            if outcome is None and not history[-1] <= PROGRESS * restarted:
                return Outcome.STAGNATED, history, history[-1]
            restarted = history[-1]  # the recurrence drifted: begin again from the true residual
            self._keep(restarted)
            history[-1] = self._corrected(restarted)
            if history[-1] <= tolerance:
                return Outcome.CONVERGED, history, history[-1]
            since = 0
            self._iterations.begin(self.preconditioner)
        return Outcome.ITERATION_LIMIT, history, self._final_residual()


class TorchIterations:
    """Iterations on ``vectors`` (5, nx, ny): x, r, z, A p and the r before. The reference.

    ``coefficients``: alpha and beta of each since `begin`.
    """

    def __init__(self, operator: PoissonOperator, vectors: Tensor):
        self._x, self._r, self._z, self._ap, self._before = vectors
        self._p = torch.zeros_like(self._x)
        self._multiply = operator.bind(self._p, self._ap)
        self.coefficients: list[list[float]] = []

    def begin(self, preconditioner: Preconditioner) -> None:
        """Forget the directions so far; ``preconditioner`` makes the next ones."""
        self._preconditioner, self._rz_before = preconditioner, math.inf
        self.coefficients = []
        self._p.zero_()
        self._before.zero_()

    def advance(self, due: int, tolerance: float) -> tuple[list[float], Outcome | None]:  # noqa: ARG002
        """Up to ``due`` iterations, until the residual's norm is within ``tolerance``: its norms, and what
        broke the last one off. x is then what it was before that one.
        """
        r, p = self._r.view(-1), self._p.view(-1)
        z = self._preconditioner.apply(self._r, self._z).view(-1)
        rz = float(torch.dot(r, z))
        beta = (rz - float(torch.dot(self._before.view(-1), z))) / self._rz_before
        p.mul_(beta).add_(z)
        p_ap = float(torch.dot(p, self._multiply().view(-1)))
        if outcome := _breakdown(rz, p_ap):
            return [], outcome
        if not self._preconditioner.symmetric_positive_definite:
            self._before.copy_(self._r)
        r.add_(self._ap.view(-1), alpha=-rz / p_ap)
        norm = float(torch.linalg.vector_norm(r))
        if not math.isfinite(norm):
            return [], Outcome.NOT_FINITE
        self._x.add_(self._p, alpha=rz / p_ap)
        self._rz_before = rz
        self.coefficients.append([rz / p_ap, beta])
        return [norm], None

    def settle(self) -> None:
        """Let x catch up with the residual."""


class CompiledIterations:
    """As TorchIterations, compiled: one call an iteration besides the preconditioner's, one for all that are
    due where M is diagonal.
    """

    def __init__(self, operator: PoissonOperator, vectors: Tensor):
        self._operator, (self._x, self._r, self._z, *_) = operator, vectors
        self._p = torch.zeros([size + 2 for size in operator.shape], dtype=torch.float64)
        coefficients = operator.face_weights_x, operator.face_weights_y, operator.fluid
        self._state = np.zeros(4)
        chunked = threads.chunks(operator.shape[0], operator.fluid.numel()) > 1
        self._iterate = iterations.iterate_in_chunks if chunked else iterations.iterate
        self._norms, self._made = np.zeros(REPLACEMENT), np.zeros((REPLACEMENT, 2))
        self.coefficients: list[list[float]] = []
        arrays = [tensor.numpy() for tensor in (vectors, self._p, *coefficients)]
        self._arrays = (*arrays, self._state, self._norms, self._made)

    def begin(self, preconditioner: Preconditioner) -> None:
        """As TorchIterations.begin."""
        operator, self._preconditioner = self._operator, preconditioner
        self._projects, self._cells = operator.nullity > 0, 0.0
        if operator.components == operator.nullity == 1:
            self._projects, self._cells = False, float(operator.component_sizes[0])
        diagonal = None if self._projects else preconditioner.as_diagonal()
        self._diagonal = np.empty((0, 0)) if diagonal is None else diagonal.numpy()
        self._p.zero_()
        self.coefficients = []
        self._state[:] = 0.0
        self._state[iterations.RZ_BEFORE] = math.inf

    def advance(self, due: int, tolerance: float) -> tuple[list[float], Outcome | None]:
        """As TorchIterations.advance."""
        self._preconditioner.apply_unprojected(self._r, self._z)
        if self._projects:
            self._operator.project(self._z)
        flexible = not self._preconditioner.symmetric_positive_definite
        count = due if self._diagonal.size else 1
        numbers = count, flexible, self._diagonal, self._cells, tolerance
        made, ending = self._iterate(*numbers, *self._arrays)
        self._operator.products += made + (ending != iterations.GOES_ON)
        self.coefficients += self._made[:made].tolist()
        outcome = Outcome.NOT_FINITE if ending == iterations.OVERFLOWED else None
        if ending == iterations.BROKE_DOWN:
            outcome = _breakdown(self._state[iterations.RZ], self._state[iterations.P_AP])
        return self._norms[:made].tolist(), outcome

    def settle(self) -> None:
        """As TorchIterations.settle."""
        if pending := float(self._state[iterations.PENDING]):  # else p may be what broke down
            self._x.add_(self._p[1:-1, 1:-1], alpha=pending)
            self._state[iterations.PENDING] = 0.0


def _breakdown(rz: float, p_ap: float) -> Outcome | None:
    """The guard that an iteration tripped, or None."""
    if not (math.isfinite(rz) and math.isfinite(p_ap)):
        return Outcome.NOT_FINITE
    if rz <= 0:
        return Outcome.INDEFINITE_PRECONDITIONER
    return Outcome.INDEFINITE_OPERATOR if p_ap <= 0 else None
