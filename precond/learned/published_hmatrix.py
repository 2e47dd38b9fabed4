"""The paper's learned preconditioner: a hierarchical matrix whose factors a network predicts every frame.

Symmetric, but nothing keeps it positive definite: PCG runs its flexible update and names a breakdown. One
model per N, as published; where N has none of its own, that of the nearest N runs as *transferred*.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from precond.learned.factors import Factors, FactorsConfig, FactorsNetwork
from precond.learned.features import LeafFeatures
from precond.learned.weights import TrainedPerSize
from precond.partition.leaf_vectors import LeafVectors
from precond.poisson import PoissonOperator


class PublishedHMatrix(TrainedPerSize):
    """``weights``: a file, by default that of the operator's N or of the nearest, or a network in memory."""

    name = "hmatrix-published"
    symmetric_positive_definite = False

    def __init__(self, operator: PoissonOperator, weights: str | Path | FactorsNetwork | None = None):
        super().__init__(operator, weights)
        size, rank = self.network.config.leaf_size, self.network.config.trunk.tile_tokens
        self.features = LeafFeatures(operator, size)
        self.vectors = LeafVectors(operator.shape, size, operator.device)
        count, zeros = self.features.count, partial(torch.zeros, dtype=torch.float32, device=operator.device)
        self.factors = Factors(
            leaf=zeros(count, size, size),
            node=zeros(count, size, 2 * rank),
            core=zeros(count - 1, rank, rank),
            jacobi=zeros(count, 1, size),
        )

    @staticmethod
    def build(card: dict[str, Any]) -> FactorsNetwork:
        return FactorsNetwork(FactorsConfig.of(card["model"]))

    def _update_geometry(self) -> None:
        self.features.update_geometry()

    def _predict(self) -> None:
        with torch.inference_mode():
            predicted = self.network(self.features)
        for name, value in vars(predicted).items():
            getattr(self.factors, name).copy_(value)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        rows = self.factors.times(self.vectors.gather(residual), self.features.tiles)
        self.vectors.scatter(rows, out)
