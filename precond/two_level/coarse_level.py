"""A level of its own for a coarse system too large for a dense inverse, as batched products: for a GPU.

Leaves are taken together in groups, aligned squares of GROUP cells. With A_c = G - E, G the groups' diagonal
blocks, V a few columns a group and Y = (V^T A_c V)^-1, Z s is one symmetric cycle:

    t = G^-1 s,    w = t + V Y V^T E t,    Z s = G^-1 (s + E w).

Groups are coloured as a chessboard, so the eigenvalues of G^-1 A_c lie between 0 and 2, and Z is positive
definite: exact solves in groups leave E alone to be multiplied by. V spans what G^-1 W amplifies, W the
weights of the faces that leave a group in the leaves' basis: (G^-1 W)^16 of random columns, the constant
always among them (Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithm 4.4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from precond.factorisation import inverse_of_factors
from precond.partition.leaf_faces import LeafFaces
from precond.partition.morton import groups_of_leaves
from precond.two_level.bases import orthonormalised
from precond.two_level.coarse_operator import LeafPairs, Pairs
from precond.two_level.coarse_solve import DenseCoarseSolve, made_definite

GROUP = 1024  # cells of a group: 32 x 32
COLUMNS = 48  # of V in a group
DOUBLINGS = 4  # of G^-1 W


class CoarseLevel:
    """Z of K leaves with ``rank`` columns each: `place` all blocks, `factorise`, then `solve`, as in
    DenseCoarseSolve. ``cells`` (K, L) int64 are the leaves' cells on a grid of ``shape``.

    crossing: (faces + 1,) float64, 1 for faces between two groups, else 0, in leaf_faces.face_weights' order.
    """

    def __init__(
        self, pairs: LeafPairs, faces: LeafFaces, cells: np.ndarray, shape: tuple[int, int], rank: int
    ):
        members = groups_of_leaves(cells, shape, max(2, GROUP // cells.shape[1]))
        self._rank, self._device = rank, pairs.first.device
        self._index(members, pairs, faces, cells, shape)
        self._allocate(*members.shape)

    def _index(
        self,
        members: np.ndarray,
        pairs: LeafPairs,
        faces: LeafFaces,
        cells: np.ndarray,
        shape: tuple[int, int],
    ) -> None:
        """Where leaves and pairs stand by the groups' ``members`` (G, s), K where there is none: leaf k at
        the slot position[k] of G s.
        """
        count, size = len(cells), members.shape[1]
        position = np.argsort(members, axis=None)[:count]
        group = position // size
        first, second = pairs.first.cpu().numpy(), pairs.second.cpu().numpy()
        i, j = np.divmod(cells[:, 0], shape[1])
        along_y = i[first] == i[second]
        side = 2 * along_y + np.where(
            along_y, j[first] < j[second], i[first] < i[second]
        )  # of the first leaf
        one, other, opposite = position[first], position[second], side ^ 1
        apart = group[first] != group[second]
        near = np.repeat(np.arange(members.size)[:, None], 4, axis=1)  # a slot itself, where E is zero
        near[one[apart], side[apart]], near[other[apart], opposite[apart]] = other[apart], one[apart]
        ends, turned = (
            np.stack([group[first], group[second], side]),
            np.stack([group[second], group[first], opposite]),
        )
        group_pairs = np.unique(np.where(ends[0] < ends[1], ends, turned)[:, apart], axis=1)
        within, between = np.flatnonzero(~apart), np.flatnonzero(apart)
        crossing = np.append(group[faces.leaves[0]] != group[faces.leaves[1]], False).astype(np.float64)
        # a slot without a leaf repeats one, and nothing of it gets out
        self.crossing, self._members, self._position, self._near = self._moved(
            crossing, np.minimum(members, count - 1).ravel(), position, near.ravel()
        )
        self._own = self._moved(group, position % size)
        self._within = self._moved(within, group[first[within]], one[within] % size, other[within] % size)
        self._apart = self._moved(between, *(of[between] for of in (one, side, other, opposite)))
        self._group_pairs = self._moved(*group_pairs)  # first, second, the side of the first

    def _moved(self, *arrays: np.ndarray) -> list[Tensor]:
        return [torch.from_numpy(np.ascontiguousarray(array)).to(self._device) for array in arrays]

    def _allocate(self, groups: int, size: int) -> None:
        def zeros(*sizes: int) -> Tensor:
            return torch.zeros(sizes, dtype=torch.float64, device=self._device)

        rank, unknowns = self._rank, size * self._rank
        self._blocks = zeros(groups, size, size, rank, rank)
        self._blocks[:, torch.arange(size), torch.arange(size)] = torch.eye(rank).to(self._blocks)
        self._leaving = zeros(groups, size, rank, rank)  # W
        self._couplings = zeros(groups * size, 4, rank, rank)  # E by sides, transposed
        self._inverses = zeros(groups, unknowns, unknowns)
        self._constant, self._columns = zeros(groups, size, rank), zeros(groups, unknowns, COLUMNS)
        (self._sketch,) = self._moved(np.random.default_rng(0).standard_normal((unknowns, COLUMNS - 1)))
        self._top = DenseCoarseSolve(Pairs(*self._group_pairs[:2]), groups, COLUMNS)
        self._unpinned = zeros(groups)
        self._s, self._t, self._w, self._q, self._z = zeros(5, groups, 1, unknowns)
        self._around = zeros(4 * groups * size, rank)
        self._restricted, self._coarse = zeros(2, groups, 1, COLUMNS)

    def follow_geometry(self, mask: Tensor) -> None:
        """Take the coupled cells ``mask`` (K, L): the constant in the basis, whose first column it is."""
        group, slot = self._own
        self._constant[group, slot, 0] = mask.sum(dim=1).double().sqrt()

    def place(self, diagonal: Tensor, off: Tensor, pinned: Tensor, leaving: Tensor) -> None:
        """As CoarseSolve.place, all blocks, and those of W, ``leaving`` (K, r, r) float64."""
        made_definite(diagonal, pinned)
        group, slot = self._own
        self._blocks[group, slot, slot] = diagonal
        self._leaving[group, slot] = leaving
        pairs, group, first, second = self._within
        self._blocks[group, first, second] = off[pairs]
        self._blocks[group, second, first] = off[pairs].mT
        pairs, first, side, second, opposite = self._apart
        self._couplings[first, side] = -off[pairs].mT
        self._couplings[second, opposite] = -off[pairs]

    def factorise(self) -> None:
        """Follow the blocks that were placed: group inverses, V, and the inverse of V^T A_c V."""
        groups, size, rank, _ = self._leaving.shape
        blocks = self._blocks.transpose(2, 3).reshape(self._inverses.shape)
        factors, info = torch.linalg.cholesky_ex(blocks)
        self._inverses.copy_(inverse_of_factors(factors))
        self._inverses.masked_fill_((info != 0)[:, None, None], torch.nan)
        by_leaf = self._inverses.view(groups, -1, size, rank).transpose(1, 2)  # (G, s, s r, r)
        power = (by_leaf @ self._leaving).transpose(1, 2).reshape(self._inverses.shape)
        for _ in range(DOUBLINGS):
            power = power @ power
        columns = torch.cat([self._constant.view(groups, -1, 1), power @ self._sketch], dim=-1)
        self._columns.copy_(orthonormalised(columns))
        columns = self._columns
        near = columns.view(-1, rank, COLUMNS)[self._near].view(-1, 4, rank, COLUMNS)
        images = (self._couplings.mT @ near).view(groups, size, 4, rank, COLUMNS)  # of E, (G, s, 4, r, c)
        images = images.transpose(1, 2).reshape(groups, 4, size * rank, COLUMNS)
        first, _, side = self._group_pairs
        between = columns.mT[first] @ images[first, side]
        self._top.place(columns.mT @ (blocks @ columns), -between, self._unpinned)
        self._top.factorise()

    def solve(self, right: Tensor, out: Tensor) -> Tensor:
        """``out`` = Z ``right``, (K r,) float64, leaf by leaf; NaN if factorising failed."""
        rank, slots = self._rank, len(self._couplings)
        s, t, w, columns = self._s, self._t, self._w, self._columns
        torch.index_select(right.view(-1, rank), 0, self._members, out=s.view(slots, rank))
        torch.bmm(s, self._inverses, out=t)
        torch.bmm(self._beside(t), self._couplings.view(slots, -1, rank), out=self._q.view(slots, 1, rank))
        torch.bmm(self._q, columns, out=self._restricted)
        self._top.solve(self._restricted.view(-1), out=self._coarse.view(-1))
        torch.baddbmm(t, self._coarse, columns.mT, out=w)
        beside, couplings = self._beside(w), self._couplings.view(slots, -1, rank)
        torch.baddbmm(s.view(slots, 1, rank), beside, couplings, out=self._q.view(slots, 1, rank))
        torch.bmm(self._q, self._inverses, out=self._z)
        torch.index_select(self._z.view(slots, rank), 0, self._position, out=out.view(-1, rank))
        return out

    def _beside(self, v: Tensor) -> Tensor:
        """What the leaves beside each have of ``v`` (G, 1, s r), (G s, 1, 4 r); overwritten by the next."""
        torch.index_select(v.view(-1, self._rank), 0, self._near, out=self._around)
        return self._around.view(len(self._couplings), 1, -1)
