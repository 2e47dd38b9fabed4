"""The published conditions of the benchmark of arXiv 2605.13343, and conjugate gradients as its tables ran
them.

Matrix entries are rounded to float32 one by one and divided, in float32, by the largest row sum of their
absolute values. Rows then no longer sum to zero: the eigenvalue of the constants becomes about +-1e-10. The
right-hand side has a part along the constants, so that no solution solves the system the matrix comes from,
and all solvers spend iterations on rounding. Counts here repeat the published ones; `precond.krylov.pcg` and
the exact matrix are what anything else should be measured with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from precond.partition.morton import morton_order
from precond.problems.gallery import benchmark_density, right_hand_side

RULES = ("gpu", "cpu")
PRECONDITIONERS = ("none", "jacobi")
GPU_INTERVAL = 3  # iterations between two tests of the residual under the GPU rule
CPU_CURVATURE = 1e-14  # p.Ap at or below which the CPU rule leaves
CONVERGED = "converged"
LEFT_EARLY = "left early"
ITERATION_LIMIT = "iteration limit"


@dataclass(frozen=True)
class PublishedSystem:
    """A x = b with n unknowns in Morton order: matrix (n, n) CSR and b (n,), both float64."""

    matrix: scipy.sparse.csr_array
    b: np.ndarray


@dataclass(frozen=True)
class PublishedSolve:
    """One solve. outcome: CONVERGED by the recursive residual, LEFT_EARLY at CPU_CURVATURE, ITERATION_LIMIT.

    relative_residual: ||b - A x|| / ||b|| computed from x (n,), larger than the recursive one that the rules
    test. products: with A, that last one included.
    """

    x: np.ndarray
    outcome: str
    iterations: int
    relative_residual: float
    products: int


def published_system(
    n: int, frame: int, split: str = "test", contrast: float | None = None
) -> PublishedSystem:
    """The system of `gallery.benchmark_density` under the published conditions; same errors."""
    problem = benchmark_density(n, frame, split, contrast)
    kept = morton_order(problem.shape)[:n]
    matrix = scipy.sparse.csr_array(problem.operator().to_csr()[kept][:, kept])
    matrix.sort_indices()
    entries = matrix.data.astype(np.float32)
    matrix.data = entries.astype(np.float64)
    largest = np.float32(abs(matrix).sum(axis=1).max())
    matrix.data = (entries / largest).astype(np.float64)
    return PublishedSystem(matrix, right_hand_side(n))


def inverse_diagonal(system: PublishedSystem, preconditioner: str) -> np.ndarray | None:
    """What ``preconditioner``, one of PRECONDITIONERS, multiplies residuals by, (n,); None for "none".

    Raises ValueError for another name.
    """
    if preconditioner not in PRECONDITIONERS:
        raise ValueError(f"published are {' and '.join(PRECONDITIONERS)}, not '{preconditioner}'")
    return 1.0 / system.matrix.diagonal() if preconditioner == "jacobi" else None


def solve_published(
    system: PublishedSystem,
    inverse: np.ndarray | None,
    rule: str,
    rtol: float = 1e-8,
    max_iterations: int = 10_000,
) -> PublishedSolve:
    """Conjugate gradients from zero in float64 with the diagonal preconditioner ``inverse`` (n,) or without.

    ``rule`` "gpu" tests the recursive residual every third iteration; "cpu" tests it in every one, and leaves
    before the step when p.Ap <= 1e-14. Raises ValueError for another rule.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, not '{rule}'")
    matrix, b = system.matrix, system.b
    tolerance = rtol * float(np.linalg.norm(b))
    x, r = np.zeros_like(b), b.copy()
    p = (r if inverse is None else inverse * r).copy()
    rz = float(r @ p)
    outcome, iterations, products = ITERATION_LIMIT, 0, 0
    while iterations < max_iterations:
        image = matrix @ p
        products += 1
        curvature = float(p @ image)
        if rule == "cpu" and curvature <= CPU_CURVATURE:
            outcome = LEFT_EARLY
            break
        if curvature == 0.0:
            break
        alpha = rz / curvature
        x += alpha * p
        r -= alpha * image
        iterations += 1
        if (rule == "cpu" or iterations % GPU_INTERVAL == 0) and np.linalg.norm(r) <= tolerance:
            outcome = CONVERGED
            break
        z = r if inverse is None else inverse * r
        rz, before = float(r @ z), rz
        if not math.isfinite(rz) or before == 0.0:
            break
        p = z + (rz / before) * p
    residual = float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b))
    return PublishedSolve(x, outcome, iterations, residual, products + 1)
