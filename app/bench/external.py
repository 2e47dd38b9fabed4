"""Solvers of other libraries, each run as its own documentation advises, on the same systems.

They get an app.bench.external_system.PeerSystem, made for them outside the timing, and a right-hand side of
mean zero over each component. Where one needs a definite matrix it is that of precond.factorisation, whose
solution solves the same system. What they say of their residual is not used: app.bench.contest computes it
from their solution.
"""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from app.bench.external_system import PeerSystem


class Peer:
    """One library's solver, to ||b - A x|| <= rtol ||b|| from zero. `setup` and `solve` are timed, each anew
    for every system.

    name, needs (the module to import), remedy: in what is said of one that cannot run. engine: what computes.
    products: with A in the last solve, None where the library does not tell. memory_is_seen: what it holds
    lies where app.bench.held_memory can count it.
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    remedy: ClassVar[str]
    engine: ClassVar[str]
    memory_is_seen: ClassVar[bool] = True
    products: int | None = None

    def __init__(self, rtol: float, max_iterations: int):
        self.rtol, self.max_iterations = rtol, max_iterations

    def setup(self, system: PeerSystem) -> None:
        """Everything that depends on the matrix alone."""
        raise NotImplementedError

    def solve(self, b: np.ndarray) -> tuple[np.ndarray, int]:
        """x (n,) for ``b`` (n,), and the iterations it took."""
        raise NotImplementedError


class _PyAmg(Peer):
    """pyamg's CG around one V-cycle of its hierarchy of the pinned matrix, with its default smoothing by
    symmetric Gauss-Seidel and pseudo-inverse on the coarsest level.

    That is ``solve(b, accel="cg")`` in its two parts: as one, on the singular matrix, it took cycle or matrix
    for indefinite by rounding in mazes, and stopped.
    """

    needs, remedy, engine = "pyamg", "pip install 'htp-fluid[bench]'", "pyamg"

    def _hierarchy(self, matrix: scipy.sparse.csr_matrix) -> Any:
        raise NotImplementedError

    def setup(self, system: PeerSystem) -> None:
        self._matrix = system.matrix
        self._cycle = system.projected(self._hierarchy(system.pinned).aspreconditioner(cycle="V"))

    def solve(self, b: np.ndarray) -> tuple[np.ndarray, int]:
        from pyamg.krylov import cg

        residuals: list[float] = []
        x, _ = cg(
            self._matrix, b, tol=self.rtol, maxiter=self.max_iterations, M=self._cycle, residuals=residuals
        )
        return x, max(len(residuals) - 1, 0)


class RugeStueben(_PyAmg):
    """Classical algebraic multigrid (Ruge and Stueben 1987), all defaults."""

    name = "peer:pyamg-rs"

    def _hierarchy(self, matrix: scipy.sparse.csr_matrix) -> Any:
        import pyamg

        return pyamg.ruge_stuben_solver(matrix)


class SmoothedAggregation(_PyAmg):
    """Smoothed aggregation (Vanek, Mandel and Brezina 1996) with their threshold 0.08: with pyamg's own,
    zero, bubbles at contrast 10,000 took 24 iterations for 9.
    """

    name = "peer:pyamg-sa"

    def _hierarchy(self, matrix: scipy.sparse.csr_matrix) -> Any:
        import pyamg

        strength = ("symmetric", {"theta": 0.08})
        return pyamg.smoothed_aggregation_solver(matrix, symmetry="symmetric", strength=strength)


class IncompleteCholeskyCG(Peer):
    """scipy's CG with ilupp's IC(0) as its ``M``."""

    name, needs, engine = "peer:ilupp-ic0", "ilupp", "scipy"
    remedy = "pip install 'htp-fluid[ic0]' (built from source: wants a C++ compiler)"

    def setup(self, system: PeerSystem) -> None:
        import ilupp

        self._matrix = system.matrix
        self._factor = system.projected(ilupp.IChol0Preconditioner(system.pinned))

    def solve(self, b: np.ndarray) -> tuple[np.ndarray, int]:
        iterations, self.products = 0, 0

        def product(x: np.ndarray) -> np.ndarray:
            self.products += 1
            return self._matrix @ x

        def count(_x: np.ndarray) -> None:
            nonlocal iterations
            iterations += 1

        matrix = scipy.sparse.linalg.LinearOperator(self._matrix.shape, matvec=product, dtype=b.dtype)
        x, _ = scipy.sparse.linalg.cg(
            matrix, b, rtol=self.rtol, atol=0.0, maxiter=self.max_iterations, M=self._factor, callback=count
        )
        return x, iterations


class _Factorisation(Peer):
    """A direct solve: one "iteration", no product with A."""

    products = 0

    def _solved(self, b: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def solve(self, b: np.ndarray) -> tuple[np.ndarray, int]:
        return self._solved(b), 1


class SuperLu(_Factorisation):
    """SuperLU in its symmetric mode: no pivoting, minimum degree ordering of A^T + A, as its guide has it."""

    name, needs, remedy, engine = "peer:superlu", "scipy", "", "superlu"

    def setup(self, system: PeerSystem) -> None:
        self._factor = scipy.sparse.linalg.splu(
            system.pinned.tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )

    def _solved(self, b: np.ndarray) -> np.ndarray:
        return self._factor.solve(b)


class Cholmod(_Factorisation):
    """CHOLMOD through scikit-sparse, all defaults: it chooses ordering and supernodes itself."""

    name, needs, remedy, engine = "peer:cholmod", "sksparse", "pip install scikit-sparse", "cholmod"

    def setup(self, system: PeerSystem) -> None:
        from sksparse import cholmod

        matrix = system.pinned.tocsc()
        if hasattr(cholmod, "cho_factor"):  # from version 0.5 on
            self._factor = cholmod.cho_factor(matrix)
            self._apply = self._factor.solve
        else:
            self._factor = self._apply = cholmod.cholesky(matrix)

    def _solved(self, b: np.ndarray) -> np.ndarray:
        return np.asarray(self._apply(b))


AMGX_PRECONDITIONERS = {
    "amg": {
        "solver": "AMG",
        "algorithm": "AGGREGATION",
        "selector": "SIZE_2",
        "cycle": "V",
        "smoother": {"solver": "BLOCK_JACOBI", "relaxation_factor": 0.8, "monitor_residual": 0},
        "presweeps": 1,
        "postsweeps": 1,
        "coarse_solver": "DENSE_LU_SOLVER",
        "max_iters": 1,
        "monitor_residual": 0,
    },
    "dilu": {"solver": "MULTICOLOR_DILU", "max_iters": 1, "monitor_residual": 0},
}


def amgx_configuration(preconditioner: str, rtol: float, max_iterations: int) -> dict[str, Any]:
    """AMGX's own PCG around one iteration of ``preconditioner``, a key of AMGX_PRECONDITIONERS.

    One, where AMGX's default is 100: the published comparison left it there.
    """
    return {
        "config_version": 2,
        "determinism_flag": 1,
        "solver": {
            "solver": "PCG",
            "preconditioner": {"scope": "precond", **AMGX_PRECONDITIONERS[preconditioner]},
            "max_iters": max_iterations,
            "monitor_residual": 1,
            "convergence": "RELATIVE_INI_CORE",
            "tolerance": rtol,
            "norm": "L2",
        },
    }


class _Amgx(Peer):
    """AMGX's PCG through pyamgx, on the pinned matrix."""

    needs, engine = "pyamgx", "amgx"
    remedy = "build AMGX and pyamgx (wants a CUDA device)"
    memory_is_seen = False
    preconditioner: ClassVar[str]

    def __init__(self, rtol: float, max_iterations: int):
        import pyamgx

        super().__init__(rtol, max_iterations)
        pyamgx.initialize()
        configuration = pyamgx.Config().create_from_dict(
            amgx_configuration(self.preconditioner, rtol, max_iterations)
        )
        resources = pyamgx.Resources().create_simple(configuration)
        self._a = pyamgx.Matrix().create(resources)
        self._x, self._b = (pyamgx.Vector().create(resources) for _ in range(2))
        self._solver = pyamgx.Solver().create(resources, configuration)

    def setup(self, system: PeerSystem) -> None:
        self._a.upload_CSR(system.pinned)
        self._solver.setup(self._a)

    def solve(self, b: np.ndarray) -> tuple[np.ndarray, int]:
        x = np.zeros_like(b)
        self._b.upload(b)
        self._x.upload(x)
        self._solver.solve(self._b, self._x, zero_initial_guess=True)
        self._x.download(x)
        return x, int(self._solver.iterations_number)


class AmgxAmg(_Amgx):
    """One cycle of AMGX's aggregation multigrid a CG iteration."""

    name, preconditioner = "peer:amgx-amg", "amg"


class AmgxDilu(_Amgx):
    """One sweep of AMGX's multicolour DILU a CG iteration."""

    name, preconditioner = "peer:amgx-dilu", "dilu"


CLASSES: dict[str, type[Peer]] = {
    kind.name: kind
    for kind in (RugeStueben, SmoothedAggregation, IncompleteCholeskyCG, SuperLu, Cholmod, AmgxAmg, AmgxDilu)
}


def missing(name: str) -> str:
    """Why the peer ``name``, one of app.bench.settings.PEERS, cannot run here; empty when it can."""
    kind = CLASSES[name]
    if importlib.util.find_spec(kind.needs) is None:
        return f"needs {kind.needs}: {kind.remedy}"
    return ""


def make_peer(name: str, rtol: float, max_iterations: int) -> Peer:
    """The peer ``name``, one of app.bench.settings.PEERS, which is not `missing`."""
    return CLASSES[name](rtol, max_iterations)
