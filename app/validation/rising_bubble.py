"""The rising bubbles of Hysing et al."""

from __future__ import annotations

import math

import numpy as np

from app.validation.case import Case, disc, simulation
from sim.simulation import Simulation

TITLES = {"rise": "largest rise velocity", "circularity": "least circularity", "centre": "centre at t = 3"}
DRAWN = ("rise velocity", "circularity", "centre")


class RisingBubble(Case):
    """A bubble of radius 0.25 at (0.5, 0.5) rises in a box 1 wide and 2 high for 3 s; side walls slip. The
    ``known`` set-up is in units of the light fluid's density. Rise velocity and centre are means over the
    bubble, circularity is the circumference of a disc of the same area over the bubble's. On coarser grids,
    where the set-up names some, how far they are from the middle of the reference's range, and the order with
    which that falls.
    """

    axes = ("t", "rise velocity, circularity, height of the centre")

    def begin(self) -> Simulation:
        """At rest."""
        return self._on(self.setup["cells"])

    def _on(self, n: int) -> Simulation:
        known, grid = self.known, (n, 2 * n)
        return simulation(
            grid,
            2.0,
            1.0 - disc(grid, 0.25, 0.25, 0.125),
            contrast=known["density_ratio"],
            gravity=0.98,
            surface_tension=known["surface_tension"],
            heavy_viscosity=known["heavy_viscosity"],
            light_viscosity=known["light_viscosity"],
            slip_walls=("left", "right"),
            rtol=1e-6,
        )

    def run(self) -> None:
        cells, tolerance = self.setup["cells"], self.setup["tolerance"]
        found = self._quantities(cells, draw=True)
        for name, title in TITLES.items():
            if name in tolerance:
                self.near(title, found[name], *self.known[name], tolerance[name])
        coarser = [(n, self._quantities(n)) for n in self.setup.get("coarser", ())]
        for name in tolerance if coarser else ():
            middle = sum(self.known[name]) / 2.0
            errors = {n: abs(of[name] / middle - 1.0) for n, of in [*coarser, (cells, found)]}
            for n, error in errors.items():
                self.at_most(f"{name}: error, {n} cells a unit", error, tolerance[name] * cells / n)
            few, many = min(errors), max(errors)
            order = math.log(errors[few] / errors[many]) / math.log(many / few)
            self.near(f"{name}: order, {few} to {many} cells", order, 1.0, 9.0, 0.0)

    def _quantities(self, n: int, draw: bool = False) -> dict[str, float]:
        """Largest rise velocity, least circularity and last centre on ``n`` cells a unit."""
        flow, rows = self._on(n), []
        height = (np.arange(2 * n) + 0.5) * flow.spacing
        while flow.time < self.setup["until"]:
            flow.step()
            gas = 1.0 - flow.phase.numpy()
            volume, upward = gas.sum(), flow.velocity[1].numpy()[:-1]
            rise = float((gas * 0.5 * (upward[:, 1:] + upward[:, :-1])).sum() / volume)
            outline = flow.interface_length()
            roundness = 2.0 * math.sqrt(math.pi * float(volume)) * flow.spacing / outline
            rows.append((flow.time, rise, roundness, float((gas * height).sum() / volume)))
        times, speed, roundness, centre = (np.array(part) for part in zip(*rows, strict=True))
        every = slice(None, None, max(1, len(times) // 300))
        for name, values in zip(DRAWN, (speed, roundness, centre), strict=True) if draw else ():
            curve = zip(times[every].tolist(), values[every].tolist(), strict=True)
            self.draw(name, curve, self.known["points"].get(name, {}))
        first = times < self.known.get("first_until", 3.0)
        return {
            "rise": float(speed[first].max()),
            "circularity": float(roundness.min()),
            "centre": float(centre[-1]),
        }
