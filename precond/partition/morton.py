"""The Morton (Z-order) curve over the cells, and the leaves cut from it."""

from __future__ import annotations

import numpy as np


def morton_order(shape: tuple[int, int]) -> np.ndarray:
    """Flat indices i ny + j of an (nx, ny) grid along the Morton curve, int64; x has the low bits."""
    i, j = np.divmod(np.arange(shape[0] * shape[1], dtype=np.int64), shape[1])
    place = np.zeros_like(i)
    for bit in range(31):  # bit k of i and j to bits 2k and 2k + 1
        place |= ((i >> bit) & 1) << (2 * bit) | ((j >> bit) & 1) << (2 * bit + 1)
    return np.argsort(place, kind="stable")


def leaves(shape: tuple[int, int], leaf_size: int, aligned: bool = False) -> np.ndarray:
    """Runs of ``leaf_size`` cells along the Morton curve, (leaves, leaf_size) int64 flat indices.

    The last leaf is filled up with the index nx * ny, a cell that does not exist and is coupled to nothing.
    With ``aligned`` the runs are cut from a grid rounded up to whole leaves, so that every leaf is a square,
    or twice as wide as high, with such cells beyond the walls; on grids that are powers of two this changes
    nothing. Raises ValueError for aligned leaves whose size is no power of two.
    """
    if not aligned:
        order = morton_order(shape)
        padding = np.full(-len(order) % leaf_size, len(order), dtype=np.int64)
        return np.concatenate([order, padding]).reshape(-1, leaf_size)
    if leaf_size & (leaf_size - 1):
        raise ValueError(f"leaf_size must be a power of two, not {leaf_size}")
    rounded = tuple(-(-cells // side) * side for cells, side in zip(shape, sides(leaf_size), strict=True))
    i, j = np.divmod(morton_order(rounded), rounded[1])
    exists = (i < shape[0]) & (j < shape[1])
    return np.where(exists, i * shape[1] + j, shape[0] * shape[1]).reshape(-1, leaf_size)


def positions(cells: np.ndarray, count: int) -> np.ndarray:
    """Where each of ``count`` cells lies in ``cells`` (leaves, leaf_size) taken flat: (count,) int64."""
    return np.argsort(cells, axis=None)[:count].copy()  # padding has the highest number


def sides(size: int) -> tuple[int, int]:
    """Along x and y, of aligned runs of ``size``, a power of two: squares, or twice as wide as high."""
    bits = size.bit_length() - 1
    return 1 << (bits + 1) // 2, 1 << bits // 2


def groups(i: np.ndarray, j: np.ndarray, size: int) -> np.ndarray:
    """Aligned groups of ``size`` of the K parts of a grid at the places ``i`` and ``j``, (K,) each: (groups,
    size) int64 numbers of parts, K on padding.
    """
    gx, gy = i.max() + 1, j.max() + 1
    number = np.full(gx * gy + 1, len(i))
    number[i * gy + j] = np.arange(len(i))
    return number[leaves((gx, gy), size, aligned=True)]


def leaf_numbers(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A number for each aligned leaf, (K,) int64, of ``cells`` (K, L) on an (nx, ny) grid: row after row,
    rows along the side that fewer leaves make.
    """
    i, j = np.divmod(cells[:, 0], shape[1])  # the lowest cell comes first, and exists
    along_x = len(np.unique(i)) <= len(np.unique(j))
    return np.argsort(np.lexsort((i, j) if along_x else (j, i)))
