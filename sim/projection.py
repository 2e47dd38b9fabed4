"""Pressure projection: density -> face weights, divergence -> right-hand side, pressure -> divergence-free
velocity.
"""

import math
import time
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from precond import (
    PCG,
    Outcome,
    PoissonOperator,
    Preconditioner,
    PreconditionerError,
    SolveReport,
    make_preconditioner,
)
from precond.errors import UsageError, in_one_line
from precond.poisson import NotCopied, Openings
from sim.reuse_policy import ReusePolicy
from sim.settings import SimulationSettings

FALLBACK = "jacobi"
NEGLIGIBLE = 1e-14  # share of a cell's volume: a net outflow in one time step that counts as none


class PressureSystem(NamedTuple):
    """A p = b as the last step met it: live, so valid until the next one. ``right_hand_side`` is b, (nx, ny)
    float64; ``start`` the pressure from which the solve began, likewise, None for zero; ``atol`` its absolute
    tolerance.
    """

    operator: PoissonOperator
    right_hand_side: torch.Tensor
    start: torch.Tensor | None
    atol: float


class Projection(NotCopied):
    """Makes a velocity divergence-free with the chosen preconditioner; Jacobi steps in for a frame when that
    breaks down.
    """

    def __init__(
        self,
        density: torch.Tensor,
        solid: torch.Tensor,
        settings: SimulationSettings,
        loops: Any,
        openings: Openings | None = None,
    ):
        """``loops`` are those of sim.host.loops or sim.device.loops; ``openings`` as in precond.poisson: the
        pressure is zero there.
        """
        self._loops = loops
        self.operator = PoissonOperator.from_density(
            density, solid.bool(), density.device, "arithmetic", openings
        )
        self.pressure = torch.zeros_like(density)  # (nx, ny) float64, Pa
        self._right_hand_side = torch.zeros_like(density)  # of the last solve, and its absolute tolerance
        self._atol = 0.0
        self._geometry_solved = -1  # the solids' version in the last solve
        self._no_field = density.new_empty(0)
        self._settings = settings
        self._solvers: dict[str, PCG] = {}
        self._solvers_geometry = self.operator.geometry_version
        self._captures = self.operator.device.type != "cpu"
        self.select_preconditioner(settings.preconditioner)
        if self._captures:
            self._kept(FALLBACK)

    def _made(self, name: str) -> PCG:
        """A new solver; on a device its programs are captured here and not in a frame."""
        settings, preconditioner = self._settings, make_preconditioner(name, self.operator)
        limits = settings.rtol, settings.max_iterations
        pcg = PCG(self.operator, preconditioner, *limits, single_launch=settings.single_launch)
        if self._captures:
            try:
                preconditioner.setup()
                preconditioner.update()
                pcg.prepare()
            except RuntimeError as error:
                raise PreconditionerError(f"{name} cannot be captured on this device: {error}") from error
        return pcg

    def _kept(self, name: str) -> PCG:
        """The solver of ``name`` for the present solids, made once: graphs must not come and go."""
        if self._solvers_geometry != self.operator.geometry_version:
            self._solvers.clear()
            self._solvers_geometry = self.operator.geometry_version
        if name not in self._solvers:
            self._solvers[name] = self._made(name)
        return self._solvers[name]

    def select_preconditioner(self, name: str) -> None:
        """Solve with ``name`` from now on. Raises PreconditionerError and keeps the old one."""
        self._pcg = self._kept(name) if self._captures else self._made(name)  # which reads weights again
        self._policy = ReusePolicy()
        self.name = name

    def reset(self, solid: torch.Tensor) -> None:
        """Begin anew with ``solid`` (nx, ny) and no pressure, as after construction."""
        self.operator.set_solid(solid.bool())
        self.pressure.zero_()
        self._policy = ReusePolicy()

    @property
    def preconditioner(self) -> Preconditioner:
        """The chosen one, for whoever wants to look into it."""
        return self._pcg.preconditioner

    @property
    def note(self) -> str:
        """What a reader of the solves' numbers must know; mostly empty."""
        return "; ".join(filter(None, (self.preconditioner.note, self._pcg.note)))

    def system(self, start: torch.Tensor | None) -> PressureSystem:
        """The last solve's system; ``start`` is what the pressure was before. Raises UsageError where there
        was none with the present solids.
        """
        if self._geometry_solved != self.operator.geometry_version:
            raise UsageError(
                "there was no pressure solve with the present grid and solids: take a step first"
            )
        start = start if self._settings.warm_start else None
        return PressureSystem(self.operator, self._right_hand_side, start, self._atol)

    def project(
        self, velocity: torch.Tensor, density: torch.Tensor, ratio: float, welling: torch.Tensor | None = None
    ) -> tuple[SolveReport, ...]:
        """Make ``velocity`` (2, nx+1, ny+1), m/s, divergence-free in place.

        ``density`` is (nx, ny), ``ratio`` the time step over the spacing in s/m. With u = u* - ratio w grad
        p, a divergence-free u needs A p = -div(u*) / ratio, differences taken over one cell; with
        ``welling`` (nx, ny), m/s, u has that net outflow, whose sum over a sealed component is zero. Returns
        the attempts in their order, x left out: the chosen method's and, where that broke down, FALLBACK's.
        When the last one broke down too, velocity and ``pressure`` are as they were.
        """
        self.operator.update(density)
        if self._captures and self._solvers_geometry != self.operator.geometry_version:
            self._pcg, _ = self._kept(self.name), self._kept(FALLBACK)
        outflow = self._loops.net_outflow(velocity, self._right_hand_side)
        if welling is not None:
            outflow.sub_(welling)
        outflow.mul_(-1.0 / ratio)
        self._geometry_solved = self.operator.geometry_version
        self._atol = NEGLIGIBLE * math.sqrt(self.operator.component_sizes.sum()) / ratio**2
        attempts = [self._solve(self._pcg, self._policy)]
        if attempts[0].broke_down and self.name != FALLBACK:
            attempts.append(self._solve(self._kept(FALLBACK), ReusePolicy()))
        if not attempts[-1].broke_down:
            self.pressure.copy_(attempts[-1].x)
            self._loops.subtract_gradient(velocity, self.pressure, self.operator, ratio)
        return tuple(replace(attempt, x=self._no_field) for attempt in attempts)  # reports are kept long

    def _solve(self, pcg: PCG, policy: ReusePolicy) -> SolveReport:
        settings = self._settings
        pcg.rtol, pcg.atol, pcg.max_iterations = settings.rtol, self._atol, settings.max_iterations
        pcg.single_launch = settings.single_launch
        begin = time.perf_counter()
        try:
            policy.before_solve(pcg.preconditioner, settings.reuse_setup)
        except (
            ArithmeticError,
            RuntimeError,
            ValueError,
        ) as error:  # a factorisation gave up: as bad as a NaN
            seconds = {"setup": time.perf_counter() - begin, "inference": 0.0, "solve": 0.0}
            reason = f"its set-up failed: {in_one_line(error)}"
            ended = Outcome.NOT_FINITE, 0, math.nan, [math.nan], seconds, False
            return SolveReport(self._no_field, *ended, pcg.preconditioner.name, reason)
        report = pcg.solve(self._right_hand_side, self.pressure if settings.warm_start else None)
        policy.after_solve(report)
        return report
