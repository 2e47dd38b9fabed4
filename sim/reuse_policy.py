"""When a preconditioner is set up anew, and when it only follows the density: the iteration count tells."""

from precond import Preconditioner, SolveReport

GROWTH = 4.0 / 3.0  # of the count since the last set-up, past which a new one is due
SLACK = 2  # iterations that a count may always grow by


class ReusePolicy:
    """Follows while the solves stay within GROWTH of the first one after a set-up, else sets up anew.

    `Preconditioner.update` keeps what stays valid for a density that moved a little (for `coarse-learned` its
    network's far field and leaves that hardly changed; the coarse_operator is renewed); most preconditioners
    keep nothing.
    """

    def __init__(self) -> None:
        self._due = True
        self._limit = 0.0

    def prepare(self, preconditioner: Preconditioner, reuse: bool) -> None:
        """Set ``preconditioner`` up for its operator's present coefficients; anew whenever not ``reuse``."""
        self._fresh = self._due or not reuse
        self._due = True  # until a solve has shown otherwise: both calls can raise
        if self._fresh:
            preconditioner.setup()
        else:
            preconditioner.update()

    def judge(self, report: SolveReport) -> None:
        """Learn from the solve that followed."""
        if self._fresh:
            self._limit = max(GROWTH * report.iterations, report.iterations + SLACK)
        self._due = not report.converged or report.iterations > self._limit
