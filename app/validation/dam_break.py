"""Collapse of a liquid column against Martin and Moyce's experiment."""

from __future__ import annotations

import math

import numpy as np

from app.validation.case import Case, crossing, simulation
from sim.simulation import Simulation


class DamBreak(Case):
    """A column a wide and 2 a high collapses over a floor that slips, contrast 1,000; front and height
    against the experiment. Its gate makes the zero of time uncertain: the shift that fits best, within the
    bound of the reference file, is subtracted for each and told.
    """

    axes = ("time: t sqrt(2 g / a), t sqrt(g / a)", "front / a, height / 2 a")

    def begin(self) -> Simulation:
        """At rest; a is 1 m."""
        cells = self.setup["cells"]  # along a
        grid = (6 * cells, 3 * cells)
        phase = np.zeros(grid)
        phase[:cells, : 2 * cells] = 1.0
        return simulation(
            grid,
            3.0,
            phase,
            contrast=1000.0,
            rtol=1e-6,
            heavy_viscosity=1e-6,
            light_viscosity=1e-5,
            slip_walls=("bottom", "left"),
        )

    def run(self) -> None:
        cells, flow = self.setup["cells"], self.begin()
        front, height = [(0.0, 1.0)], [(0.0, 1.0)]
        while flow.time * math.sqrt(9.81) < 4.5:
            flow.step()
            fraction = flow.phase.numpy()
            wet = fraction[:, : max(1, cells // 16)].max(axis=1)
            if wet[-2] < 0.5:
                front.append((flow.time * math.sqrt(2.0 * 9.81), crossing(wet) / cells))
            height.append((flow.time * math.sqrt(9.81), float(fraction[:2].mean(axis=0).sum()) / (2 * cells)))
        for name, curve in (("front", front), ("height", height)):
            self.draw(name, curve, self.known[name])
            times, values = (np.array(part) for part in self.points[name])
            shifts = np.linspace(-self.known["shift"], self.known["shift"], 81)
            at, of = (np.array(part) for part in self.curves[name])
            off = [
                np.sqrt(np.mean((np.interp(times - shift, at, of) / values - 1.0) ** 2)) for shift in shifts
            ]
            best = int(np.argmin(off))
            self.at_most(
                f"{name}: relative RMS",
                float(off[best]),
                self.setup[name],
                f"experiment, time shifted by {shifts[best]:.3f}",
            )
