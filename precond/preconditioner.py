"""What every preconditioner is: bound to one operator, set up when that changed, applied to residuals, honest
about what it promises. The calls of class Preconditioner are its whole interface.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from precond.device.graph import CapturedStages, Clock, Stage
from precond.errors import UsageError
from precond.memory import held_bytes
from precond.poisson import NotCopied, PoissonOperator


class PreconditionerError(UsageError):
    """An unknown preconditioner, or one that cannot run here; the message says what can be done about it."""


class Preconditioner(NotCopied):
    """M, an approximate inverse of one operator on its mean-zero vectors.

    | call | when | does |
    |---|---|---|
    | `setup()` | at first, and when all is to be made anew | follows the operator's coefficients and solids |
    | `update()` | after `operator.update` or `set_solid` | the same at less cost, if parts can be kept |
    | `initial_correction(r, out)` | before the first iteration | what to add to x, if anything |
    | `apply(r, out)` | in every iteration | out = M r |
    | `apply_unprojected(r, out)` | there, by a loop that removes means itself | the same, means included |
    | `as_diagonal()` | before the first iteration, on a CPU | M's diagonal, if M is diagonal |
    | `solved(seconds)` | after a solve | takes note of what it took |

    All but `apply` have defaults that fit most, and nothing else is called by a solve, which reads `choice`,
    `seconds`, `is_set_up`, `is_current` and the promises below.

    A new one, whole; name it in precond.registry and everything else can use it::

        class Diagonal(Preconditioner):
            '''M = damping / diagonal(A).'''

            name = "diagonal"
            capturable = True

            def __init__(self, operator, damping=1.0):
                super().__init__(operator)
                self.damping = damping
                self._inverse = torch.zeros_like(operator.diagonal())

            def _setup(self):
                diagonal = self.operator.diagonal()
                self._inverse.copy_(torch.where(diagonal > 0.0, self.damping / diagonal, 0.0))

            def _apply(self, residual, out):
                torch.mul(self._inverse, residual, out=out)

    All buffers are allocated when constructed. Those with a network implement `_stages` in place of `_setup`;
    those that can keep parts of an earlier set-up also `_update_stages`; those that prepare something for the
    solids alone, on the host, `_update_geometry`, which is called before a set-up when the solids changed.

    Attributes:
        note: what a reader of its numbers must know, shown wherever they are; mostly empty.
        symmetric_positive_definite: promised on mean-zero vectors; without the promise PCG runs its flexible
        update. capturable: on a device `apply` makes no host sync, no data-dependent shape and no new
        pointer; capturable_setup: nor does a set-up, while the solids stay. own_products: with copies of A in
        one application, besides those asked of the operator. seconds: what the last `setup` or `update` took,
        "setup" without "inference" (the time in a network, zero for classical ones). choice: for one that
        chooses among others the name of the one in use, a colon and why; else empty.
    """

    name: ClassVar[str] = ""
    symmetric_positive_definite: ClassVar[bool] = True
    capturable: ClassVar[bool] = False
    capturable_setup: ClassVar[bool] = True  # if the former
    cpu_only: ClassVar[bool] = False
    own_products: ClassVar[int] = 0
    note: str = ""
    choice: str = ""

    def __init__(self, operator: PoissonOperator):
        """Raises PreconditionerError when the operator is on a device that this preconditioner cannot use."""
        if self.cpu_only and operator.device.type != "cpu":
            raise PreconditionerError(
                f"preconditioner '{self.name}' runs on the CPU only, not on {operator.device}"
            )
        self.operator = operator
        self.seconds = {"setup": 0.0, "inference": 0.0}
        self._geometry_version = -1  # the operator's that _update_geometry has seen
        self._made_for = -1  # the operator's version at the last set-up
        self._captured = CapturedStages(operator.device)

    @property
    def is_set_up(self) -> bool:
        """Whether `setup` was called, and neither it nor `update` was cut off since."""
        return self._made_for >= 0

    @property
    def is_current(self) -> bool:
        """Whether it was set up for the operator's present coefficients and solids."""
        return self._made_for == self.operator.version

    def setup(self) -> None:
        """Follow the operator's present coefficients and solids."""
        self._run("setup")

    def update(self) -> None:
        """As `setup`, at less cost where the coefficients moved a little since the last call: parts may be
        kept that slow the solve down but never spoil it. Most preconditioners have nothing to keep.
        """
        same = self.is_set_up and self._geometry_version == self.operator.geometry_version
        self._run("update" if same else "setup")

    def _run(self, name: str) -> None:
        operator = self.operator
        if self._geometry_version != operator.geometry_version:
            self._update_geometry()
            self._geometry_version = operator.geometry_version
            self._captured = CapturedStages(operator.device)
        stages = self._update_stages() if name == "update" else self._stages()
        if self.capturable and self.capturable_setup:
            stages = self._captured.programs(name, stages)
        seconds, self._made_for = {"setup": 0.0, "inference": 0.0}, -1  # until all is done
        for part, work in stages:
            clock = Clock(operator.device)
            work()
            seconds[part] += clock.seconds()
        self.seconds = seconds
        self._made_for = operator.version

    def apply(self, residual: Tensor, out: Tensor) -> Tensor:
        """``out`` = M ``residual``, both (nx, ny) float64; returns ``out``, mean-zero over components.

        Raises RuntimeError before the first `setup`, ValueError for other shapes.
        """
        if not self.is_set_up:
            raise RuntimeError(f"{self.name}: call setup() before apply()")
        self.operator.check_shape(residual, out)
        self.apply_unprojected(residual, out)
        return self.operator.project(out)

    def apply_unprojected(self, residual: Tensor, out: Tensor) -> None:
        """As `apply`, without a check and with the means left in: for those who remove them themselves."""
        self._apply(residual, out)

    def initial_correction(self, residual: Tensor, out: Tensor) -> bool:  # noqa: ARG002
        """Write to ``out`` what should be added to an x with ``residual``, both (nx, ny); False for nothing.

        A preconditioner that has it is symmetric on the residuals that such an x leaves, which is all PCG
        meets.
        """
        return False

    def solved(self, seconds: float) -> None:
        """Told after every solve what set-up, inference and solve took together; most do not mind."""

    def as_diagonal(self) -> Tensor | None:
        """M's diagonal (nx, ny), live, where M is diagonal: whoever iterates may multiply by it itself."""
        return None

    def memory_bytes(self) -> dict[str, int]:
        """Bytes that it holds, by type ("float64", "int64", ...), without the operator's."""
        return dict(held_bytes(self, without=self.operator))

    def _update_geometry(self) -> None:
        """Follow the operator's solids, on the host."""

    def _stages(self) -> list[Stage]:
        """The parts of a set-up, in their order."""
        return [("setup", self._setup)]

    def _update_stages(self) -> list[Stage]:
        """As `_stages`, from what the last call left; the solids are the same."""
        return self._stages()

    def _setup(self) -> None:
        """Follow the operator's coefficients."""
        raise NotImplementedError

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        """Write M ``residual`` to ``out``; the caller removes the means."""
        raise NotImplementedError
