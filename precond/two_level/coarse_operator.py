"""The coarse operator A_c = U^T A U, the Galerkin product of the leaves' bases.

One r x r block a leaf and one a pair of leaves that share a face. Its null space is known, one vector for
every group of sealed components that share leaves, and removed by pinning a constant column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch import Tensor

from precond.partition.leaf_faces import LeafFaces, faces_of_grid, grouped
from precond.poisson import PoissonOperator


@dataclass
class Pairs:
    """Neighbours ``first`` and ``second``, (P,) int64, first < second."""

    first: Tensor
    second: Tensor


@dataclass
class LeafPairs(Pairs):
    """Neighbouring leaves and the faces between them, static.

    inside, outside: (P, F) int64, flat (K L) places of each face's cell in the first and in the second leaf.
    face: (P, F) int64 into leaf_faces.face_weights, its zero where a pair has fewer.
    """

    inside: Tensor
    outside: Tensor
    face: Tensor

    @classmethod
    def of(cls, operator: PoissonOperator, position: np.ndarray, leaf_size: int) -> LeafPairs:
        """The pairs of the grid; ``position`` (nx ny,) is each cell's place in the flat (K, L)."""
        cells, exists = faces_of_grid(operator)
        a, b = position[cells]  # flat (K L) places; the same at the box's border
        face = np.flatnonzero(exists & (a // leaf_size != b // leaf_size))
        a, b = np.minimum(a, b)[face], np.maximum(a, b)[face]
        count = int(position.max()) // leaf_size + 1
        pairs, pair_of = np.unique(a // leaf_size * count + b // leaf_size, return_inverse=True)
        tables = grouped(pair_of, np.stack([a, b, face]), len(pairs), [0, 0, len(exists)])
        arrays = (pairs // count, pairs % count, *tables)
        return cls(*(torch.from_numpy(array).to(operator.device) for array in arrays))

    def of_faces(self, count: int) -> np.ndarray:
        """The pair that each of ``count`` faces lies between, (count,) int64, -1 where none; on the host."""
        pair = np.full(count, -1)
        pair[self.face.numpy()] = np.arange(len(self.face))[:, None]
        pair[-1] = -1  # face_weights' zero
        return pair


def galerkin_blocks(
    basis: Tensor, blocks: Tensor, pairs: LeafPairs, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Diagonal blocks U_k^T D_k U_k (K, r, r) and off-diagonal ones U_k^T A_kl U_l (P, r, r), differentiable.

    ``basis`` (K, L, r) and ``blocks`` (K, L, L) of one dtype; ``weights``: leaf_faces.face_weights(operator).
    """
    flat = basis.reshape(-1, basis.shape[-1])
    faces = weights[pairs.face].to(basis.dtype)  # (P, F)
    inside = flat[pairs.inside] * -faces[..., None]  # (P, F, r)
    return basis.mT @ (blocks @ basis), inside.mT @ flat[pairs.outside]


class CoarseOperator:
    """The blocks of A_c on a basis that stays, from face weights alone, float64.

    Every face adds w g g^T, g the difference of the basis across it: to a leaf's own block where it touches
    the leaf, to a pair's with the two sides apart. So a new density costs what the leaves and pairs with
    changed faces cost: ``leaves`` (k,) and ``pairs`` (p,) are int64, or slices.
    """

    def __init__(self, faces: LeafFaces, pairs: LeafPairs, rank: int):
        self._faces, self._pairs = faces, pairs
        self._differences, self._inside, self._outside = (  # (K, F, r), (P, F, r), (P, F, r)
            torch.zeros((*table.shape, rank), dtype=torch.float64, device=table.device)
            for table in (faces.face, pairs.face, pairs.face)
        )

    def update(self, basis: Tensor) -> None:
        """Follow a new ``basis`` (K, L, r)."""
        flat = basis.reshape(-1, basis.shape[-1]).double()
        padded = torch.cat([flat, flat.new_zeros(1, flat.shape[1])])  # nothing of it is in another leaf
        torch.sub(padded[self._faces.first], padded[self._faces.second], out=self._differences)
        self._inside.copy_(flat[self._pairs.inside])
        self._outside.copy_(flat[self._pairs.outside])

    def own(self, weights: Tensor, leaves: Tensor | slice) -> Tensor:
        """U_k^T A U_k of ``leaves``, (k, r, r); ``weights`` is leaf_faces.face_weights(operator)."""
        differences = self._differences[leaves]
        scaled = differences * weights[self._faces.face[leaves]][..., None]
        return scaled.mT @ differences

    def between(self, weights: Tensor, pairs: Tensor | slice) -> Tensor:
        """U_k^T A U_l of ``pairs``, (p, r, r)."""
        scaled = self._inside[pairs] * -weights[self._pairs.face[pairs]][..., None]
        return scaled.mT @ self._outside[pairs]


def assembled(diagonal: Tensor, off: Tensor, pairs: Pairs) -> Tensor:
    """The dense A_c (K r, K r) of its blocks; differentiable."""
    count, rank, _ = diagonal.shape
    dense = diagonal.new_zeros(count, count, rank, rank)
    index = torch.arange(count, device=diagonal.device)
    dense = dense.index_put((index, index), diagonal)
    dense = dense.index_put((pairs.first, pairs.second), off)
    dense = dense.index_put((pairs.second, pairs.first), off.mT)
    return dense.transpose(1, 2).reshape(count * rank, count * rank)


def pinned_leaves(operator: PoissonOperator, cells: Tensor, coupled: Tensor) -> np.ndarray:
    """One leaf for every null vector of A_c: components that share a leaf have one constant column between
    them, which is none if one of them is not sealed. ``coupled`` (K, L) bool marks the cells of the basis.
    """
    inside = coupled.cpu().numpy()
    leaf = np.nonzero(inside)[0]
    ends = (leaf, len(inside) + operator.labels.ravel()[cells.cpu().numpy()[inside]])
    size = len(inside) + operator.components
    graph = scipy.sparse.coo_array((np.ones(len(leaf)), ends), shape=(size, size))
    _, group = scipy.sparse.csgraph.connected_components(graph, directed=False)
    occupied = np.unique(leaf)
    occupied = occupied[~np.isin(group[occupied], group[len(inside) :][~operator.sealed])]
    _, first = np.unique(group[occupied], return_index=True)
    return occupied[first]
