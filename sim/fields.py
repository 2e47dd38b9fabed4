"""What can be seen of two fluids: fields on the grid, from a simulation or from a copy of what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from sim.settings import SimulationSettings

FIELDS = ("density", "pressure", "speed", "vorticity", "divergence")


class Fields:
    """The views of a state: ``phase``, ``density``, ``solid``, ``velocity`` as sim.simulation.Simulation has
    them, with ``shape``, ``spacing`` (m), ``domain`` (m), ``time`` (s) and ``settings``.
    """

    shape: tuple[int, int]
    domain: tuple[float, float]
    spacing: float
    time: float
    settings: SimulationSettings
    phase: torch.Tensor
    density: torch.Tensor
    solid: torch.Tensor
    velocity: torch.Tensor

    def _pressure(self) -> torch.Tensor:
        raise NotImplementedError

    def _source_kinds(self) -> torch.Tensor:
        raise NotImplementedError

    def field(self, name: str) -> np.ndarray:
        """One of FIELDS as a fresh float32 array (nx, ny): kg/m^3, Pa, m/s, 1/s, 1/s. Raises ValueError for
        another name.
        """
        u, v = self.velocity[0], self.velocity[1]
        if name == "density":
            values = self.density
        elif name == "pressure":
            values = self._pressure()
        elif name == "speed":
            values = torch.hypot(0.5 * (u[1:, :-1] + u[:-1, :-1]), 0.5 * (v[:-1, 1:] + v[:-1, :-1]))
        elif name == "vorticity":
            corners = torch.zeros_like(u)
            corners[1:-1, 1:-1] = v[1:-1, 1:-1] - v[:-2, 1:-1] - u[1:-1, 1:-1] + u[1:-1, :-2]
            values = (corners[1:, 1:] + corners[:-1, 1:] + corners[1:, :-1] + corners[:-1, :-1]) / (
                4.0 * self.spacing
            )
        elif name == "divergence":
            values = (u[1:, :-1] - u[:-1, :-1] + v[:-1, 1:] - v[:-1, :-1]) / self.spacing
        else:
            raise ValueError(f"field: {name!r} is not one of {', '.join(FIELDS)}")
        return values.to("cpu", torch.float32, copy=True).numpy()

    def phase_fraction(self) -> np.ndarray:
        """Share of the heavy fluid in every cell, a fresh float32 array (nx, ny)."""
        return self.phase.to("cpu", torch.float32, copy=True).numpy()

    def source_kinds(self) -> np.ndarray:
        """Where sources and drains are, a fresh uint8 array (nx, ny), 0 or 1 + the index in KINDS."""
        return self._source_kinds().to("cpu", copy=True).numpy()

    def solid_mask(self) -> np.ndarray:
        """Where the solids are, a fresh boolean array (nx, ny)."""
        return self.solid.to("cpu", torch.bool, copy=True).numpy()


class Snapshot(Fields):
    """A copy on the CPU of what ``fields`` shows now; it stays as it is while a simulation goes on."""

    def __init__(self, fields: Fields) -> None:
        self.shape, self.spacing, self.domain = fields.shape, fields.spacing, fields.domain
        self.time, self.settings = fields.time, fields.settings.model_copy()
        for name in ("phase", "density", "solid", "velocity"):
            setattr(self, name, getattr(fields, name).to("cpu", copy=True))
        self._kept = fields._pressure().to("cpu", copy=True), fields._source_kinds().to("cpu", copy=True)

    def _pressure(self) -> torch.Tensor:
        return self._kept[0]

    def _source_kinds(self) -> torch.Tensor:
        return self._kept[1]
