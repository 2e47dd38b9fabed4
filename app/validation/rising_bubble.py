"""The rising bubbles of Hysing et al."""

from __future__ import annotations

import math

import numpy as np

from app.validation.case import Case, disc, simulation


class RisingBubble(Case):
    """A bubble of radius 0.25 at (0.5, 0.5) rises in a box 1 wide and 2 high for 3 s; side walls slip. The
    ``known`` set-up is in units of the light fluid's density. Rise velocity and centre are means over the
    bubble, circularity is the circumference of a disc of the same area over the bubble's.
    """

    axes = ("t", "rise velocity, circularity, height of the centre")

    def run(self) -> None:
        known, n = self.known, self.setup["cells"]
        grid = (n, 2 * n)
        flow = simulation(
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
        height = (np.arange(2 * n) + 0.5) * flow.spacing
        rows = []
        while flow.time < self.setup["until"]:
            flow.step()
            gas = 1.0 - flow.phase.numpy()
            volume, upward = gas.sum(), flow.velocity[1].numpy()[:-1]
            rise = float((gas * 0.5 * (upward[:, 1:] + upward[:, :-1])).sum() / volume)
            outline = flow.interface_length()
            roundness = 2.0 * math.sqrt(math.pi * float(volume)) * flow.spacing / outline
            rows.append((flow.time, rise, roundness, float((gas * height).sum() / volume)))
        times, *found = (np.array(part) for part in zip(*rows, strict=True))
        speed, roundness, centre = found
        first = times < known.get("first_until", 3.0)
        tolerance = self.setup["tolerance"]
        self.near("largest rise velocity", float(speed[first].max()), *known["rise"], tolerance["rise"])
        if "circularity" in tolerance:
            self.near(
                "least circularity", float(roundness.min()), *known["circularity"], tolerance["circularity"]
            )
        if "centre" in tolerance:
            self.near("centre at t = 3", float(centre[-1]), *known["centre"], tolerance["centre"])
        every = slice(None, None, max(1, len(times) // 300))
        points = known["points"]
        for name, values in (("rise velocity", speed), ("circularity", roundness), ("centre", centre)):
            self.draw(
                name, zip(times[every].tolist(), values[every].tolist(), strict=True), points.get(name, {})
            )
