"""The Kaporin number of `coarse-learned` in closed form: what training minimises, without probes or noise.

K(MA) = (tr(MA) / n) / det(MA)^(1/n) on the n-dimensional range of A bounds the iterations of conjugate
gradients (Kaporin, Numer. Linear Algebra Appl. 1, 1994). With D the leaf blocks, A = D + O, G = U^T D U, A_c
= U^T A U, Z = A_c^+, m the rank of A_c, everything but the coarse space is constant:

    additive, M = D^-1 + U Z U^T:            tr(MA) = N + m
                                             log det MA = const + log det(A_c + G) - log det' A_c
    balanced, M = P^T D^-1 P + U Z U^T:      tr(MA) = N + m - tr(Z U^T A D^-1 A U)
                                             log det MA = const + log det G - log det' A_c

where U^T A D^-1 A U = 2 A_c - G + H, H = (O U)^T D^-1 (O U), and det' leaves out A's kernel, the constants.
Only the span of U matters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from precond.two_level.coarse_operator import LeafPairs, assembled, galerkin_blocks


def constant_coefficients(basis: Tensor) -> Tensor:
    """Unit vector n with U n constant, (K r,): the kernel of A_c for a box with one fluid component.

    ``basis`` (K, L, r) has orthonormal columns, the first of every leaf constant.
    """
    coefficients = torch.zeros(basis.shape[0], basis.shape[2], dtype=basis.dtype, device=basis.device)
    coefficients[:, 0] = (basis[..., 0] > 0.0).sum(dim=1).to(basis.dtype).sqrt()
    return coefficients.view(-1) / coefficients.norm()


def _log_det(factor: Tensor) -> Tensor:
    return 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum()


def additive_objective(basis: Tensor, blocks: Tensor, pairs: LeafPairs, weights: Tensor) -> Tensor:
    """-(1/K) [log det(A_c + G) - log det' A_c]: falls as the additive form's Kaporin number falls.

    ``basis`` (K, L, r) and ``blocks`` (K, L, L) float64, ``weights`` from leaf_faces.face_weights; a scalar.
    """
    coarse, diagonal, kernel = _coarse(basis, blocks, pairs, weights)
    both = torch.linalg.cholesky(coarse + torch.block_diag(*diagonal))
    shifted = torch.linalg.cholesky(coarse + torch.outer(kernel, kernel))
    return -(_log_det(both) - _log_det(shifted)) / basis.shape[0]


def balanced_objective(basis: Tensor, blocks: Tensor, pairs: LeafPairs, weights: Tensor) -> Tensor:
    """(n/K) log K(MA) of the two-level form up to a constant; arguments as for additive_objective."""
    coarse, diagonal, kernel = _coarse(basis, blocks, pairs, weights)
    count, _, rank = basis.shape
    size = int((basis[..., 0] > 0.0).sum())
    factor = torch.linalg.cholesky(coarse + torch.outer(kernel, kernel))
    inverse = torch.cholesky_inverse(factor) - torch.outer(kernel, kernel)  # Z
    leaves_of, product = _off_leaf_products(basis, blocks, pairs, weights)  # (K, n), (K, n r, n r)
    inverse_blocks = inverse.view(count, rank, count, rank).transpose(1, 2)  # (K, K, r, r)
    local = inverse_blocks[leaves_of[:, :, None], leaves_of[:, None, :]]  # (K, n, n, r, r)
    local = local.transpose(2, 3).reshape(product.shape)
    own = inverse_blocks[torch.arange(count), torch.arange(count)]
    trace = size - (count * rank - 1) + (own * diagonal).sum() - (local * product).sum()
    determinant = _log_det(torch.linalg.cholesky(diagonal)) - _log_det(factor)
    return (trace.log() * (size - 1) - determinant) / count


def truncated_objective(
    basis: Tensor, blocks: Tensor, pairs: LeafPairs, weights: Tensor, left_out: float = 0.05
) -> Tensor:
    """-(1/K) sum_i log(1 + 1/lambda_i) + const over the Ritz values lambda_i of (A_c, G) but for the share
    ``left_out`` of the smallest: conjugate gradients takes a few outliers, an iteration each.

    Our reading of the "truncated Kaporin number" of arXiv 2605.13343v3. Arguments as for additive_objective,
    which it equals when nothing is left out.
    """
    coarse, diagonal, kernel = _coarse(basis, blocks, pairs, weights)
    count, _, rank = basis.shape
    inverse = torch.block_diag(*torch.linalg.inv(torch.linalg.cholesky(diagonal)))
    values = torch.linalg.eigvalsh(inverse @ coarse @ inverse.mT)[1:]  # (K r - 1,), without the kernel's zero
    kept = values[int(left_out * len(values)) :]
    constant = (kernel.view(count, 1, rank) @ diagonal @ kernel.view(count, rank, 1)).sum().log()
    return -(torch.log1p(1.0 / kept).sum() + constant) / count


def _coarse(
    basis: Tensor, blocks: Tensor, pairs: LeafPairs, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    diagonal, off = galerkin_blocks(basis, blocks, pairs, weights)
    absent = (diagonal.detach().diagonal(dim1=1, dim2=2) == 0.0).to(diagonal.dtype)  # columns without cells
    diagonal = diagonal + torch.diag_embed(absent)
    return assembled(diagonal, off, pairs), diagonal, constant_coefficients(basis)


def _off_leaf_products(
    basis: Tensor, blocks: Tensor, pairs: LeafPairs, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """For every leaf k its neighbours (K, n) and (A_kl U_l)^T D_k^-1 (A_km U_m) over them, (K, n r, n r).

    Leaves with fewer than n neighbours repeat themselves with zero products.
    """
    count, size, rank = basis.shape
    leaf, other = torch.cat([pairs.first, pairs.second]), torch.cat([pairs.second, pairs.first])
    here, there = torch.cat([pairs.inside, pairs.outside]), torch.cat([pairs.outside, pairs.inside])
    order, degrees = leaf.argsort(stable=True), torch.bincount(leaf, minlength=count)
    slot = torch.empty_like(leaf)
    slot[order] = torch.arange(len(leaf)) - (degrees.cumsum(0) - degrees)[leaf[order]]
    widest = int(degrees.max())
    neighbour = torch.arange(count)[:, None].repeat(1, widest)
    neighbour[leaf, slot] = other
    values = basis.reshape(-1, rank)[there] * -weights[pairs.face].repeat(2, 1)[..., None]  # (2 P, F, r)
    target = (leaf[:, None] * size + here % size) * widest + slot[:, None]  # (2 P, F)
    columns = basis.new_zeros(count * size * widest, rank)
    columns = columns.index_add(0, target.view(-1), values.view(-1, rank)).view(count, size, -1)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(blocks), columns, upper=False)
    return neighbour, half.mT @ half
