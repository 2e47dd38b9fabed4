"""One case of the benchmark: the same frames through every method in turn, each solve checked and measured.

What a method says of itself is not believed: the residual in a row is computed here from the solution, with a
matrix assembled anew from the frame, and the seconds must fit into those of another clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import scipy.sparse
import torch

from app.bench.adapters import FAILURES, Adapter, Method, make_adapter, make_operator
from app.bench.results import CONVERGED
from app.bench.settings import PHYSICS, PUBLISHED, STIRRED, BenchSettings, Case
from precond.errors import in_one_line
from precond.host import threads
from precond.problems.gallery import Problem, problem
from precond.problems.published import PublishedSystem, published_system

WARM_UPS = {"cpu": 1, "cuda": 20}  # solves that are not counted
SLACK = 1.01  # of the tolerance: a residual computed otherwise is rounded otherwise
LOST_SECONDS = 0.02  # that may pass between the two clocks' readings on a busy machine
TRACE = 0.05  # of the bytes: a type with less is not what a method computes in


class Judge:
    """Judges solutions of one system without the solvers' operator. fault: why the system must not be solved;
    empty when it may.
    """

    def __init__(self, system: Problem | PublishedSystem):
        self._b, self.fault = np.asarray(system.b).ravel(), ""
        if isinstance(system, PublishedSystem):
            self._matrix = system.matrix
            return
        operator = system.operator()
        self._matrix = scipy.sparse.csr_array(operator.to_csr())
        component = operator.labels.ravel() + 1
        sums = np.bincount(component, self._b)
        sums[1:] *= operator.sealed
        sums[0] = np.abs(self._b[component == 0]).sum()
        if np.abs(sums).max() > 1e-10 * np.abs(self._b).sum():
            self.fault = "b is not of mean zero over each sealed component, as well-posed conditions have it"

    def residual(self, x: torch.Tensor | np.ndarray) -> float:
        """||b - A x|| / ||b|| of ``x``, of the shape of b."""
        x = x.cpu().numpy() if isinstance(x, torch.Tensor) else x
        norm = float(np.linalg.norm(self._b))
        return float(np.linalg.norm(self._b - self._matrix @ x.ravel())) / norm if norm else 0.0


class RunningCase:
    """The methods on the grids of ``case``, one for all frames but in physics: on each one operator, that
    follows from frame to frame, and an adapter a method. At its start every method has warm-ups that are not
    counted.
    """

    def __init__(self, case: Case, settings: BenchSettings, methods: list[Method]):
        self._case, self._settings, self._methods, self._system = case, settings, methods, _systems(case)
        self._grids: dict[tuple[int, ...], _Grid] = {}
        self._on_grid_of(self._system(0, "train"))

    def _on_grid_of(self, system: Problem | PublishedSystem) -> _Grid:
        shape = tuple(system.b.shape)
        if shape not in self._grids:
            self._grids[shape] = _Grid(self._case, self._settings, self._methods, system)
        return self._grids[shape]

    def solve_frame(self, number: int, order: list[Method]) -> list[dict[str, Any]]:
        """What each method of ``order`` makes of frame ``number`` of the case, by column of the results."""
        system = self._system(number, self._case.split)
        grid, judge, rows = self._on_grid_of(system), Judge(system), []
        for turn, method in enumerate(order):
            head = {"frame": number, "method": method[0], "rule": method[1], "turn": turn}
            rows.append({**asdict(self._case), **head, **grid.solve(method, system, judge)})
        return rows


class _Grid:
    """The methods on one grid, warmed up on the system ``first``."""

    def __init__(
        self, case: Case, settings: BenchSettings, methods: list[Method], first: Problem | PublishedSystem
    ):
        self._case = case
        operator = None if case.conditions == PUBLISHED else make_operator(first, settings.device)
        self._adapters: dict[Method, Adapter] = {}
        self._broken: dict[Method, str] = {}  # methods that cannot be made for this case, and why
        judge = Judge(first)
        for method in methods:
            try:
                self._adapters[method] = make_adapter(method, operator, case, settings)
            except FAILURES as error:
                self._broken[method] = in_one_line(error)
                continue
            for _ in range(WARM_UPS[settings.device]):
                self.solve(method, first, judge)

    def solve(self, method: Method, system: Problem | PublishedSystem, judge: Judge) -> dict[str, Any]:
        """What ``method`` makes of ``system``, by column of the results."""
        try:
            if fault := self._broken.get(method) or judge.fault:
                raise RuntimeError(fault)
            run = self._adapters[method](system)
            started = time.monotonic()
            solve = run()
            if fault := clock_fault(solve.seconds, time.monotonic() - started):
                raise RuntimeError(fault)
            memory = solve.memory()
        except FAILURES as error:
            return {"outcome": f"failed: {in_one_line(error)}"}
        outcome, residual = solve.outcome, judge.residual(solve.x)
        checked = outcome == CONVERGED and self._case.conditions != PUBLISHED
        if checked and not residual <= self._case.rtol * SLACK:
            outcome = f"failed: the true residual is {residual:.2e}"
        return {
            "outcome": outcome,
            "iterations": solve.iterations,
            "relative_residual": residual if math.isfinite(residual) else None,
            **{f"{part}_ms": 1e3 * seconds for part, seconds in solve.seconds.items()},
            "matrix_products": solve.products,
            "memory_mib": None if memory is None else sum(memory.values()) / 2**20,
            "engine": solve.engine,
            "threads": threads.used(self._case.cells) if solve.engine == "numba" else torch.get_num_threads(),
            "precision": precision(memory or {}),
            "note": solve.note or None,
        }


def _systems(case: Case) -> Callable[[int, str], Problem | PublishedSystem]:
    """The system of a frame and a split."""
    if case.conditions == PUBLISHED:
        return lambda frame, split: published_system(case.cells, frame, split, case.contrast)
    if case.family == STIRRED:
        from app.bench.stirred import StirredFrames

        frames = StirredFrames(case.cells, case.contrast)
        return lambda frame, _split: frames.frame(frame)
    if case.family == PHYSICS:
        from app.bench.known_flows import KnownFlows

        flows = KnownFlows(case.cells)
        return lambda frame, _split: flows.frame(frame)
    return lambda frame, split: problem(case.family, case.cells, frame, split, case.contrast)


def precision(memory: dict[str, int]) -> str:
    """The floating-point types of ``memory``, bytes by type, like "float32" or "float32+float64", those with
    less than a share of TRACE left out; "float64", the vectors', when there is none.
    """
    kinds = {kind: size for kind, size in memory.items() if kind.startswith(("float", "bfloat"))}
    least = TRACE * sum(kinds.values())
    return "+".join(sorted(kind for kind, size in kinds.items() if size >= least)) or "float64"


def clock_fault(seconds: dict[str, float], elapsed: float) -> str:
    """What is wrong with ``seconds`` ("setup", "inference", "solve") measured within ``elapsed`` seconds of
    another clock; empty when they can be believed.
    """
    parts = [seconds[part] for part in ("setup", "inference", "solve")]
    if not all(math.isfinite(part) for part in parts):
        return f"the clock gave {parts} s for set-up, inference and solve"
    if min(parts) < 0.0:
        return f"the clock ran backwards: {parts} s for set-up, inference and solve"
    if parts[2] == 0.0:
        return "the clock stood still during the solve"
    total = sum(parts)
    coarse = 2.0 * time.get_clock_info("monotonic").resolution + 1e-5
    if total > 1.001 * elapsed + coarse or total < 0.5 * elapsed - LOST_SECONDS:
        return f"the seconds do not add up: {total:.3g} s within {elapsed:.3g} s of another clock"
    return ""
