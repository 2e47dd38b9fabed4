"""Training on frames of the benchmark at one N by the published schedule; the weights are kept that take the
fewest iterations on frames set apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import model_validator

from precond.problems.gallery import benchmark_density
from precond.training.loop import Count, Positive, Task, Training

VALIDATION = 100  # the first of the training seeds that training does not use
TEST_FRAMES = 20


class FramesTraining(Training):
    """How to train on frames of the benchmark."""

    frames: Count = 100
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

    def __init__(self, content: dict[str, Any], where: str = ""):
        super().__init__(content, where)
        n, held_out = self.training.n, range(VALIDATION, VALIDATION + self.training.validation_frames)
        self.validation = [benchmark_density(n, i, "train") for i in held_out]
        self.tests = {f"barriers {n}": [benchmark_density(n, i) for i in range(TEST_FRAMES)]}

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
