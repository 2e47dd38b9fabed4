"""Incomplete Cholesky factorisation without fill-in, by the library ilupp."""

from __future__ import annotations

import math

import ilupp
from torch import Tensor

from precond.factorisation import pinned_matrix
from precond.preconditioner import Preconditioner


class IncompleteCholesky(Preconditioner):
    """IC(0) of the pinned matrix in the grid's own order (Meijerink and van der Vorst 1977)."""

    name = "ic0"
    cpu_only = True

    def _setup(self) -> None:
        matrix = pinned_matrix(self.operator)
        self._factors = None if matrix is None else ilupp.IChol0Preconditioner(matrix)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._factors is None:
            out.fill_(math.nan)
            return
        out.copy_(residual)
        self._factors.apply(out.view(-1).numpy())
