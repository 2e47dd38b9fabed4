"""A sparse factorisation: exact up to rounding, the reference on the CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from precond.factorisation import pinned_matrix, symmetric_factors
from precond.preconditioner import Preconditioner


class Direct(Preconditioner):
    """SuperLU of the pinned matrix, symmetric mode with a minimum degree ordering; one iteration solves."""

    name = "direct"
    cpu_only = True

    def _setup(self) -> None:
        matrix = pinned_matrix(self.operator)
        self._factors = None
        if matrix is not None:
            self._factors = symmetric_factors(matrix)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._factors is None:
            out.fill_(math.nan)
            return
        out.view(-1).copy_(torch.from_numpy(self._factors.solve(residual.numpy().ravel())))
