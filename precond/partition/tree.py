"""The binary tree over aligned leaves: every node halves its box of the grid, across x and y in turn.

It is the tree of the Morton curve (`precond.partition.tiles`) by place instead of by number: leaves get
slots, 2^levels of them, by the bits of their row and column, so that a node of level l is a run of 2^l slots
and a box, whatever the grid; slots beyond the grid stay empty. Two siblings share a tile.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class LeafTree:
    """Slots, levels and faces between leaves by level; static.

    ``cells`` (K, L) are `morton.leaves` of an (nx, ny) ``shape``, aligned. ``first``, ``second`` (p,) int64
    are neighbouring leaves.

    levels: of tiles. count: P = 2^levels slots. slots: (K,) int64, rising. tiles: (levels, K) int64, the tile
    of each level that holds a leaf, of P - 1, level by level. axis: for each level, the direction in which
    siblings lie side by side, 0 for x. pairs: (p,) int64, the pairs in the order of the levels of the tiles
    that they lie in. first, second: (p,) int64, their slots. ends: levels + 1 numbers, where each level's
    pairs begin. side: (levels, K, L) float64, each cell's place along the face between the siblings of a
    level, from 0 to 1 over the node's part of the grid; 0 on padding.
    """

    def __init__(self, shape: tuple[int, int], cells: np.ndarray, first: Tensor, second: Tensor):
        count, leaf_size = cells.shape
        bits = leaf_size.bit_length() - 1
        sides = np.array([1 << (bits + 1) // 2, 1 << bits // 2])
        places = np.stack(np.divmod(cells, shape[1]), axis=-1)  # (K, L, 2)
        columns = places[:, 0] // sides  # (K, 2): of the leaves
        widths = [int(most).bit_length() for most in columns.max(axis=0)]
        turns = [(bits + k) % 2 for k in range(2)]  # x first for square leaves
        self.axis = [a for bit in range(max(widths)) for a in turns if bit < widths[a]]
        taken, slots = [0, 0], np.zeros(count, dtype=np.int64)
        for level, a in enumerate(self.axis):
            slots |= ((columns[:, a] >> taken[a]) & 1) << level
            taken[a] += 1
        self.levels, self.count = len(self.axis), 1 << len(self.axis)
        device = first.device
        self.slots = torch.from_numpy(slots).to(device)
        tiles = [self.count - (self.count >> level) + (slots >> level + 1) for level in range(self.levels)]
        self.tiles = torch.from_numpy(np.array(tiles, dtype=np.int64).reshape(-1, count)).to(device)
        a, b = slots[first.cpu().numpy()], slots[second.cpu().numpy()]
        level = np.frexp(a ^ b)[1] - 1
        order = np.argsort(level, kind="stable")
        self.ends = np.searchsorted(level[order], np.arange(self.levels + 1)).tolist()
        self.pairs, self.first, self.second = (
            torch.from_numpy(array).to(device) for array in (order, a[order], b[order])
        )
        self.side = torch.from_numpy(self._sides(places, cells < shape[0] * shape[1], slots)).to(device)

    def _sides(self, places: np.ndarray, exists: np.ndarray, slots: np.ndarray) -> np.ndarray:
        found = np.zeros((self.levels, *exists.shape))
        for level, across in enumerate(self.axis):
            place, node = places[..., 1 - across], slots >> level
            least, most = np.full(self.count, np.iinfo(np.int64).max), np.full(self.count, -1)
            np.minimum.at(least, node, np.where(exists, place, place.max()).min(axis=1))
            np.maximum.at(most, node, np.where(exists, place, -1).max(axis=1))
            low, length = least[node, None], (most - least + 1)[node, None]
            found[level] = np.where(exists, (place - low + 0.5) / length, 0.0)
        return found

    def in_slots(self, values: Tensor, dim: int = 0) -> Tensor:
        """``values``, of the K leaves along ``dim``, for all P slots, zero in empty ones; differentiable."""
        shape = [*values.shape[:dim], self.count, *values.shape[dim + 1 :]]
        return values.new_zeros(shape).index_copy(dim, self.slots, values)
