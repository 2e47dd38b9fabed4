"""Preconditioners that leave neighbours out: none at all, and diagonal scaling."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner


class Identity(Preconditioner):
    """M = I: plain conjugate gradients, the baseline of baselines."""

    name = "none"
    capturable = True

    def _setup(self) -> None:
        pass

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        out.copy_(residual)


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
        torch.eq(diagonal, 0.0, out=self._empty)
        torch.reciprocal(diagonal, out=self._inverse).masked_fill_(self._empty, 0.0)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        torch.mul(self._inverse, residual, out=out)

    def as_diagonal(self) -> Tensor:
        """The inverse diagonal."""
        return self._inverse
