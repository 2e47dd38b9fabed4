"""The loop of PCG on a device: blocks of iterations that decide their own end, so that no host waits inside.

A solve that ended freezes x, r, p and the counter, and what is left of its block does nothing. The host keeps
one block ahead and looks at the state that the block before left: counts are exact, whatever a block holds.
Every part is one program of static buffers, captured on CUDA (precond.device.graph). The decisions are those
of precond.krylov.cpu_cg. In the single-launch form the same blocks stand in a loop of the device's own
(precond.device.while_node), all is one program, and the host looks when it is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precond.device import ops
from precond.device import state as slots
from precond.device.graph import Capture, Snapshots
from precond.device.while_node import WhileNodeError, WhileNodes
from precond.krylov.cpu_cg import DRIFT, PROGRESS, REPLACEMENT, WORST_START
from precond.krylov.report import INDEFINITE, Outcome
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner

ITERATIONS_PER_BLOCK = 5

_OUTCOMES = {getattr(slots, outcome.name): outcome for outcome in Outcome if hasattr(slots, outcome.name)}


class CudaCG:
    """Solves with one preconditioner on one grid.

    All programs are captured when constructed, for the operator's present solids: `fits` tells whether those
    and the history's length are still the ones. ``per_block`` iterations (a divisor of 50) run between two
    looks of the host, or with ``single_launch`` between two looks of the device at its own flag. Where that
    cannot be captured the host looks all the same, and ``note`` says why. Alpha and beta stay on the device.
    """

    coefficients = np.empty((0, 2))

    def __init__(
        self,
        operator: PoissonOperator,
        preconditioner: Preconditioner,
        limit: int,
        per_block: int = ITERATIONS_PER_BLOCK,
        single_launch: bool = False,
    ):
        if REPLACEMENT % per_block:
            raise ValueError(f"per_block must divide {REPLACEMENT}, not be {per_block}")
        if operator.device.type == "cuda":
            ops.use_triton()
        self.operator, self.preconditioner, self.per_block = operator, preconditioner, per_block
        self.single_launch, self.note = single_launch, ""
        self._flexible = not preconditioner.symmetric_positive_definite
        self._geometry_version = operator.geometry_version
        zeros = operator.diagonal().new_zeros
        self.b, self.x0, self._best, self._b, *iterated = zeros(10, *operator.shape)
        self.x, self._r, self._z, self._p, self._ap, self._r_before = iterated
        self._flat = [grid.view(-1) for grid in iterated]
        partials = ops.partials(self.x.numel())
        self._sums_z = zeros(ops.SUMS, partials)
        self._sums_p, self._sums_r = zeros(2, partials)
        self.state, self.history = zeros(slots.SLOTS), zeros(limit + 2)
        self._multiply_x = operator.bind(self.x, self._ap)
        self._projects, self._cells = operator.nullity > 0, 0.0
        if operator.components == operator.nullity == 1:
            self._projects, self._cells = False, float(operator.component_sizes[0])
        capture = Capture(operator.device)
        self._load = capture.program(self.load)
        self._attempt = self._in_one_launch() if single_launch else None
        if self._attempt is None:
            self._snapshots = Snapshots(self.state)
            parts = (self.start, self.block, self.replace, self.finish)
            self._start, self._block, self._replace, self._finish = map(capture.program, parts)

    def _in_one_launch(self) -> Callable[[], None] | None:
        """`attempt` as a program; None where it cannot be one."""
        device = self.operator.device
        try:
            self._nodes = WhileNodes(device)
            program = Capture(device).program(self.attempt)  # of its own: should it fail, others go on
            self.b[::2].fill_(1.0)  # does it go on until an outcome is there, past a residual replacement?
            self._ask(0.0, 0.0, min(REPLACEMENT + 1, self.history.numel() - 2))
            self._load()
            program()
            if self.state.tolist()[slots.OUTCOME] != slots.NONE:
                return program
            reason = "the loop that was captured does not come to its end"
        except RuntimeError as error:  # torch's own, when it ends a capture that failed, hides the first one
            first = error.__context__ if isinstance(error.__context__, WhileNodeError) else error
            reason = " ".join(str(first).split())
        self.note = f"no single launch: {reason}; blocks of {self.per_block} iterations are launched"
        return None

    def fits(self, preconditioner: Preconditioner, limit: int, single_launch: bool = False) -> bool:
        """Whether what was captured still is what should run."""
        same = self.preconditioner is preconditioner and self.single_launch is single_launch
        same = same and self._geometry_version == self.operator.geometry_version
        return same and limit + 2 <= self.history.numel()

    def _ask(self, rtol: float, atol: float, limit: int) -> None:
        for slot, value in ((slots.RTOL, rtol), (slots.ATOL, atol), (slots.LIMIT, limit)):
            self.state[slot].fill_(float(value))

    # The programs.

    def load(self) -> None:
        """b and x0, projected, in the scale in which b has norm one. A start worse than zero is dropped."""
        operator, state = self.operator, self.state
        self._b.copy_(self.b)
        operator.project(self._b)
        largest = self._b.abs().amax()  # first, so that squares cannot overflow
        self._b.div_(torch.where(largest == 0.0, 1.0, largest))
        norm = torch.linalg.vector_norm(self._b)
        self._b.div_(torch.where(largest == 0.0, 1.0, norm))
        scale = norm * largest
        state[slots.SCALE].copy_(scale)
        tolerance = torch.where(scale == 0.0, 0.0, state[slots.ATOL] / scale)
        state[slots.TOLERANCE].copy_(torch.maximum(state[slots.RTOL], tolerance))
        x = self.x0 / torch.where(scale == 0.0, 1.0, scale)
        self.x.copy_(torch.where(largest == 0.0, 0.0, x))
        operator.project(self.x)
        state[slots.ITERATIONS].zero_()
        self._residual()
        given = torch.isfinite(self.x0.abs().amax())  # what is not is to be named, not dropped
        kept = ~given | (torch.linalg.vector_norm(self._r) <= WORST_START)
        self.x.copy_(torch.where(kept, self.x, 0.0))
        torch.where(kept, self._r, self._b, out=self._r)
        self._best.zero_()
        state[slots.LEAST].copy_(scale * 0.0 + 1.0)  # zero's; NaN where b is not finite
        self._keep(torch.linalg.vector_norm(self._r))

    def start(self) -> None:
        """Begin, or begin again, from the residual of x; the preconditioner may correct x."""
        state = self.state
        far = torch.linalg.vector_norm(self._r) > state[slots.TOLERANCE]
        far = far & (state[slots.ITERATIONS] < state[slots.LIMIT])
        if self.preconditioner.initial_correction(self._r, self._z):
            self.operator.project(self._z)
            usable = far & torch.isfinite(torch.linalg.vector_norm(self._z))
            torch.where(usable, self.x + self._z, self.x, out=self.x)
            self._residual()
        self._sums_r.zero_()
        self._sums_r[0].copy_(torch.dot(self._flat[1], self._flat[1]))
        self._p.zero_()
        self._r_before.zero_()
        state[slots.RZ_BEFORE].fill_(math.inf)
        state[slots.ACTIVE].fill_(1.0)
        state[slots.GOING].fill_(1.0)
        torch.add(state[slots.ITERATIONS], REPLACEMENT, out=state[slots.DUE])
        state[slots.OUTCOME].fill_(float(slots.NONE))

    def block(self) -> None:
        """``per_block`` iterations, each frozen once the solve ended."""
        for _ in range(self.per_block):
            self.iterate()
        ops.check(self._sums_r, self.state, self.history)

    def iterate(self) -> None:
        """One iteration: an application of the preconditioner and four fused operations."""
        operator = self.operator
        (x, r, z, p, ap, r_before), fluid = self._flat, operator.fluid.view(-1)
        self.preconditioner.apply_unprojected(self._r, self._z)
        if self._projects:
            operator.project(self._z)
        ops.dots(r, z, r_before, fluid, self._sums_z, self._flexible)
        ops.direction(z, fluid, p, self._sums_z, self._sums_r, self.state, self.history, self._cells)
        ops.product(p, operator.diagonal().view(-1), *operator.flat_face_weights(), ap, self._sums_p)
        ops.update(x, r, r_before, p, ap, self._sums_p, self._sums_r, self.state, self._flexible)

    def replace(self) -> None:
        """The recursive residual by the true one, unless the solve ended or rounding drove them apart. Keep
        x if the solve goes on and it is the best so far.
        """
        torch.sub(self._b, self._multiply_x(), out=self._z)
        self.operator.project(self._z)
        true, active = torch.linalg.vector_norm(self._z), self.state[slots.ACTIVE] > 0.0
        self._keep(torch.where(active, true, math.inf))
        near = torch.linalg.vector_norm(self._z - self._r) <= DRIFT * true
        torch.where(near & active, self._z, self._r, out=self._r)

    def finish(self) -> None:
        """Project x; the true residual and its norm. Keep x if it is the best so far."""
        self.operator.project(self.x)
        self._residual()
        true = torch.linalg.vector_norm(self._r)
        self.state[slots.RESIDUAL].copy_(true)
        self._keep(true)

    def attempt(self) -> None:
        """All from `start` to `finish`, the blocks repeated by the device."""
        self.start()
        self._nodes.repeat(self.state[slots.ACTIVE], self.stretch)
        self.finish()

    def stretch(self) -> None:
        """Blocks until the solve ended or a replacement of the residual is due, and that."""
        self._nodes.repeat(self.state[slots.GOING], self.block)
        self.replace()
        self.state[slots.DUE].add_(REPLACEMENT)
        self.state[slots.GOING].copy_(self.state[slots.ACTIVE])

    def _keep(self, residual: Tensor) -> None:
        """x, if ``residual``, its true one, is the least so far."""
        least = self.state[slots.LEAST]
        better = residual < least
        torch.where(better, self.x, self._best, out=self._best)
        least.copy_(torch.where(better, residual, least))

    def _residual(self) -> None:
        """r <- b - A x, projected."""
        torch.sub(self._b, self._multiply_x(), out=self._r)
        self.operator.project(self._r)

    # The host.

    def run(
        self, b: Tensor, x0: Tensor | None, rtol: float, limit: int, atol: float = 0.0
    ) -> tuple[Outcome, list[float], float, float]:
        """As CpuCG.run; x, in b's scale, is left in ``x``."""
        self.b.copy_(b)
        if x0 is None:
            self.x0.zero_()
        else:
            self.x0.copy_(x0)
        self._ask(rtol, atol, limit)
        self._load()
        second_chance, begun_at, restarted = True, -1, math.inf  # iterations and residual at the last start
        while True:
            (self._attempt or self._attempt_in_blocks)()
            state = self.state.tolist()
            outcome = _OUTCOMES[int(state[slots.OUTCOME])]
            count, residual = int(state[slots.ITERATIONS]), state[slots.RESIDUAL]
            if outcome is Outcome.CONVERGED and residual <= state[slots.TOLERANCE]:
                break
            if outcome is Outcome.CONVERGED:  # the recurrence drifted
                if not (begun_at < count and residual <= PROGRESS * restarted):
                    outcome = Outcome.STAGNATED
                    break
                if count >= limit:
                    outcome = Outcome.ITERATION_LIMIT
                    break
            else:
                if outcome not in INDEFINITE or not second_chance or count <= max(begun_at, 0):
                    break
                second_chance = False
            begun_at, restarted = count, residual
        history = self.history[: count + 1].tolist()
        while len(history) > 1 and not math.isfinite(history[-1]):
            history.pop()  # an overflow is seen one iteration late
        if not residual <= state[slots.LEAST]:
            self.operator.project(self.x.copy_(self._best))
            residual = state[slots.LEAST]
        return outcome, history, residual, state[slots.SCALE]

    def _attempt_in_blocks(self) -> None:
        """As `attempt`, by blocks: when one is seen to have ended the solve, the next one is under way."""
        self._start()
        blocks = 0
        while blocks < 2 or self._snapshots.last_but_one()[slots.ACTIVE] != 0.0:
            self._block()
            self._snapshots.take()
            blocks += 1
            if blocks * self.per_block % REPLACEMENT == 0:
                self._replace()
        self._finish()
