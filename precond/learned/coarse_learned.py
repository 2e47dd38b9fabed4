"""Our learned preconditioner: a leaf hierarchy whose first coarse space a network reads off the leaves.

Symmetric positive definite whatever the network says, because it chooses a subspace and nothing else: leaves
are exact, all coarse operators are Galerkin's (precond.multilevel). On a GPU, and where loops are not
compiled, there are two levels (precond.two_level).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.host.compiled import available
from precond.learned import MODELS
from precond.learned.compiled_leaf_network import columns_of, parameters_of
from precond.learned.leaf_network import (
    CELLS,
    SIDE,
    LeafFaceWeights,
    LeafNetwork,
    LeafNetworkConfig,
    leaf_features,
)
from precond.learned.weights import load_model
from precond.multilevel.kinds import faces_of_cells
from precond.multilevel.preconditioner import LEAF_ITERATIONS, LeafHierarchy
from precond.partition.morton import morton_order
from precond.poisson import PoissonOperator
from precond.preconditioner import Stage
from precond.two_level.preconditioner import TwoLevel

DEFAULT_MODEL = MODELS / "coarse-learned.safetensors"
NAME = "coarse-learned"


def build(card: dict[str, Any]) -> LeafNetwork:
    """The untrained network of a model card."""
    return LeafNetwork(LeafNetworkConfig(**card["model"]))


def coarse_learned(
    operator: PoissonOperator,
    model: str | Path | LeafNetwork | None = None,
    two_level: bool | None = None,
    **options: Any,
) -> HierarchyLearned | TwoLevelLearned:
    """The form for the operator's device: two levels on a GPU and without compiled loops, else the hierarchy.
    ``model``: a network in memory or a file for `load_model`, DEFAULT_MODEL unless given. Raises ModelError.
    """
    network = model
    if not isinstance(model, LeafNetwork):
        network, _ = load_model(model or DEFAULT_MODEL, build)
    if two_level is None:
        two_level = operator.device.type != "cpu" or not available()
    form = TwoLevelLearned if two_level else HierarchyLearned
    return form(operator, network, **options)


class HierarchyLearned(LeafHierarchy):
    """The leaf hierarchy with a network's columns in the leaves: the network, as it is now, is asked about
    new kinds of leaves alone, and says how many leaf iterations follow.
    """

    name = NAME

    def __init__(self, operator: PoissonOperator, network: LeafNetwork, **options: Any):
        super().__init__(operator, LEAF_ITERATIONS, columns=network.config.columns, **options)
        self.network = network
        self._along = morton_order((SIDE, SIDE))  # the network's order of a leaf's cells
        self._faces = faces_of_cells(*np.divmod(self._along, SIDE))
        self._iterations_of_leaves = network.config.leaf_iterations
        self._threshold_of_leaves = network.config.threshold
        self._apart = network.attention is not None  # a leaf's columns depend on all others
        self._parameters = None if self._apart else parameters_of(network)

    def _face_weights(self, which: np.ndarray) -> Tensor:
        """What the network sees of kinds of leaves: (k, L, 4) float64, as LeafFaceWeights has them."""
        weights = torch.from_numpy(self._kinds.key[which][:, self._faces])
        return weights.masked_fill_((weights < 0.0).any(dim=-1, keepdim=True), 0.0)  # of cells that are not

    def _propose(self) -> None:
        made = self.new_kinds()
        if not len(made):
            return
        asked = self._kinds.of if self._apart else made
        weights = self._face_weights(asked)
        if self._apart:
            with torch.inference_mode():
                columns = self.network(leaf_features(weights)).numpy()  # (k, L, m)
        else:
            columns = columns_of(weights.numpy(), self._parameters)
        self.starts[asked[:, None], self._along] = columns

    def _parts(self) -> list[Stage]:
        leaves, rest = super()._parts()
        return [leaves, ("inference", self._propose), rest]


class TwoLevelLearned(TwoLevel):
    """Two levels: all leaves at once, in batched products, with as many columns in each."""

    name = NAME
    learned = True

    def __init__(self, operator: PoissonOperator, network: LeafNetwork, **options: Any):
        super().__init__(operator, CELLS, network.config.columns + 1, **options)
        self.network = network.to(operator.device)
        cells = self.leaves.vectors.cells.cpu().numpy()
        self._faces = LeafFaceWeights(operator.shape, cells, operator.device)

    def _basis(self) -> Tensor:
        with torch.inference_mode():
            columns = self.network(leaf_features(self._faces.of(self.operator)))
            return self._iterated(columns * self.mask[..., None], self.network.config.leaf_iterations)
