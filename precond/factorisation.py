"""The operator as a nonsingular matrix, for factorisations on the CPU."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.poisson import PoissonOperator


def pinned_matrix(operator: PoissonOperator) -> scipy.sparse.csr_matrix | None:
    """A, one diagonal entry per sealed component doubled, with ones for empty rows: positive definite.

    For a right-hand side of mean zero over every sealed component its solution solves A x = b exactly, being
    zero in the doubled cells: the sum of all equations of a component says so. None when A is not finite.
    """
    matrix = operator.to_csr()
    if not np.isfinite(matrix.data).all():
        return None
    diagonal = operator.diagonal().cpu().numpy().ravel()
    extra = np.zeros_like(diagonal)
    anchors = operator.anchors.cpu().numpy()[operator.sealed]
    extra[anchors] = diagonal[anchors]
    extra[diagonal == 0] = 1.0
    return scipy.sparse.csr_matrix(matrix + scipy.sparse.diags_array(extra))


def symmetric_factors(matrix: scipy.sparse.sparray) -> scipy.sparse.linalg.SuperLU:
    """SuperLU of a positive definite matrix: no pivoting, minimum degree ordering of A^T + A."""
    return scipy.sparse.linalg.splu(
        scipy.sparse.csc_array(matrix),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def inverse_of_factors(factors: Tensor) -> Tensor:
    """(F F^T)^-1 of lower triangular ``factors`` (..., n, n), as torch.cholesky_inverse but with no look at
    the result, for which a host would wait.
    """
    identity = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
    inverse = torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False)
    return inverse.mT @ inverse
