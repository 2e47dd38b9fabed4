"""Rayleigh-Taylor instability with viscosity, without and with surface tension."""

from __future__ import annotations

import math

import numpy as np

from app.validation.case import Case, crossing, simulation, under
from sim.simulation import Simulation


class RayleighTaylor(Case):
    """Heavy fluid over light one in a box one width wide and 4 high, the interface at 2 widths plus 0.1
    widths cos(2 pi x / width); how far the tips of bubble (sides) and spike (middle) are from the interface's
    mean height: 2 widths in ours, in a published curve the middle of its tips while the wave is small. Side
    walls slip, for the flow is symmetric there. ``known``: density ratio, width, viscosity, gravity and
    surface tension, the curves and their ``early`` points.
    """

    def begin(self) -> Simulation:
        """At rest."""
        known, nx = self.known, self.setup["cells"]
        grid = nx, 4 * nx
        wave = under(grid, lambda x: 0.5 + 0.025 * np.cos(8.0 * np.pi * x), below=False)
        return simulation(
            grid,
            4.0 * known["width"],
            wave,
            contrast=known["density_ratio"],
            gravity=known["gravity"],
            heavy_viscosity=known["viscosity"],
            light_viscosity=known["viscosity"],
            surface_tension=known["surface_tension"],
            slip_walls=("left", "right"),
            rtol=1e-6,
            courant=self.setup.get("courant", 0.45),
        )

    def run(self) -> None:
        known, nx, flow = self.known, self.setup["cells"], self.begin()
        unit = math.sqrt(known["width"] / (known["atwood_in_time"] * known["gravity"]))
        tips = {"bubble": [], "spike": []}
        last = max(known["bubble"])
        while flow.time / unit < last:
            flow.step()
            fraction = flow.phase.numpy()
            scale = known["length"] * 4.0 / (4 * nx)
            for name, column in (("bubble", fraction[:1]), ("spike", fraction[nx // 2 - 1 : nx // 2 + 1])):
                tips[name].append(
                    (flow.time / unit, known["origin"] + scale * self._tip(name, column.mean(axis=0)))
                )
        self.axes = ("t / t0", "height of the tip")
        level = self._level()
        for name, curve in tips.items():
            self.draw(name, curve, known[name])
            at, of = self.curves[name]
            for time, height in known[name].items():
                way = abs(float(np.interp(time, at, of)) - known["origin"] - 2.0 * known["length"])
                told = abs(height - level)
                self.near(f"{name}'s way until t = {time:g}", way, told, told, self.setup["tolerance"])

    def _level(self) -> float:
        """Mean height of the published interface: the middle of its tips, averaged over all early times."""
        curves = [(list(curve), list(curve.values())) for curve in self.known["early"].values()]
        times = sorted({time for at, _ in curves for time in at})
        return round(float(np.mean([np.interp(times, *curve) for curve in curves])), 5)

    def _tip(self, name: str, column: np.ndarray) -> float:
        """Height of the lowest (spike) or of the highest (bubble) interface in a column, in cells: of the
        light fluid below it.
        """
        near = len(column) - crossing(column[::-1]) if name == "spike" else crossing(column)
        start = max(round(near) - 2, 0)
        return start + float((1.0 - column[start : start + 4]).sum())
