"""Training of `coarse-learned`: minimise the closed Kaporin number over a set of systems, one a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from precond.config import Settings, Switch, Whole
from precond.learned.coarse_learned import coarse_learned
from precond.learned.leaf_network import CELLS, LeafFaceWeights, LeafNetwork, LeafNetworkConfig, leaf_features
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.training.data import held_out, small_system, unseen_families
from precond.training.kaporin import additive_objective, balanced_objective, truncated_objective
from precond.training.loop import Count, Positive, Seed, Share, Task, Training
from precond.two_level.bases import orthonormalised
from precond.two_level.block_jacobi import BlockJacobi
from precond.two_level.coarse_operator import LeafPairs

OBJECTIVES = {"balanced": balanced_objective, "truncated": truncated_objective}  # of the last steps


class CoarseLearnedTraining(Training):
    """How to train; what to train is LeafNetworkConfig's.

    With ``ordered`` a step uses the first columns alone, a random number of them (nested dropout, Rippel et
    al. 2014): so the first ones learn to be worth most, and the last can be left out.
    """

    steps: Count = 6000
    learning_rate: Positive = 3e-3  # falls linearly to a hundredth of it
    balanced_from: Share = 0.5  # share of the steps after which `objective` replaces the additive one
    objective: Literal["balanced", "truncated"] = "balanced"
    ordered: Switch = True
    threads: Count = 1
    evaluate_every: Count = 500
    save_every: Count = 200


class RandomSystems(Settings):
    """Which of `random_system` or `small_system` to train on."""

    seed: Seed = 1
    systems: Count = 128


class CoarseLearnedData(RandomSystems):
    """Random systems, a share ``worst`` of them of the worst kinds, and, where there is a simulator, frames
    of it.
    """

    systems: Count = 160
    worst: Share = 0.0
    simulator_frames: Annotated[Whole, Field(ge=0)] = 32


class System:
    """One operator with all that a training step needs of it; static.

    features (K, 16, 6); iteration (K, 16, 16) float64, D^-1 W of every leaf; blocks, pairs and weights as in
    precond.training.kaporin.
    """

    def __init__(self, operator: PoissonOperator):
        leaves = BlockJacobi(operator, CELLS, aligned=True)
        leaves.setup()
        position, cells = leaves.position.cpu().numpy(), leaves.vectors.cells.numpy()
        self.operator, self.blocks, self.weights = operator, leaves.blocks, leaves.weights
        self.pairs = LeafPairs.of(operator, position, CELLS)
        self.features = leaf_features(LeafFaceWeights(operator.shape, cells).of(operator))
        self.mask = leaves.coupled.double()  # (K, 16)
        leaving = self.blocks.sum(dim=-1) * self.mask
        self.iteration = self.mask[..., None] * torch.linalg.inv(self.blocks) * leaving[:, None]

    def basis(self, columns: Tensor, iterations: int) -> Tensor:
        """The basis (K, 16, m + 1) float64 of ``columns`` (K, 16, m) after leaf iterations."""
        moved = columns.double()
        for _ in range(iterations):
            moved = self.iteration @ moved
        return orthonormalised(torch.cat([self.mask[..., None], moved], dim=-1))


@lru_cache(maxsize=2)
def random_systems(seed: int, count: int, worst: float) -> tuple[System, ...]:
    """The first of a set, made once for all runs of a study."""
    return tuple(System(small_system(seed, index, worst)) for index in range(count))


class CoarseLearnedTask(Task):
    """One network for all grids; ``simulator`` makes frames of a simulator from their number and a seed."""

    name = "coarse-learned"
    sections: ClassVar[dict[str, type]] = {
        "model": LeafNetworkConfig,
        "training": CoarseLearnedTraining,
        "data": CoarseLearnedData,
    }
    network_kind = LeafNetwork
    several_processes = True
    limit = 500
    keeps_best = False
    simulator: Callable[[int, int], list[PoissonOperator]] | None = None

    def __init__(self, content: dict[str, Any], where: str = ""):
        super().__init__(content, where)
        torch.set_num_threads(self.training.threads)
        self.validation, self.tests = held_out(), unseen_families()

    def form(self, operator: PoissonOperator) -> Preconditioner:
        """The preconditioner with the network as it is."""
        return coarse_learned(operator, self.network)

    def systems(self) -> Sequence[System]:
        """Random ones, then the simulator's."""
        data = self.settings["data"]
        frames = self.simulator(data.simulator_frames, data.seed) if self.simulator else []
        return [*random_systems(data.seed, data.systems, data.worst), *map(System, frames)]

    def draw(self, step: int, count: int) -> Sequence[int]:
        """One for each process."""
        draws = np.random.default_rng((self.training.seed, step)).integers(count, size=self.process + 1)
        return draws[self.process :]

    def rate(self, step: int) -> float:
        """A straight line."""
        return self.training.learning_rate * (1.0 - 0.99 * (step / self.training.steps))

    def loss(self, system: System, step: int) -> torch.Tensor:
        """The additive form's, then the one that the settings name."""
        last = step / self.training.steps >= self.training.balanced_from
        objective = OBJECTIVES[self.training.objective] if last else additive_objective
        columns = self.network(system.features)
        if self.training.ordered:
            columns = columns[..., : int(torch.randint(columns.shape[-1], ()) + 1)]
        basis = system.basis(columns, self.network.config.leaf_iterations)
        return objective(basis, system.blocks, system.pairs, system.weights)
