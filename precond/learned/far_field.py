"""The far field of the definite hierarchical matrix: a product over the levels of the partition's tiles.

In the coordinates of a basis U of the leaves, orthonormal in the energy of their blocks, A is the coarse
operator A_c, with identities as diagonal blocks. Its inverse is approximated by W W^T,

    W = F_0 F_1 ... F_top,    F_l = 1 + blockdiag over the tiles of level l of Q (K - 1) Q^T,

where Q = blockdiag(Q_rows, Q_columns) are q orthonormal columns for each of the tile's two strips and K K^T
is the inverse of Q^T W_l^T A_c W_l Q, W_l the product of the finer levels: the tile is exact on what its
columns span. W W^T is positive definite whatever the columns are. It is the symmetric factorisation of
hierarchical matrices of Ambikasaran, O'Neil and Singh (arXiv 1405.0223) on the weakly admissible partition of
arXiv 2605.13343, with columns that are proposed, not computed by compression of a known matrix.

P slots of leaves, r columns of U a leaf, q columns a strip, m vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from precond.learned.compiled_far_field import DEPENDENT, SHIFT, TINIEST
from precond.partition.tree import LeafTree


@dataclass
class FarField:
    """W of a tree, level by level. columns: (2 tiles, 2^level r, q) each. cores: K - 1, (tiles, 2 q, 2 q)
    each.
    """

    columns: list[Tensor] = field(default_factory=list)
    cores: list[Tensor] = field(default_factory=list)

    def times(self, vectors: Tensor) -> Tensor:
        """W ``vectors`` (P, r, m)."""
        shape = vectors.shape
        for columns, core in zip(reversed(self.columns), reversed(self.cores), strict=True):
            vectors = _factor(vectors, columns, core)
        return vectors.view(shape)

    def transposed_times(self, vectors: Tensor) -> Tensor:
        """W^T ``vectors`` (P, r, m)."""
        shape = vectors.shape
        for columns, core in zip(self.columns, self.cores, strict=True):
            vectors = _factor(vectors, columns, core.mT)
        return vectors.view(shape)


def _factor(vectors: Tensor, columns: Tensor, core: Tensor) -> Tensor:
    """One level's F for ``vectors`` of P r rows: pool both strips of every tile, mix, prolong."""
    strips, rows, rank = columns.shape
    vectors = vectors.view(strips, rows, -1)
    pooled = torch.bmm(columns.mT, vectors)  # (2 tiles, q, m)
    mixed = torch.bmm(core, pooled.view(len(core), 2 * rank, -1))  # (tiles, 2 q, m)
    return torch.baddbmm(vectors, columns, mixed.view(strips, rank, -1))


def factorised(tree: LeafTree, couplings: Tensor, proposals: Tensor) -> FarField:
    """W for the coarse operator with blocks ``couplings`` (p, r, r) in the order of the tree's pairs and
    identities on its diagonal, float64; differentiable, without a host sync.

    ``proposals`` (levels, P, r, q) are functions on the strips of each level: what a tile couples is spanned
    by A_c times those of its sibling.
    """
    far = FarField()
    rank = proposals.shape[-1]
    identity = torch.eye(2 * rank, dtype=proposals.dtype, device=proposals.device)
    for level, proposed in enumerate(proposals):
        inner, crossing = slice(tree.ends[level]), slice(tree.ends[level], tree.ends[level + 1])
        strips = (tree.count >> level, -1, rank)
        traces = far.transposed_times(product(tree, couplings, crossing, proposed)).view(strips)
        columns = traces @ _inverse(triangle(traces.mT @ traces)).mT  # (2 tiles, 2^level r, q)
        lacking = identity[:rank, :rank] - columns.mT @ columns  # where columns depend on others
        functions = far.times(columns.view_as(proposed))  # (P, r, q)
        inside = functions + product(tree, couplings, inner, functions)
        outside = product(tree, couplings, crossing, functions)
        functions, inside, outside = (part.view(strips) for part in (functions, inside, outside))
        own = (functions.mT @ inside + lacking).unflatten(0, (-1, 2))  # (tiles, 2, q, q)
        across = (functions.mT @ outside)[::2]  # (tiles, q, q)
        galerkin = torch.cat(
            [torch.cat([own[:, 0], across], dim=-1), torch.cat([across.mT, own[:, 1]], dim=-1)], dim=-2
        )  # (tiles, 2 q, 2 q)
        far.columns.append(columns)
        factors = torch.linalg.cholesky_ex(galerkin + SHIFT * identity).L
        far.cores.append(_inverse(factors).mT - identity)
    return far


def triangle(gram: Tensor) -> Tensor:
    """L of the Gram matrices ``gram`` (n, k, k) = L L^T of columns, of which some may depend on others or be
    zero: these lose length when they are divided by it.
    """
    small = DEPENDENT * gram.diagonal(dim1=1, dim2=2) + TINIEST
    return torch.linalg.cholesky_ex(gram + torch.diag_embed(small)).L


def _inverse(factors: Tensor) -> Tensor:
    """L^-1 of lower triangular ``factors`` (n, k, k)."""
    identity = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device).expand_as(factors)
    return torch.linalg.solve_triangular(factors, identity, upper=False)


def product(tree: LeafTree, couplings: Tensor, which: slice, vectors: Tensor) -> Tensor:
    """The blocks of ``which`` of the tree's pairs, and their transposes, times ``vectors`` (P, r, m)."""
    first, second, blocks = tree.first[which], tree.second[which], couplings[which]
    out = torch.zeros_like(vectors).index_add(0, first, blocks @ vectors[second])
    return out.index_add(0, second, blocks.mT @ vectors[first])
