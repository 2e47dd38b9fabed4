"""Training of `neural-spai` on the benchmark's training frames: at one N, as published, or at several."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from pydantic import PlainValidator

from precond.learned.neural_spai import Faces, NeuralSpai, SpaiConfig, SpaiNetwork
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.problems.gallery import Problem, benchmark_density
from precond.training.frames import FramesTask, FramesTraining
from precond.training.loop import Count, Positive
from precond.training.objectives import sai


def _sizes(value: Any) -> int | list[int]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(type(n) is int and n >= 64 for n in listed):
        raise ValueError("is not a number of cells from 64, or a list of them")
    return value


class SpaiTraining(FramesTraining):
    """How to train; what to train is SpaiConfig's."""

    n: Annotated[int | list[int], PlainValidator(_sizes)] = 1024  # several: frames of all, drawn alike
    steps: Count = 2500
    probes: Count = 4
    learning_rate: Positive = 1e-2
    evaluate_every: Count = 250


class SpaiFrame:
    """One training system, scaled to a unit diagonal; vectors are (m, N). One fluid component."""

    def __init__(self, problem: Problem):
        self.faces = Faces(problem.operator())
        root = torch.where(self.faces.scale > 0.0, 1.0 / self.faces.scale, 0.0)
        self.kernel = (root / root.norm()).float()  # (N,), S times it is zero

    def apply_s(self, rows: torch.Tensor) -> torch.Tensor:
        """S = D^-1/2 A D^-1/2 times each of ``rows`` (m, N)."""
        return self.faces.times(self.faces.coupled, -self.faces.couplings, rows)

    def project(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows`` less their parts in S's null space, the kernel and the uncoupled cells."""
        rows = rows * self.faces.coupled
        return rows - (rows @ self.kernel)[:, None] * self.kernel

    def loss(self, network: SpaiNetwork, training: SpaiTraining) -> torch.Tensor:
        """The SAI loss of arXiv 2510.27517, mean over probes w of ||A M w / ||A|| - w||^2 / ||w||^2.

        S stands for A / ||A||: as blind to A's size, and in every cell instead of on average. For normal w,
        ||S M w - w|| and ||M S w - w||, the one here, have the same mean square: the Frobenius norm.
        """
        diagonal, entries = network(self.faces)
        apply_m = partial(self.faces.times_m, diagonal, entries, network.config.epsilon)
        probes = torch.randn(training.probes, self.kernel.numel())
        return sai(apply_m, self.apply_s, probes, self.project) / self.faces.coupled.sum()


class NeuralSpaiTask(FramesTask):
    """One network for one N, or for several."""

    name = "neural-spai"
    sections: ClassVar[dict[str, type]] = {"model": SpaiConfig, "training": SpaiTraining}
    network_kind = SpaiNetwork

    def form(self, operator: PoissonOperator) -> Preconditioner:
        """The sparse approximate inverse."""
        return NeuralSpai(operator, self.network)

    def systems(self) -> list[SpaiFrame]:
        """The training frames of every N."""
        frames = range(self.training.frames)
        return [SpaiFrame(benchmark_density(n, frame, "train")) for n in self.sizes for frame in frames]
