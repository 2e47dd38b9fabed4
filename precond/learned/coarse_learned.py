"""Our learned preconditioner: two levels, the coarse space read off the density by a network.

Symmetric positive definite whatever the network says, because it chooses a subspace and nothing else: leaves
are exact, the coarse operator is Galerkin's (precond.two_level.preconditioner).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from precond.learned import MODELS
from precond.learned.coarse_space import CoarseSpaceConfig, CoarseSpaceNetwork
from precond.learned.features import LeafFeatures
from precond.learned.weights import load_model
from precond.poisson import PoissonOperator
from precond.two_level.preconditioner import TwoLevel

DEFAULT_MODEL = MODELS / "coarse-learned.safetensors"


class CoarseLearned(TwoLevel):
    """Coarse space from a network that sees the density, trained to lower the form's Kaporin number
    (precond.training.kaporin).

    ``model``: a network in memory or a file for `load_model`, DEFAULT_MODEL unless given; leaf size and rank
    are the network's. Raises ModelError.
    """

    name = "coarse-learned"
    learned = True

    def __init__(
        self,
        operator: PoissonOperator,
        model: str | Path | CoarseSpaceNetwork | None = None,
        additive: bool = False,
        on_device: bool | None = None,
    ):
        network = model
        if not isinstance(model, CoarseSpaceNetwork):
            network, _ = load_model(model or DEFAULT_MODEL, self.build)
        super().__init__(operator, network.config.leaf_size, network.config.rank, additive, on_device)
        self.network = network.to(operator.device)
        self.features = LeafFeatures(operator, self.leaf_size, aligned=True)

    @staticmethod
    def build(card: dict[str, Any]) -> CoarseSpaceNetwork:
        """The untrained network of a model card."""
        return CoarseSpaceNetwork(CoarseSpaceConfig.of(card["model"]))

    def _update_geometry(self) -> None:
        super()._update_geometry()
        self.features.update_geometry()

    def _basis(self) -> torch.Tensor:
        self.features.update()
        with torch.inference_mode():
            return self.network(self.features, self.mask, shared=not self._on_device)
