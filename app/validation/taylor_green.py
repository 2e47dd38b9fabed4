"""Taylor-Green vortices between walls that slip: order without viscosity, decay with it."""

from __future__ import annotations

import numpy as np

from app.validation.case import Case, simulation, stream_velocity
from sim.settings import WALLS


class TaylorGreen(Case):
    """Four vortices in the unit box, whose walls slip: inviscid they stand still, and the mean error of the
    speed at t = 2 falls with the grid; with viscosity nu the velocity decays as exp(-8 pi^2 nu t).
    """

    axes = ("cells along a side", "mean error of the speed")

    def run(self) -> None:
        cells = self.setup["cells"]
        errors = [self._after(n, 0.0, 2.0)[0] for n in cells]
        orders = -np.diff(np.log(errors)) / np.diff(np.log(cells))
        for n, error in zip(cells, errors, strict=True):
            bound = self.setup["error"].get(n)
            if bound:
                self.at_most(f"mean error at {n} x {n}", error, bound)
        lowest = self.setup["order"]
        self.near(f"order, {cells[-2]} to {cells[-1]} cells", float(orders[-1]), lowest, 9.0, 0.0)
        self.draw("mean error", zip(cells, errors, strict=True), self.known["basilisk"])
        rate = self._after(cells[-1], self.known["viscosity"], 1.0)[1] / (
            8.0 * np.pi**2 * self.known["viscosity"]
        )
        self.near("decay rate over exact", rate, 1.0, 1.0, self.setup["decay"])

    def _after(self, n: int, viscosity: float, time: float) -> tuple[float, float]:
        """Mean error of the speed, and the decay rate of the velocity."""
        corner = 2.0 * np.pi * np.arange(n + 1) / n
        start = stream_velocity(np.outer(np.sin(corner), np.sin(corner)) / (2.0 * np.pi), 1.0 / n)
        flow = simulation(
            (n, n),
            1.0,
            np.zeros((n, n)),
            start,
            contrast=1.0,
            gravity=0.0,
            heavy_viscosity=viscosity,
            light_viscosity=viscosity,
            slip_walls=WALLS,
        )
        before, energy = flow.field("speed").astype(float), flow.total_energy()
        while flow.time < time - 1e-12:
            flow.settings.max_time_step = min(max(time - flow.time, 1e-6), 1.0)
            flow.step()
        error = float(abs(flow.field("speed") - before * np.exp(-8.0 * np.pi**2 * viscosity * time)).mean())
        return error, 0.5 * float(np.log(energy / flow.total_energy())) / time
