"""The paper's approximate inverse as a network emits it and as it is applied; arXiv 2605.13343.

    M = blockdiag(F_k F_k^T) + sum over tiles (U_rows C V_columns^T + transpose) + diag(sigmoid(gate) / A_ii)

U and V hold L_s columns per leaf; a strip's basis is its leaves' bases stacked. M is symmetric, not
necessarily positive definite, and scales with the density as A^-1 does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from precond.learned.features import LeafFeatures
from precond.learned.network import LeafConfig, Trunk, TrunkConfig
from precond.partition.tiles import Tiles


@dataclass(frozen=True)
class FactorsConfig(LeafConfig):
    """Leaf size and the trunk; L_s is the trunk's ``tile_tokens``."""

    leaf_size: int = 128
    trunk: TrunkConfig = field(default_factory=TrunkConfig)

    def __post_init__(self) -> None:
        if not self.trunk.off_diagonal_stream:
            raise ValueError("hmatrix needs the off_diagonal_stream: the tile cores are read from it")
        if self.leaf_size < 1:
            raise ValueError(f"leaf_size: {self.leaf_size} is not a whole number from 1")
        self.trunk.check_leaf_size(self.leaf_size)


@dataclass
class Factors:
    """M's factors for K leaves and T tiles, float32, zero on masked cells.

    leaf: (K, L, L) F_k. node: (K, L, 2 L_s), U beside V. core: (T, L_s, L_s) C. jacobi: (K, 1, L).
    """

    leaf: Tensor
    node: Tensor
    core: Tensor
    jacobi: Tensor

    def times(self, rows: Tensor, tiles: Tiles) -> Tensor:
        """M ``rows``, m vectors leaf by leaf, (K, m, L); never assembled: pool to strips, tiles, prolong."""
        count, vectors, _ = rows.shape
        near = torch.bmm(torch.bmm(rows, self.leaf), self.leaf.mT)  # (K, m, L)
        near = torch.addcmul(near, rows, self.jacobi)
        if not len(self.core):
            return near
        rank = self.core.shape[-1]
        pooled = torch.bmm(rows, self.node).view(count, vectors, 2, rank)  # (K, m, 2, L_s)
        of_rows, of_columns = pooled.unbind(dim=2)  # (K, m, L_s) each: U^T r, V^T r
        row_strips = (tiles.rows @ of_rows.reshape(count, -1)).view(-1, vectors, rank)  # (T, m, L_s)
        column_strips = (tiles.columns @ of_columns.reshape(count, -1)).view(-1, vectors, rank)
        to_rows = torch.bmm(column_strips, self.core.mT).view(-1, vectors * rank)  # (T, m L_s): C V^T r
        to_columns = torch.bmm(row_strips, self.core).view(-1, vectors * rank)
        spread = (tiles.rows.mT @ to_rows, tiles.columns.mT @ to_columns)  # (K, m L_s) each
        spread = torch.cat([part.view(count, vectors, rank) for part in spread], dim=-1)
        return torch.baddbmm(near, spread, self.node.mT)  # (K, m, L)


class FactorsNetwork(nn.Module):
    """Trunk and heads: F, U, V and the gate from the leaf tokens, C from the tile tokens.

    Rows of F are scaled by A_ii^-1/2 and C by the mean density, so that M scales as A^-1 does. F starts near
    the diagonal and C at zero: positive definite.
    """

    def __init__(self, config: FactorsConfig):
        super().__init__()
        self.config = config
        width, length, rank = config.trunk.width, config.leaf_size, config.trunk.tile_tokens
        self.trunk = Trunk(config.trunk)
        self.leaf_head = nn.Linear(width, length)
        self.node_head = nn.Linear(width, 2 * rank)
        self.core_head = nn.Linear(width, rank)
        self.gate_head = nn.Linear(width, 1)
        with torch.no_grad():
            self.leaf_head.weight.mul_(0.1)
            self.core_head.weight.zero_()
            self.core_head.bias.zero_()

    def forward(self, features: LeafFeatures) -> Factors:
        """M's factors for the operator behind ``features``."""
        tokens, tile_tokens = self.trunk(features)  # (K, L, d), (T, L_s, d)
        mask = features.mask[..., None]  # (K, L, 1)
        scale = features.inverse_diagonal[..., None]  # (K, L, 1)
        identity = torch.eye(self.config.leaf_size, device=mask.device)
        leaf = (self.leaf_head(tokens) + identity) * scale.sqrt()  # (K, L, L)
        node = self.node_head(tokens) * mask  # (K, L, 2 L_s)
        core = self.core_head(tile_tokens) * features.scale  # (T, L_s, L_s)
        jacobi = torch.sigmoid(self.gate_head(tokens)) * scale  # (K, L, 1)
        return Factors(leaf, node, core, jacobi.mT)
