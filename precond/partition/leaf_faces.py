"""Every leaf's faces: what its block of A and its Galerkin block consist of, and where a change shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precond.poisson import PoissonOperator


def faces_of_grid(operator: PoissonOperator) -> tuple[np.ndarray, np.ndarray]:
    """The two flat cells of every face, (2, faces) int64, in `face_weights`' order, the same one twice at the
    border of a box with openings, and which exist, (faces,) bool: not those from a row's last cell to the
    next row's first.
    """
    nx, ny = operator.shape
    cells = np.arange(nx * ny)
    first = np.concatenate([cells[:-ny], cells[:-1]])
    step = np.repeat([ny, 1], [nx * ny - ny, nx * ny - 1])
    exists = (step == ny) | ((first + 1) % ny != 0)
    if operator.openings is None:
        return np.stack([first, first + step]), exists
    grid = cells.reshape(nx, ny)
    border = np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]])
    inner, exists = np.stack([first, first + step]), np.append(exists, np.ones(border.size, dtype=bool))
    return np.append(inner, [border, border], axis=1), exists


def face_weights(operator: PoissonOperator, out: Tensor | None = None) -> Tensor:
    """All face weights in one row, (faces + 1,) float64: x faces, y faces, the border's where some are open,
    one zero.
    """
    weights_x, weights_y = operator.flat_face_weights()
    return torch.cat([weights_x, weights_y, *operator.border_weights(), weights_x.new_zeros(1)], out=out)


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
    """The faces that touch each of K leaves of L cells, F at most, none at walls of a closed box; static.

    face: (K, F) int64 into `face_weights`, its zero where a leaf has fewer. first, second: (K, F) int64, flat
    (K L) places of the face's cells in this leaf; K L for a cell of another leaf or none, always the second.
    entries: (2, K, F) int64 into the flat (K, L, L) blocks, where the face couples two cells of the leaf;
    elsewhere a diagonal entry. leaves: (2, faces) int64, on the host, the leaves on both sides of every face.
    """

    face: Tensor
    first: Tensor
    second: Tensor
    entries: Tensor
    leaves: np.ndarray

    @classmethod
    def of(cls, operator: PoissonOperator, position: np.ndarray, leaf_size: int) -> LeafFaces:
        """For cells at the flat places ``position`` (nx ny,) of (K, L)."""
        cells, exists = faces_of_grid(operator)
        places = position[cells]  # (2, faces)
        leaves = places // leaf_size
        count = int(position.max()) // leaf_size + 1
        border = cells[0] == cells[1]
        within = (leaves[0] == leaves[1]) & ~border
        inside, outside = np.flatnonzero(within & exists), np.flatnonzero(~within & exists)
        again = outside[~border[outside]]  # in the leaf on its other side
        none = count * leaf_size
        first = np.concatenate([places[0, inside], places[0, outside], places[1, again]])
        second = np.append(places[1, inside], np.full(len(outside) + len(again), none))
        face = np.concatenate([inside, outside, again])
        table = grouped(first // leaf_size, np.stack([face, first, second]), count, [len(exists), none, none])
        here = np.where(table[1] < none, table[1] % leaf_size, 0)
        there = np.where(table[2] < none, table[2] % leaf_size, here)
        entries = np.stack([here * leaf_size + there, there * leaf_size + here])
        entries += np.arange(count)[:, None] * leaf_size**2
        return cls(*(torch.from_numpy(array).to(operator.device) for array in (*table, entries)), leaves)
