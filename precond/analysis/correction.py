"""What one application of M leaves of an error: what a preconditioner is good at, and what not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner

WIDTHS = (0.0, 2.0, 8.0)  # cells: of the bumps in a random error, every width alike


@dataclass(frozen=True)
class Correction:
    """An error of x (nx, ny) float64 before and after one step; ``left``: what is left of its energy norm,
    sqrt(e.Ae), as a share.
    """

    before: np.ndarray
    after: np.ndarray
    left: float


def random_error(operator: PoissonOperator, seed: int = 0) -> Tensor:
    """An error (nx, ny) float64 with bumps of all WIDTHS, mean-zero, of largest absolute entry one."""
    noise = np.random.default_rng(seed).standard_normal((len(WIDTHS), *operator.shape))
    bumps = [scipy.ndimage.gaussian_filter(field, width) for field, width in zip(noise, WIDTHS, strict=True)]
    error = operator.project(torch.from_numpy(sum(field / field.std() for field in bumps)))
    return error.div_(error.abs().max().clamp(min=1e-300))


def correct(preconditioner: Preconditioner, error: Tensor) -> Correction:
    """Apply M once to the residual A e of ``error`` (nx, ny) float64, mean-zero, and take the step along
    M A e that leaves the least energy, as the first iteration of CG does; an initial correction comes first.

    Raises ArithmeticError for an M that is not finite, or not positive there.
    """
    operator = preconditioner.operator
    e, z = error.clone(), torch.zeros_like(error)
    residual = operator.matvec(e)
    energy = float((e * residual).sum())
    if preconditioner.initial_correction(residual, z):
        e -= operator.project(z)
        residual = operator.matvec(e)
    preconditioner.apply(residual, z)
    along, curvature = float((residual * z).sum()), float((z * operator.matvec(z)).sum())
    if not (along >= 0.0 and curvature >= 0.0):
        raise ArithmeticError(f"{preconditioner.name} is not finite and positive on this error")
    if curvature > 0.0:
        e.sub_(z, alpha=along / curvature)
    left = float((e * operator.matvec(e)).sum()) / energy if energy > 0.0 else 0.0
    return Correction(error.cpu().numpy().copy(), e.cpu().numpy(), max(left, 0.0) ** 0.5)
