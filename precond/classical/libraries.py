"""Preconditioners whose work a library does on the CPU, with the pinned matrix."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.factorisation import pinned_matrix, symmetric_factors
from precond.preconditioner import Preconditioner

Solution = Callable[[np.ndarray], np.ndarray]  # of (cells,) vectors


class OfLibrary(Preconditioner):
    """A library's solution with the pinned matrix; NaN where that is not finite."""

    cpu_only = True

    def _setup(self) -> None:
        matrix = pinned_matrix(self.operator)
        self._held, self._solution = (None, None) if matrix is None else self._made(matrix)

    def _made(self, matrix: scipy.sparse.csr_matrix) -> tuple[object, Solution]:
        """What holds the factors, and the function that applies them."""
        raise NotImplementedError

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._solution is None:
            out.fill_(math.nan)
            return
        out.view(-1).copy_(torch.from_numpy(self._solution(residual.numpy().ravel())))


class Direct(OfLibrary):
    """SuperLU of the pinned matrix, symmetric mode with a minimum degree ordering: exact up to rounding, so
    that one iteration solves; the reference on the CPU.
    """

    name = "direct"

    def _made(self, matrix: scipy.sparse.csr_matrix) -> tuple[object, Solution]:
        factors = symmetric_factors(matrix)
        return factors, factors.solve


class IncompleteCholesky(OfLibrary):
    """IC(0) of the pinned matrix in the grid's own order (Meijerink and van der Vorst 1977), by ilupp."""

    name = "ic0"

    def _made(self, matrix: scipy.sparse.csr_matrix) -> tuple[object, Solution]:
        import ilupp

        factors = ilupp.IChol0Preconditioner(matrix)
        return factors, factors.matvec
