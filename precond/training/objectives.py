"""What a learned M is trained to minimise, for any form of M.

``apply_m`` and ``apply_a`` map vectors (m, n) to M or A times each row, (m, n); ``project`` takes their part
in A's null space out of them. All losses vanish at M = A^+, are differentiable through ``apply_m`` alone, and
are scalars.

| function | formula, Z = mean-zero probes | scaling of M |
|---|---|---|
| cosine_hutchinson | 1 - cos(vec(M A Z), vec(Z)) | no effect |
| sai | mean over probes of ||M A w - w||^2 | matters |
| kaporin | log(tr(MA) / n) - (1 / n) log det(MA) on A's range | no effect |
| truncated | the same over A's range but for a share of MA's smallest eigenvalues | no effect |

The first two are arXiv 2605.13343's; their gradient vanishes on modes where M A z
is small. The third is the logarithm of Kaporin's condition number (Numer. Linear Algebra Appl. 1, 1994).
The fourth is our reading of the "truncated Kaporin number" of arXiv 2605.13343v3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

FLOOR = 1e-4  # eigenvalues of MA below this share of their mean count as not positive


def smoothed(probes: Tensor, apply_a: Map, diagonal: Tensor, project: Map) -> Tensor:
    """``probes`` (m, n) after two damped Jacobi sweeps z <- z - 0.6 D^-1 A z, projected, without gradient.

    ``diagonal`` (n,) is A's; cells without couplings have zero.
    """
    with torch.no_grad():
        step = torch.where(diagonal > 0.0, 0.6 / diagonal.clamp(min=1e-300), 0.0).to(probes.dtype)
        for _ in range(2):
            probes = probes - step * apply_a(probes)
        return project(probes)


def _image(apply_m: Map, apply_a: Map, probes: Tensor, project: Map) -> tuple[Tensor, Tensor]:
    """The projected ``probes`` (m, n) and their images by M A, (m, n)."""
    with torch.no_grad():
        probes = project(probes)
        image = apply_a(probes)
    return probes, project(apply_m(image))


def cosine_hutchinson(apply_m: Map, apply_a: Map, probes: Tensor, project: Map) -> Tensor:
    """1 - cos of the angle between M A Z and Z, all ``probes`` (m, n) taken as one vector.

    The paper's probes are normal ones, `smoothed`. A positive factor in M changes nothing.
    """
    probes, image = _image(apply_m, apply_a, probes, project)
    return 1.0 - (image * probes).sum() / (image.norm() * probes.norm())


def sai(apply_m: Map, apply_a: Map, probes: Tensor, project: Map) -> Tensor:
    """The sparse-approximate-inverse loss: the mean over ``probes`` (m, n) of ||M A w - w||^2."""
    probes, image = _image(apply_m, apply_a, probes, project)
    return (image - probes).square().sum(dim=1).mean()


def kaporin(apply_m: Map, root: Tensor) -> Tensor:
    """log(tr(MA) / n) - (1 / n) log det(MA) on the range of A, by applying M n times: for small N.

    ``root`` (n, N) is R with R^T R = A, from `root_of`: R M R^T has MA's eigenvalues. Where its symmetric
    part is not positive definite, logarithms are continued linearly below FLOOR times the mean modulus:
    finite, still invariant to scaling, and pushing eigenvalues up.
    """
    product = apply_m(root) @ root.mT  # (n, n)
    product = 0.5 * (product + product.mT)
    factor, failed = torch.linalg.cholesky_ex(product.detach())
    if not bool(failed):
        inverse = torch.cholesky_inverse(factor)  # log det's gradient; through the factor it takes longer
        change = (inverse * (product - product.detach())).sum() / len(product)  # zero, with that gradient
        return product.diagonal().mean().log() - (2.0 * factor.diagonal().log().mean() + change)
    return _of_eigenvalues(torch.linalg.eigvalsh(product))


def truncated(apply_m: Map, root: Tensor, left_out: float = 0.05) -> Tensor:
    """`kaporin` over the eigenvalues of MA on A's range but for the share ``left_out`` of the smallest:
    conjugate gradients take a few outliers, an iteration each.

    Arguments as for `kaporin`, which it equals when nothing is left out. It takes all eigenvectors of a dense
    matrix: for small N. Where M is indefinite and eigenvalues that are kept are not positive, logarithms are
    continued as there.
    """
    product = apply_m(root) @ root.mT  # (n, n)
    eigenvalues = torch.linalg.eigvalsh(0.5 * (product + product.mT))
    return _of_eigenvalues(eigenvalues[int(left_out * len(eigenvalues)) :])


def _of_eigenvalues(eigenvalues: Tensor) -> Tensor:
    """The Kaporin number's logarithm for rising ``eigenvalues`` (n,), continued unless all are positive."""
    if eigenvalues[0] > 0.0:
        return eigenvalues.mean().log() - eigenvalues.log().mean()
    shares = eigenvalues / eigenvalues.abs().mean()
    below = (shares - FLOOR) / FLOOR + math.log(FLOOR)
    return -torch.where(shares > FLOOR, shares.clamp(min=FLOOR).log(), below).mean()


def root_of(matrix: Tensor) -> Tensor:
    """R (n, N) of full rank with R^T R = ``matrix`` (N, N), dense, symmetric, positive semidefinite."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > 1e-12 * values.max()
    return values[kept].sqrt()[:, None] * vectors[:, kept].mT
