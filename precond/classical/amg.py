"""Algebraic multigrid by the library pyamg."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

import pyamg
import scipy.sparse

from precond.classical.libraries import OfLibrary, Solution

_C = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drops what compiled code prints on standard output."""
    _C.fflush(None)
    try:
        output = os.dup(1)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        _C.fflush(None)  # what was printed lies in a buffer
        os.dup2(output, 1)
        os.close(output)


def ruge_stueben(matrix: scipy.sparse.csr_matrix, **options: Any) -> pyamg.multilevel.MultilevelSolver:
    """pyamg's hierarchy of ``matrix``, without the lines that it prints on some systems."""
    with _silent():
        return pyamg.ruge_stuben_solver(matrix, **options)


class AlgebraicMultigrid(OfLibrary):
    """One V-cycle of Ruge-Stuben multigrid with symmetric Gauss-Seidel sweeps on the pinned matrix."""

    name = "amg"

    def _made(self, matrix: scipy.sparse.csr_matrix) -> tuple[object, Solution]:
        smoother = ("gauss_seidel", {"sweep": "symmetric"})
        hierarchy = ruge_stueben(matrix, presmoother=smoother, postsmoother=smoother)
        return hierarchy, hierarchy.aspreconditioner(cycle="V").matvec
