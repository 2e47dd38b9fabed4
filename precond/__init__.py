"""Preconditioned solves of the variable-density Poisson equation; knows neither fluids nor windows."""

from precond.krylov.pcg import PCG, Outcome, SolveReport
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, PreconditionerError
from precond.registry import (
    available_preconditioners,
    is_learned,
    make_preconditioner,
    registered_preconditioners,
)

__all__ = [
    "PCG",
    "Outcome",
    "PoissonOperator",
    "Preconditioner",
    "PreconditionerError",
    "SolveReport",
    "available_preconditioners",
    "is_learned",
    "make_preconditioner",
    "registered_preconditioners",
]
