"""The paper's learned preconditioner: a hierarchical matrix whose factors a network predicts every frame.

Symmetric, but nothing keeps it positive definite: PCG runs its flexible update and names a breakdown. One
model per N, as published; where N has none of its own, that of the nearest N runs as *transferred*.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from precond.learned.factors import HMatrixConfig, HMatrixFactors, HMatrixNetwork
from precond.learned.features import LeafFeatures
from precond.learned.weights import load_for
from precond.partition.leaf_vectors import LeafVectors
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, Stage


def build_network(card: dict) -> HMatrixNetwork:
    """The untrained network of a model card."""
    return HMatrixNetwork(HMatrixConfig.of(card["model"]))


class HMatrixForm(Preconditioner):
    """The form with any network; `HMatrix` finds a trained one."""

    name = "hmatrix"
    symmetric_positive_definite = False
    capturable = True

    def __init__(self, operator: PoissonOperator, network: HMatrixNetwork):
        super().__init__(operator)
        self.network = network.to(operator.device)
        leaf_size = network.config.leaf_size
        self.features = LeafFeatures(operator, leaf_size)
        self.vectors = LeafVectors(operator.shape, leaf_size, operator.device)
        count, rank = self.features.count, network.config.trunk.tile_tokens

        def buffer(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float32, device=operator.device)

        self.factors = HMatrixFactors(
            buffer(count, leaf_size, leaf_size),
            buffer(count, leaf_size, 2 * rank),
            buffer(count - 1, rank, rank),
            buffer(count, 1, leaf_size),
        )

    def _update_geometry(self) -> None:
        self.features.update_geometry()

    def _stages(self) -> list[Stage]:
        """Features, factors."""
        return [("setup", self.features.update), ("inference", self._predict)]

    def _predict(self) -> None:
        with torch.inference_mode():
            predicted = self.network(self.features)
        for name in ("leaf", "node", "core", "jacobi"):
            getattr(self.factors, name).copy_(getattr(predicted, name))

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        rows = self.factors.times(self.vectors.gather(residual), self.features.tiles)
        self.vectors.scatter(rows, out)


class HMatrix(HMatrixForm):
    """The form with the trained weights for the operator's grid, or those of the nearest N.

    trained_at: the N of the weights. transferred: the fluid has another N. note: that in words, or empty.
    Raises ModelError where there are no weights or they are unusable.
    """

    def __init__(self, operator: PoissonOperator, weights: str | Path | None = None):
        network, self.trained_at, self.note = load_for(self.name, operator, build_network, weights)
        super().__init__(operator, network)
        self.transferred = bool(self.note)
