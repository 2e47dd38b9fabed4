"""How a solve can end."""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """How a solve ended."""

    CONVERGED = "converged"
    ITERATION_LIMIT = "iteration limit"
    INDEFINITE_OPERATOR = "indefinite operator"
    INDEFINITE_PRECONDITIONER = "indefinite preconditioner"
    NOT_FINITE = "not finite"
