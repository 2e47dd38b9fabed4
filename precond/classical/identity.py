"""No preconditioning: plain conjugate gradients, the baseline of baselines."""

from __future__ import annotations

from torch import Tensor

from precond.preconditioner import Preconditioner


class Identity(Preconditioner):
    """M = I."""

    name = "none"
    capturable = True

    def _setup(self) -> None:
        pass

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        out.copy_(residual)
