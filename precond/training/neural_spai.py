"""Training of `neural-spai`: one network for all grids, on the data of the definite `hmatrix`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch

from precond.learned.neural_spai import Faces, NeuralSpai, SpaiConfig, SpaiNetwork
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.training.data import held_out, mixed_systems, unseen_families
from precond.training.hmatrix import HMatrixData
from precond.training.loop import Count, Positive, Task, Training
from precond.training.objectives import sai


class SpaiTraining(Training):
    """How to train; what to train is SpaiConfig's."""

    steps: Count = 2000
    systems_per_step: Count = 4
    probes: Count = 4
    learning_rate: Positive = 1e-2  # falls as a cosine to a hundredth of it
    warm_up: Count = 100  # steps
    evaluate_every: Count = 250
    save_every: Count = 250


class SpaiSystem:
    """One training system, scaled to a unit diagonal; vectors are (m, N). One fluid component."""

    def __init__(self, operator: PoissonOperator):
        self.faces = Faces(operator)
        root = torch.where(self.faces.scale > 0.0, 1.0 / self.faces.scale, 0.0)
        self.kernel = (root / root.norm()).float()  # (N,), S times it is zero

    def apply_s(self, rows: torch.Tensor) -> torch.Tensor:
        """S = D^-1/2 A D^-1/2 times each of ``rows`` (m, N)."""
        return self.faces.times(self.faces.coupled, -self.faces.couplings, rows)

    def project(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows`` less their parts in S's null space, the kernel and the uncoupled cells."""
        rows = rows * self.faces.coupled
        return rows - (rows @ self.kernel)[:, None] * self.kernel

    def loss(self, network: SpaiNetwork, probes: int) -> torch.Tensor:
        """The SAI loss of arXiv 2510.27517, mean over ``probes`` w of ||A M w / ||A|| - w||^2 / ||w||^2.

        S stands for A / ||A||: as blind to A's size, and in every cell instead of on average. For normal w,
        ||S M w - w|| and ||M S w - w||, the one here, have the same mean square: the Frobenius norm.
        """
        diagonal, entries = network(self.faces)
        apply_m = partial(self.faces.times_m, diagonal, entries, network.config.epsilon)
        rows = torch.randn(probes, self.kernel.numel())
        return sai(apply_m, self.apply_s, rows, self.project) / self.faces.coupled.sum()


class NeuralSpaiTask(Task):
    """One network for all grids; ``simulator`` makes frames of a simulator from their number and a seed."""

    name = "neural-spai"
    sections: ClassVar[dict[str, type]] = {"model": SpaiConfig, "training": SpaiTraining, "data": HMatrixData}
    network_kind = SpaiNetwork
    limit = 2000
    simulator: Callable[[int, int], list[PoissonOperator]] | None = None

    def __init__(self, content: dict[str, Any], where: str = ""):
        super().__init__(content, where)
        self.validation, self.tests = held_out(), unseen_families()

    def form(self, operator: PoissonOperator) -> Preconditioner:
        """The sparse approximate inverse."""
        return NeuralSpai(operator, self.network)

    def systems(self) -> list[SpaiSystem]:
        """Random ones, large ones, then the simulator's."""
        data = self.settings["data"]
        operators = mixed_systems(data.seed, data.systems, data.large_systems)
        operators += self.simulator(data.simulator_frames, data.seed) if self.simulator else []
        return [SpaiSystem(operator) for operator in operators]

    def draw(self, step: int, count: int) -> Sequence[int]:
        """A few."""
        rng = np.random.default_rng((self.training.seed, step))
        return rng.integers(count, size=self.training.systems_per_step)

    def loss(self, system: SpaiSystem, _step: int) -> torch.Tensor:
        """The objective of the network's M for one system."""
        return system.loss(self.network, self.training.probes)
