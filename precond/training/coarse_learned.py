"""Training of `coarse-learned`: minimise the closed Kaporin number over a set of systems, one a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from precond.config import Settings, Whole
from precond.learned.coarse_learned import CoarseLearned
from precond.learned.coarse_space import CoarseSpaceConfig, CoarseSpaceNetwork
from precond.learned.features import LeafFeatures
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.training.data import held_out, random_system, unseen_families
from precond.training.kaporin import additive_objective, balanced_objective, truncated_objective
from precond.training.loop import Count, Positive, Seed, Share, Task, Training
from precond.two_level.block_jacobi import BlockJacobi
from precond.two_level.coarse_operator import LeafPairs

OBJECTIVES = {"balanced": balanced_objective, "truncated": truncated_objective}  # of the last steps


class CoarseLearnedTraining(Training):
    """How to train; what to train is CoarseSpaceConfig's."""

    steps: Count = 6000
    learning_rate: Positive = 3e-3  # falls linearly to a hundredth of it
    balanced_from: Share = 0.5  # share of the steps after which `objective` replaces the additive one
    objective: Literal["balanced", "truncated"] = "balanced"
    threads: Count = 1
    evaluate_every: Count = 500
    save_every: Count = 200


class RandomSystems(Settings):
    """Which of `random_system` to train on."""

    seed: Seed = 1
    systems: Count = 128


class CoarseLearnedData(RandomSystems):
    """Random systems and, where there is a simulator, frames of it."""

    systems: Count = 160
    simulator_frames: Annotated[Whole, Field(ge=0)] = 32


class System:
    """One operator with all that a training step needs of it; static."""

    def __init__(self, operator: PoissonOperator, leaf_size: int):
        self.features = LeafFeatures(operator, leaf_size, aligned=True)
        leaves = BlockJacobi(operator, leaf_size, aligned=True)
        leaves.setup()
        self.blocks = leaves.blocks
        self.pairs = LeafPairs.of(operator, leaves.position.cpu().numpy(), leaf_size)
        self.weights = leaves.weights


@lru_cache(maxsize=2)
def random_systems(seed: int, count: int, leaf_size: int) -> tuple[System, ...]:
    """The first of a set, made once for all runs of a study that have this leaf size."""
    return tuple(System(random_system(seed, index), leaf_size) for index in range(count))


class CoarseLearnedTask(Task):
    """One network for all grids; ``simulator`` makes frames of a simulator from their number and a seed."""

    name = "coarse-learned"
    sections: ClassVar[dict[str, type]] = {
        "model": CoarseSpaceConfig,
        "training": CoarseLearnedTraining,
        "data": CoarseLearnedData,
    }
    network_kind = CoarseSpaceNetwork
    several_processes = True
    limit = 500
    keeps_best = False
    simulator: Callable[[int, int], list[PoissonOperator]] | None = None

    def __init__(self, content: dict[str, Any], where: str = ""):
        super().__init__(content, where)
        torch.set_num_threads(self.training.threads)
        self.validation, self.tests = held_out(), unseen_families()

    def form(self, operator: PoissonOperator) -> Preconditioner:
        """The two-level preconditioner."""
        return CoarseLearned(operator, self.network)

    def systems(self) -> Sequence[System]:
        """Random ones, then the simulator's."""
        data, leaf_size = self.settings["data"], self.network.config.leaf_size
        frames = self.simulator(data.simulator_frames, data.seed) if self.simulator else []
        systems = random_systems(data.seed, data.systems, leaf_size)
        return [*systems, *(System(operator, leaf_size) for operator in frames)]

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
        basis = self.network(system.features, system.features.mask).double()
        return objective(basis, system.blocks, system.pairs, system.weights)
