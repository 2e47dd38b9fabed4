"""Algebraic multigrid by the library pyamg."""

from __future__ import annotations

import math

import numpy as np
import pyamg
import torch
from torch import Tensor

from precond.factorisation import pinned_matrix
from precond.preconditioner import Preconditioner


class AlgebraicMultigrid(Preconditioner):
    """One V-cycle of Ruge-Stuben multigrid with symmetric Gauss-Seidel sweeps on the pinned matrix."""

    name = "amg"
    cpu_only = True

    def _setup(self) -> None:
        matrix = pinned_matrix(self.operator)
        self._cycle = None
        if matrix is not None:
            smoother = ("gauss_seidel", {"sweep": "symmetric"})
            hierarchy = pyamg.ruge_stuben_solver(matrix, presmoother=smoother, postsmoother=smoother)
            self._hierarchy, self._cycle = hierarchy, hierarchy.aspreconditioner(cycle="V")

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._cycle is None:
            out.fill_(math.nan)
            return
        solution = self._cycle.matvec(np.ascontiguousarray(residual.numpy()).ravel())
        out.view(-1).copy_(torch.from_numpy(solution))
