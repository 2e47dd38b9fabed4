"""How each kind of method is run and what it tells of a solve: a preconditioner in our PCG, another library's
solver, CG under the published conditions.

An adapter is a function of a system: it does what is not timed, and returns the function that is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from app.bench.external import SOLVERS, ExternalSolver, ExternalSystem, Ready
from app.bench.results import CONVERGED
from app.bench.settings import BenchSettings, Case
from precond import PCG, PoissonOperator, make_preconditioner
from precond.device import while_node
from precond.host.compiled import available
from precond.problems.gallery import Problem
from precond.problems.published import PublishedSystem, inverse_diagonal, solve_published

Method = tuple[str, str | None]  # a name and, under the published conditions, a stopping rule
FAILURES = (ArithmeticError, MemoryError, RuntimeError, ValueError)


@dataclass
class Solve:
    """What a method says of one solve.

    x: of b's shape. seconds: "setup", "inference" and "solve". engine: what computed. products: with A, None
    where they are not told. memory: bytes that the set-up holds, by type, or None likewise.
    """

    x: torch.Tensor | np.ndarray
    outcome: str
    iterations: int
    seconds: dict[str, float]
    engine: str
    products: int | None
    memory: Callable[[], dict[str, int] | None]
    note: str = ""


Adapter = Callable[[Any], Callable[[], Solve]]


def make_operator(problem: Problem, device: str) -> PoissonOperator:
    """The operator of ``problem`` that all preconditioners of a case are made for."""
    return problem.operator(device)


def make_adapter(
    method: Method, operator: PoissonOperator | None, case: Case, settings: BenchSettings
) -> Adapter:
    """The adapter of ``method``; ``operator`` is None under the published conditions."""
    name, rule = method
    if rule is not None:
        return _published(name, rule, case.rtol, settings.max_iterations)
    if name in SOLVERS:
        return _external(SOLVERS[name], case.rtol, settings.max_iterations)
    options = {"rtol": case.rtol, "max_iterations": settings.max_iterations}
    options["single_launch"] = settings.single_launch and not while_node.missing(operator.device)
    return _preconditioned(PCG(operator, make_preconditioner(name, operator), **options))


def _preconditioned(pcg: PCG) -> Adapter:
    """Our PCG, whose products are counted."""
    operator, preconditioner, applications = pcg.operator, pcg.preconditioner, []
    on_host = operator.device.type == "cpu"
    engine = ("numba" if available() else "eager") if on_host else "CUDA graph"
    apply = preconditioner.apply_unprojected

    def counted(residual: torch.Tensor, out: torch.Tensor) -> None:
        applications.append(1)
        apply(residual, out)

    preconditioner.apply_unprojected = counted

    def prepare(problem: Problem) -> Callable[[], Solve]:
        if not torch.equal(problem.solid, operator.solid.cpu()):
            operator.set_solid(problem.solid)
        operator.update(problem.density.to(operator.device))
        if not on_host:  # new solids are captured here: no part of a solve
            preconditioner.setup()
            pcg.prepare()
        b = problem.b.to(operator.device)

        def solve() -> Solve:
            preconditioner.setup()
            applications.clear()
            operator.products, products = 0, None
            report = pcg.solve(b)
            if on_host:  # Python does not see what a graph replays
                products = operator.products + len(applications) * preconditioner.own_products
            note = "; ".join(filter(None, (preconditioner.note, pcg.note)))
            ended = (report.outcome.value, report.iterations, report.seconds, engine, products)
            return Solve(report.x, *ended, preconditioner.memory_bytes, note)

        return solve

    return prepare


def _external(solver: ExternalSolver, rtol: float, limit: int) -> Adapter:
    """Another library's solver; it converged when the residual computed here says so."""

    def prepare(problem: Problem) -> Callable[[], Solve]:
        system = ExternalSystem.of(problem.operator())
        b = problem.b.numpy().ravel()[system.cells]

        def solve(ready: Ready) -> Solve:
            x = np.zeros(problem.shape)
            values, iterations, products = ready[0](b)
            x.ravel()[system.cells] = values
            return Solve(x, CONVERGED, iterations, {}, solver.engine, products, ready[1])

        return lambda: _timed(lambda: solver.setup(system, rtol, limit), solve)

    return prepare


def _published(name: str, rule: str, rtol: float, limit: int) -> Adapter:
    """CG or Jacobi under the published conditions with one of the published stopping rules."""

    def prepare(system: PublishedSystem) -> Callable[[], Solve]:
        def solve(inverse: np.ndarray | None) -> Solve:
            found = solve_published(system, inverse, rule, rtol, limit)
            memory = {} if inverse is None else {str(inverse.dtype): inverse.nbytes}
            return Solve(
                found.x, found.outcome, found.iterations, {}, "numpy", found.products, lambda: memory
            )

        return lambda: _timed(lambda: inverse_diagonal(system, name), solve)

    return prepare


def _timed(setup: Callable[[], Any], solve: Callable[[Any], Solve]) -> Solve:
    """What ``solve`` makes of what ``setup`` makes, with the seconds of both."""
    started = time.perf_counter()
    made = setup()
    ready = time.perf_counter()
    solved = solve(made)
    solved.seconds = {"setup": ready - started, "inference": 0.0, "solve": time.perf_counter() - ready}
    return solved
