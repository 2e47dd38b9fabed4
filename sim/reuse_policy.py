"""When a preconditioner is set up anew, and when it is only updated: the iteration count tells."""

from precond import Preconditioner, SolveReport

GROWTH = 4.0 / 3.0  # of the count since the last set-up, past which a new one is due
SLACK = 2  # iterations that a count may always grow by


class ReusePolicy:
    """Updates while the solves stay within GROWTH of the first one after a set-up, else sets up anew; starts
    from the beginning with another preconditioner, and when the solids changed.

    `Preconditioner.update` keeps what stays valid for a density that moved a little (for `coarse-learned` its
    network's coarse space and leaves that hardly changed; the coarse operator is renewed); most
    preconditioners keep nothing.
    """

    def __init__(self) -> None:
        self._due = True
        self._limit = 0.0
        self._judged: tuple[Preconditioner, int] | None = None  # with the geometry it was set up for

    def before_solve(self, preconditioner: Preconditioner, reuse: bool) -> None:
        """Fit ``preconditioner`` to its operator's present coefficients; set it up whenever not ``reuse``."""
        present = preconditioner, preconditioner.operator.geometry_version
        self._fresh = self._due or not reuse or present != self._judged
        self._judged, self._due = present, True  # due until a solve has shown otherwise: both calls can raise
        if self._fresh:
            preconditioner.setup()
        else:
            preconditioner.update()

    def after_solve(self, report: SolveReport) -> None:
        """Learn from the solve that followed."""
        if self._fresh:
            self._limit = max(GROWTH * report.iterations, report.iterations + SLACK)
        self._due = not report.converged or report.iterations > self._limit
