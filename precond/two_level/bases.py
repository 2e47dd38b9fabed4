"""Bases of coarse spaces: r columns per leaf, supported on the leaf's coupled cells, the first one constant.

A basis U is (K, L, r) float32 with orthonormal columns; a column without support of its own (a leaf with
fewer cells than columns) is zero. Only the span of a leaf's columns matters to `coarse-learned`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

DEPENDENT = 1e-4  # a column that keeps less than this share of its length is spanned by those before it


def orthonormalised(columns: Tensor) -> Tensor:
    """Gram-Schmidt over the last dimension of ``columns`` (K, L, r); dependent columns become zero.

    Elimination on the Gram matrix in float64: (r, r) numbers a leaf to work on. The span is exact; the result
    is orthonormal to 1e-5 while columns keep 0.3 % or more of their length, less where many keep less.
    Differentiable, batched over the leaves, without a host sync.
    """
    exact = columns.double()
    gram = exact.mT @ exact  # (K, r, r)
    rank = gram.shape[-1]
    smallest = DEPENDENT**2 * gram.diagonal(dim1=1, dim2=2)  # (K, r)
    identity = torch.eye(rank, dtype=gram.dtype, device=gram.device).expand_as(gram)
    left, rows = torch.cat([gram, identity], dim=-1), []
    for k in range(rank):  # elimination: [G, I] becomes [R, R^-T] for G = R^T R
        pivot = left[:, k, k, None]  # (K, 1)
        scale = torch.where(pivot > smallest[:, k, None], pivot, torch.inf).rsqrt()
        row = left[:, k] * scale  # (K, 2 r)
        left = left - row[:, :rank, None] * row[:, None]
        rows.append(row[:, rank:])
    return (exact @ torch.stack(rows, dim=-1)).to(columns.dtype)


def leaf_positions(shape: tuple[int, int], cells: Tensor, coupled: Tensor) -> Tensor:
    """Each cell's place relative to the centre of its leaf's coupled cells, in units of half a square leaf's
    side: (K, L, 2) float32, zero where ``coupled`` (K, L) bool is not. On the host.
    """
    leaf_size = coupled.shape[1]
    cells = cells.cpu().numpy()  # (K, L)
    inside = coupled.cpu().numpy()[..., None]
    places = np.stack([cells // shape[1], cells % shape[1]], axis=-1).astype(np.float64)  # (K, L, 2)
    count = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    centre = (places * inside).sum(axis=1, keepdims=True) / count
    relative = (places - centre) / (0.5 * np.sqrt(leaf_size)) * inside
    return torch.from_numpy(relative.astype(np.float32)).to(coupled.device)


def monomials(positions: Tensor, mask: Tensor, rank: int) -> Tensor:
    """1, x, y, xy, x^2, y^2, x^2 y, x y^2, ... of ``positions`` (K, L, 2), which are relative to the leaf and
    of order one, where ``mask`` (K, L) is 1: (K, L, rank). Raises ValueError for a rank above 16.
    """
    x, y = positions[..., 0], positions[..., 1]
    powers = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (3, 0), (0, 3), (2, 2), (3, 1)]
    powers += [(1, 3), (3, 2), (2, 3), (3, 3)]
    if rank > len(powers):
        raise ValueError(f"rank must be at most {len(powers)}, not {rank}")
    return torch.stack([x**a * y**b for a, b in powers[:rank]], dim=-1) * mask[..., None]


def iterated(columns: Tensor, inverses: Tensor, leaving: Tensor, mask: Tensor, iterations: int) -> Tensor:
    """A basis (K, L, m + 1) of the constant and ``columns`` (K, L, m) after leaf iterations U <- D^-1 W U,
    with ``inverses`` D^-1 (K, L, L) and ``leaving`` the diagonal of W (K, L): subspace iteration towards
    `geneo_modes`. D^-1 W 1 = 1, so the constant stays. All of one dtype; differentiable, without a host sync.
    """
    for step in range(iterations):
        columns = inverses @ (leaving[..., None] * columns) * mask[..., None]
        whole = torch.cat([mask[..., None], columns], dim=-1)
        if step + 1 < iterations:
            columns = orthonormalised(whole)[..., 1:]
    return orthonormalised(torch.cat([mask[..., None], columns], dim=-1))


def geneo_modes(blocks: Tensor, mask: Tensor, rank: int) -> Tensor:
    """The ``rank`` lowest generalised eigenvectors of every leaf, (K, L, rank), in the dtype of ``blocks``
    (K, L, L).

    With N the leaf's matrix without its faces to other leaves, N v = lambda D v: where lambda is small, D^-1
    misses what the neighbours do, as in GenEO (Spillane et al., Numer. Math. 126, 2014). Cells where ``mask``
    (K, L) is 0 stay out, at lambda = 1. NaN for blocks that are not finite.
    """
    if not bool(torch.isfinite(blocks).all()):
        return torch.full_like(blocks[..., :rank], torch.nan)
    factors = torch.linalg.cholesky(blocks)
    leaving = blocks.sum(dim=-1) * mask  # weights of the faces that leave the leaf
    inner = blocks - torch.diag_embed(leaving)
    scaled = torch.linalg.solve_triangular(factors, inner, upper=False)
    scaled = torch.linalg.solve_triangular(factors, scaled.mT, upper=False)
    _, vectors = torch.linalg.eigh(scaled)
    modes = torch.linalg.solve_triangular(factors.mT, vectors[..., :rank], upper=True)
    return modes * mask[..., None]
