"""What the trainings on frames of the benchmark have in common: at one N or several, by the published
schedule, the weights kept that take the fewest iterations on frames set apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pydantic import model_validator

from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.problems.gallery import Problem, benchmark_density
from precond.training.loop import Count, Positive, Task, Training, solves

VALIDATION = 100  # the first of the training seeds that training does not use
TEST_FRAMES = 20
LIMIT = 1000  # iterations of an evaluation


class FramesTraining(Training):
    """How to train on frames of the benchmark."""

    frames: Count = 100  # of each n
    frames_per_step: Count = 4
    probes: Count = 32
    learning_rate: Positive = 1e-3  # falls as a cosine to a hundredth of it
    warm_up: Count = 100  # steps
    validation_frames: Count = 8

    @property
    def save_every(self) -> int:
        """Steps between checkpoints."""
        return self.evaluate_every

    @model_validator(mode="after")
    def _frames_suffice(self) -> FramesTraining:
        if self.frames_per_step > self.frames:
            raise ValueError(f"frames_per_step: {self.frames_per_step} is more than frames, {self.frames}")
        return self


class FramesTask(Task):
    """Subclasses say what a frame is; a frame has ``loss(network, training)``, with fresh probes."""

    @property
    def sizes(self) -> list[int]:
        """Every N."""
        n = self.training.n
        return n if isinstance(n, list) else [n]

    def draw(self, step: int, count: int) -> Sequence[int]:
        """A few different frames."""
        rng = np.random.default_rng(self.training.seed * 1_000_003 + step)
        return rng.choice(count, self.training.frames_per_step, replace=False)

    def rate(self, step: int) -> float:
        """A linear start, then a cosine."""
        training = self.training
        fall = 0.5 * (1.0 + np.cos(np.pi * min(1.0, step / training.steps)))
        return training.learning_rate * min(1.0, (step + 1) / training.warm_up) * (0.01 + 0.99 * fall)

    def loss(self, system: Any, _step: int) -> torch.Tensor:
        """The frame's."""
        return system.loss(self.network, self.training)

    @cached_property
    def _validation(self) -> list[Problem]:
        seeds = range(VALIDATION, VALIDATION + self.training.validation_frames)
        return [benchmark_density(n, i, "train") for n in self.sizes for i in seeds]

    def validate(self) -> tuple[dict[str, Any], str, list[float] | None]:
        """Failures first, then mean iterations."""
        found = counted(self.form, self._validation)
        failed, mean = found["failed"], found["mean"]
        words = f"held-out iterations {mean:.1f}" + (f" ({failed} failed)" if failed else "")
        return {"failed": failed, "mean": mean}, words, [failed, mean]

    def test(self) -> dict[str, Any]:
        """What it was trained on in words, and iterations on the test frames of every N."""
        cells = ", ".join(map(str, self.sizes))
        frames = {n: [benchmark_density(n, i) for i in range(TEST_FRAMES)] for n in self.sizes}
        return {
            "data": f"barriers, {cells} cells, training frames 0 to {self.training.frames - 1}",
            "test": {n: counted(self.form, problems) for n, problems in frames.items()},
        }

    def summary(self, card: dict[str, Any]) -> str:
        """The tests' means."""
        means = (f"{found['mean']:.1f} at N = {n}" for n, found in card["test"].items())
        return f"test iterations {', '.join(means)}"


def counted(form: Callable[[PoissonOperator], Preconditioner], problems: Iterable[Problem]) -> dict[str, Any]:
    """Iterations of each problem that converged with ``form``, their mean, and how many failed, with the
    outcomes.
    """
    counts, failures = [], []
    for index, report in enumerate(solves(form, problems, LIMIT)):
        if report.converged:
            counts.append(report.iterations)
        else:
            failures.append(f"{index}: {report.outcome.value} after {report.iterations}")
    mean = float(np.mean(counts)) if counts else float("nan")
    return {"iterations": counts, "mean": mean, "failed": len(failures), "failures": failures}
