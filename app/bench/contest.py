"""One case of the benchmark: the same frames through every method in turn, each solve checked and measured.

What a method says of itself is not believed: the residual in a row is computed here from the solution, with a
matrix assembled anew from the frame, and the seconds must fit into those of another clock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch

from app.bench.external import Peer, make_peer
from app.bench.external_system import PeerSystem
from app.bench.held_memory import held_bytes
from app.bench.row import CONVERGED, clock_fault, failed, measures, row_head
from app.bench.settings import PEERS, PUBLISHED, STIRRED, BenchSettings, Case
from precond import PCG, PoissonOperator, Preconditioner, make_preconditioner
from precond.device import while_node
from precond.errors import in_one_line
from precond.problems.gallery import Problem, problem
from precond.problems.published import (
    RULES,
    PublishedSystem,
    inverse_diagonal,
    published_system,
    solve_published,
)

FAILURES = (ArithmeticError, MemoryError, RuntimeError, ValueError)
WARM_UPS = {"cpu": 1, "cuda": 20}  # solves that are not counted
SLACK = 1.01  # of the tolerance: a residual computed otherwise is rounded otherwise


class CountedOperator(PoissonOperator):
    """Counts its own products, whoever asks for them."""

    products = 0

    def bind(self, p: torch.Tensor, out: torch.Tensor) -> Callable[[], torch.Tensor]:
        """As PoissonOperator's; every call of the function counts."""
        product = super().bind(p, out)

        def counted() -> torch.Tensor:
            self.products += 1
            return product()

        return counted


class Frame:
    """A problem and the means to judge a solution of it, made without the solvers' operator."""

    def __init__(self, system: Problem):
        self.system = system
        self.operator = system.operator()
        self.matrix = scipy.sparse.csr_array(self.operator.to_csr())
        component = self.operator.labels.ravel() + 1
        sums = np.bincount(component, system.b.numpy().ravel())
        sums[0] = np.abs(system.b.numpy().ravel()[component == 0]).sum()
        self.is_projected = bool(np.abs(sums).max() <= 1e-10 * np.abs(system.b.numpy()).sum())

    def residual(self, x: torch.Tensor) -> float:
        """||b - A x|| / ||b|| of ``x`` (nx, ny)."""
        b = self.system.b.numpy().ravel()
        norm = float(np.linalg.norm(b))
        return float(np.linalg.norm(b - self.matrix @ x.cpu().numpy().ravel()) / norm) if norm else 0.0


class Contest:
    """The methods on one grid: one operator, updated from frame to frame, and one solver each. At its start
    every method has its warm-ups, which are not counted.
    """

    def __init__(self, case: Case, settings: BenchSettings, methods: list[str]) -> None:
        self._case, self._settings = case, settings
        self._device = torch.device(settings.device)
        self._single_launch = settings.single_launch and not while_node.missing(self._device)
        self._problem = _problems(case)
        warm_up = Frame(self._problem(0, "train"))
        first = warm_up.system
        self._operator = CountedOperator.from_density(
            first.density, first.solid, self._device, first.face_density
        )
        self._entrants: dict[str, _Entrant] = {}
        self._broken: dict[str, str] = {}  # methods that cannot be made for this case, and why
        for name in methods:
            try:
                self._entrants[name] = self._made(name)
            except FAILURES as error:
                self._broken[name] = in_one_line(error)
                continue
            for _ in range(WARM_UPS[self._device.type]):
                self._solve(name, warm_up)

    def _made(self, name: str) -> _Entrant:
        rtol, limit = self._case.rtol, self._settings.max_iterations
        if name in PEERS:
            return _PeerEntrant(make_peer(name, rtol, limit))
        preconditioner = make_preconditioner(name, self._operator)
        return _OwnEntrant(self._operator, preconditioner, rtol, limit, self._single_launch)

    def frame(self, frame: int, order: list[str]) -> list[dict[str, Any]]:
        """One row for each method of ``order`` on frame ``frame`` of the case."""
        judged = Frame(self._problem(frame, self._case.split))
        density = judged.system.density.to(self._device)  # (nx, ny)
        rows = []
        if not torch.equal(judged.system.solid, self._operator.solid.cpu()):
            self._operator.set_solid(judged.system.solid)
        for turn, name in enumerate(order):
            self._operator.update(density)
            rows.append(row_head(self._case, frame, name, turn) | self._solve(name, judged))
        return rows

    def _solve(self, name: str, frame: Frame) -> dict[str, Any]:
        if name in self._broken:
            return failed(self._broken[name])
        if not frame.is_projected:
            return failed("b is not of mean zero over each component, as well-posed conditions have it")
        entrant = self._entrants[name]
        try:
            entrant.prepare(frame)
            started = time.monotonic()
            solution = entrant.run(frame)
            elapsed = time.monotonic() - started
        except FAILURES as error:
            return failed(in_one_line(error))
        fault = clock_fault(entrant.seconds, elapsed)
        if fault:
            return failed(fault)
        residual = frame.residual(solution)
        outcome = entrant.outcome
        if outcome == CONVERGED and not residual <= self._case.rtol * SLACK:
            outcome = f"failed: the true residual is {residual:.2e}"
        return {"outcome": outcome, "note": entrant.note} | measures(
            entrant.iterations, residual, entrant.seconds, entrant.products, entrant.held(), entrant.engine
        )


class _Entrant:
    """A method in the contest. After `run`: outcome, iterations, products with A (None: not told) and
    seconds.
    """

    engine, note = "eager", ""
    outcome: str
    iterations: int
    products: int | None
    seconds: dict[str, float]

    def prepare(self, frame: Frame) -> None:
        """What is not timed."""

    def run(self, frame: Frame) -> torch.Tensor:
        """Set up and solve; returns x (nx, ny)."""
        raise NotImplementedError

    def held(self) -> Counter[str] | None:
        """Bytes that the set-up holds, by type; None where they cannot be counted."""
        raise NotImplementedError


class _OwnEntrant(_Entrant):
    """A preconditioner of the registry in our PCG."""

    def __init__(
        self,
        operator: CountedOperator,
        preconditioner: Preconditioner,
        rtol: float,
        max_iterations: int,
        single_launch: bool,
    ):
        self._operator, self._preconditioner = operator, preconditioner
        self._on_host = operator.device.type == "cpu"
        self.engine = "eager" if self._on_host else "CUDA graph"
        self._solver = PCG(operator, preconditioner, rtol, max_iterations, single_launch=single_launch)
        self._applications = 0
        apply = preconditioner.apply

        def counted(residual: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
            self._applications += 1
            return apply(residual, out)

        preconditioner.apply = counted

    def prepare(self, frame: Frame) -> None:
        del frame
        if not self._on_host:  # new solids are captured here: no part of a solve
            self._preconditioner.setup()
            self._solver.prepare()

    def run(self, frame: Frame) -> torch.Tensor:
        self._preconditioner.setup()
        self._operator.products = self._applications = 0
        report = self._solver.solve(frame.system.b.to(self._operator.device))
        self.outcome = report.outcome.value
        self.note = "; ".join(filter(None, (self._preconditioner.note, self._solver.note)))
        self.iterations, self.seconds = report.iterations, report.seconds
        self.products = None  # Python does not see what a graph replays
        if self._on_host:
            own = self._applications * self._preconditioner.own_products
            self.products = self._operator.products + own
        return report.x

    def held(self) -> Counter[str] | None:
        if not self._on_host:
            return None  # the pools of its graphs are not to be told apart
        parts = {name: part for name, part in vars(self._preconditioner).items() if name != "apply"}
        return held_bytes(parts, without=self._operator)


class _PeerEntrant(_Entrant):
    """Another library's solver; it converged when the residual computed here says so."""

    outcome = CONVERGED

    def __init__(self, peer: Peer):
        self._peer, self.engine = peer, peer.engine

    def prepare(self, frame: Frame) -> None:
        self._system = PeerSystem.of(frame.operator)
        self._b = self._system.vector(frame.system.b)

    def run(self, frame: Frame) -> torch.Tensor:
        started = time.perf_counter()
        self._peer.setup(self._system)
        ready = time.perf_counter()
        x, self.iterations = self._peer.solve(self._b)
        self.seconds = {"setup": ready - started, "inference": 0.0, "solve": time.perf_counter() - ready}
        self.products = self._peer.products
        return self._system.grid(x, frame.system.shape)

    def held(self) -> Counter[str] | None:
        if not self._peer.memory_is_seen:
            return None
        return held_bytes(self._peer, without=(self._system, self._b))


class PublishedContest:
    """CG and Jacobi under the published conditions; a method is a preconditioner and a stopping rule."""

    def __init__(self, case: Case, settings: BenchSettings, _methods: list[tuple[str, str]]) -> None:
        self._case, self._limit = case, settings.max_iterations

    def frame(self, frame: int, order: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """One row for each method of ``order`` on frame ``frame`` of the case."""
        case = self._case
        system = published_system(case.cells, frame, case.split, case.contrast)
        rows = []
        for turn, (name, rule) in enumerate(order):
            row = row_head(case, frame, name, turn) | {"rule": rule}
            rows.append(row | self._solve(system, name, rule))
        return rows

    def _solve(self, system: PublishedSystem, name: str, rule: str) -> dict[str, Any]:
        outer = time.monotonic()
        started = time.perf_counter()
        inverse = inverse_diagonal(system, name)
        ready = time.perf_counter()
        solve = solve_published(system, inverse, rule, self._case.rtol, self._limit)
        seconds = {"setup": ready - started, "inference": 0.0, "solve": time.perf_counter() - ready}
        fault = clock_fault(seconds, time.monotonic() - outer)
        if fault:
            return failed(fault)
        return {"outcome": solve.outcome, "note": ""} | measures(
            solve.iterations, solve.relative_residual, seconds, solve.products, held_bytes(inverse), "numpy"
        )


def entrants(settings: BenchSettings, methods: list[str]) -> list[Any]:
    """What takes turns: the names, or under published conditions each with each rule."""
    if settings.conditions == PUBLISHED:
        return [(name, rule) for name in methods for rule in RULES]
    return methods


def make_contest(case: Case, settings: BenchSettings, methods: list[Any]) -> Contest | PublishedContest:
    """The contest of ``case`` between ``methods``, which are `entrants`."""
    kind = PublishedContest if case.conditions == PUBLISHED else Contest
    return kind(case, settings, methods)


def _problems(case: Case) -> Callable[[int, str], Problem]:
    """The problem of a frame and a split."""
    if case.family == STIRRED:
        from app.bench.stirred import StirredFrames

        frames = StirredFrames(case.cells, case.contrast)
        return lambda frame, _split: frames.frame(frame)
    return lambda frame, split: problem(case.family, case.cells, frame, split, case.contrast)
