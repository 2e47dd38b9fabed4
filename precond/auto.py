"""`auto`: whichever method has been cheapest lately, with set-up, inference and solve counted together.

A method that nothing is known of gets one solve, once it is compiled. Then the cheapest one is used, and now
and then another is tried whose set-up takes less than the whole of the cheapest: after PATIENCE solves, after
twice as many when that did not pay, and so on.

In the middle of a solve that has cost as much as another method would, that one takes over where the first
one is: so a solve costs at most about twice what the best method's would, as one who rents skis and buys them
when the rent has reached their price pays at most twice (Karlin et al., Algorithmica 3, 1988). Conjugate
gradients become flexible ones when that happens. What was measured among other solids counts twice: painted
walls make set-ups dearer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from torch import Tensor

from precond.host.compiled import being_compiled
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.registry import make_preconditioner

CANDIDATES = ("multigrid", "coarse-iterated")
PATIENCE = 10, 320  # solves after which another method is tried, at first and at last
MEMORY = 0.3  # weight of the last solve in a method's cost
STALE = 2.0  # times what a method cost among other solids is to be expected of it


class Choice:
    """Which of ``names`` to use: what each cost, in seconds, and when it was tried. ``used`` is the choice
    and ``why`` it was made, in words. ``geometry``: which solids there are, to be kept up to date.
    """

    def __init__(self, names: Sequence[str]):
        self.names, self.used, self.why = list(names), names[0], "the first"
        self.geometry = 0
        self._cost: dict[str, float] = {}
        self._among: dict[str, int] = {}  # which solids
        self._setup: dict[str, float] = {}
        self._tried = dict.fromkeys(names, 0)
        self._patience = dict.fromkeys(names, PATIENCE[0])
        self._solves, self._is_trial = 0, False

    def _cheapest(self) -> str:
        return min(self._cost, key=self._expected)

    def decide(self) -> str:
        """The method for the next solve."""
        self._solves += 1
        unknown = [name for name in self.names if name not in self._cost]
        if self._cost:
            unknown = [name for name in unknown if name not in being_compiled]
        if unknown:
            self.used, self.why = unknown[0], "not tried yet" if self._cost else "the first"
            self._is_trial = True
            return self.used
        self.used, self.why = self._cheapest(), "the cheapest lately"
        cheapest = self._expected(self.used)
        due = [name for name in self._cost if name != self.used and self._is_due(name, cheapest)]
        self._is_trial = bool(due)
        if due:
            self.used, self.why = due[0], f"not tried for {self._patience[due[0]]} solves"
        return self.used

    def _is_due(self, name: str, cheapest: float) -> bool:
        """Whether to try ``name`` again; at last even one whose set-up was dear: it may have compiled."""
        waited = self._solves - self._tried[name]
        least = self._setup[name] if self._among[name] == self.geometry else self._expected(name)
        return waited >= PATIENCE[1] or (waited >= self._patience[name] and least < cheapest)

    def _expected(self, name: str) -> float:
        """What a solve will cost, at the most if all is well."""
        return self._cost[name] * (1.0 if self._among[name] == self.geometry else STALE)

    def rival(self, spent: float) -> str:
        """The method that would have done for less than the seconds ``spent``; empty if there is none, and
        for a method that is tried first, which gets a whole solve.
        """
        if self.used not in self._cost:
            return ""
        others = [name for name in self._cost if name != self.used and self._expected(name) < spent]
        return min(others, key=self._expected, default="")

    def switch(self, name: str, spent: float, setup: float) -> None:
        """``name`` takes over from a method that ``spent`` so many seconds, ``setup`` of them before the
        first iteration, and was not done.
        """
        self._note(max(2.0 * spent, self._cost.get(self.used, 0.0)), setup)
        self.used, self.why = name, f"{self.used} took too long"

    def learn(self, seconds: float, setup: float) -> None:
        """What the method in use took for a solve of its own, and for its set-up."""
        before = seconds if self._is_trial else self._cost.get(self.used, seconds)
        self._note(before + MEMORY * (seconds - before), setup)

    def _note(self, cost: float, setup: float) -> None:
        name = self.used
        self._cost[name], self._setup[name], self._tried[name] = cost, setup, self._solves
        self._among[name] = self.geometry
        paid = self._cheapest() == name
        if self._is_trial:
            self._patience[name] = PATIENCE[0] if paid else min(2 * self._patience[name], PATIENCE[1])


class Auto(Preconditioner):
    """The candidate that `Choice` says; each is set up when it is used first.

    ``candidates``: names of preconditioners, or one text with commas. Attributes: method, the candidate in
    use; choice, its name and why it was chosen, which every report of a solve repeats.
    """

    name = "auto"
    cpu_only = True

    def __init__(
        self,
        operator: PoissonOperator,
        candidates: str | Sequence[str] = CANDIDATES,
        clock: Callable[[], float] = time.perf_counter,
    ):
        super().__init__(operator)
        names = candidates.split(",") if isinstance(candidates, str) else list(candidates)
        if len(set(names)) < 2 or self.name in names:
            raise ValueError(f"candidates must be two or more other methods, not {', '.join(names)}")
        self._methods = {name: make_preconditioner(name, operator) for name in names}
        self._choice, self._clock = Choice(names), clock
        self._begun: float | None = None
        self._switched = False
        self.method = self._methods[names[0]]

    @property
    def symmetric_positive_definite(self) -> bool:
        """As of the method, until another one takes over: from then on it is not one M."""
        return self.method.symmetric_positive_definite and not self._switched

    @property
    def choice(self) -> str:
        """The method in use and why."""
        return f"{self._choice.used}: {self._choice.why}"

    def _run(self, name: str) -> None:
        self._choice.geometry = self.operator.geometry_version
        self.method = self._methods[self._choice.decide()]
        self._begun, self._switched = self._clock(), False
        if name == "setup":
            self.method.setup()
        else:
            self.method.update()
        self.seconds = dict(self.method.seconds)
        self._geometry_version, self._made_for = self.operator.geometry_version, self.operator.version

    def initial_correction(self, residual: Tensor, out: Tensor) -> bool:
        """The method's."""
        return self.method.initial_correction(residual, out)

    def solved(self, seconds: float) -> None:
        """As of Preconditioner; a solve that two methods shared says nothing of either."""
        if not self._switched:
            self._choice.learn(seconds, sum(self.seconds.values()))
        self._begun, self._switched = None, False

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._begun is None:  # another solve with the same set-up
            self._begun = self._clock()
        spent = self._clock() - self._begun
        rival = "" if self._switched else self._choice.rival(spent)
        if rival:
            self._switched = True
            self._choice.switch(rival, spent, sum(self.seconds.values()))
            self.method = self._methods[rival]
            self.method.update()
        self.method.apply_unprojected(residual, out)
