"""A sparse factorisation: exact up to rounding, the reference on the CPU."""

from __future__ import annotations

import math

import scipy.sparse
import scipy.sparse.linalg
import torch

from precond.grounding import grounded_matrix
from precond.preconditioner import Preconditioner


class Direct(Preconditioner):
    """SuperLU of the grounded matrix, symmetric mode with a minimum degree ordering; one iteration solves."""

    name = "direct"
    cpu_only = True

    def _setup(self) -> float:
        matrix = grounded_matrix(self.operator)
        self._factors = None
        if matrix is None:
            return 0.0
        self._factors = scipy.sparse.linalg.splu(
            scipy.sparse.csc_array(matrix),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        return 0.0

    def _apply(self, residual: torch.Tensor, out: torch.Tensor) -> None:
        if self._factors is None:
            out.fill_(math.nan)
            return
        out.view(-1).copy_(torch.from_numpy(self._factors.solve(residual.numpy().ravel())))
