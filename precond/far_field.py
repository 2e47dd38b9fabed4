"""The network that predicts `nested`'s far field: the trunk and a head that bends monomials."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from precond.basis import monomials, orthonormalised
from precond.features import NODE_FEATURES, LeafFeatures
from precond.network import Trunk, TrunkConfig


@dataclass(frozen=True)
class FarFieldConfig:
    """Leaf size, columns a leaf, and the trunk's configuration."""

    leaf_size: int = 64
    rank: int = 8
    trunk: TrunkConfig = field(default_factory=TrunkConfig)

    @classmethod
    def of(cls, values: dict) -> FarFieldConfig:
        """From the plain values of a settings file or a model card. Raises TypeError for unknown names."""
        return cls(**{**values, "trunk": TrunkConfig(**values.get("trunk", {}))})

    def plain(self) -> dict:
        """As plain values for a model card."""
        return asdict(self)


class FarField(nn.Module):
    """Basis U (K, L, r) from features: monomials plus what the head adds to all columns but the constant."""

    def __init__(self, config: FarFieldConfig):
        super().__init__()
        self.config = config
        self.trunk = Trunk(config.trunk, NODE_FEATURES)
        self.head = nn.Linear(config.trunk.width, config.rank - 1)
        nn.init.zeros_(self.head.weight)  # training starts from the monomials
        nn.init.zeros_(self.head.bias)

    def forward(self, features: LeafFeatures, mask: torch.Tensor) -> torch.Tensor:
        """Orthonormal columns, float32, zero where ``mask`` (K, L) is, the first one constant elsewhere."""
        tokens, _ = self.trunk(features)  # (K, L, d)
        columns = monomials(2.0 * features.positions, mask, self.config.rank)  # (K, L, r)
        bent = self.head(tokens) * mask[..., None]  # (K, L, r - 1)
        return orthonormalised(torch.cat([columns[..., :1], columns[..., 1:] + bent], dim=-1))
