"""Diagonal scaling."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner


class Jacobi(Preconditioner):
    """M = 1 / diagonal(A), zero where the diagonal is zero (solid and isolated cells)."""

    name = "jacobi"
    capturable = True

    def __init__(self, operator: PoissonOperator):
        super().__init__(operator)
        self._inverse = torch.zeros_like(operator.diagonal())
        self._empty = torch.zeros_like(self._inverse, dtype=torch.bool)

    def _setup(self) -> None:
        diagonal = self.operator.diagonal()
        torch.reciprocal(diagonal, out=self._inverse)
        torch.eq(diagonal, 0.0, out=self._empty)
        self._inverse.masked_fill_(self._empty, 0.0)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        torch.mul(self._inverse, residual, out=out)
