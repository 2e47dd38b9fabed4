"""What every preconditioner is: set up when the matrix changed, applied to residuals, honest about what it
promises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch

from precond.device.graph import CapturedStages, Clock
from precond.errors import UsageError
from precond.poisson import PoissonOperator

Stage = tuple[str, Callable[[], None]]  # what its time counts as, "setup" or "inference", and the work


class PreconditionerError(UsageError):
    """An unknown preconditioner, or one that cannot run here; the message says what can be done about it."""


class Preconditioner:
    """M, an approximate inverse of the operator on its mean-zero vectors.

    Subclasses implement `_setup` (the coefficients changed) and `_apply`; all buffers are allocated when
    constructed. Those with a network implement `stages` in place of `_setup`; those that can keep parts of an
    earlier set-up also implement `_follow`.

    Attributes:
        note: what a reader of its numbers must know, shown wherever they are; mostly empty.
        symmetric_positive_definite: promised on mean-zero vectors; without the promise PCG runs its flexible
        update. capturable: on a device `apply` makes no host sync, no data-dependent shape and no new
        pointer; capturable_setup: nor does a set-up, while the solids stay. own_products: with copies of A in
        one application, besides those asked of the operator. seconds: what the last `setup` or `follow` took,
        "setup" without "inference" (the time in a network, zero for classical ones).
    """

    name: ClassVar[str] = ""
    symmetric_positive_definite: ClassVar[bool] = True
    capturable: ClassVar[bool] = False
    capturable_setup: ClassVar[bool] = True  # if the former
    cpu_only: ClassVar[bool] = False
    own_products: ClassVar[int] = 0
    note: str = ""

    def __init__(self, operator: PoissonOperator):
        """Raises PreconditionerError when the operator is on a device that this preconditioner cannot use."""
        if self.cpu_only and operator.device.type != "cpu":
            raise PreconditionerError(
                f"preconditioner '{self.name}' runs on the CPU only, not on {operator.device}"
            )
        self.operator = operator
        self.seconds = {"setup": 0.0, "inference": 0.0}
        self._set_up_for: int | None = None  # the geometry_version of the last set-up
        self._captured = CapturedStages(operator.device)

    @property
    def is_set_up(self) -> bool:
        """Whether `setup` was called."""
        return self._set_up_for is not None

    def setup(self, operator: PoissonOperator | None = None) -> None:
        """Follow the operator's present coefficients and solids. Raises ValueError for an operator of another
        shape.
        """
        self._take(operator, self.stages, "setup")

    def follow(self, operator: PoissonOperator | None = None) -> None:
        """As `setup`, at less cost where the coefficients moved a little since the last call: parts may be
        kept that slow the solve down but never spoil it. Most preconditioners have nothing to keep.
        """
        if self._set_up_for == (operator or self.operator).geometry_version:
            self._take(operator, self._follow, "follow")
        else:
            self.setup(operator)

    def _take(self, operator: PoissonOperator | None, stages: Callable[[], list[Stage]], name: str) -> None:
        if operator is not None and operator is not self.operator:
            if operator.shape != self.operator.shape or operator.device != self.operator.device:
                raise ValueError(
                    f"{self.name} was made for a {self.operator.shape} grid on {self.operator.device}, "
                    f"not {operator.shape} on {operator.device}"
                )
            self.operator = operator
            self._captured = CapturedStages(operator.device)
        seconds = {"setup": 0.0, "inference": 0.0}
        programs = stages()
        if self.capturable and self.capturable_setup:
            programs = self._captured.programs(name, programs, self.operator.geometry_version)
        for part, work in programs:
            clock = Clock(self.operator.device)
            work()
            seconds[part] += clock.seconds()
        self.seconds = seconds
        self._set_up_for = self.operator.geometry_version

    def apply(self, residual: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """``out`` = M ``residual``, both (nx, ny) float64; returns ``out``, mean-zero over components.

        Raises RuntimeError before the first `setup`.
        """
        if not self.is_set_up:
            raise RuntimeError(f"{self.name}: call setup() before apply()")
        self._apply(residual, out)
        return self.operator.project(out)

    def start(self, residual: torch.Tensor, out: torch.Tensor) -> bool:  # noqa: ARG002
        """Write to ``out`` what should be added to a start with ``residual``, both (nx, ny); False when there
        is nothing.

        A preconditioner that has it is symmetric on the residuals that such a start leaves, which is all PCG
        meets.
        """
        return False

    def stages(self) -> list[Stage]:
        """The parts of a set-up, in their order."""
        return [("setup", self._setup)]

    def _setup(self) -> None:
        """Follow the operator."""
        raise NotImplementedError

    def _follow(self) -> list[Stage]:
        """As `stages`, from what the last call left; the solids are the same."""
        return self.stages()

    def _apply(self, residual: torch.Tensor, out: torch.Tensor) -> None:
        """Write M ``residual`` to ``out``; the caller removes the means."""
        raise NotImplementedError
