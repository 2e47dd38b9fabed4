"""No preconditioning: plain conjugate gradients, the baseline of baselines."""

from __future__ import annotations

import torch

from precond.preconditioner import Preconditioner


class Identity(Preconditioner):
    """M = I."""

    name = "none"
    capturable = True

    def _setup(self) -> None:
        pass

    def _apply(self, residual: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(residual)
