"""The system that other libraries' solvers get: the coupled cells of a frame as a CSR matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from precond import PoissonOperator
from precond.factorisation import pinned_matrix


@dataclass(frozen=True)
class PeerSystem:
    """A x = b of the n cells that are coupled to any: matrix (n, n) CSR float64, semidefinite; pinned, the
    same with the diagonal of one cell per component doubled; cells (n,), their flat indices; component (n,),
    of each cell.
    """

    matrix: scipy.sparse.csr_matrix
    pinned: scipy.sparse.csr_matrix
    cells: np.ndarray
    component: np.ndarray

    @classmethod
    def of(cls, operator: PoissonOperator) -> PeerSystem:
        """The system of ``operator``. Raises ValueError when it is not finite."""
        pinned = pinned_matrix(operator)
        if pinned is None:
            raise ValueError("the matrix is not finite")
        cells = np.flatnonzero(operator.diagonal().cpu().numpy().ravel() > 0.0)
        full = scipy.sparse.csr_matrix(operator.to_csr())
        _, component = np.unique(operator.labels.ravel()[cells], return_inverse=True)
        return cls(full[cells][:, cells].tocsr(), pinned[cells][:, cells].tocsr(), cells, component)

    def vector(self, grid: torch.Tensor) -> np.ndarray:
        """``grid`` (nx, ny) at the cells, (n,)."""
        return grid.cpu().numpy().ravel()[self.cells]

    def projected(self, preconditioner: Any) -> scipy.sparse.linalg.LinearOperator:
        """``preconditioner`` of `pinned` as one of `matrix`: means over components are taken out of its
        results, in which rounding otherwise piles up until CG finds the matrix indefinite.
        """
        sizes = np.bincount(self.component)

        def apply(r: np.ndarray) -> np.ndarray:
            z = preconditioner @ r
            if len(sizes) == 1:
                return z - z.mean()
            return z - (np.bincount(self.component, z) / sizes)[self.component]

        return scipy.sparse.linalg.LinearOperator(self.matrix.shape, matvec=apply, dtype=np.float64)

    def grid(self, vector: np.ndarray, shape: tuple[int, int]) -> torch.Tensor:
        """``vector`` (n,) on the grid, (nx, ny) float64, zero in the other cells."""
        values = np.zeros(shape[0] * shape[1])
        values[self.cells] = vector
        return torch.from_numpy(values).view(shape)
