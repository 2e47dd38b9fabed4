"""Solving a system for a race and for the continuous mode, in the process that does nothing else.

Only precond is imported, and the simulation's rule for reusing set-ups: no window, no Taichi.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from app.race.lane import FAILED, STOPPED, UNAVAILABLE, Lane
from app.race.system import System
from precond import PCG, PoissonOperator, PreconditionerError, make_preconditioner
from precond.errors import in_one_line
from sim.reuse_policy import ReusePolicy

TROUBLE = (ArithmeticError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
TINY = (24, 16)  # cells of what methods are warmed up on

_warm: set[str] = set()


class Started(NamedTuple):
    """``method`` begins, to be stopped after ``seconds``; None while its code is compiled and loaded."""

    method: str
    seconds: float | None


class _TimeIsUp(Exception):
    pass


def warm_up(names: Sequence[str]) -> Iterator[None]:
    """Let every method compile and load what its first solve would otherwise be billed for."""
    for name in names:
        _warm_up(name)
        yield None


def _warm_up(name: str) -> None:
    """Set up, update and solve on tiny systems, without and with solids in pieces; once a process. Whoever
    asks for the method itself is told what is wrong with it.
    """
    if name in _warm:
        return
    nx, ny = TINY
    density = 1.0 + (torch.arange(nx * ny) % 7).view(TINY)
    b = torch.zeros(TINY, dtype=torch.float64)
    b[0], b[-1] = 1.0, -1.0
    for wall in (0, ny // 2, ny):
        solid = torch.zeros(TINY, dtype=torch.bool)
        solid[nx // 2, :wall] = True
        operator = PoissonOperator.from_density(density, solid, face_density="arithmetic")
        try:
            preconditioner = make_preconditioner(name, operator)
            preconditioner.setup()
            operator.update(density + 1.0)
            preconditioner.update()
            PCG(operator, preconditioner).solve(b)
        except (*TROUBLE, PreconditionerError):
            break
    _warm.add(name)


def race(system: System, names: Sequence[str], seconds: float) -> Iterator[Started | Lane]:
    """Every method's cold solve, one after the other, each told when it begins. Each may take an equal share
    of what is left of ``seconds`` of the processor.
    """
    left = seconds
    for number, name in enumerate(names):
        if name not in _warm:
            yield Started(name, None)
            _warm_up(name)
        limit = max(left, 0.0) / (len(names) - number)
        yield Started(name, limit)
        begun = time.process_time()
        yield cold(system, name, limit)
        left -= time.process_time() - begun


def cold(system: System, name: str, limit: float) -> Lane:
    """Set ``name`` up for ``system`` and solve from zero; stopped when it has taken ``limit`` seconds,
    between two iterations. Whatever goes wrong is told in the lane. Its times are the processor's, so that
    others on the machine, the window for one, do not count.
    """
    counts, stamps, seen = [1], [0.0], [1.0]
    inference = 0.0  # share of the set-up
    operator = system.operator()
    begun = time.process_time()

    def watch(residuals: list[float]) -> None:
        seen[:] = residuals
        if len(residuals) > counts[-1]:
            counts.append(len(residuals))
            stamps.append(time.process_time() - begun)
        if stamps[-1] > limit:
            raise _TimeIsUp

    def lane(outcome: str, reason: str = "") -> Lane:
        """Of what is known so far. Diagonal methods do many iterations between two looks at the clock: their
        times lie evenly between.
        """
        total = time.process_time() - begun
        made = stamps[0] or total
        before = {"setup": made * (1.0 - inference), "inference": made * inference}
        solve = total - made
        when = np.interp(np.arange(1, len(seen) + 1), counts, stamps)
        seconds = {**before, "solve": solve}
        return Lane(name, outcome, reason, np.array(seen), 1e3 * when, seconds)

    try:
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        stamps[0] = time.process_time() - begun
        clocked = preconditioner.seconds
        inference = clocked["inference"] / max(sum(clocked.values()), 1e-9)
        limits = system.rtol, system.max_iterations, system.atol
        report = PCG(operator, preconditioner, *limits, watch=watch).solve(system.right_hand_side)
    except PreconditionerError as error:
        return Lane(name, UNAVAILABLE, in_one_line(error))
    except _TimeIsUp:
        return lane(STOPPED, f"{len(seen) - 1:,} iterations did not reach the tolerance in its share of time")
    except TROUBLE as error:
        return lane(FAILED, in_one_line(error))
    seen[:] = report.history
    return lane(report.outcome.value, report.reason)


@dataclass(frozen=True)
class Followed:
    """One frame's warm-started solve by another method; ``reason``: why it is not converged."""

    frame: int
    method: str
    outcome: str
    iterations: int
    milliseconds: float
    reason: str = ""


class _Follower:
    """A method that solves frame after frame as the simulation's own does: updated and warm-started."""

    def __init__(self, system: System, name: str):
        self.name, self.operator, self.policy = name, system.operator(), ReusePolicy()
        self.face_density = system.face_density
        self.pcg = PCG(self.operator, make_preconditioner(name, self.operator))

    def fits(self, system: System, name: str) -> bool:
        wanted = name, system.shape, system.face_density
        return wanted == (self.name, self.operator.shape, self.face_density)

    def solve(self, system: System) -> Followed:
        self.operator.set_solid(system.solid)
        self.operator.update(system.density)
        pcg = self.pcg
        pcg.rtol, pcg.atol, pcg.max_iterations = system.rtol, system.atol, system.max_iterations
        begun = time.perf_counter()
        self.policy.before_solve(pcg.preconditioner, reuse=True)
        report = pcg.solve(system.right_hand_side, system.start)
        self.policy.after_solve(report)
        took = 1e3 * (time.perf_counter() - begun)
        return Followed(system.frame, self.name, report.outcome.value, report.iterations, took, report.reason)


_follower: _Follower | None = None


def follow(system: System, name: str) -> Iterator[Followed]:
    """Solve ``system`` with ``name``, which remembers what it knew of the frames before."""
    global _follower
    _warm_up(name)
    try:
        if _follower is None or not _follower.fits(system, name):
            _follower = _Follower(system, name)
        yield _follower.solve(system)
    except (*TROUBLE, PreconditionerError) as error:
        _follower = None
        yield Followed(system.frame, name, FAILED, 0, 0.0, in_one_line(error))
