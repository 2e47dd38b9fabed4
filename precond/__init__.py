"""Preconditioned solves of the variable-density Poisson equation; knows neither fluids nor windows.

The names below are loaded when first asked for, so that `precond.errors` and `precond.config` do not import
torch: `--help` and a mistyped option answer at once.
"""

import importlib
from typing import Any

_HOMES = {
    "PCG": "krylov.pcg",
    "Outcome": "krylov.report",
    "SolveReport": "krylov.report",
    "PoissonOperator": "poisson",
    "Preconditioner": "preconditioner",
    "PreconditionerError": "preconditioner",
    "UsageError": "errors",
    "available_preconditioners": "registry",
    "is_learned": "registry",
    "make_preconditioner": "registry",
    "registered_preconditioners": "registry",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'precond' has no attribute '{name}'")
    return getattr(importlib.import_module(f"precond.{_HOMES[name]}"), name)
