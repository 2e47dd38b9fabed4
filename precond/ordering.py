"""The Morton (Z-order) curve over the cells, and the leaves cut from it."""

from __future__ import annotations

import numpy as np


def _spread_bits(values: np.ndarray) -> np.ndarray:
    """Bit k of every value moved to bit 2k."""
    spread = np.zeros_like(values)
    for bit in range(31):
        spread |= ((values >> bit) & 1) << (2 * bit)
    return spread


def morton_order(shape: tuple[int, int]) -> np.ndarray:
    """Flat indices i ny + j of an (nx, ny) grid along the Morton curve, int64; x has the low bits."""
    i, j = np.divmod(np.arange(shape[0] * shape[1], dtype=np.int64), shape[1])
    return np.argsort(_spread_bits(i) | (_spread_bits(j) << 1), kind="stable")


def leaves(shape: tuple[int, int], leaf_size: int) -> np.ndarray:
    """Runs of ``leaf_size`` cells along the Morton curve, (leaves, leaf_size) int64 flat indices.

    The last leaf is filled up with the index nx * ny, a cell that does not exist and is coupled to nothing.
    """
    order = morton_order(shape)
    padding = np.full(-len(order) % leaf_size, len(order), dtype=np.int64)
    return np.concatenate([order, padding]).reshape(-1, leaf_size)


def positions(cells: np.ndarray, count: int) -> np.ndarray:
    """Where each of ``count`` cells lies in ``cells`` (leaves, leaf_size) taken flat: (count,) int64."""
    flat = cells.ravel()
    inside = np.flatnonzero(flat < count)
    position = np.empty(count, dtype=np.int64)
    position[flat[inside]] = inside
    return position
