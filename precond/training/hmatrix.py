"""Training of `hmatrix` on the benchmark's training frames at one N: one model per N, as arXiv 2605.13343."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from precond.learned.factors import HMatrixConfig, HMatrixNetwork
from precond.learned.features import LeafFeatures
from precond.learned.hmatrix import HMatrixForm, build_network
from precond.learned.weights import load_model
from precond.problems.gallery import Problem, benchmark_density, orientations
from precond.training.objectives import cosine_hutchinson, kaporin, root_of, sai, smoothed
from precond.training.run import VALIDATION, Run, solve_all

iterations = partial(solve_all, HMatrixForm)  # of a network, a list of problems and rtol


@dataclass(frozen=True)
class HMatrixTraining:
    """How to train; what to train is HMatrixConfig's."""

    n: int = 1024
    frames: int = 100
    mirrored: bool = (
        False  # frames in all orientations: mirrored, and x and y swapped where the grid is square
    )
    objective: str = "cosine"  # cosine, sai or kaporin
    steps: int = 8000
    frames_per_step: int = 4
    probes: int = 32
    raw_weight: float = 0.0  # above 0: half the probes go as drawn into a cosine of their own, of this weight
    learning_rate: float = 1e-3  # falls as a cosine to a hundredth of it
    weight_decay: float = 1e-4
    clip: float = 1.0
    warm_up: int = 100  # steps
    seed: int = 0
    start: str = ""  # weights to start from, of another N for instance
    evaluate_every: int = 500
    validation_frames: int = 8

    def __post_init__(self) -> None:
        if not 0.0 <= self.raw_weight <= 1.0 or (self.raw_weight and self.objective != "cosine"):
            raise ValueError(f"raw_weight must be from 0 to 1, and 0 but for cosine, not {self.raw_weight}")
        if self.objective not in ("cosine", "sai", "kaporin"):
            raise ValueError(f"objective must be cosine, sai or kaporin, not '{self.objective}'")


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
        features = self.features
        near = torch.nn.functional.embedding_bag(
            features.neighbours, columns, mode="sum", per_sample_weights=features.neighbour_weights
        )
        return (columns - near).mT * self.diagonal

    def project(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows`` less their means over the fluid."""
        rows = rows * self.mask
        return rows - self.mask * (rows.sum(dim=1, keepdim=True) / self.mask.sum())

    def loss(self, network: HMatrixNetwork, training: HMatrixTraining) -> torch.Tensor:
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
        raw, weight = probes[: training.probes // 2 if training.raw_weight else 0], training.raw_weight
        probes = smoothed(probes[len(raw) :], self.apply_a, self.diagonal, self.project)
        loss = cosine_hutchinson(apply_m, self.apply_a, probes, self.project)
        if weight:  # smoothing hides dipoles across the ends of leaves, on which M then turns indefinite
            loss = (1.0 - weight) * loss + weight * cosine_hutchinson(
                apply_m, self.apply_a, raw, self.project
            )
        return loss


class Frames(Sequence):
    """The training frames: made once, or each time when in all orientations, which are too many to keep."""

    def __init__(self, model: HMatrixConfig, training: HMatrixTraining):
        self._model, self._training = model, training
        self._count = training.frames * (orientations(training.n) if training.mirrored else 1)
        self._made = [] if training.mirrored else [self._frame(index) for index in range(self._count)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Frame:
        return self._made[index] if self._made else self._frame(index)

    def _frame(self, index: int) -> Frame:
        orientation, frame = divmod(index, self._training.frames)
        problem = benchmark_density(self._training.n, frame, "train", orientation=orientation)
        return Frame(problem, self._model.leaf_size, self._training.objective == "kaporin")


def train_hmatrix(config: dict, out: Path, minutes: float | None = None, card: dict | None = None) -> dict:
    """Train as ``config`` says, write ``out`` (.safetensors) with its card; returns the card.

    ``config`` has the sections "model" (HMatrixConfig) and "training" (HMatrixTraining).

    Stops early after ``minutes``: the same call goes on. ``card`` adds to the card (machine, command). Raises
    TypeError and ValueError for settings that do not exist or do not fit.
    """
    model = HMatrixConfig.of(config.get("model", {}))
    training = HMatrixTraining(**config.get("training", {}))
    torch.manual_seed(training.seed)
    network = HMatrixNetwork(model)
    if training.start:
        started_from, _ = load_model(training.start, build_network)
        network.load_state_dict(started_from.state_dict())
    out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(HMatrixForm, network, training, out.with_suffix(".checkpoint"))
    run.resume()
    seeds = range(VALIDATION, VALIDATION + training.validation_frames)
    validation = [benchmark_density(training.n, i, "train") for i in seeds]
    run.train(Frames(model, training), validation, minutes)
    test = iterations(network, [benchmark_density(training.n, i) for i in range(20)])
    data = f"barriers, {training.n} cells, training frames 0 to {training.frames - 1}"
    data += ", in all orientations" if training.mirrored else ""
    return run.write(out, data, test, card)
