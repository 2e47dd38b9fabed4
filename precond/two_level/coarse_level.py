"""The coarse system on a GPU: a dense inverse, or for a large one a level of its own, as batched products.

Parts are taken together in groups, aligned squares: leaves in groups of 32 x 32 cells, those in groups of 16,
and so on until a dense inverse is cheap. With A_c = G - E, G the groups' diagonal blocks, V a few columns a
group and Y near (V^T A_c V)^-1, Z s is one symmetric cycle:

    t = G^-1 s,    w = t + V Y V^T E t,    Z s = G^-1 (s + E w).

Groups are coloured as a chessboard, so the eigenvalues of G^-1 A_c lie between 0 and 2, and Z is semidefinite
for any definite Y: exact solves in groups leave E alone to be multiplied by. V spans what G^-1 W amplifies, W
the weights of the faces that leave a group in the leaves' basis: (G^-1 W)^16 of random columns, the constant
always among them (Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithm 4.4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from precond.factorisation import inverse_of_factors
from precond.partition.leaf_faces import LeafFaces
from precond.partition.morton import groups, sides
from precond.two_level.bases import orthonormalised
from precond.two_level.coarse_operator import LeafPairs, Pairs
from precond.two_level.coarse_solve import DenseCoarseSolve, made_definite

DENSE = 2_000  # unknowns up to which a dense inverse is the cheaper one: where docs/gpu.md's models meet
GROUP = 1024  # cells of a group of leaves: 32 x 32
GROUPS = 16  # of those in a group on the next level
COLUMNS = 48, 96  # of V in a group: of leaves, and of groups
DOUBLINGS = 4  # of G^-1 W


def coarse_level_of_leaves(
    pairs: LeafPairs, faces: LeafFaces, cells: np.ndarray, shape: tuple[int, int], rank: int
) -> CoarseLevel:
    """The level above the leaves ``cells`` (K, L) int64 of a grid of ``shape``, ``rank`` columns each."""
    corners = np.divmod(cells[:, 0], shape[1])  # the lowest cell comes first, and exists
    where = np.stack([np.unique(corner, return_inverse=True)[1] for corner in corners])
    size = max(2, GROUP // cells.shape[1])
    return CoarseLevel(pairs, faces, where, np.arange(len(cells)), rank, size, COLUMNS[0])


class CoarseLevel:
    """Z of K parts with ``rank`` columns each: `update_geometry`, `place` all blocks, `factorise`, `solve`.

    ``where`` (2, K) int64 says where the parts stand in a grid of parts; ``of_leaf`` (leaves,) which part a
    leaf of ``faces`` is of. ``size`` parts make a group, which keeps so many ``columns``.

    crossing: for this level and those above it (faces + 1,) float64, 1 for faces between two groups, else 0,
    in leaf_faces.face_weights' order.
    """

    def __init__(
        self,
        pairs: Pairs,
        faces: LeafFaces,
        where: np.ndarray,
        of_leaf: np.ndarray,
        rank: int,
        size: int,
        columns: int,
    ):
        self._rank, self._kept, self._device = rank, columns, pairs.first.device
        members = groups(*where, size)
        count, of_leaf = len(members), self._index(members, pairs, where)[of_leaf]
        crossing = np.append(of_leaf[faces.leaves[0]] != of_leaf[faces.leaves[1]], False)
        above = Pairs(*self._group_pairs[:2])
        if count * columns <= DENSE:
            self._above = DenseCoarseSolve(above, count, columns)
        else:
            place = where[:, members.min(axis=1)] // np.reshape(sides(size), (2, 1))
            self._above = CoarseLevel(above, faces, place, of_leaf, columns, GROUPS, COLUMNS[1])
        self.crossing = (*self._moved(crossing.astype(np.float64)), *self._above.crossing)
        self._allocate(*members.shape)

    def _index(self, members: np.ndarray, pairs: Pairs, where: np.ndarray) -> np.ndarray:
        """Where parts and pairs stand by the groups' ``members`` (G, s), K where there is none: part k at the
        slot position[k] of G s. Returns the parts' groups, (K,).
        """
        count, size = where.shape[1], members.shape[1]
        position = np.argsort(members, axis=None)[:count]
        group = position // size
        first, second = pairs.first.cpu().numpy(), pairs.second.cpu().numpy()
        i, j = where
        along_y = i[first] == i[second]
        side = 2 * along_y + np.where(along_y, j[first] < j[second], i[first] < i[second])  # of the first one
        one, other, opposite = position[first], position[second], side ^ 1
        apart = group[first] != group[second]
        near = np.repeat(np.arange(members.size)[:, None], 4, axis=1)  # a slot itself, where E is zero
        near[one[apart], side[apart]], near[other[apart], opposite[apart]] = other[apart], one[apart]
        ends = np.stack([group[first], group[second], side])
        turned = np.stack([group[second], group[first], opposite])
        group_pairs = np.unique(np.where(ends[0] < ends[1], ends, turned)[:, apart], axis=1)
        within, between = np.flatnonzero(~apart), np.flatnonzero(apart)
        # a slot without a part repeats one, and nothing of it gets out
        self._members, self._position, self._near = self._moved(
            np.minimum(members, count - 1).ravel(), position, near.ravel()
        )
        self._own = self._moved(group, position % size)
        self._within = self._moved(within, group[first[within]], one[within] % size, other[within] % size)
        self._apart = self._moved(between, *(of[between] for of in (one, side, other, opposite)))
        self._group_pairs = self._moved(*group_pairs)  # first, second, the side of the first
        return group

    def _moved(self, *arrays: np.ndarray) -> list[Tensor]:
        return [torch.from_numpy(np.ascontiguousarray(array)).to(self._device) for array in arrays]

    def _allocate(self, count: int, size: int) -> None:
        def zeros(*sizes: int) -> Tensor:
            return torch.zeros(sizes, dtype=torch.float64, device=self._device)

        rank, unknowns = self._rank, size * self._rank
        self._blocks = zeros(count, size, size, rank, rank)
        self._blocks[:, torch.arange(size), torch.arange(size)] = torch.eye(rank).to(self._blocks)
        self._leaving = zeros(len(self.crossing), count, size, rank, rank)  # W, for each level
        self._couplings = zeros(count * size, 4, rank, rank)  # E by sides, transposed
        self._inverses = zeros(count, unknowns, unknowns)
        self._constant, self._columns = zeros(count, size, rank), zeros(count, unknowns, self._kept)
        (self._sketch,) = self._moved(np.random.default_rng(0).standard_normal((unknowns, self._kept - 1)))
        self._unpinned = zeros(count)
        self._s, self._t, self._w, self._q, self._z = zeros(5, count, 1, unknowns)
        self._around = zeros(4 * count * size, rank)
        self._restricted, self._coarse = zeros(2, count, 1, self._kept)

    def update_geometry(self, length: Tensor) -> None:
        """Take the ``length`` (K,) float64 of the constant in each part, of which its first column is a
        multiple.
        """
        group, slot = self._own
        self._constant[group, slot, 0] = length
        self._above.update_geometry(torch.linalg.vector_norm(self._constant.flatten(1), dim=1))

    def place(self, diagonal: Tensor, off: Tensor, pinned: Tensor, *leaving: Tensor) -> None:
        """As CoarseSolve.place, all blocks, and those of W for each of ``crossing``, (K, r, r) float64."""
        made_definite(diagonal, pinned)
        group, slot = self._own
        self._blocks[group, slot, slot] = diagonal
        self._leaving[:, group, slot] = torch.stack(leaving)
        pairs, group, first, second = self._within
        self._blocks[group, first, second] = off[pairs]
        self._blocks[group, second, first] = off[pairs].mT
        pairs, first, side, second, opposite = self._apart
        self._couplings[first, side] = -off[pairs].mT
        self._couplings[second, opposite] = -off[pairs]

    def factorise(self) -> None:
        """Follow the blocks that were placed: group inverses, V, and Y."""
        (levels, count, size, rank, _), kept = self._leaving.shape, self._kept
        blocks = self._blocks.transpose(2, 3).reshape(self._inverses.shape)
        factors, info = torch.linalg.cholesky_ex(blocks)
        self._inverses.copy_(inverse_of_factors(factors))
        self._inverses.masked_fill_((info != 0)[:, None, None], torch.nan)
        by_part = self._inverses.view(count, -1, size, rank).transpose(1, 2)  # (G, s, s r, r)
        power = (by_part @ self._leaving[0]).transpose(1, 2).reshape(self._inverses.shape)
        for _ in range(DOUBLINGS):
            power = power @ power
        columns = torch.cat([self._constant.view(count, -1, 1), power @ self._sketch], dim=-1)
        self._columns.copy_(orthonormalised(columns))
        columns, rows = self._columns, self._columns.mT
        by_part = columns.view(count, size, rank, kept)
        near = by_part.view(-1, rank, kept)[self._near].view(-1, 4, rank, kept)
        images = (self._couplings.mT @ near).view(count, size, 4, rank, kept)  # of E, (G, s, 4, r, c)
        images = images.transpose(1, 2).reshape(count, 4, size * rank, kept)
        first, _, side = self._group_pairs
        leaving = [rows @ (self._leaving[level] @ by_part).view_as(columns) for level in range(1, levels)]
        own, between = rows @ (blocks @ columns), rows[first] @ images[first, side]
        self._above.place(own, -between, self._unpinned, *leaving)
        self._above.factorise()

    def solve(self, right: Tensor, out: Tensor) -> Tensor:
        """``out`` = Z ``right``, (K r,) float64, part by part; NaN if factorising failed."""
        rank, slots = self._rank, len(self._couplings)
        s, t, w, columns = self._s, self._t, self._w, self._columns
        torch.index_select(right.view(-1, rank), 0, self._members, out=s.view(slots, rank))
        torch.bmm(s, self._inverses, out=t)
        torch.bmm(self._beside(t), self._couplings.view(slots, -1, rank), out=self._q.view(slots, 1, rank))
        torch.bmm(self._q, columns, out=self._restricted)
        self._above.solve(self._restricted.view(-1), out=self._coarse.view(-1))
        torch.baddbmm(t, self._coarse, columns.mT, out=w)
        beside, couplings = self._beside(w), self._couplings.view(slots, -1, rank)
        torch.baddbmm(s.view(slots, 1, rank), beside, couplings, out=self._q.view(slots, 1, rank))
        torch.bmm(self._q, self._inverses, out=self._z)
        torch.index_select(self._z.view(slots, rank), 0, self._position, out=out.view(-1, rank))
        return out

    def _beside(self, v: Tensor) -> Tensor:
        """What the parts beside each have of ``v`` (G, 1, s r), (G s, 1, 4 r); overwritten by the next."""
        torch.index_select(v.view(-1, self._rank), 0, self._near, out=self._around)
        return self._around.view(len(self._couplings), 1, -1)
