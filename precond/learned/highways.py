"""How tokens of leaves and tiles meet: pooled over the partition, spread back over it.

K leaves of L cells, T tiles of L_s tokens, width d.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from precond.learned.features import LeafFeatures
from precond.partition.tiles import Tiles


@dataclass
class Leaves:
    """What the layers see of some leaves; tensors as in LeafFeatures."""

    mask: Tensor
    positions: Tensor
    bias: Tensor
    tiles: Tiles | None

    @classmethod
    def of(cls, features: LeafFeatures, part: Tensor | slice, with_tiles: bool) -> Leaves:
        """The leaves of ``part``; tiles join all leaves."""
        buffers = features.mask[part], features.positions[part], features.bias[part]
        return cls(*buffers, features.tiles if with_tiles else None)


class Highways:
    """Pools and spreads tokens over the partition; static for one forward pass."""

    def __init__(self, leaves: Leaves, tile_tokens: int):
        self.tokens = tile_tokens
        self.cells = leaves.mask.sum(dim=1, keepdim=True)  # (K, 1)
        self.tiles = tiles = leaves.tiles
        if tiles is None:
            return
        self.weight = self._runs(leaves.mask[..., None])  # (K, L_s, 1): cells in each run
        rows, columns = tiles.strip_sums(self.weight)  # (T, L_s, 1)
        self.row_weight, self.column_weight = rows.clamp(min=1.0), columns.clamp(min=1.0)
        self.tile_mask = ((rows + columns) > 0.0).float()  # (T, L_s, 1)
        self.row_share = 1.0 / (1.0 + tiles.rows.sum(dim=0))[:, None]  # (K, 1)
        self.column_share = 1.0 / (1.0 + tiles.columns.sum(dim=0))[:, None]

    def _runs(self, x: Tensor) -> Tensor:
        """Sums over L_s runs of each leaf: (K, L_s, d) from (K, L, d)."""
        leaves, length, width = x.shape
        return x.view(leaves, self.tokens, length // self.tokens, width).sum(dim=2)

    def tile_means(self, x: Tensor) -> Tensor:
        """Every tile's tokens, the mean of its row strip plus that of its column strip, (T, L_s, d)."""
        rows, columns = self.tiles.strip_sums(self._runs(x))
        return rows / self.row_weight + columns / self.column_weight

    def leaf_mean(self, x: Tensor) -> Tensor:
        """(K, 1, d)."""
        return (x.sum(dim=1) / self.cells.clamp(min=1.0))[:, None]

    def global_mean(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Mean over the tokens of the leaves ``x`` and of the tiles ``y``, (1, 1, d)."""
        total, count = x.sum(dim=(0, 1)), self.cells.sum()
        if y is not None:
            total, count = total + y.sum(dim=(0, 1)), count + self.tile_mask.sum()
        return (total / count.clamp(min=1.0))[None, None]

    def axial(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column buffers side by side, as the leaves (K, L_s, 2 d) and the tiles (T, L_s, 2 d) read
        them.

        Every leaf and every tile adds its tokens to the buffers of its rows and of its columns.
        """
        tiles, tokens, width = self.tiles, self.tokens, x.shape[-1]
        own = (self._runs(x) / self.weight.clamp(min=1.0)).flatten(1)  # (K, L_s d)
        added = y.flatten(1)  # (T, L_s d)
        row_buffer = (own + tiles.rows.T @ added) * self.row_share  # (K, L_s d)
        column_buffer = (own + tiles.columns.T @ added) * self.column_share
        row_read = tiles.rows @ row_buffer / tiles.rows.sum(dim=1, keepdim=True)  # (T, L_s d)
        column_read = tiles.columns @ column_buffer / tiles.columns.sum(dim=1, keepdim=True)
        leaves = [row_buffer.view(-1, tokens, width), column_buffer.view(-1, tokens, width)]
        strips = [row_read.view(-1, tokens, width), column_read.view(-1, tokens, width)]
        return torch.cat(leaves, dim=-1), torch.cat(strips, dim=-1)
