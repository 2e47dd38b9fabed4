"""The pressure system of one frame, as plain arrays that can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from precond import PoissonOperator, UsageError
from precond.auto import Auto
from precond.poisson import Openings

if TYPE_CHECKING:  # who solves the system needs no simulation
    from app.engine import Engine


@dataclass(frozen=True, eq=False)
class System:
    """A p = b with all that defines it and its solve; copies, so that the simulation may go on.

    density, right_hand_side, start: (nx, ny) float64, start None for zero. solid: (nx, ny) bool. openings: as
    PoissonOperator has them. The solve ends at max(rtol ||b||, atol) or after max_iterations. frame and
    scene: where it comes from.
    """

    density: np.ndarray
    solid: np.ndarray
    right_hand_side: np.ndarray
    start: np.ndarray | None
    face_density: str
    rtol: float
    atol: float
    max_iterations: int
    frame: int = 0
    scene: str = ""
    openings: Openings | None = None

    @classmethod
    def of(cls, engine: Engine) -> System:
        """The system of the engine's last step, with its present tolerance and limit. Raises UsageError
        before the first one, and between a change of grid or solids and the next one.
        """
        if engine.last is None:
            raise UsageError("there is no pressure solve before the first frame")
        settings = engine.settings.simulation
        operator, right_hand_side, start, atol = engine.simulation.pressure_system()
        fields = operator.density, operator.solid, right_hand_side
        copies = (field.to("cpu", copy=True).numpy() for field in fields)
        start = None if start is None else start.to("cpu", copy=True).numpy()
        limits = settings.rtol, atol, settings.max_iterations
        origin = engine.frame, settings.scene
        return cls(*copies, start, operator.face_density, *limits, *origin, operator.openings)

    @property
    def shape(self) -> tuple[int, int]:
        """(nx, ny)."""
        return self.density.shape

    @property
    def contrast(self) -> float:
        """Largest over smallest density of the fluid cells."""
        fluid = self.density[~self.solid]
        return float(fluid.max() / fluid.min()) if fluid.size else 1.0

    def operator(self) -> PoissonOperator:
        """A new A, on the CPU."""
        return PoissonOperator.from_density(self.density, self.solid, "cpu", self.face_density, self.openings)


def present_method(engine: Engine) -> str:
    """The name of the preconditioner at work; of `auto` the method in use."""
    chosen = engine.preconditioner
    return chosen.method.name if isinstance(chosen, Auto) else engine.settings.simulation.preconditioner
