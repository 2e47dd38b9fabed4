"""The loop of PCG on a device: blocks of iterations that decide their own end, so that no host waits inside.

One iteration is a preconditioner's application and the fused operations of precond.device.ops; a solve that
ended freezes x, r, p and the counter, and what is left of its block does nothing. The host keeps one block
ahead and looks at the state that the block before left: counts are exact, whatever a block holds. Every part
is one program of static buffers, captured on CUDA (precond.device.graph). The decisions are those of
precond.krylov.cpu_cg.

In the single-launch form the same blocks stand in a loop of the device's own (precond.device.while_node), and
start, blocks, residual replacements and finish are one program: the host looks when all is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from precond.device import ops
from precond.device.graph import Capture, Snapshots
from precond.device.while_node import WhileNodeError, WhileNodes
from precond.krylov.cpu_cg import REPLACEMENT
from precond.krylov.outcome import Outcome
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner

ITERATIONS_PER_BLOCK = 5

_OUTCOMES = {
    ops.CONVERGED: Outcome.CONVERGED,
    ops.ITERATION_LIMIT: Outcome.ITERATION_LIMIT,
    ops.INDEFINITE_OPERATOR: Outcome.INDEFINITE_OPERATOR,
    ops.INDEFINITE_PRECONDITIONER: Outcome.INDEFINITE_PRECONDITIONER,
    ops.NOT_FINITE: Outcome.NOT_FINITE,
}


class CudaCG:
    """Solves with one preconditioner on one grid.

    All programs are captured when constructed, for the operator's present solids: `fits` tells whether those
    and the history's length are still the ones. ``per_block`` iterations (a divisor of 50) run between two
    looks of the host, or with ``single_launch`` between two looks of the device at its own flag. Where that
    cannot be captured the host looks all the same, and ``note`` says why.
    """

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
        count = operator.shape[0] * operator.shape[1]

        def buffer(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=operator.device)

        grids = buffer(9, *operator.shape)
        self.b, self.x0, self._b, self.x, self._r, self._z, self._p, self._ap, self._r_before = grids
        self._flat = [grid.view(-1) for grid in grids[3:]]
        self._sums_z = buffer(ops.SUMS, ops.partials(count))
        self._sums_p, self._sums_r = buffer(2, ops.partials(count))
        self.state = buffer(ops.SLOTS)
        self.history = buffer(limit + 2)
        self._multiply_x = operator.bind(self.x, self._ap)
        one_component = operator.components == 1
        self._cells = float(operator.component_sizes[0]) if one_component else 0.0
        capture = Capture(operator.device)
        self._load = capture.program(self.load)
        self._attempt = self._in_one_launch() if single_launch else None
        if self._attempt is None:
            self._snapshots = Snapshots(self.state)
            self._start = capture.program(self.start)
            self._block = capture.program(self.block)
            self._replace = capture.program(self.replace)
            self._finish = capture.program(self.finish)

    def _in_one_launch(self) -> Callable[[], None] | None:
        """`attempt` as a program; None where it cannot be one."""
        device = self.operator.device
        try:
            self._nodes = WhileNodes(device)
            program = Capture(device).program(self.attempt)  # of its own: should it fail, others go on
            if self._decides(program):
                return program
            reason = "the loop that was captured does not come to its end"
        except RuntimeError as error:  # torch's own, when it ends a capture that failed, hides the first one
            first = error.__context__ if isinstance(error.__context__, WhileNodeError) else error
            reason = " ".join(str(first).split())
        self.note = f"no single launch: {reason}; blocks of {self.per_block} iterations are launched"
        return None

    def _decides(self, attempt: Callable[[], None]) -> bool:
        """Whether ``attempt`` goes on until an outcome is there, past a residual replacement."""
        self.b[::2].fill_(1.0)
        self.state[ops.TOLERANCE].zero_()
        self.state[ops.LIMIT].fill_(min(REPLACEMENT + 1.0, self.history.numel() - 2.0))
        self._load()
        attempt()
        return self.state.tolist()[ops.OUTCOME] != ops.NONE

    def fits(
        self,
        preconditioner: Preconditioner,
        operator: PoissonOperator,
        limit: int,
        single_launch: bool = False,
    ) -> bool:
        """Whether what was captured still is what should run."""
        same = self.preconditioner is preconditioner and self.operator is operator is preconditioner.operator
        same = same and self.single_launch is single_launch
        return (
            same and self._geometry_version == operator.geometry_version and limit + 2 <= self.history.numel()
        )

    # The programs.

    def load(self) -> None:
        """The problem in ``b`` and ``x0``, projected, in the scale in which b has norm one."""
        operator, state = self.operator, self.state
        self._b.copy_(self.b)
        operator.project(self._b)
        largest = self._b.abs().amax()  # first, so that squares cannot overflow
        self._b.div_(torch.where(largest == 0.0, 1.0, largest))
        norm = torch.linalg.vector_norm(self._b)
        self._b.div_(torch.where(largest == 0.0, 1.0, norm))
        scale = norm * largest
        state[ops.SCALE].copy_(scale)
        x = self.x0 / torch.where(scale == 0.0, 1.0, scale)
        self.x.copy_(torch.where(largest == 0.0, 0.0, x))
        operator.project(self.x)
        state[ops.ITERATIONS].zero_()
        self._residual()

    def start(self) -> None:
        """Begin, or begin again, from the residual of x; the preconditioner may add its own part to x."""
        state = self.state
        far = torch.linalg.vector_norm(self._r) > state[ops.TOLERANCE]
        far = far & (state[ops.ITERATIONS] < state[ops.LIMIT])
        if self.preconditioner.start(self._r, self._z):
            self.operator.project(self._z)
            usable = far & torch.isfinite(torch.linalg.vector_norm(self._z))
            torch.where(usable, self.x + self._z, self.x, out=self.x)
            self._residual()
        self._sums_r.zero_()
        self._sums_r[0].copy_(torch.dot(self._flat[1], self._flat[1]))
        self._p.zero_()
        self._r_before.zero_()
        state[ops.RZ_BEFORE].fill_(math.inf)
        state[ops.ACTIVE].fill_(1.0)
        state[ops.GOING].fill_(1.0)
        torch.add(state[ops.ITERATIONS], REPLACEMENT, out=state[ops.DUE])
        state[ops.OUTCOME].fill_(float(ops.NONE))

    def block(self) -> None:
        """``per_block`` iterations, each frozen once the solve ended."""
        for _ in range(self.per_block):
            self.iterate()
        ops.check(self._sums_r, self.state, self.history)

    def iterate(self) -> None:
        """One iteration."""
        operator = self.operator
        x, r, z, p, ap, r_before = self._flat
        fluid = operator.fluid.view(-1)
        self.preconditioner._apply(self._r, self._z)
        if not self._cells:
            operator.project(self._z)
        ops.dots(r, z, r_before, fluid, self._sums_z, self._flexible)
        ops.direction(z, fluid, p, self._sums_z, self._sums_r, self.state, self.history, self._cells)
        ops.product(p, operator.diagonal().view(-1), *operator.flat_face_weights(), ap, self._sums_p)
        ops.update(x, r, r_before, p, ap, self._sums_p, self._sums_r, self.state, self._flexible)

    def replace(self) -> None:
        """The recursive residual by the true one, unless the solve ended."""
        self._residual(torch.gt(self.state[ops.ACTIVE], 0.0))

    def finish(self) -> None:
        """Project x; the true residual and its norm."""
        self.operator.project(self.x)
        self._residual()
        self.state[ops.RESIDUAL].copy_(torch.linalg.vector_norm(self._r))

    def attempt(self) -> None:
        """All from `start` to `finish`, the blocks repeated by the device."""
        self.start()
        self._nodes.repeat(self.state[ops.ACTIVE], self.stretch)
        self.finish()

    def stretch(self) -> None:
        """Blocks until the solve ended or a replacement of the residual is due, and that."""
        self._nodes.repeat(self.state[ops.GOING], self.block)
        self.replace()
        self.state[ops.DUE].add_(REPLACEMENT)
        self.state[ops.GOING].copy_(self.state[ops.ACTIVE])

    def _residual(self, where: torch.Tensor | None = None) -> None:
        """r <- b - A x, projected; only if ``where`` () bool is."""
        target = self._r if where is None else self._z
        torch.sub(self._b, self._multiply_x(), out=target)
        self.operator.project(target)
        if where is not None:
            torch.where(where, self._z, self._r, out=self._r)

    # The host.

    def run(
        self, b: torch.Tensor, x0: torch.Tensor | None, rtol: float, limit: int
    ) -> tuple[Outcome, list[float], float, float]:
        """Solve for ``b`` from ``x0``; returns outcome, relative residuals, the true one at the end, and the
        norm that was taken out of b. x, in b's scale, is left in ``x``.
        """
        self.b.copy_(b)
        if x0 is None:
            self.x0.zero_()
        else:
            self.x0.copy_(x0)
        self.state[ops.TOLERANCE].fill_(rtol)
        self.state[ops.LIMIT].fill_(float(limit))
        self._load()
        second_chance, begun_at = True, -1  # the iterations at the last start
        while True:
            (self._attempt or self._attempt_in_blocks)()
            state = self.state.tolist()
            outcome = _OUTCOMES[int(state[ops.OUTCOME])]
            count, residual = int(state[ops.ITERATIONS]), state[ops.RESIDUAL]
            if outcome is Outcome.CONVERGED and residual <= rtol:
                break
            drifted = outcome is Outcome.CONVERGED and begun_at < count < limit
            broken = outcome in (Outcome.INDEFINITE_OPERATOR, Outcome.INDEFINITE_PRECONDITIONER)
            if not drifted:
                if not broken or not second_chance or count <= max(begun_at, 0):
                    break
                second_chance = False
            begun_at = count
        history = self.history[: count + 1].tolist()
        while len(history) > 1 and not math.isfinite(history[-1]):
            history.pop()  # an overflow is seen one iteration late
        return outcome, history, residual, state[ops.SCALE]

    def _attempt_in_blocks(self) -> None:
        """As `attempt`, by blocks: when one is seen to have ended the solve, the next one is under way."""
        self._start()
        blocks = 0
        while blocks < 2 or self._snapshots.last_but_one()[ops.ACTIVE] != 0.0:
            self._block()
            self._snapshots.take()
            blocks += 1
            if blocks * self.per_block % REPLACEMENT == 0:
                self._replace()
        self._finish()
