"""The network of the definite `hmatrix`: what each leaf and each tile should span, read off the density.

A leaf enters as L_s tokens, one for each run of L / L_s cells along the Morton curve. From there on streams,
highways and tiles are those of arXiv 2605.13343 (precond.learned.network). Where the published network emits
numbers of the inverse, this one emits functions, and what they are worth is computed
(precond.learned.hmatrix). All heads start at zero, which leaves monomials in the leaves and cosines along the
faces between strips.

K leaves of L cells, P slots, r = L_s columns a leaf and a strip, width d.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from precond.learned.features import LeafFeatures
from precond.learned.highways import Highways
from precond.learned.network import LeafConfig, Streams, TrunkConfig
from precond.partition.tree import LeafTree

CELL_FEATURES = 7  # log density, four face weights, A_ii, the mask


@dataclass(frozen=True)
class HMatrixConfig(LeafConfig):
    """Leaf size, where the leaves' inverses come from, and the streams; L_s is the trunk's ``tile_tokens``.

    Raises ValueError for what does not fit together.
    """

    leaf_size: int = 64
    leaves: Literal["exact", "network"] = "exact"  # D_k^-1, or the published F F^T + gate / A_ii
    leaf_iterations: int = 2  # U <- D^-1 W U, W the faces that leave the leaf; with exact leaves alone
    trunk: TrunkConfig = field(
        default_factory=lambda: TrunkConfig(
            width=48,
            heads=4,
            layers=2,
            expansion=2,
            tile_tokens=8,
            graph_convolutions=0,
            operator_bias=False,
            edge_term=False,
        )
    )

    def __post_init__(self) -> None:
        if not 4 <= self.leaf_size <= 1024 or self.leaf_size & (self.leaf_size - 1):
            raise ValueError(f"leaf_size must be a power of two from 4 to 1024, not {self.leaf_size}")
        if self.leaves not in ("exact", "network"):
            raise ValueError(f"leaves: '{self.leaves}' is not one of exact, network")
        if self.leaf_iterations < 0 or (self.leaf_iterations and self.leaves != "exact"):
            raise ValueError(f"leaf_iterations: {self.leaf_iterations}: needs exact leaves, or is 0")
        trunk = self.trunk
        if (
            not trunk.off_diagonal_stream
            or trunk.graph_convolutions
            or trunk.operator_bias
            or trunk.edge_term
        ):
            raise ValueError(
                "hmatrix needs the off_diagonal_stream, and its tokens, being no cells, have no "
                "graph_convolutions, operator_bias, edge_term"
            )
        if not 2 <= trunk.tile_tokens <= 16:
            raise ValueError(f"tile_tokens must be from 2 to 16, not {trunk.tile_tokens}")
        trunk.check_leaf_size(self.leaf_size)


class Proposals(NamedTuple):
    """What the network says, float32.

    bend: (K, L, r - 1), added to the monomials but the constant. weights: (levels, K, r, r), mixed into a
    leaf's part of a strip's cosines. leaf, jacobi: (K, L, L) F_k and (K, L) gate / A_ii, or None with exact
    leaves.
    """

    bend: Tensor
    weights: Tensor
    leaf: Tensor | None
    jacobi: Tensor | None


class ProposalNetwork(nn.Module):
    """Tokens of leaves and tiles, and their heads."""

    def __init__(self, config: HMatrixConfig):
        super().__init__()
        self.config = config
        d, rank = config.trunk.width, config.trunk.tile_tokens
        run = config.leaf_size // rank
        self.lift = nn.Linear(run * CELL_FEATURES, d)
        self.lift_level = nn.Linear(1, d, bias=False)
        self.number = nn.Parameter(0.3 * torch.randn(rank, d))
        self.lift_out = nn.Linear(d, d)
        self.streams = Streams(config.trunk)
        self.leaf_head = nn.Linear(d, run * (rank - 1))
        self.strip_leaf, self.strip_tile = nn.Linear(d, d), nn.Linear(d, d, bias=False)
        self.strip_head = nn.Linear(d, rank)
        heads = [self.leaf_head, self.strip_head]
        if config.leaves == "network":
            self.factor_head = nn.Linear(d, run * (config.leaf_size + 1))
            heads.append(self.factor_head)
        for head in heads:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, features: LeafFeatures, tree: LeafTree) -> Proposals:
        """For the operator behind ``features``, whose tiles are the tree's."""
        config, rank = self.config, self.config.trunk.tile_tokens
        cells = torch.cat([features.node[..., :6], features.mask[..., None]], dim=-1)  # (K, L, 7)
        runs = cells.unflatten(1, (rank, -1))  # (K, r, L / r, 7)
        mask = runs[..., -1].amax(dim=-1)  # (K, r)
        lifted = self.lift(runs.flatten(2)) + self.lift_level(features.level)[:, None] + self.number
        x = self.lift_out(F.gelu(lifted)) * mask[..., None]  # (K, r, d)
        highways = Highways(mask, features.tiles, rank)
        x, y = self.streams.layered(x, highways, features.tile_geometry())  # (K, r, d), (P - 1, r, d)
        bend = self.leaf_head(x).reshape(len(x), config.leaf_size, rank - 1)
        hidden = self.strip_leaf(x) + self.strip_tile(y)[tree.tiles]  # (levels, K, r, d)
        weights = self.strip_head(F.gelu(hidden))  # (levels, K, r, r)
        leaf = jacobi = None
        if config.leaves == "network":
            emitted = self.factor_head(x).view(*features.mask.shape, -1)  # (K, L, L + 1)
            scale = features.inverse_diagonal[..., None]  # (K, L, 1)
            identity = torch.eye(config.leaf_size, device=x.device)
            leaf = (emitted[..., :-1] + identity) * scale.sqrt()
            jacobi = (torch.sigmoid(emitted[..., -1:]) * scale)[..., 0]
        return Proposals(bend * features.mask[..., None], weights, leaf, jacobi)
