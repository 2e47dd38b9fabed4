"""How a solve can end, and what is said of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import torch


class Outcome(enum.Enum):
    """How a solve ended."""

    CONVERGED = "converged"
    ITERATION_LIMIT = "iteration limit"
    STAGNATED = "stagnated"
    INDEFINITE_OPERATOR = "indefinite operator"
    INDEFINITE_PRECONDITIONER = "indefinite preconditioner"
    NOT_FINITE = "not finite"


INDEFINITE = (Outcome.INDEFINITE_OPERATOR, Outcome.INDEFINITE_PRECONDITIONER)


@dataclass
class SolveReport:
    """One solve by one method.

    x: (nx, ny) float64, finite, mean-zero over each component, the best of those whose true residual was
    computed: zero, the start, every 50th and the last. relative_residual: ||b - A x|| / ||b|| computed from
    x, b projected (NaN when b is not finite, 0 when b is 0). history: relative residual norms, iterations + 1
    entries, of the last x and not of the best. seconds: "setup" and "inference" of the preconditioner's last
    set-up, "solve" of this solve. flexible: the Polak-Ribiere update was used because the preconditioner does
    not promise to be symmetric positive definite. method: the preconditioner's name. reason: why it did not
    converge, for people; empty where it did. choice: of a preconditioner that chooses among others, the one
    it used and why. coefficients: alpha and beta of the iterations since the solve began, or began again,
    (k, 2) float64, of which `precond.analysis.ritz` makes Ritz values; none from a device.
    """

    x: torch.Tensor
    outcome: Outcome
    iterations: int
    relative_residual: float
    history: list[float]
    seconds: dict[str, float]
    flexible: bool
    method: str
    reason: str = ""
    choice: str = ""
    coefficients: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))

    @property
    def converged(self) -> bool:
        """Whether the true residual met the tolerance."""
        return self.outcome is Outcome.CONVERGED

    @property
    def broke_down(self) -> bool:
        """Whether a guard ended it, so that its x is not to be used."""
        return self.outcome in (*INDEFINITE, Outcome.NOT_FINITE)
