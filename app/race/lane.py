"""What came out for one method of a race."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

PARTS = ("setup", "inference", "solve")
CONVERGED = "converged"
STOPPED = "stopped"
FAILED = "failed"
UNAVAILABLE = "cannot run here"
DIRECT = "direct"  # whose one iteration is a factorisation


def _nothing() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class Lane:
    """One method's cold solve.

    outcome: one of precond's, or STOPPED, FAILED, UNAVAILABLE; ``reason`` says why in words. residuals:
    relative, (iterations + 1,) float64. milliseconds: when each was known since the set-up began, as long.
    seconds: by PARTS, of the processor, as milliseconds are.
    """

    method: str
    outcome: str
    reason: str = ""
    residuals: np.ndarray = field(default_factory=_nothing)
    milliseconds: np.ndarray = field(default_factory=_nothing)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    @property
    def converged(self) -> bool:
        """Whether it solved the system."""
        return self.outcome == CONVERGED

    @property
    def iterations(self) -> int:
        """Of conjugate gradients."""
        return max(len(self.residuals) - 1, 0)

    @property
    def total_ms(self) -> float:
        """Set-up, inference and solve together."""
        return 1e3 * sum(self.seconds.values())

    @property
    def words(self) -> str:
        """How it ended, in a few words."""
        took = f" after {self.total_ms / 1e3:.2g} s" if self.outcome == STOPPED else ""
        return f"{self.outcome}{took}"


def ranked(lanes: Iterable[Lane]) -> list[Lane]:
    """The fastest that converged first; then by how far they came; then those without a residual."""

    def place(lane: Lane) -> tuple:
        last = float(lane.residuals[-1]) if len(lane.residuals) else math.inf
        level = last if math.isfinite(last) else math.inf
        return (
            not lane.converged,
            lane.outcome == UNAVAILABLE,
            0.0 if lane.converged else level,
            lane.total_ms,
        )

    return sorted(lanes, key=place)


def sentence(lanes: Iterable[Lane]) -> str:
    """What one sees, for somebody who never heard of a residual; empty for no lanes."""
    lanes = ranked(lanes)
    done = [lane for lane in lanes if lane.converged]
    left = [lane for lane in lanes if not lane.converged and lane.outcome != UNAVAILABLE]
    if not done:
        return "No method solved this frame within its limits." if left else ""
    first, iterative = done[0], [lane for lane in done if lane.method != DIRECT]
    fewest = min(iterative, key=lambda lane: lane.iterations, default=first)
    text = f"{first.method} was first: {first.total_ms:.1f} ms with {count(first.iterations, 'iteration')}"
    if fewest.iterations < first.iterations:
        text += (
            f"; {fewest.method} needed fewer iterations, {fewest.iterations:,}, and {fewest.total_ms:.1f} ms"
        )
    slowest = done[-1]
    if slowest.total_ms > 1.5 * first.total_ms:
        text += f"; {slowest.method} took {slowest.total_ms / first.total_ms:.0f} times as long as the first"
    if left:
        names = ", ".join(f"'{lane.method}'" for lane in left)  # one is called none
        text += f"; {names} did not solve it"
    return f"{text}."


def count(number: int, what: str) -> str:
    """ "1 iteration", "2,000 iterations"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
