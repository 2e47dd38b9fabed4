"""Ritz values: what conjugate gradients have seen of the spectrum of M A, from their own coefficients.

k iterations of CG are k steps of the Lanczos process: the matrix of A in its basis is tridiagonal with

    T[j, j] = 1 / alpha_j + beta_j / alpha_(j-1),    T[j, j+1] = T[j+1, j] = sqrt(beta_(j+1)) / alpha_j,

beta_j being the factor of the direction before in the j-th one, beta_0 = 0 (Saad, Iterative Methods for
Sparse Linear Systems, 2nd ed., 2003, 6.7.3). With a preconditioner the same holds for M^1/2 A M^1/2, whose
eigenvalues are those of M A. The eigenvalues of T, Ritz values, lie between the extreme eigenvalues of M A
and find the isolated and the extreme ones first.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg


def ritz_values(coefficients: np.ndarray) -> np.ndarray:
    """The Ritz values (k,) float64, ascending, of k iterations with ``coefficients`` (k, 2) alpha and beta.

    Raises ValueError where there are none: no iterations, or coefficients of no symmetric definite M.
    """
    if not len(coefficients):
        raise ValueError("no iterations, no Ritz values")
    alpha, beta = coefficients.T
    if not (np.isfinite(coefficients).all() and (alpha > 0.0).all() and (beta >= 0.0).all()):
        raise ValueError(
            "this preconditioner is not one symmetric M, so its coefficients are no Lanczos matrix"
        )
    diagonal = 1.0 / alpha
    diagonal[1:] += beta[1:] / alpha[:-1]
    return scipy.linalg.eigvalsh_tridiagonal(diagonal, np.sqrt(beta[1:]) / alpha[:-1])
