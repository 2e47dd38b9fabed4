"""`auto`: whichever method has been cheapest lately, with set-up, inference and solve counted together.

A method that nothing is known of gets one solve. Then the cheapest one is used until another promises more:
one that cost less when it was tried last, or one that cost less than TWICE as much and was not tried for
PERIOD solves. And in the middle of a solve that has cost as much as another method would, that one takes over
where the first one is: so a solve costs at most about twice what the best method's would, as a renter of skis
who buys them when the rent has reached their price pays at most twice (Karlin et al., Algorithmica 3, 1988).
A method changes while conjugate gradients go on, so they are flexible ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from torch import Tensor

from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.registry import make_preconditioner

CANDIDATES = ("multigrid", "coarse-iterated")
PERIOD = 100  # solves after which a rival is tried again
TWICE = 2.0  # times the cheapest cost beyond which it is not
MEMORY = 0.3  # weight of the last solve in a method's cost


class Choice:
    """Which of ``names`` to use: what each cost, in seconds, and when it was tried. ``used`` is the choice
    and ``why`` it was made, in words.
    """

    def __init__(self, names: Sequence[str]):
        self.names, self.used, self.why = list(names), names[0], "the first"
        self._cost: dict[str, float] = {}
        self._tried = dict.fromkeys(names, 0)
        self._solves = 0

    def decide(self) -> str:
        """The method for the next solve."""
        self._solves += 1
        unknown = [name for name in self.names if name not in self._cost]
        cheapest = min(self._cost, key=self._cost.__getitem__, default="")
        if unknown:
            self.used, self.why = unknown[0], "not tried yet" if self._cost else "the first"
            return self.used
        limit = TWICE * self._cost[cheapest]
        due = [
            name
            for name in self.names
            if name != cheapest and self._cost[name] < limit and self._solves - self._tried[name] >= PERIOD
        ]
        self.used = due[0] if due else cheapest
        self.why = f"not tried for {PERIOD} solves" if due else "the cheapest lately"
        return self.used

    def rival(self, spent: float) -> str:
        """The method that would have done for less than the seconds ``spent``; empty if there is none."""
        others = {name: cost for name, cost in self._cost.items() if name != self.used and cost < spent}
        return min(others, key=others.__getitem__, default="")

    def switch(self, name: str, spent: float) -> None:
        """``name`` takes over from a method that ``spent`` so many seconds and was not done."""
        self._cost[self.used], self._tried[self.used] = TWICE * spent, self._solves
        self.used, self.why = name, f"{self.used} took too long"

    def learn(self, seconds: float) -> None:
        """What the method in use took for a solve of its own."""
        before = self._cost.get(self.used, seconds)
        self._cost[self.used] = before + MEMORY * (seconds - before)
        self._tried[self.used] = self._solves


class Auto(Preconditioner):
    """The candidate that `Choice` says, made when it is needed first.

    ``candidates``: names of preconditioners, or one text with commas. Attributes: method, the candidate in
    use; choice, its name and why it was chosen, which every report of a solve repeats.
    """

    name = "auto"
    symmetric_positive_definite = False  # not one M from the first iteration to the last
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
        self._begun, self._switched = 0.0, False
        self.method = self._methods[names[0]]

    @property
    def choice(self) -> str:
        """The method in use and why."""
        return f"{self._choice.used}: {self._choice.why}"

    def _run(self, name: str) -> None:
        self.method = self._methods[self._choice.decide()]
        self._begin()
        if name == "setup":
            self.method.setup()
        else:
            self.method.update()
        self.seconds = dict(self.method.seconds)
        self._geometry_version, self._made_for = self.operator.geometry_version, self.operator.version

    def _begin(self) -> None:
        self._begun, self._switched = self._clock(), False

    def initial_correction(self, residual: Tensor, out: Tensor) -> bool:
        """The method's."""
        return self.method.initial_correction(residual, out)

    def solved(self, seconds: float) -> None:
        """As of Preconditioner; a solve that two methods shared says nothing of either."""
        if not self._switched:
            self._choice.learn(seconds)
        self._begin()

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        spent = self._clock() - self._begun
        rival = "" if self._switched else self._choice.rival(spent)
        if rival:
            self._switched = True
            self._choice.switch(rival, spent)
            self.method = self._methods[rival]
            self.method.update()
        self.method._apply(residual, out)
