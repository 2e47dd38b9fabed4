"""Solvers of other libraries, each run as its own documentation advises, on the same systems.

They get an ExternalSystem, made for them outside the timing, and a right-hand side of mean zero over each
sealed component. Where one needs a definite matrix it is that of precond.factorisation, whose solution solves
the same system. What they say of their residual is not used: app.bench.case computes it from their solution.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from app.environment import ROOT
from precond import PoissonOperator
from precond.factorisation import pinned_matrix, symmetric_factors
from precond.memory import FACTOR_ENTRY, held_bytes

Solution = tuple[np.ndarray, int, int | None]  # x (n,), iterations, products with A where they are told
Memory = dict[str, int] | None  # bytes of a set-up by type, where they can be counted
Ready = tuple[
    Callable[[np.ndarray], Solution], Callable[[], Memory]
]  # solves for b (n,), and tells its memory


@dataclass(frozen=True)
class ExternalSystem:
    """A x = b of the n cells that are coupled to any: matrix (n, n) CSR float64, semidefinite; pinned, the
    same with the diagonal of one cell per sealed component doubled; cells (n,), their flat indices; component
    (n,), of each cell; sealed, of each component.
    """

    matrix: scipy.sparse.csr_matrix
    pinned: scipy.sparse.csr_matrix
    cells: np.ndarray
    component: np.ndarray
    sealed: np.ndarray

    @classmethod
    def of(cls, operator: PoissonOperator) -> ExternalSystem:
        """The system of ``operator``. Raises ValueError when it is not finite."""
        pinned = pinned_matrix(operator)
        if pinned is None:
            raise ValueError("the matrix is not finite")
        cells = np.flatnonzero(operator.diagonal().cpu().numpy().ravel() > 0.0)
        full = scipy.sparse.csr_matrix(operator.to_csr())
        present, component = np.unique(operator.labels.ravel()[cells], return_inverse=True)
        matrices = (matrix[cells][:, cells].tocsr() for matrix in (full, pinned))
        return cls(*matrices, cells, component, operator.sealed[present])

    def projected(self, preconditioner: Any) -> scipy.sparse.linalg.LinearOperator:
        """``preconditioner`` of `pinned` as one of `matrix`: means over sealed components are taken out of
        its results, in which rounding otherwise piles up until CG finds the matrix indefinite.
        """
        sizes = np.bincount(self.component)

        def apply(r: np.ndarray) -> np.ndarray:
            z = preconditioner @ r
            if len(sizes) == 1 and self.sealed[0]:
                return z - z.mean()
            return z - (self.sealed * np.bincount(self.component, z) / sizes)[self.component]

        return scipy.sparse.linalg.LinearOperator(self.matrix.shape, matvec=apply, dtype=np.float64)


def _pyamg(hierarchy: Any, system: ExternalSystem, rtol: float, limit: int) -> Ready:
    """pyamg's CG around one V-cycle of ``hierarchy`` of the pinned matrix, with its default smoothing by
    symmetric Gauss-Seidel and pseudo-inverse on the coarsest level.

    That is ``solve(b, accel="cg")`` in its two parts: as one, on the singular matrix, it took cycle or matrix
    for indefinite by rounding in mazes, and stopped.
    """
    from pyamg.krylov import cg

    cycle = system.projected(hierarchy.aspreconditioner(cycle="V"))

    def solve(b: np.ndarray) -> Solution:
        residuals: list[float] = []
        x, _ = cg(system.matrix, b, tol=rtol, maxiter=limit, M=cycle, residuals=residuals)
        return x, max(len(residuals) - 1, 0), None

    return solve, lambda: held_bytes(hierarchy, without=vars(system))


def _ruge_stueben(system: ExternalSystem, rtol: float, limit: int) -> Ready:
    """Classical algebraic multigrid (Ruge and Stueben 1987), all defaults."""
    from precond.classical.amg import ruge_stueben

    return _pyamg(ruge_stueben(system.pinned), system, rtol, limit)


def _smoothed_aggregation(system: ExternalSystem, rtol: float, limit: int) -> Ready:
    """Smoothed aggregation (Vanek, Mandel and Brezina 1996) with their threshold 0.08: with pyamg's own,
    zero, bubbles at contrast 10,000 took 24 iterations for 9.
    """
    from pyamg import smoothed_aggregation_solver

    strength = ("symmetric", {"theta": 0.08})
    hierarchy = smoothed_aggregation_solver(system.pinned, symmetry="symmetric", strength=strength)
    return _pyamg(hierarchy, system, rtol, limit)


def _incomplete_cholesky(system: ExternalSystem, rtol: float, limit: int) -> Ready:
    """scipy's CG with ilupp's IC(0) as its ``M``."""
    import ilupp

    factor = ilupp.IChol0Preconditioner(system.pinned)
    projected = system.projected(factor)

    def solve(b: np.ndarray) -> Solution:
        products, iterates = [], []

        def product(x: np.ndarray) -> np.ndarray:
            products.append(1)
            return system.matrix @ x

        matrix = scipy.sparse.linalg.LinearOperator(system.matrix.shape, matvec=product, dtype=b.dtype)
        stop = {"rtol": rtol, "atol": 0.0, "maxiter": limit}
        x, _ = scipy.sparse.linalg.cg(matrix, b, **stop, M=projected, callback=lambda _: iterates.append(1))
        return x, len(iterates), len(products)

    return solve, lambda: held_bytes(factor)


def _superlu(system: ExternalSystem, _rtol: float, _limit: int) -> Ready:
    """SuperLU in its symmetric mode: no pivoting, minimum degree ordering of A^T + A, as its guide has it. A
    direct solve is one "iteration", with no product with A.
    """
    factor = symmetric_factors(system.pinned)
    return lambda b: (factor.solve(b), 1, 0), lambda: held_bytes(factor)


def _cholmod(system: ExternalSystem, _rtol: float, _limit: int) -> Ready:
    """CHOLMOD through scikit-sparse, all defaults: it chooses ordering and supernodes itself. Direct, too."""
    from sksparse import cholmod

    matrix = system.pinned.tocsc()
    if hasattr(cholmod, "cho_factor"):  # from version 0.5 on
        factor = cholmod.cho_factor(matrix)
        solve = factor.solve
    else:
        factor = solve = cholmod.cholesky(matrix)

    def memory() -> Memory:
        entries = int(factor.nnz if hasattr(factor, "nnz") else factor.L().nnz)
        return {kind: entries * size for kind, size in FACTOR_ENTRY.items()}

    return lambda b: (np.asarray(solve(b)), 1, 0), memory


def amgx_configuration(preconditioner: str, rtol: float, max_iterations: int) -> dict[str, Any]:
    """AMGX's own PCG around one iteration of ``preconditioner``, a file of assets/amgx.

    One, where AMGX's default is 100: the published comparison left it there.
    """
    configuration = json.loads(
        (ROOT / "assets" / "amgx" / f"{preconditioner}.json").read_text(encoding="utf-8")
    )
    configuration["solver"] |= {"tolerance": rtol, "max_iters": max_iterations}
    return configuration


@functools.cache
def _amgx_handles(preconditioner: str, rtol: float, limit: int) -> tuple[Any, ...]:
    """Solver, matrix, right-hand side and x of AMGX, which are made once."""
    import pyamgx

    pyamgx.initialize()
    configuration = pyamgx.Config().create_from_dict(amgx_configuration(preconditioner, rtol, limit))
    resources = pyamgx.Resources().create_simple(configuration)
    vectors = (pyamgx.Vector().create(resources) for _ in range(2))
    return pyamgx.Solver().create(resources, configuration), pyamgx.Matrix().create(resources), *vectors


def _amgx(preconditioner: str, system: ExternalSystem, rtol: float, limit: int) -> Ready:
    """AMGX's PCG through pyamgx, on the pinned matrix."""
    solver, matrix, right, solution = _amgx_handles(preconditioner, rtol, limit)
    matrix.upload_CSR(system.pinned)
    solver.setup(matrix)

    def solve(b: np.ndarray) -> Solution:
        x = np.zeros_like(b)
        right.upload(b)
        solution.upload(x)
        solver.solve(right, solution, zero_initial_guess=True)
        solution.download(x)
        return x, int(solver.iterations_number), None

    return solve, lambda: None


@dataclass(frozen=True)
class ExternalSolver:
    """A library's solver to ||b - A x|| <= rtol ||b|| from zero. engine: what computes. needs (the module to
    import), remedy: in what is said of one that cannot run. setup: does everything that depends on the matrix
    alone, for a system, rtol and a limit of iterations.
    """

    engine: str
    needs: str
    remedy: str
    setup: Callable[[ExternalSystem, float, int], Ready]

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty when it can."""
        return "" if importlib.util.find_spec(self.needs) else f"needs {self.needs}: {self.remedy}"


_PYAMG = ("pyamg", "pyamg", "pip install 'htp-fluid[bench]'")
_ILUPP = ("scipy", "ilupp", "pip install 'htp-fluid[ic0]' (built from source: wants a C++ compiler)")
_AMGX = ("amgx", "pyamgx", "build AMGX and pyamgx (wants a CUDA device)")
SOLVERS = {
    "external:pyamg-rs": ExternalSolver(*_PYAMG, _ruge_stueben),
    "external:pyamg-sa": ExternalSolver(*_PYAMG, _smoothed_aggregation),
    "external:ilupp-ic0": ExternalSolver(*_ILUPP, _incomplete_cholesky),
    "external:superlu": ExternalSolver("superlu", "scipy", "", _superlu),
    "external:cholmod": ExternalSolver("cholmod", "sksparse", "pip install scikit-sparse", _cholmod),
    "external:amgx-amg": ExternalSolver(*_AMGX, functools.partial(_amgx, "amg")),
    "external:amgx-dilu": ExternalSolver(*_AMGX, functools.partial(_amgx, "dilu")),
}
