"""The network behind `coarse-learned`: a leaf of 4 x 4 cells is one token and becomes columns of a basis.

It sees the face weights of a leaf's cells and nothing else, as logarithms relative to their mean: a density
in another unit, another grid or another place changes nothing. So one file of weights serves every grid, and
what is alike inside a phase is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from precond.partition.morton import morton_order
from precond.poisson import PoissonOperator
from precond.two_level.bases import monomials

SIDE = 4  # cells along a leaf
CELLS = SIDE * SIDE
FEATURES = 6  # of a cell: four face weights, their sum, whether it is coupled at all
LOG_UNIT = 3.0  # logarithms are divided by this
MISSING = -9.0  # the logarithm that stands for a face to a wall or a solid


@dataclass(frozen=True)
class LeafNetworkConfig:
    """Columns besides the constant, width and residual blocks of the network, and what follows it:
    ``leaf_iterations`` on its columns, of which those that keep ``threshold`` of their length in each stay.
    ``attention_heads`` lets leaves see each other, which costs the sharing of alike ones: an ablation.

    Raises ValueError for impossible sizes.
    """

    columns: int = 5
    width: int = 64
    blocks: int = 1
    leaf_iterations: int = 1
    threshold: float = 0.45
    attention_heads: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("columns", 1, 7),
            ("width", 4, 1024),
            ("blocks", 0, 8),
            ("leaf_iterations", 1, 16),
            ("attention_heads", 0, 64),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name} must be a whole number from {least} to {most}, not {value}")
        if not 0.0 <= self.threshold < 1.0:
            raise ValueError(f"threshold must be from 0 to below 1, not {self.threshold}")
        if self.attention_heads and self.width % self.attention_heads:
            raise ValueError(f"attention_heads must divide the width, {self.width}")


class LeafFaceWeights:
    """The four face weights (-x, +x, -y, +y) of the cells of leaves: ``cells`` (K, L), flat i ny + j, nx ny
    for one that does not exist, whose weights are zero.
    """

    def __init__(self, shape: tuple[int, int], cells: np.ndarray, device: torch.device | str = "cpu"):
        nx, ny = shape
        i, j = np.divmod(cells, ny)
        of_x, of_y = (nx + 1) * ny, nx * (ny + 1)
        along_y = of_x + i * (ny + 1) + j
        faces = np.stack([cells, cells + ny, along_y, along_y + 1], axis=-1)  # (K, L, 4)
        faces[cells == nx * ny] = of_x + of_y
        self._faces = torch.from_numpy(faces).to(device)

    def of(self, operator: PoissonOperator) -> Tensor:
        """(K, L, 4) float64."""
        x, y = operator.face_weights_x.view(-1), operator.face_weights_y.view(-1)
        return torch.cat([x, y, x.new_zeros(1)])[self._faces]


def leaf_features(weights: Tensor) -> Tensor:
    """What the network sees: (K, L, 6) float32 from ``weights`` (K, L, 4) float64."""
    values = torch.cat([weights, weights.sum(dim=-1, keepdim=True)], dim=-1)  # (K, L, 5)
    present = values > 0.0
    logs = torch.where(present, values, 1.0).log()
    coupled = present[..., 4:]
    mean = logs[..., 4:].sum(dim=1, keepdim=True) / coupled.sum(dim=1, keepdim=True).clamp(min=1)
    relative = torch.where(present, logs - mean, MISSING) * (coupled / LOG_UNIT)
    return torch.cat([relative, coupled], dim=-1).float()


class Residual(nn.Module):
    """x + what a small perceptron says of x."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.up, self.down = nn.RMSNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """From (K, d) to (K, d)."""
        return x + self.down(F.gelu(self.up(self.norm(x))))


class LeafAttention(nn.Module):
    """x + softmax attention among all leaves, where the highways of arXiv 2605.13343 stand for larger N."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norm = heads, nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """From (K, d) to (K, d)."""
        qkv = self.qkv(self.norm(x)).view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)  # (3, h, K, d / h)
        mixed = F.scaled_dot_product_attention(*qkv)  # (h, K, d / h)
        return x + self.out(mixed.transpose(0, 1).reshape(len(x), -1))


class LeafNetwork(nn.Module):
    """Columns besides the constant, (K, L, m), from `leaf_features`, cells along the Morton curve: monomials
    and what the head adds to them.
    """

    def __init__(self, config: LeafNetworkConfig):
        super().__init__()
        self.config = config
        self.lift = nn.Linear(CELLS * FEATURES, config.width)
        self.blocks = nn.ModuleList(Residual(config.width) for _ in range(config.blocks))
        self.attention = None
        if config.attention_heads:
            self.attention = LeafAttention(config.width, config.attention_heads)
        self.norm = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, CELLS * config.columns)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)  # training starts from the monomials
        i, j = np.divmod(morton_order((SIDE, SIDE)), SIDE)
        places = torch.from_numpy(np.stack([i, j], axis=-1)).float() * (2.0 / SIDE) - (1.0 - 1.0 / SIDE)
        start = monomials(places, torch.ones(CELLS), config.columns + 1)[..., 1:]
        self.register_buffer("start", start, persistent=False)  # (L, m)

    def forward(self, features: Tensor) -> Tensor:
        """From (K, L, 6) float32; zero in cells that are not coupled."""
        x = F.gelu(self.lift(features.flatten(1)))
        for block in self.blocks:
            x = block(x)
        if self.attention is not None:
            x = self.attention(x)
        bend = self.head(self.norm(x)).view(len(features), CELLS, -1)
        return (self.start + bend) * features[..., -1:]
