"""Rest of a heavy fluid under a light one."""

from __future__ import annotations

import math

from app.validation.case import Case, simulation, under


class Hydrostatic(Case):
    """A pool that fills a box of 1 m to 0.52 stays at rest at contrast 10,000; the largest velocity of all
    steps over sqrt(g H).
    """

    axes = ("step", "largest velocity / sqrt(g H)")

    def run(self) -> None:
        n = self.setup["cells"]
        flow = simulation(
            (n, n), 1.0, under((n, n), lambda x: 0.52 + 0.0 * x), contrast=1e4, rtol=1e-12, max_time_step=1e-2
        )
        speeds = []
        for step in range(self.setup["steps"]):
            flow.step()
            speeds.append((step, flow.max_speed() / math.sqrt(9.81)))
        fastest = max(speed for _, speed in speeds)
        self.at_most("largest velocity / sqrt(g H)", fastest, self.setup["speed"], "0 (exact)")
        self.draw("largest velocity", speeds, {})
