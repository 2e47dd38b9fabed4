"""Training of the published `hmatrix` on the benchmark's training frames by the published schedule, one model
per N, as in arXiv 2605.13343; the weights are kept that take the fewest iterations on frames set apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from precond.config import Switch, Whole
from precond.errors import UsageError
from precond.learned.factors import FactorsConfig, FactorsNetwork
from precond.learned.features import LeafFeatures
from precond.learned.published_hmatrix import PublishedHMatrix
from precond.learned.weights import load_model
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.problems.gallery import Problem, benchmark_density, orientations
from precond.training.loop import Count, Positive, Share, Task, Training
from precond.training.objectives import cosine_hutchinson, kaporin, root_of, sai, smoothed

VALIDATION = 100  # the first of the training seeds that training does not use
TEST_FRAMES = 20


class PublishedTraining(Training):
    """How to train; what to train is FactorsConfig's."""

    n: Annotated[Whole, Field(ge=64)] = 1024
    frames: Count = 100
    frames_per_step: Count = 4
    probes: Count = 32
    learning_rate: Positive = 1e-3
    warm_up: Count = 100  # steps
    validation_frames: Count = 8
    mirrored: Switch = False  # frames in all orientations: mirrored, and x and y swapped on a square grid
    objective: Literal["cosine", "sai", "kaporin"] = "cosine"
    steps: Count = 8000
    raw_weight: Share = 0.0  # above 0: half the probes go as drawn into a cosine of their own, of this weight
    start: str = ""  # weights to start from, of another N for instance
    evaluate_every: Count = 500

    @property
    def save_every(self) -> int:
        """Steps between checkpoints."""
        return self.evaluate_every

    @model_validator(mode="after")
    def _frames_suffice(self) -> PublishedTraining:
        if self.frames_per_step > self.frames:
            raise ValueError(f"frames_per_step: {self.frames_per_step} is more than frames, {self.frames}")
        return self

    @model_validator(mode="after")
    def _raw_probes_are_for_cosine(self) -> PublishedTraining:
        if self.raw_weight and self.objective != "cosine":
            raise ValueError(f"raw_weight: {self.raw_weight} is not 0, as for any objective but cosine")
        return self


class Frame:
    """One training system, leaf by leaf: vectors are (m, K L), zero on masked cells; one fluid component."""

    def __init__(self, problem: Problem, leaf_size: int, with_root: bool):
        self.features = LeafFeatures(problem.operator(), leaf_size)
        self.mask = self.features.mask.view(-1)  # (K L,)
        self.diagonal = self.mask / self.features.inverse_diagonal.view(-1).clamp(min=1e-30)
        self.root = None
        if with_root:
            matrix = self.apply_a(torch.diag(self.mask)).double()
            matrix = self.project(self.project(matrix).mT)  # else rounding lifts the null value
            self.root = root_of(0.5 * (matrix + matrix.mT)).float()

    def apply_a(self, rows: torch.Tensor) -> torch.Tensor:
        """A times each of ``rows`` (m, K L)."""
        columns = rows.mT.contiguous()  # (K L, m)
        return (columns - self.features.neighbour_sums(columns)).mT * self.diagonal

    def project(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows`` less their means over the fluid."""
        rows = rows * self.mask
        return rows - self.mask * (rows.sum(dim=1, keepdim=True) / self.mask.sum())

    def loss(self, network: FactorsNetwork, training: PublishedTraining) -> torch.Tensor:
        """The objective of the network's M for this system, fresh probes."""
        factors = network(self.features)
        leaves = (self.features.count, self.features.leaf_size)

        def apply_m(rows: torch.Tensor) -> torch.Tensor:
            by_leaf = rows.view(-1, *leaves).transpose(0, 1).contiguous()  # (K, m, L)
            return factors.times(by_leaf, self.features.tiles).transpose(0, 1).reshape(len(rows), -1)

        if training.objective == "kaporin":
            return kaporin(apply_m, self.root)
        probes = torch.randn(training.probes, self.mask.numel()) * self.mask
        if training.objective == "sai":
            return sai(apply_m, self.apply_a, probes, self.project)
        weight = training.raw_weight
        raw, rest = probes.tensor_split([training.probes // 2 if weight else 0])
        smooth = smoothed(rest, self.apply_a, self.diagonal, self.project)
        loss = cosine_hutchinson(apply_m, self.apply_a, smooth, self.project)
        if weight:  # smoothing hides dipoles across the ends of leaves, on which M then turns indefinite
            of_raw = cosine_hutchinson(apply_m, self.apply_a, raw, self.project)
            loss = (1.0 - weight) * loss + weight * of_raw
        return loss


class PublishedTask(Task):
    """One network for one N."""

    name = "hmatrix-published"
    sections: ClassVar[dict[str, type]] = {"model": FactorsConfig, "training": PublishedTraining}
    network_kind = FactorsNetwork

    def __init__(self, content: dict[str, Any], where: str = ""):
        super().__init__(content, where)
        n, held_out = self.training.n, range(VALIDATION, VALIDATION + self.training.validation_frames)
        self.validation = [benchmark_density(n, i, "train") for i in held_out]
        self.tests = {f"barriers {n}": [benchmark_density(n, i) for i in range(TEST_FRAMES)]}
        if self.training.start:
            other, _ = load_model(self.training.start, PublishedHMatrix.build)
            if other.config != self.network.config:
                raise UsageError(f"{self.training.start}: its model is not the one to train")
            self.network.load_state_dict(other.state_dict())

    def form(self, operator: PoissonOperator) -> Preconditioner:
        """The hierarchical matrix."""
        return PublishedHMatrix(operator, self.network)

    def systems(self) -> Sequence[Frame | int]:
        """The training frames; their numbers alone when in all orientations, which are too many to keep."""
        training = self.training
        count = training.frames * (orientations(training.n) if training.mirrored else 1)
        return range(count) if training.mirrored else [self._frame(number) for number in range(count)]

    def draw(self, step: int, count: int) -> Sequence[int]:
        """A few different frames."""
        rng = np.random.default_rng(self.training.seed * 1_000_003 + step)
        return rng.choice(count, self.training.frames_per_step, replace=False)

    def loss(self, system: Frame | int, _step: int) -> torch.Tensor:
        """The frame's."""
        frame = self._frame(system) if isinstance(system, int) else system
        return frame.loss(self.network, self.training)

    def _frame(self, number: int) -> Frame:
        orientation, frame = divmod(number, self.training.frames)
        problem = benchmark_density(self.training.n, frame, "train", orientation=orientation)
        return Frame(problem, self.network.config.leaf_size, self.training.objective == "kaporin")
