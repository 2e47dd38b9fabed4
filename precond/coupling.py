"""The Galerkin coupling of the leaves' far-field bases: A_c = U^T A U by blocks, and its solve.

A_c couples leaves that share a face: one r x r block a leaf and one a pair of neighbours, each a product of
batched small matrices. Its kernel is known: one vector for every group of fluid components that share leaves,
removed by grounding a constant column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch

from precond.grounding import symmetric_factors
from precond.operator import PoissonOperator

REGULARISATION = 1e-11  # against kernel vectors that only small leaves can represent


@dataclass
class LeafPairs:
    """Neighbouring leaves and the faces between them; static for a grid and a leaf size.

    first, second: (P,) int64 leaves, first < second. inside, outside: (P, F) int64, flat (K L) places of each
    face's cell in the first and in the second leaf. face: (P, F) int64 into the operator's face weights, x
    faces first, then y faces, then one zero.
    """

    first: torch.Tensor
    second: torch.Tensor
    inside: torch.Tensor
    outside: torch.Tensor
    face: torch.Tensor

    @classmethod
    def of(cls, operator: PoissonOperator, position: np.ndarray, leaf_size: int) -> LeafPairs:
        """The pairs of the grid; ``position`` (nx ny,) is each cell's place in the flat (K, L)."""
        nx, ny = operator.shape
        n = nx * ny
        here, there, face = [], [], []
        for step, faces, start in ((ny, n - ny, 0), (1, n - 1, n - ny)):
            cell = np.arange(faces)
            if step == 1:
                cell = cell[(cell + 1) % ny != 0]
            here.append(position[cell])
            there.append(position[cell + step])
            face.append(start + cell)
        a, b, face = np.concatenate(here), np.concatenate(there), np.concatenate(face)
        swap = a // leaf_size > b // leaf_size
        a, b = np.where(swap, b, a), np.where(swap, a, b)
        crossing = a // leaf_size != b // leaf_size
        a, b, face = a[crossing], b[crossing], face[crossing]
        count = int(position.max()) // leaf_size + 1
        pairs, pair_of = np.unique(a // leaf_size * count + b // leaf_size, return_inverse=True)
        order = np.argsort(pair_of, kind="stable")
        sizes = np.bincount(pair_of, minlength=len(pairs))
        slot = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        width = int(sizes.max(initial=1))
        inside, outside = np.zeros((2, len(pairs), width), dtype=np.int64)
        weight = np.full((len(pairs), width), n - ny + n - 1, dtype=np.int64)
        rows = pair_of[order]
        inside[rows, slot], outside[rows, slot], weight[rows, slot] = a[order], b[order], face[order]
        arrays = (pairs // count, pairs % count, inside, outside, weight)
        return cls(*(torch.from_numpy(array).to(operator.device) for array in arrays))


def face_weights(operator: PoissonOperator) -> torch.Tensor:
    """All face weights in one row for LeafPairs.face: x faces, y faces, one zero."""
    weights_x, weights_y = operator.flat_face_weights()
    return torch.cat([weights_x, weights_y, weights_x.new_zeros(1)])


def galerkin_blocks(
    basis: torch.Tensor, blocks: torch.Tensor, pairs: LeafPairs, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Diagonal blocks U_k^T D_k U_k (K, r, r) and off-diagonal ones U_k^T A_kl U_l (P, r, r), differentiable.

    ``basis`` (K, L, r) and ``blocks`` (K, L, L) of one dtype; ``weights`` is face_weights(operator).
    """
    rank = basis.shape[-1]
    diagonal = basis.mT @ (blocks @ basis)
    flat = basis.reshape(-1, rank)
    inside = flat[pairs.inside] * -weights[pairs.face].to(basis.dtype)[..., None]  # (P, F, r)
    return diagonal, inside.mT @ flat[pairs.outside]


def assembled(diagonal: torch.Tensor, off: torch.Tensor, pairs: LeafPairs) -> torch.Tensor:
    """The dense A_c (K r, K r) of its blocks; differentiable."""
    count, rank, _ = diagonal.shape
    dense = diagonal.new_zeros(count, count, rank, rank)
    index = torch.arange(count, device=diagonal.device)
    dense = dense.index_put((index, index), diagonal)
    dense = dense.index_put((pairs.first, pairs.second), off)
    dense = dense.index_put((pairs.second, pairs.first), off.mT)
    return dense.transpose(1, 2).reshape(count * rank, count * rank)


def grounded_leaves(operator: PoissonOperator, cells: torch.Tensor, coupled: torch.Tensor) -> np.ndarray:
    """One leaf for every kernel vector of A_c: components that share a leaf have one constant column between
    them.

    ``coupled`` (K, L) bool marks the cells that the basis covers.
    """
    inside = coupled.cpu().numpy()
    cells = cells.cpu().numpy()[inside]
    leaf = np.nonzero(inside)[0]
    count = len(inside)
    ends = (leaf, count + operator.labels.ravel()[cells])
    size = count + operator.components
    graph = scipy.sparse.coo_array((np.ones(len(leaf)), ends), shape=(size, size))
    _, group = scipy.sparse.csgraph.connected_components(graph, directed=False)
    occupied = np.unique(leaf)
    _, first = np.unique(group[occupied], return_index=True)
    return occupied[first]


class CoarseSolve:
    """Z r = (U^T A U)^-1 r on the CPU by a sparse factorisation, elsewhere by a dense inverse."""

    def __init__(self, operator: PoissonOperator, pairs: LeafPairs, count: int, rank: int):
        self._pairs, self._count, self._rank = pairs, count, rank
        self._sparse = operator.device.type == "cpu"
        k = np.arange(count)
        first, second = pairs.first.cpu().numpy(), pairs.second.cpu().numpy()
        rows, columns = np.concatenate([k, first, second]), np.concatenate([k, second, first])
        order = np.lexsort((columns, rows))
        self._order = torch.from_numpy(order)
        self._columns = columns[order].astype(np.int32)
        self._starts = np.searchsorted(rows[order], np.arange(count + 1)).astype(np.int32)

    def factorise(self, diagonal: torch.Tensor, off: torch.Tensor, grounded: torch.Tensor) -> None:
        """Follow new blocks; ``grounded`` (K,) is 1 for leaves whose constant column is grounded, else 0."""
        diagonal = diagonal.clone()
        own = diagonal.diagonal(dim1=1, dim2=2)
        own *= 1.0 + REGULARISATION
        own[:, 0] += grounded * own[:, 0]
        own += (own == 0.0).to(own.dtype)  # columns without support: decoupled
        if not self._sparse:
            dense = assembled(diagonal, off, self._pairs)
            self._inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(dense)[0])
            return
        values = torch.cat([diagonal, off, off.mT])[self._order].numpy()
        self._factor = None
        if not np.isfinite(values).all():
            return
        size = self._count * self._rank
        matrix = scipy.sparse.bsr_array((values, self._columns, self._starts), shape=(size, size))
        self._factor = symmetric_factors(matrix)

    def solve(self, right: torch.Tensor) -> torch.Tensor:
        """Z ``right`` for ``right`` (K r,) or (K r, m) float64."""
        if self._sparse and self._factor is None:
            return torch.full_like(right, torch.nan)
        if self._sparse:
            return torch.from_numpy(self._factor.solve(right.numpy()))
        return self._inverse @ right
