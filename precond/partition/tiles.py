"""The weak-admissibility partition of a matrix over leaves: which pairs of leaves share one low-rank tile.

The leaves along the Morton curve are halved into a binary tree (eta = 1; arXiv 2605.13343): every node with
two children gives one tile, rows of the first child times columns of the second, and each tile is used with
its transpose. K leaves give K - 1 tiles, whatever K is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precond.partition.tree import LeafTree


def tiles(count: int) -> np.ndarray:
    """Upper tiles (row start, column start, size) over ``count`` leaves, (count - 1, 3) int64, finest first.

    Sizes are powers of two. Rows row_start to row_start + size exist; columns are clipped at ``count``.
    """
    sizes = [1 << level for level in range(max(count - 1, 0).bit_length())]
    found = [(start, start + size, size) for size in sizes for start in range(0, count - size, 2 * size)]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def tile_of(count: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Which of ``tiles(count)`` holds each pair of leaves, in either order; -1 for a leaf and itself.

    ``rows`` and ``columns`` are int arrays of one shape, which is the result's.
    """
    level = np.frexp(rows ^ columns)[1] - 1  # the highest bit in which the leaves differ: log2 of the size
    sizes = 1 << np.arange(max(count - 1, 1).bit_length())
    numbers = np.maximum(-(-(count - sizes) // (2 * sizes)), 0)  # tiles of each size
    first = np.cumsum(numbers) - numbers
    return np.where(level < 0, -1, first[level] + (np.minimum(rows, columns) >> (level + 1)))


@dataclass
class Tiles:
    """The partition of ``count`` leaves as static tensors on one device; T tiles.

    rows, columns: (T, K) float32, 1 where a leaf lies in the tile's row or column strip: strips are summed
    and spread by products with them. log_size: (T, 1) float32, log2 of the size. row_nodes, column_nodes:
    (T,) int64, the strips in the list that `strip_sums` makes. slots: (K,) int64, where the leaves stand
    among the ``padded`` ones, a power of two, that are halved.
    """

    padded: int
    slots: Tensor
    rows: Tensor
    columns: Tensor
    log_size: Tensor
    row_nodes: Tensor
    column_nodes: Tensor

    @classmethod
    def of(cls, count: int, device: torch.device | str = "cpu") -> Tiles:
        """The tiles over ``count`` leaves along the curve."""
        padded = 1 << max(count - 1, 0).bit_length()
        return cls._of(tiles(count), np.arange(count), padded, device)

    @classmethod
    def of_tree(cls, tree: LeafTree) -> Tiles:
        """All tiles over the slots of ``tree``, level by level, those that touch no leaf too."""
        return cls._of(tiles(tree.count), tree.slots.cpu().numpy(), tree.count, tree.slots.device)

    @classmethod
    def _of(cls, table: np.ndarray, slots: np.ndarray, padded: int, device: torch.device | str) -> Tiles:
        row, column, size = table.T[:, :, None]  # (T, 1) each
        before = 2 * padded - 2 * padded // size  # strips of all smaller sizes
        strips = [((slots >= first) & (slots < first + size)).astype(np.float32) for first in (row, column)]
        nodes = [(before + first // size)[:, 0] for first in (row, column)]
        arrays = (slots, *strips, np.log2(size).astype(np.float32), *nodes)
        return cls(padded, *(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays))

    def strip_sums(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Row strips and column strips, (T, L_s, d), of the leaves' ``tokens`` (K, L_s, d): the S L_s tokens
        of a strip are summed in L_s runs of S along the curve.
        """
        _, length, width = tokens.shape
        padded = tokens.new_zeros(self.padded, length, width).index_copy(0, self.slots, tokens)
        levels = [padded]  # (P, L_s, d)
        while len(levels[-1]) > 2:  # half as many strips
            levels.append(levels[-1].view(len(levels[-1]) // 2, length, 2, width).sum(dim=2))
        nodes = torch.cat(levels)  # (2 P - 2, L_s, d)
        return nodes[self.row_nodes], nodes[self.column_nodes]
