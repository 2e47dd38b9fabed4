"""How tokens of leaves and tiles meet: pooled over the partition, spread back over it.

K leaves of L cells, T tiles of L_s tokens, width d.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from precond.partition.tiles import Tiles


class Edges(NamedTuple):
    """positions (K, L, 2) and bias (K, L, L) of cells, as in LeafFeatures."""

    positions: Tensor
    bias: Tensor


class Highways:
    """Some leaves as the layers see them, and the ways between them; static for one forward pass.

    mask (K, n): 1 on their tokens that exist. tiles: over all leaves, of ``tile_tokens`` tokens each; None
    without tiles. edges: what the operator's terms of attention read; None without.
    """

    def __init__(self, mask: Tensor, tiles: Tiles | None, tile_tokens: int, edges: Edges | None = None):
        self.mask, self.tiles, self.tokens, self.edges = mask, tiles, tile_tokens, edges
        self.cells = self.mask.sum(dim=1, keepdim=True)  # (K, 1)
        if tiles is None:
            return
        self.weight = self._runs(self.mask[..., None])  # (K, L_s, 1): cells in each run
        rows, columns = tiles.strip_sums(self.weight)  # (T, L_s, 1)
        self.row_weight, self.column_weight = rows.clamp(min=1.0), columns.clamp(min=1.0)
        self.tile_mask = ((rows + columns) > 0.0).float()  # (T, L_s, 1)
        self.row_share = 1.0 / (1.0 + tiles.rows.sum(dim=0))[:, None]  # (K, 1)
        self.column_share = 1.0 / (1.0 + tiles.columns.sum(dim=0))[:, None]

    def _runs(self, x: Tensor) -> Tensor:
        """Sums over L_s runs of each leaf: (K, L_s, d) from (K, L, d)."""
        return x.unflatten(1, (self.tokens, -1)).sum(dim=2)

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
        """Row and column buffers, to which every leaf and tile adds its tokens, side by side, as the leaves
        (K, L_s, 2 d) and the tiles (T, L_s, 2 d) read them.
        """
        tiles, tokens = self.tiles, (self.tokens, -1)
        own = (self._runs(x) / self.weight.clamp(min=1.0)).flatten(1)  # (K, L_s d)
        added = y.flatten(1)  # (T, L_s d)
        row_buffer = (own + tiles.rows.T @ added) * self.row_share  # (K, L_s d)
        column_buffer = (own + tiles.columns.T @ added) * self.column_share
        row_read = tiles.rows @ row_buffer / tiles.rows.sum(dim=1, keepdim=True).clamp(min=1.0)  # (T, L_s d)
        column_read = tiles.columns @ column_buffer / tiles.columns.sum(dim=1, keepdim=True).clamp(min=1.0)
        leaves = [row_buffer.unflatten(1, tokens), column_buffer.unflatten(1, tokens)]
        strips = [row_read.unflatten(1, tokens), column_read.unflatten(1, tokens)]
        return torch.cat(leaves, dim=-1), torch.cat(strips, dim=-1)
