"""The spectrum of M A: everything that conjugate gradients can gain from a preconditioner, by dense algebra.

On the range of A, the mean-zero vectors, M A is similar to the symmetric A^1/2 M A^1/2, whose eigenvalues are
computed: all positive where M is definite there, and as many negative ones as M has where it is not
(Sylvester). The condition number bounds the iterations (Hestenes, Stiefel 1952), and so does the Kaporin
number (tr/n)^n / det (Kaporin, Numer. Linear Algebra Appl. 1, 1994), here as its logarithm per n.

A few thousand cells at the most: the cost is cubic in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner

SYMMETRIC = 1e-2  # largest relative asymmetry of A^1/2 M A^1/2 that rounding M to float32 explains


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (n,) float64 of M A on mean-zero vectors, ascending, and asymmetry, the Frobenius norm of
    the skew part of A^1/2 M A^1/2 over that of the symmetric one.
    """

    eigenvalues: np.ndarray
    asymmetry: float

    @property
    def negative(self) -> int:
        """How many eigenvalues are not positive: 0 when M is definite on mean-zero vectors."""
        return int((self.eigenvalues <= 0.0).sum())

    @property
    def condition_number(self) -> float | None:
        """Largest over smallest eigenvalue; None for an indefinite M."""
        return None if self.negative else float(self.eigenvalues[-1] / self.eigenvalues[0])

    @property
    def log_kaporin(self) -> float | None:
        """log(tr / n) - (1/n) log det: 0 when all eigenvalues are equal, else positive; None for an
        indefinite M.
        """
        if self.negative:
            return None
        return max(0.0, math.log(self.eigenvalues.mean()) - float(np.log(self.eigenvalues).mean()))


def dense_preconditioner(preconditioner: Preconditioner) -> np.ndarray:
    """M as PCG uses it, projected: (cells, cells) float64, column k the image of flat fluid cell k.

    One with an `initial_correction` (s = U Z U^T r for the two-level forms) is symmetric only on what that
    start leaves; s + M (r - A s) is the symmetric form with the same spectrum (Tang, Nabben, Vuik, Erlangga,
    J. Sci. Comput. 39, 2009, BNN against A-DEF2). Solid cells have zero rows and columns. Must be set up.
    Raises ArithmeticError when it holds NaN or infinity.
    """
    operator = preconditioner.operator
    unit, start, out = torch.zeros((3, *operator.shape), dtype=torch.float64, device=operator.device)
    cells = unit.numel()
    columns = np.zeros((cells, cells))
    for cell in torch.nonzero(~operator.solid.view(-1))[:, 0].tolist():
        unit.zero_()
        unit.view(-1)[cell] = 1.0
        operator.project(unit)
        started = preconditioner.initial_correction(unit, start)
        if started:
            operator.project(start)
            operator.project(unit.sub_(operator.matvec(start)))
        preconditioner.apply(unit, out)
        if started:
            out.add_(start)
        columns[:, cell] = out.cpu().numpy().ravel()
    if not np.isfinite(columns).all():
        raise ArithmeticError(f"{preconditioner.name} holds NaN or infinity")
    return columns


def root_on_range(operator: PoissonOperator) -> np.ndarray:
    """R (cells, n) float64 with A = R R^T and R^T R diagonal: R^T M R has the eigenvalues of A^1/2 M A^1/2.

    n is the fluid cells less the sealed components, A's kernel.
    """
    fluid = np.flatnonzero(~operator.solid.cpu().numpy().ravel())
    dense = operator.to_csr()[fluid][:, fluid].toarray()
    values, vectors = np.linalg.eigh(dense)
    root = np.zeros((operator.solid.numel(), len(fluid) - operator.nullity))
    root[fluid] = vectors[:, operator.nullity :] * np.sqrt(values[operator.nullity :])
    return root


def spectrum(preconditioner: Preconditioner, root: np.ndarray | None = None) -> Spectrum:
    """The spectrum of a preconditioner that is set up; ``root`` is its operator's `root_on_range`, if
    known. Raises ValueError for an M that is not symmetric, ArithmeticError for one that is not finite.
    """
    root = root_on_range(preconditioner.operator) if root is None else root
    product = root.T @ dense_preconditioner(preconditioner) @ root  # (n, n)
    symmetric, skew = (product + product.T) / 2, (product - product.T) / 2
    asymmetry = float(np.linalg.norm(skew) / np.linalg.norm(symmetric))
    if not asymmetry <= SYMMETRIC:
        raise ValueError(f"{preconditioner.name} is not symmetric: its skew part is {asymmetry:.2g} of it")
    return Spectrum(np.linalg.eigvalsh(symmetric), asymmetry)
