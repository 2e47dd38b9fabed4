"""Our learned preconditioner: the balanced form on a far field that a network reads off the density.

Symmetric positive definite whatever the network says, because it chooses a subspace and nothing else: leaves
are exact, the coupling is Galerkin's (precond.balanced).
"""

from __future__ import annotations

from pathlib import Path

import torch

from precond.balanced import BalancedForm
from precond.far_field import FarField, FarFieldConfig
from precond.features import LeafFeatures
from precond.model_files import MODELS, load_model
from precond.operator import PoissonOperator

DEFAULT_MODEL = MODELS / "nested.safetensors"


class Nested(BalancedForm):
    """Far field from a network that sees the density, trained to lower the form's Kaporin number
    (precond.kaporin).

    ``model`` is a file that `precond.model_files.load_model` reads, DEFAULT_MODEL unless given; leaf size and
    rank are the network's. Raises ModelError.
    """

    name = "nested"
    learned = True

    def __init__(
        self,
        operator: PoissonOperator,
        model: str | Path | None = None,
        additive: bool = False,
        on_device: bool | None = None,
    ):
        network, _ = load_model(
            model or DEFAULT_MODEL, lambda card: FarField(FarFieldConfig.of(card["model"]))
        )
        self._build(operator, network.eval(), additive, on_device)

    @classmethod
    def of(cls, operator: PoissonOperator, network: FarField) -> Nested:
        """With a network in memory, in training for instance."""
        form = cls.__new__(cls)
        form._build(operator, network)
        return form

    def _build(
        self,
        operator: PoissonOperator,
        network: FarField,
        additive: bool = False,
        on_device: bool | None = None,
    ) -> None:
        super().__init__(operator, network.config.leaf_size, network.config.rank, additive, on_device)
        self.network = network.to(operator.device)
        self.features = LeafFeatures(operator, self.leaf_size, aligned=True)

    def _basis(self) -> torch.Tensor:
        self.features.operator = self.operator
        self.features.update()
        with torch.inference_mode():
            return self.network(self.features, self.mask, shared=not self._fused)
