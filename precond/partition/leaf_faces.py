"""Every leaf's faces: what its block of A and its Galerkin block consist of, and where a change shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precond.poisson import PoissonOperator


def faces_of_grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The two flat cells of every face inside an (nx, ny) grid, (2, faces) int64, in `face_weights`' order,
    and which of them exist, (faces,) bool: not those from a row's last cell to the next row's first.
    """
    ny, n = shape[1], shape[0] * shape[1]
    first = np.concatenate([np.arange(n - ny), np.arange(n - 1)])
    step = np.repeat([ny, 1], [n - ny, n - 1])
    return np.stack([first, first + step]), (step == ny) | ((first + 1) % ny != 0)


def face_weights(operator: PoissonOperator, out: Tensor | None = None) -> Tensor:
    """All face weights in one row, (faces + 1,) float64: x faces, y faces, one zero."""
    weights_x, weights_y = operator.flat_face_weights()
    return torch.cat([weights_x, weights_y, weights_x.new_zeros(1)], out=out)


def grouped(row: np.ndarray, values: np.ndarray, count: int, fill: list[int]) -> np.ndarray:
    """``values`` (m, items) by their ``row`` (items,) of ``count``: (m, count, width), ``fill`` (m,) where a
    row has fewer than width items.
    """
    order = np.argsort(row, kind="stable")
    sizes = np.bincount(row, minlength=count)
    slot = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table = np.empty((len(values), count, int(sizes.max(initial=1))), dtype=np.int64)
    table[:] = np.reshape(fill, (-1, 1, 1))
    table[:, row[order], slot] = values[:, order]
    return table


@dataclass
class LeafFaces:
    """The faces that touch each of K leaves of L cells, F at most, none at walls; static.

    face: (K, F) int64 into `face_weights`, its zero where a leaf has fewer. first, second: (K, F) int64, flat
    (K L) places of the face's cells in this leaf; K L for a cell of another leaf, always the second. entries:
    (2, K, F) int64 into the flat (K, L, L) blocks, where the face couples two cells of the leaf; elsewhere a
    diagonal entry. leaves: (2, faces) int64, on the host, the leaves on both sides of every face.
    """

    face: Tensor
    first: Tensor
    second: Tensor
    entries: Tensor
    leaves: np.ndarray

    @classmethod
    def of(
        cls, shape: tuple[int, int], position: np.ndarray, leaf_size: int, device: torch.device | str = "cpu"
    ) -> LeafFaces:
        """For cells at the flat places ``position`` (nx ny,) of (K, L)."""
        cells, exists = faces_of_grid(shape)
        places = position[cells]  # (2, faces)
        leaves = places // leaf_size
        count = int(position.max()) // leaf_size + 1
        within = leaves[0] == leaves[1]
        inside, outside = np.flatnonzero(within & exists), np.flatnonzero(~within & exists)
        none = count * leaf_size
        elsewhere = np.full(len(outside), none)
        first = np.concatenate([places[0, inside], places[0, outside], places[1, outside]])
        second = np.concatenate([places[1, inside], elsewhere, elsewhere])
        face = np.concatenate([inside, outside, outside])
        table = grouped(first // leaf_size, np.stack([face, first, second]), count, [len(exists), none, none])
        here = np.where(table[1] < none, table[1] % leaf_size, 0)
        there = np.where(table[2] < none, table[2] % leaf_size, here)
        entries = np.stack([here * leaf_size + there, there * leaf_size + here])
        entries += np.arange(count)[:, None] * leaf_size**2
        return cls(*(torch.from_numpy(array).to(device) for array in (*table, entries)), leaves)
