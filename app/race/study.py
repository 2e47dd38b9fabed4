"""Looking into a method, in the process that does nothing else: its tiles, its errors, its Ritz values."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from app.race.system import System
from precond import PCG, Preconditioner, make_preconditioner
from precond.analysis.correction import Correction, correct, random_error
from precond.analysis.inspection import Inspection, inspect
from precond.analysis.ritz import ritz_values

ERRORS = {  # which error M is applied to
    "random": "a random error with bumps of all sizes",
    "start": "the error of the pressure that the last solve began from",
}
EXACT = "multigrid", 1e-8, 5000  # how the pressure is known to which a start is compared


def _set_up(system: System, name: str) -> Preconditioner:
    preconditioner = make_preconditioner(name, system.operator())
    preconditioner.setup()
    return preconditioner


def tiles(system: System, name: str) -> Iterator[tuple[Inspection, float]]:
    """The inspection of ``name`` set up for ``system``, and the seconds that it took. Raises what `inspect`
    raises.
    """
    begun = time.perf_counter()
    inspection = inspect(_set_up(system, name))
    yield inspection, time.perf_counter() - begun


@dataclass(frozen=True, eq=False)
class Lesson:
    """ritz: (k,) float64, ascending, empty where ``why_no_ritz`` says why. correction: see `ERRORS`."""

    frame: int
    method: str
    error: str
    ritz: np.ndarray
    why_no_ritz: str
    correction: Correction


def lesson(system: System, name: str, error: str, coefficients: np.ndarray) -> Iterator[Lesson]:
    """What M does to an ``error``, one of ERRORS, and the Ritz values of a solve with ``coefficients``.
    Raises ArithmeticError for an M that is not positive and finite there.
    """
    why, values = "", np.empty(0)
    try:
        values = ritz_values(coefficients)
    except ValueError as problem:
        why = str(problem)
    preconditioner = _set_up(system, name)
    operator = preconditioner.operator
    field = random_error(operator) if error == "random" else _of_start(system, preconditioner)
    yield Lesson(system.frame, name, error, values, why, correct(preconditioner, field))


def _of_start(system: System, preconditioner: Preconditioner) -> torch.Tensor:
    """Exact pressure less the start's, (nx, ny) float64, mean-zero."""
    operator, (name, *limits) = preconditioner.operator, EXACT
    exact = make_preconditioner(name, operator)
    exact.setup()
    x = PCG(operator, exact, *limits).solve(system.right_hand_side, system.start).x
    return operator.project(x if system.start is None else x - torch.from_numpy(system.start))
