"""A drop at rest: what currents surface tension leaves, and the jump of pressure."""

from __future__ import annotations

import math

from app.validation.case import Case, disc, simulation
from sim.settings import WALLS
from sim.simulation import Simulation

DIAMETER = 0.8


class StaticDrop(Case):
    """A quarter of a drop of diameter 0.8 around a corner of the unit box, Laplace number 12,000, density
    ratio of the ``known`` set-up, for a viscous time D^2 / nu; largest velocity at its end over
    sqrt(sigma / (rho D)), and the jump of pressure over sigma / R.
    """

    axes = ("t nu / D^2", "largest velocity / sqrt(sigma / (rho D))")

    def begin(self) -> Simulation:
        """At rest."""
        n, ratio, viscosity = self.setup["cells"], self.known["density_ratio"], self._viscosity()
        return simulation(
            (n, n),
            1.0,
            disc((n, n), 0.0, 0.0, 0.5 * DIAMETER),
            contrast=ratio,
            gravity=0.0,
            surface_tension=1.0,
            heavy_viscosity=viscosity,
            light_viscosity=viscosity,
            slip_walls=WALLS,
            rtol=1e-10,
        )

    def _viscosity(self) -> float:
        """Of both fluids, sigma being 1."""
        return math.sqrt(DIAMETER / (self.known["density_ratio"] * 12000.0))

    def run(self) -> None:
        n, flow, currents = self.setup["cells"], self.begin(), []
        unit, scale = DIAMETER**2 / self._viscosity(), math.sqrt(self.known["density_ratio"] * DIAMETER)
        while flow.time < self.setup["viscous_times"] * unit:
            flow.step()
            if flow.step_count % 100 == 1:
                currents.append((flow.time / unit, flow.max_speed() * scale))
        speed = flow.max_speed() * scale
        self.at_most("currents / sqrt(sigma / (rho D))", speed, self.setup["currents"])
        pressure = flow.field("pressure").astype(float)
        jump = pressure[: n // 8, : n // 8].mean() - pressure[-n // 8 :, -n // 8 :].mean()
        self.near("pressure jump / (sigma / R)", 0.5 * DIAMETER * float(jump), 1.0, 1.0, self.setup["jump"])
        self.draw("currents", currents, {})
