"""The network that predicts `coarse-learned`'s coarse space: the trunk and a head that bends monomials."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from precond.learned.features import LeafFeatures
from precond.learned.network import LeafConfig, Trunk, TrunkConfig
from precond.partition.copies import copies
from precond.two_level.bases import monomials, orthonormalised

ALIKE = 1e-5  # difference of tokens, relative to the largest, below which leaves share a basis


@dataclass(frozen=True)
class CoarseSpaceConfig(LeafConfig):
    """Leaf size, columns a leaf, and the trunk's configuration. Raises ValueError for impossible sizes."""

    leaf_size: int = 64
    rank: int = 8
    trunk: TrunkConfig = field(default_factory=TrunkConfig)

    def __post_init__(self) -> None:
        if self.leaf_size < 4 or self.leaf_size & (self.leaf_size - 1):
            raise ValueError(f"leaf_size must be a power of two from 4 on, not {self.leaf_size}")
        if not 2 <= self.rank <= min(16, self.leaf_size):
            raise ValueError(f"rank must be from 2 to {min(16, self.leaf_size)}, not {self.rank}")
        self.trunk.check_leaf_size(self.leaf_size)


class CoarseSpaceNetwork(nn.Module):
    """Basis U (K, L, r) from features: monomials plus what the head adds to all columns but the constant."""

    def __init__(self, config: CoarseSpaceConfig):
        super().__init__()
        self.config = config
        self.trunk = Trunk(config.trunk)
        self.head = nn.Linear(config.trunk.width, config.rank - 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)  # training starts from the monomials

    def forward(self, features: LeafFeatures, mask: Tensor, shared: bool = True) -> Tensor:
        """Orthonormal columns, float32, zero where ``mask`` (K, L) is, the first one constant elsewhere.

        At inference leaves that look alike, as all inside one phase do, are computed once if ``shared``,
        which asks the device which they are.
        """
        trunk, places = self.trunk, features.positions
        if torch.is_grad_enabled() or not shared or not trunk.leaves_apart:
            return self._columns(trunk(features)[0], places, mask)
        lifted = trunk.lifted(features)  # (K, L, d)
        seen = torch.cat([lifted, features.node, mask[..., None]], dim=-1)  # all that the layers see
        unique, kind = copies(seen.flatten(1), ALIKE)
        tokens = trunk.of_leaves(lifted, features, unique)
        return self._columns(tokens, places[unique], mask[unique])[kind]

    def _columns(self, tokens: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """The basis of some leaves from their tokens (k, L, d)."""
        columns = monomials(2.0 * places, mask, self.config.rank)  # (k, L, r)
        bent = self.head(tokens) * mask[..., None]  # (k, L, r - 1)
        return orthonormalised(torch.cat([columns[..., :1], columns[..., 1:] + bent], dim=-1))
